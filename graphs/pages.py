"""Lists that a leaf asks of a planner, a page at a time: each page is told of those before it, and is asked for once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from leafmill.errors import CallError

T = TypeVar("T")
Ask = Callable[[int, Sequence[T]], Awaitable[list[T]]]
"""what asks for a page by its number, and by all that is known"""


class Pages(Generic[T]):
    """The pages so far. One that cannot be had is empty: that is recorded by the call, and a brief can do without."""

    def __init__(self, ask: Ask[T]) -> None:
        self._ask, self._turn = ask, asyncio.Lock()
        self._pages: list[list[T]] = []

    @property
    def count(self) -> int:
        return len(self._pages)

    def page(self, number: int) -> list[T]:
        return self._pages[number]

    @property
    def known(self) -> list[T]:
        return [one for page in self._pages for one in page]

    async def reach(self, count: int) -> None:
        """Have so many pages."""
        await self.until(lambda: self.count >= count)

    async def until(self, enough: Callable[[], bool]) -> None:
        """Ask for more until it is enough; who comes meanwhile waits for the same page."""
        while not enough():
            async with self._turn:
                if not enough():
                    self._pages.append(await self._next())

    async def _next(self) -> list[T]:
        try:
            return await self._ask(len(self._pages), self.known)
        except CallError:
            return []
