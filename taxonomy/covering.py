"""The plan of a leaf: an endless row of cells, each with a language and one value per axis.

First come the cells that cover: every pair of values of any two axes, and of any axis and language, stands in some cell, as early as a
greedy search gets it. Each cell is the best of a few tries; a try begins with the value that has most pairs left, then takes the other
factors in random order, each with the value that brings most new pairs (AETG: Cohen, Dalal, Fredman and Patton, "The AETG System", IEEE
Transactions on Software Engineering 23(7), 1997). Which value, where several bring as many, is said by the weights: the one that is
furthest behind its share. Once all pairs are covered nothing else counts, so in the large every value has its share.

All of it follows from the key, and cell n from those before it: the plan is the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations
from random import Random
from typing import NamedTuple, cast

from leafmill.records import Language, digest
from taxonomy.axes import Axis

TRIES = 4
"""cells that are tried for one that covers"""
JITTER = 0.999
"""how far behind its share, in cells, another value may be than the one that is taken: less than one, so that values of equal weight all
come once before any comes again, in another order each time"""


LANGUAGE = "language"
"""the factor that is no axis"""
FACTORS = "factors"
"""what a ledger calls those of each leaf"""


class Cell(NamedTuple):
    """What a candidate is planned to be."""

    language: Language
    axes: Mapping[str, str]


class Plan:
    """The cells of some axes and languages. `key` says whose plan it is: another key, another order."""

    def __init__(self, axes: Sequence[Axis], languages: Sequence[Language], *key: str | int) -> None:
        self._names = (LANGUAGE, *(axis.name for axis in axes))
        of_axes = [{value.name: value.weight for value in axis.values} for axis in axes]
        weights: list[dict[str, float]] = [dict.fromkeys(sorted(languages), 1.0), *of_axes]
        self._values = [tuple(factor) for factor in weights]
        self._shares = [[weight / sum(factor.values()) for weight in factor.values()] for factor in weights]
        self._counts = [[0] * len(factor) for factor in weights]
        self._rng = Random(digest(*key, "plan"))
        self._pairs = _Pairs([len(factor) for factor in weights])
        self._cells: list[Cell] = []
        self._bound = 0

    def cell(self, number: int) -> Cell:
        while len(self._cells) <= number:
            self._extend()
        return self._cells[number]

    @property
    def factors(self) -> dict[str, tuple[str, ...]]:
        """What is covered: the languages, and the values of each axis by its name."""
        return dict(zip(self._names, self._values, strict=True))

    @property
    def bound(self) -> int:
        """How many cells it takes until every pair of values is covered."""
        while self._pairs.left:
            self._extend()
        return self._bound

    def _extend(self) -> None:
        number = len(self._cells) + 1
        if self._pairs.left:
            picked = max((self._covering(number) for _ in range(TRIES)), key=self._pairs.brings)
            self._pairs.cover(picked)
            self._bound = number
        else:
            picked = [self._furthest_behind(factor, self._pairs.full[factor], number) for factor in range(len(self._values))]
        for factor, value in enumerate(picked):
            self._counts[factor][value] += 1
        language, *values = (self._values[factor][value] for factor, value in enumerate(picked))
        self._cells.append(Cell(cast(Language, language), dict(zip(self._names[1:], values, strict=True))))

    def _covering(self, number: int) -> list[int]:
        """A value of each factor, such that many new pairs come together."""
        rest = list(range(len(self._values)))
        self._rng.shuffle(rest)
        first = max(rest, key=self._pairs.most_left)
        rest.remove(first)
        picked = {first: self._furthest_behind(first, self._pairs.neediest(first), number)}
        for factor in rest:
            picked[factor] = self._furthest_behind(factor, self._pairs.bringing_most(factor, picked), number)
        return [picked[factor] for factor in range(len(self._values))]

    def _furthest_behind(self, factor: int, among: int, number: int) -> int:
        """Of the values in a bit set, the one that has come least often for its weight."""
        shares, counts, random = self._shares[factor], self._counts[factor], self._rng.random
        return max(_bits(among), key=lambda value: shares[value] * number - counts[value] + JITTER * random())


class _Pairs:
    """Which pairs of values no cell has had: of each value, the bit set of those of every other factor."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.full = [(1 << size) - 1 for size in sizes]
        """by factor: the set of all its values"""
        self._open = [
            [[0 if other == factor else full for other, full in enumerate(self.full)] for _ in range(size)]
            for factor, size in enumerate(sizes)
        ]
        self._needs = [[sum(sizes) - size] * size for size in sizes]
        """by factor and value: how many of its pairs are left"""
        self.left = sum(chain.from_iterable(self._needs)) // 2

    def most_left(self, factor: int) -> int:
        """How many pairs the neediest value of a factor has left."""
        return max(self._needs[factor])

    def neediest(self, factor: int) -> int:
        """The values with most pairs left."""
        most = self.most_left(factor)
        return sum(1 << value for value, need in enumerate(self._needs[factor]) if need == most)

    def bringing_most(self, factor: int, picked: Mapping[int, int]) -> int:
        """The values that make most new pairs with the picked ones."""
        return _in_most((self._open[other][value][factor] for other, value in picked.items()), self.full[factor])

    def brings(self, cell: Sequence[int]) -> int:
        """How many new pairs a cell has."""
        return sum(self._open[a][cell[a]][b] >> cell[b] & 1 for a, b in combinations(range(len(cell)), 2))

    def cover(self, cell: Sequence[int]) -> None:
        for a, b in combinations(range(len(cell)), 2):
            one, other = cell[a], cell[b]
            if self._open[a][one][b] >> other & 1:
                self._open[a][one][b] ^= 1 << other
                self._open[b][other][a] ^= 1 << one
                self._needs[a][one] -= 1
                self._needs[b][other] -= 1
                self.left -= 1


def _in_most(sets: Iterable[int], among: int) -> int:
    """Those of `among` that are in the most of the sets. They are counted side by side: `digits[i]` holds bit i of every count."""
    digits: list[int] = []
    for carry in sets:
        for place, digit in enumerate(digits):
            digits[place], carry = digit ^ carry, digit & carry
            if not carry:
                break
        if carry:
            digits.append(carry)
    for digit in reversed(digits):
        among = among & digit or among
    return among


def _bits(numbers: int) -> Iterator[int]:
    while numbers:
        low = numbers & -numbers
        yield low.bit_length() - 1
        numbers ^= low
