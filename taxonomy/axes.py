"""An axis is a dimension of variety (difficulty, tone, turns ...); its values are dealt like cards.

Independent random draws cover a small quota badly: of ten rows, none may be hard. So every axis has a deck that holds each value in
proportion to its weight; the deck is shuffled, dealt to the end, and shuffled anew. After any number of whole decks the counts are
exact, and candidate `number` can be planned without planning those before it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from random import Random
from typing import Any, NamedTuple, TypeVar

from pydantic import Field

from leafmill.errors import TaxonomyError, unknown
from leafmill.records import Brief, Language, Record, digest

T = TypeVar("T")

MAX_CARDS = 60
TOLERANCE = 0.02
"""how far a value's share of the deck may be from its share of the weights, when no deck of up to MAX_CARDS fits exactly"""


class AxisValue(Record):
    """One value: its key in briefs, how often it should come, the phrase that a prompt shows by language, and what it sets."""

    name: str
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    labels: dict[Language, str] = Field(default={})
    sets: dict[str, Any] = Field(default={})
    """fields of `Mode` that candidates which are dealt this value have"""


class Axis(Record):
    """A named dimension with at least two values."""

    name: str
    title: dict[Language, str] = Field(default={})
    values: tuple[AxisValue, ...] = Field(min_length=2, max_length=MAX_CARDS)

    @property
    def deck(self) -> tuple[str, ...]:
        """The cards in file order: each value at least once, as often as its weight asks."""
        counts = _cards(tuple(value.weight for value in self.values))
        return tuple(value.name for value, count in zip(self.values, counts, strict=True) for _ in range(count))

    def deal(self, run_seed: int, leaf: str, number: int) -> str:
        """The value that candidate `number` of the leaf gets."""
        return deal(self.deck, number, run_seed, leaf, "axis", self.name)

    def value(self, name: str) -> AxisValue:
        for value in self.values:
            if value.name == name:
                return value
        raise TaxonomyError(unknown(f"value of axis {self.name!r}", name, (value.name for value in self.values)))


def deal(deck: Sequence[T], number: int, *key: str | int) -> T:
    """Card `number` of an endless row of shuffled decks. The key, not a shared generator, makes it the same in every process."""
    which, at = divmod(number, len(deck))
    cards = list(deck)
    Random(digest(*key, which)).shuffle(cards)
    return cards[at]


def in_language(texts: Mapping[Language, str], language: Language) -> str:
    """The text in that language, or else in one that it has: a screen may ask in another language than the taxonomy's."""
    return texts.get(language) or next(iter(texts.values()), "")


class Count(NamedTuple):
    """How often a value was drawn, and how often its weight would have it."""

    value: str
    drawn: int
    expected: float


def coverage(axis: Axis, drawn_values: Iterable[str]) -> tuple[Count, ...]:
    """Drawn against expected counts, in the order of the axis."""
    drawn = Counter(axis.value(name).name for name in drawn_values)
    weights = sum(value.weight for value in axis.values)
    return tuple(Count(value.name, drawn[value.name], drawn.total() * value.weight / weights) for value in axis.values)


class PairCoverage(NamedTuple):
    """How many pairs of values of two different axes occur, of how many there are."""

    covered: int
    possible: int


def pair_coverage(axes: Sequence[Axis], briefs: Iterable[Brief]) -> PairCoverage:
    """Pairs that occur together in some brief. Values that the axes do not have are not counted."""
    possible = {((a.name, one.name), (b.name, other.name)) for a, b in combinations(axes, 2) for one in a.values for other in b.values}
    order = [axis.name for axis in axes]
    covered = {pair for brief in briefs for pair in combinations([(name, brief.axes[name]) for name in order if name in brief.axes], 2)}
    return PairCoverage(len(covered & possible), len(possible))


@lru_cache(maxsize=1024)
def _cards(weights: tuple[float, ...]) -> tuple[int, ...]:
    """How many cards each value gets: the smallest deck that fits exactly, else the smallest within tolerance, else the closest."""
    decks = [_fill(weights, size) for size in range(len(weights), MAX_CARDS + 1)]
    by_error = [(_error(weights, deck), deck) for deck in decks]
    for bound in (1e-9, TOLERANCE, min(error for error, _ in by_error)):
        fitting = [deck for error, deck in by_error if error <= bound]
        if fitting:
            return fitting[0]
    raise AssertionError("the closest deck fits its own error")


def _fill(weights: tuple[float, ...], size: int) -> tuple[int, ...]:
    """One card each, then card by card to the value that is furthest below its share."""
    total = sum(weights)
    counts = [1] * len(weights)
    for _ in range(size - len(weights)):
        short = max(range(len(weights)), key=lambda i: weights[i] * size / total - counts[i])
        counts[short] += 1
    return tuple(counts)


def _error(weights: tuple[float, ...], counts: tuple[int, ...]) -> float:
    total, size = sum(weights), sum(counts)
    return max(abs(count / size - weight / total) for weight, count in zip(weights, counts, strict=True))
