"""Which item of the test sets means most nearly what a prompt means. Two tasks on one subject lie near each other too, so nobody is
convicted by this: it finds what a person should look at."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from filters.contamination.testsets import Benchmarks
from filters.embedder import Embedder


class Near(NamedTuple):
    set: str
    item: str
    text: str
    similarity: float


@dataclass
class Meanings:
    """The items' vectors, made when they are first asked for."""

    tests: Benchmarks
    embedder: Embedder
    _vectors: NDArray[np.float32] | None = None
    _making: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def nearest(self, prompt: str) -> Near:
        """Raises what the embedder raises."""
        items = [(one.name, item) for one in self.tests.sets for item in one.items]
        async with self._making:
            if self._vectors is None:
                self._vectors = await self.embedder.encode([item.text for _, item in items])
        (vector,) = await self.embedder.encode([prompt])
        similarities = self._vectors @ vector
        best = int(np.argmax(similarities))
        name, item = items[best]
        return Near(name, item.id, item.text, float(similarities[best]))
