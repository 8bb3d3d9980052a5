"""The gate `novelty`: an instruction that is nearly one of the seeds or of the accepted rows (Self-Instruct, arXiv 2212.10560).

ROUGE-L F1 over units, so that Chinese counts character by character. The original compares with every row by a process pool and sees no
Chinese at all; here a bound that costs one vectorised pass leaves the few rows that may be near, and those are compared exactly. The bound
never leaves out a row that is nearer than what is found, so nothing is missed.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from filters.gate import Stage, Subject, verdict
from filters.text import common_with, tokens
from leafmill.records import Decision, Verdict

NEAREST = 10
"""rows whose similarity is averaged; the original stores as many"""
NEARBY = 0.5
"""rows that are less near are not looked for: to find the nearest of many strangers exactly would take most of the time"""
BUCKETS = 256
"""places into which units are counted: more make the bound closer and its pass longer"""

Counts = NDArray[np.uint16]
MOST = np.iinfo(np.uint16).max


class Near(NamedTuple):
    similarity: float
    id: str


class NoveltyIndex:
    """Instructions by id, and which of them are nearest to another. Kept in memory."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._texts: list[list[str]] = []
        self._places: dict[str, int] = {}
        self._counts: Counts = np.zeros((64, BUCKETS), np.uint16)
        self._lengths: NDArray[np.int32] = np.zeros(64, np.int32)

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, text: str) -> None:
        """Take a text up, or put it in the place of the one that the id has."""
        words = tokens(text)
        place = self._places.setdefault(id, len(self._ids))
        if place == len(self._ids):
            self._ids.append(id)
            self._texts.append(words)
        if place == len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._lengths = np.concatenate([self._lengths, np.zeros_like(self._lengths)])
        self._texts[place], self._counts[place], self._lengths[place] = words, _counted(words), len(words)

    def nearest(self, text: str, count: int = NEAREST, least: float = NEARBY, but: Collection[str] = ()) -> list[Near]:
        """The nearest by ROUGE-L F1 that are at `least` so near, nearest first, `but` some ids; of equally near ones the earlier first."""
        words, known = tokens(text), len(self._ids)
        if not words or not known:
            return []
        # No subsequence is longer than the units that two texts share, wherever they stand; buckets can only make that more.
        shared = np.minimum(self._counts[:known], _counted(words)).sum(axis=1, dtype=np.int32)
        bounds = 2.0 * shared / (self._lengths[:known] + len(words))
        common, found = common_with(words), list[tuple[float, int]]()
        for place in np.argsort(-bounds, kind="stable"):
            if bounds[place] < least or (len(found) == count and bounds[place] < found[0][0]):
                break
            other = self._texts[place]
            near = (2 * common(other) / (len(words) + len(other)), -int(place))
            if near[0] >= least and self._ids[place] not in but:
                (heapq.heappushpop if len(found) == count else heapq.heappush)(found, near)
        return [Near(similarity, self._ids[-place]) for similarity, place in sorted(found, reverse=True)]


@dataclass(frozen=True)
class Novelty:
    """Asked of candidates that are written by Self-Instruct, and of those written in other ways where a recipe names it. The rows that it
    compares with are all that were accepted, however they were written, and the seeds."""

    name: ClassVar[str] = "novelty"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "the instruction is nearly that of a seed or of an accepted row (ROUGE-L)"

    threshold: float = 0.7
    """above it, not at it, an instruction is not new"""
    index: NoveltyIndex = field(default_factory=NoveltyIndex, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold must be above 0 and at most 1, got {self.threshold}")

    async def __call__(self, subject: Subject) -> Verdict:
        near = self.index.nearest(subject.row.first_instruction, least=min(NEARBY, self.threshold), but=(subject.id,))
        if not near:
            return verdict(self, "accept", threshold=self.threshold)
        first, mean = near[0], sum(one.similarity for one in near) / len(near)
        decision: Decision = "reject" if first.similarity > self.threshold else "accept"
        code = "novelty.near" if decision == "reject" else ""
        return verdict(self, decision, code, value=first.similarity, threshold=self.threshold, nearest=first.id, mean=round(mean, 4))

    async def add(self, subject: Subject) -> None:
        self.index.add(subject.id, subject.row.first_instruction)


def _counted(words: list[str]) -> Counts:
    """How often the units of each bucket come."""
    places = [zlib.crc32(word.encode(errors="surrogatepass")) % BUCKETS for word in words]
    return np.minimum(np.bincount(places, minlength=BUCKETS), MOST).astype(np.uint16)
