"""Which MinHash signatures share a band: locality-sensitive hashing in little memory.

    bands = Bands(bands=32, rows=4)
    place = bands.add(signature)              # 0, 1, 2, ...
    places, equal = bands.near(signature)     # all that agree in a whole band, and in how many slots each agrees

It finds what datasketch's `MinHashLSH` of the same bands finds, which keeps a dict of sets for each band. Here the bands of a signature
are so many numbers of 8 bytes, all in one sorted array. New ones wait in a short table, which is looked through, until there are
enough to be worth a sort.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Signature = NDArray[Any]
"""the slots of a MinHash: unsigned integers of 32 or 64 bits"""

WAIT = 512
"""signatures that wait for the next sort"""
PLACE = 0xFFFF_FFFF
"""the half of a number that says where its signature stands"""
HASH = PLACE << 32
"""the other half, a hash of one band"""


class Near(NamedTuple):
    places: NDArray[np.intp]
    """in the order in which they were added"""
    equal: NDArray[np.uint16]
    """slots in which each agrees"""


class Bands:
    def __init__(self, bands: int, rows: int) -> None:
        self._shape = bands, rows
        self._factors = np.random.default_rng(0).integers(0, 1 << 64, self._shape, dtype=np.uint64)
        self._signatures: Signature = np.empty((0, bands * rows), np.uint32)  # with room for more
        self._sorted = np.empty(0, np.uint64)
        self._waiting = np.empty((WAIT, bands), np.uint64)
        self._size = self._sorted_to = 0

    def add(self, signature: Signature) -> int:
        """Remember a signature; the place at which it stands."""
        place = self._size
        if place == len(self._signatures):
            room = np.empty((place + place // 8 + WAIT, signature.size), signature.dtype)
            room[:place] = self._signatures
            self._signatures = room
        self._signatures[place] = signature
        self._waiting[place - self._sorted_to] = self._hashes(signature)
        self._size += 1
        if self._size - self._sorted_to == WAIT:
            self._sort()
        return place

    def near(self, signature: Signature) -> Near:
        """All that share at least one whole band with a signature."""
        hashes = self._hashes(signature)
        start, end = self._sorted.searchsorted(hashes), self._sorted.searchsorted(hashes | PLACE, side="right")
        hit = np.flatnonzero(start < end)
        late, late_band = np.nonzero(self._waiting[: self._size - self._sorted_to] == hashes)
        band = np.concatenate([np.repeat(hit, (end - start)[hit]), late_band])
        numbers = [self._sorted[start[i] : end[i]] & PLACE for i in hit]
        places = np.concatenate([*numbers, late + self._sorted_to], dtype=np.intp, casting="unsafe")
        kept, own = self._signatures.reshape(-1, *self._shape)[places, band], signature.reshape(self._shape)[band]
        places = np.unique(places[(kept == own).all(axis=1)])  # two hashes may be equal by chance
        return Near(places, (self._signatures[places] == signature).sum(axis=1, dtype=np.uint16))

    def signatures(self, places: list[int]) -> Signature:
        return self._signatures[places]

    def _sort(self) -> None:
        places = np.arange(self._sorted_to, self._size, dtype=np.uint64)
        self._sorted = np.concatenate([self._sorted, (self._waiting | places[:, np.newaxis]).ravel()])
        self._sorted.sort(kind="stable")  # a merge sort: most of it is in order
        self._sorted_to = self._size

    def _hashes(self, signature: Signature) -> NDArray[np.uint64]:
        """A hash of every band, each made its own way, in the upper half of a number."""
        hashes: NDArray[np.uint64] = (signature.reshape(self._shape) * self._factors).sum(axis=1) & HASH
        return hashes
