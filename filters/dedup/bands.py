"""Which MinHash signatures share a band: locality-sensitive hashing in little memory.

    bands = Bands(bands=32, rows=4)
    (asked,) = bands.ask(signatures)          # one or a thousand at once, which is faster
    places, equal = bands.near(asked)         # all that agree in a whole band, and in how many slots each agrees
    place = bands.add(asked)                  # 0, 1, 2, ...

It finds what datasketch's `MinHashLSH` of the same bands finds, which keeps a dict of sets for each band. Here each slot is kept by its
lowest byte, which is equal by chance once in 256 times, and the bands of a signature are so many numbers of 8 bytes in two sorted arrays.
New ones are merged into the small one, and that, when it has grown, into the large one: adding costs about the same however many there
are. The newest stand in a dict until there are enough to be worth a sort.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise, repeat
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

Signature = NDArray[np.uint32]
"""the slots of a MinHash"""
Bytes = NDArray[np.uint8]
"""the lowest byte of each"""
T = TypeVar("T", bound=np.generic)
Numbers = NDArray[np.uint64]

WAIT = 1024
"""signatures that wait for the next sort"""
PAIRS = 1 << 15
"""pairs of signatures that are compared at once, so that a crowd of look-alikes takes no more memory than that"""
PLACE = 0xFFFF_FFFF
"""the half of a number that says where its signature stands"""
HASH = PLACE << 32
"""the other half, a hash of one band"""


class Near(NamedTuple):
    places: NDArray[np.intp]
    """in no order; one that shares several bands may come several times"""
    equal: NDArray[np.uint16]
    """slots in which each agrees"""


NOTHING = Near(np.empty(0, np.intp), np.empty(0, np.uint16))


class Asked(NamedTuple):
    """A signature with what was near it among the sorted ones, of which there were `sorted_to`."""

    bytes: Bytes
    hashes: list[int]
    near: Near
    sorted_to: int


class Bands:
    def __init__(self, bands: int, rows: int) -> None:
        self._shape = bands, rows
        self._factors = np.random.default_rng(0).integers(0, 1 << 64, self._shape, dtype=np.uint64)
        self._kept: Bytes = np.empty((0, bands * rows), np.uint8)  # with room for more
        self._large = np.empty(0, np.uint64)
        self._small = np.empty(0, np.uint64)
        self._waiting: dict[int, int] = {}  # hash -> the last of them that has it
        self._crowd: dict[int, list[int]] = {}  # hash -> the ones before
        self._late: list[list[int]] = []  # the hashes of those that wait
        self._size = self._sorted_to = 0

    def ask(self, signatures: Signature) -> list[Asked]:
        """What is known of signatures before any of them is added. Sorts first, if there is too little room for so many to wait."""
        if len(self._late) + len(signatures) > WAIT:
            self._sort()
        return self._asked(signatures.astype(np.uint8), self._hashes(signatures))

    def near(self, asked: Asked) -> Near:
        """All that share at least one whole band with a signature, those included that were added since it was asked about, and now and
        then one of which only the hash is the same."""
        if asked.sorted_to != self._sorted_to:
            (asked,) = self._asked(asked.bytes[np.newaxis], np.array([asked.hashes], np.uint64))
        shared = self._waiting.keys() & asked.hashes
        if not shared:
            return asked.near
        late = {self._waiting[hash] for hash in shared}
        for hash in shared & self._crowd.keys():
            late.update(self._crowd[hash])
        places = np.array(sorted(late), np.intp)
        equal = self._compared(asked.bytes, places)
        return Near(np.concatenate([asked.near.places, places]), np.concatenate([asked.near.equal, equal]))

    def add(self, asked: Asked) -> int:
        """Remember a signature; the place at which it stands."""
        place = self._size
        if place == len(self._kept):
            room = np.empty((place + place // 8 + WAIT, asked.bytes.size), np.uint8)
            room[:place] = self._kept
            self._kept = room
        self._kept[place] = asked.bytes
        for hash in self._waiting.keys() & asked.hashes:
            self._crowd.setdefault(hash, []).append(self._waiting[hash])  # the last one stands in the first dict
        self._waiting.update(dict.fromkeys(asked.hashes, place))
        self._late.append(asked.hashes)
        self._size += 1
        if len(self._late) > 2 * WAIT:
            self._sort()
        return place

    def _asked(self, slots: Bytes, hashes: Numbers) -> list[Asked]:
        near = self._among_sorted(slots, hashes)
        return [Asked(*asked, self._sorted_to) for asked in zip(slots, hashes.tolist(), near, strict=True)]

    def _sort(self) -> None:
        if not self._late:
            return
        places = np.arange(self._sorted_to, self._size, dtype=np.uint64)
        self._small = _merged(self._small, (np.array(self._late, np.uint64) | places[:, np.newaxis]).ravel())
        if self._small.size > math.sqrt(self._size * WAIT) * self._shape[0]:
            self._large = _merged(self._large, self._small)
            self._small = np.empty(0, np.uint64)
        self._waiting.clear()
        self._crowd.clear()
        self._late.clear()
        self._sorted_to = self._size

    def _hashes(self, signatures: Signature) -> Numbers:
        """A hash of every band, each made its own way, in the upper half of a number."""
        hashes: Numbers = (signatures.reshape(-1, *self._shape) * self._factors).sum(axis=2) & HASH
        return hashes

    def _among_sorted(self, slots: Bytes, hashes: Numbers) -> Iterator[Near]:
        """For each signature, in order, what is near it among the sorted ones."""
        bands = self._shape[0]
        order = np.argsort(hashes, axis=None)  # neighbours are looked up one after the other
        keys = hashes.ravel()[order]
        hits: list[_Hits] = []
        for numbers in (self._large, self._small):
            start = numbers.searchsorted(keys)
            hit = np.flatnonzero((numbers.take(start, mode="clip") & HASH) == keys) if numbers.size else start[:0]
            end = numbers.searchsorted(keys[hit] | PLACE, side="right")
            hits.append(_Hits(order[hit] // bands, start[hit], end, numbers))
        count = np.sum([np.bincount(who, end - start, len(slots)) for who, start, end, _ in hits], axis=0)
        chunk = np.cumsum(count) // PAIRS
        edges = [0, *(np.flatnonzero(np.diff(chunk)) + 1).tolist(), len(slots)]
        for first, last in pairwise(edges):
            if not count[first:last].any():
                yield from repeat(NOTHING, last - first)
            else:
                yield from self._pairs(slots, first, last, hits)

    def _pairs(self, slots: Bytes, first: int, last: int, hits: list[_Hits]) -> Iterator[Near]:
        """The same for the signatures from `first` to before `last`."""
        asking, places = [], []
        for who, start, end, numbers in hits:
            mine = np.flatnonzero((who >= first) & (who < last))
            length = (end - start)[mine]
            where = np.repeat(start[mine] - np.cumsum(length) + length, length) + np.arange(length.sum())
            asking.append(np.repeat(who[mine], length).astype(np.min_scalar_type(len(slots))))  # small numbers are sorted fast
            places.append((numbers[where] & PLACE).astype(np.intp))
        asker, place = np.concatenate(asking), np.concatenate(places)
        order = asker.argsort(kind="stable")
        asker, place = asker[order], place[order]
        equal = self._compared(slots[asker], place)
        for start, end in pairwise(np.searchsorted(asker, np.arange(first, last + 1)).tolist()):
            yield Near(place[start:end], equal[start:end])

    def _compared(self, slots: Bytes, places: NDArray[np.intp]) -> NDArray[np.uint16]:
        """In how many slots each pair agrees."""
        equal: NDArray[np.uint16] = (self._kept[places] == slots).sum(axis=1, dtype=np.uint16)
        return equal


class _Hits(NamedTuple):
    who: NDArray[np.intp]
    """the signature of which a hash is there"""
    start: NDArray[np.intp]
    """where the numbers with this hash begin, and end"""
    end: NDArray[np.intp]
    numbers: Numbers


def distinct(numbers: NDArray[T]) -> NDArray[T]:
    """Each number once, in order: what `np.unique` gives, without its hash table, which is many times slower than a sort."""
    numbers = np.sort(numbers)
    once: NDArray[T] = numbers[np.concatenate([[True], numbers[1:] != numbers[:-1]])[: numbers.size]]
    return once


def _merged(numbers: Numbers, others: Numbers) -> Numbers:
    merged = np.concatenate([numbers, others])
    merged.sort(kind="stable")  # a merge sort: most of it is in order
    return merged
