"""Which of many unit vectors are nearer to one than a floor: all of them, and exactly.

    vectors = Vectors(512)
    place = vectors.add(vector)
    (found,) = vectors.search([Search(vector, floor=0.9)])       # every place above the floor, best first, and the nearest of all
    (found,) = vectors.search([Search(vector, 0.9, found)])      # goes on with what was added since: a few rows, not all

A plain matrix product over blocks of rows, for many askers at once, as fast as a flat index of faiss on the same cores. It needs no recall
check, for it misses nothing: a graph of neighbours (HNSW) finds 97 of 100 and slows down as it grows. 100,000 vectors of 512 numbers take
205 MB. Rows may be added while another thread searches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
BLOCK = 4096
"""rows that are multiplied at once: the product with a full batch of queries stays near the processor"""
SLACK = 1e-4
"""more than a product in single precision can be wrong by; what it lets through is computed again in double precision"""


class Hit(NamedTuple):
    place: int
    similarity: float
    """cosine, in double precision"""


class Found(NamedTuple):
    """What a search has found among the first `seen` rows."""

    seen: int = 0
    hits: tuple[Hit, ...] = ()
    """all above the floor, best first, ties in the order of their adding"""
    nearest: Hit | None = None
    """above the floor or not"""


class Search(NamedTuple):
    vector: Vector
    floor: float
    """similarity above which, strictly, a row is a hit"""
    found: Found = Found()
    """what an earlier search for the same has found, to go on from there"""


class Vectors:
    """A growing list of unit vectors; a place in it never changes."""

    def __init__(self, dimension: int) -> None:
        self._dimension = dimension
        self._blocks: list[Vector] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: int) -> Vector:
        row: Vector = self._blocks[place // BLOCK][place % BLOCK]
        return row

    def add(self, vector: Vector) -> int:
        place = self._count
        if place % BLOCK == 0:
            self._blocks.append(np.zeros((BLOCK, self._dimension), np.float32))
        self._blocks[-1][place % BLOCK] = vector
        self._count += 1  # last, so that a search in another thread never sees half of a row
        return place

    def search(self, asked: Sequence[Search]) -> list[Found]:
        """What each looks for, among all rows that are here now."""
        count = self._count
        queries = np.stack([one.vector for one in asked], axis=1)
        floors = np.array([one.floor - SLACK for one in asked], np.float32)
        seen = np.array([one.found.seen for one in asked])
        top, top_at = np.full(len(asked), -np.inf, np.float32), np.zeros(len(asked), np.int64)
        near: list[list[int]] = [[] for _ in asked]
        for block in range(int(seen.min()) // BLOCK, math.ceil(count / BLOCK)):
            going = np.flatnonzero(seen < min((block + 1) * BLOCK, count))
            if not len(going):  # nobody has anything new to see
                break
            start = max(block * BLOCK, int(seen[going].min()))
            rows = self._blocks[block][start - block * BLOCK : count - block * BLOCK]
            similar = rows @ (queries if len(going) == len(asked) else queries[:, going])
            best = similar.max(axis=0)
            higher = best > top[going]
            top[going[higher]], top_at[going[higher]] = best[higher], start + similar[:, higher].argmax(axis=0)
            for column in np.flatnonzero(best > floors[going]).tolist():
                near[going[column]] += (start + np.flatnonzero(similar[:, column] > floors[going[column]])).tolist()
        tops = [at if reached else None for at, reached in zip(top_at.tolist(), np.isfinite(top).tolist(), strict=True)]
        return [self._extended(one, places, at, count) for one, places, at in zip(asked, near, tops, strict=True)]

    def _extended(self, asked: Search, near: Sequence[int], top: int | None, count: int) -> Found:
        """What was found before with what is near now, both measured exactly."""
        known = asked.found
        new = (self._hit(asked, place) for place in near if place >= known.seen)
        hits = sorted((*known.hits, *(hit for hit in new if hit.similarity > asked.floor)), key=lambda hit: (-hit.similarity, hit.place))
        nearest = [hit for hit in (known.nearest, *hits[:1], None if top is None else self._hit(asked, top)) if hit]
        return Found(count, tuple(hits), max(nearest, key=lambda hit: hit.similarity, default=None))

    def _hit(self, asked: Search, place: int) -> Hit:
        return Hit(place, cosine(asked.vector, self[place]))


def cosine(a: Vector, b: Vector) -> float:
    """Cosine similarity, computed in double precision."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))
