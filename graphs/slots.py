"""Who goes next: a bound on the candidates under way over all leaves, and the leaf furthest from its quota first."""

from __future__ import annotations

import asyncio
from typing import Protocol


class Waiting(Protocol):
    """A leaf that asks for a slot."""

    @property
    def progress(self) -> float:
        """how near its quota the leaf is: the lowest is served first"""

    @property
    def is_over(self) -> bool:
        """nothing more will be started"""

    @property
    def is_hungry(self) -> bool:
        """one more candidate under way would make sense now"""


class Slots:
    """`await take(leaf)` gives True with a slot, or False when the leaf is over. `give_back()` after each candidate."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._queue: list[tuple[Waiting, asyncio.Future[bool]]] = []

    async def take(self, leaf: Waiting) -> bool:
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._queue.append((leaf, place))
        self.look()
        return await place

    def give_back(self) -> None:
        self._free += 1
        self.look()

    def look(self) -> None:
        """Serve whoever can be served now. Call when something has changed that a leaf's answers depend on."""
        for leaf, place in self._queue:
            if leaf.is_over and not place.done():
                place.set_result(False)
        while self._free:
            hungry = [(leaf.progress, i) for i, (leaf, place) in enumerate(self._queue) if not place.done() and leaf.is_hungry]
            if not hungry:
                break
            self._queue[min(hungry)[1]][1].set_result(True)
            self._free -= 1
        self._queue = [(leaf, place) for leaf, place in self._queue if not place.done()]
