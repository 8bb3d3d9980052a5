"""The n-grams of many texts, and which of them other texts share: all at once, as arrays.

Tokens are numbers; 0 is a token that is in none of the texts. Hashes of n-grams roll over the numbers, and one look at a table says of
most that they are of no text. An n-gram whose hash is known is then compared token by token, so that a collision finds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Ids = NDArray[np.int32]
Numbers = NDArray[np.int64]
Hashes = NDArray[np.uint64]

FACTOR = 0x9E3779B97F4A7C15
FIRST_LOOK = 22
"""bits of a hash that the first look is at: the table is 4 MB, and stays in the cache"""


class Shared(NamedTuple):
    """Which n-grams of the texts each row has, each once."""

    rows: Numbers
    grams: Numbers


class Covered(NamedTuple):
    """How many tokens of a text lie in n-grams that it shares with a row."""

    rows: Numbers
    texts: Numbers
    tokens: Numbers


class Grams:
    """The n-grams of texts of at least n tokens, whose numbers go up to `last`. `bits` is the length of a hash: a shorter one collides
    more, and changes nothing."""

    def __init__(self, texts: Sequence[Ids], n: int, last: int, *, bits: int = 64) -> None:
        self._n, self._shift = n, np.uint64(64 - bits)
        self._values = np.random.default_rng(0).integers(0, 2**64, last + 1, np.uint64)
        windows = [sliding_window_view(text, n) for text in texts]
        grams, which = np.unique(np.concatenate(windows), axis=0, return_inverse=True)
        by_hash = np.argsort(hashes := self._hash(grams.ravel())[::n])
        self._hashes, self._grams = hashes[by_hash], grams[by_hash]
        self._seen = np.zeros(2**FIRST_LOOK, bool)
        self._seen[_low(hashes)] = True
        # where each n-gram stands: for gram g, of text _texts[i] at _places[i], for i from _first[g] to _first[g + 1]
        number = np.argsort(by_hash)[which.ravel()]
        by_gram = np.argsort(number, kind="stable")
        self._first = np.searchsorted(number[by_gram], np.arange(len(grams) + 1))
        self._texts = np.repeat(np.arange(len(texts)), [len(one) for one in windows])[by_gram]
        self._places = np.concatenate([np.arange(len(one)) for one in windows])[by_gram]

    def shared(self, ids: Ids, starts: Numbers) -> Shared:
        """Which n-grams rows have, whose tokens stand one after the other in `ids`; row i begins at `starts[i]`. Between what must not be
        read as one stands a 0."""
        places, grams = self._look_up(ids)
        rows = np.searchsorted(starts, places, side="right") - 1
        both = np.unique(rows * len(self._grams) + grams)
        return Shared(*np.divmod(both, len(self._grams)))

    def pairs(self, shared: Shared) -> int:
        """How many places of texts the shared n-grams have: the work of `covered`."""
        return int((self._first[shared.grams + 1] - self._first[shared.grams]).sum())

    def covered(self, shared: Shared) -> Covered:
        """How much of each text each row covers, where it covers anything."""
        first, counts = self._first[shared.grams], self._first[shared.grams + 1] - self._first[shared.grams]
        here = np.repeat(first - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        rows, texts, places = np.repeat(shared.rows, counts), self._texts[here], self._places[here]
        order = np.lexsort((places, texts, rows))
        rows, texts, places = rows[order], texts[order], places[order]
        begins = np.ones(len(rows), bool)
        begins[1:] = (rows[1:] != rows[:-1]) | (texts[1:] != texts[:-1])
        adds = np.full(len(rows), self._n)  # an n-gram covers n tokens, less those that the next one covers too
        adds[:-1] = np.where(begins[1:], self._n, np.minimum(np.diff(places), self._n))
        starts = np.flatnonzero(begins)
        tokens = np.add.reduceat(adds, starts) if len(starts) else adds
        return Covered(rows[starts], texts[starts], tokens)

    def _look_up(self, ids: Ids) -> tuple[Numbers, Numbers]:
        """Where known n-grams begin, and which ones they are."""
        hashes = self._hash(ids)
        places = np.flatnonzero(self._seen[_low(hashes)])
        at = np.searchsorted(self._hashes, hashes[places])
        found = [(places[:0], at[:0])]
        while len(places):  # again only where a hash is that of several n-grams
            same = at < len(self._hashes)
            same[same] = self._hashes[at[same]] == hashes[places[same]]
            places, at = places[same], at[same]
            equal = (ids[places[:, None] + np.arange(self._n)] == self._grams[at]).all(axis=1)
            found.append((places[equal], at[equal]))
            places, at = places[~equal], at[~equal] + 1
        return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])

    def _hash(self, ids: Ids) -> Hashes:
        """Of every n tokens in a row: the sum of their values times powers of FACTOR, put together from halves."""
        values = self._values[ids]
        if len(values) < self._n:
            return values[:0]
        hashes, length = values, 1
        for bit in bin(self._n)[3:]:
            hashes = hashes[:-length] * _power(length) + hashes[length:]
            length *= 2
            if bit == "1":
                hashes = hashes[:-1] * _power(1) + values[length:]
                length += 1
        return hashes >> self._shift


def _power(exponent: int) -> np.uint64:
    return np.uint64(pow(FACTOR, exponent, 2**64))


def _low(hashes: Hashes) -> Hashes:
    return hashes & np.uint64(2**FIRST_LOOK - 1)
