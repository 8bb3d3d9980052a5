"""An axis is a dimension of variety (difficulty, tone, turns ...): named values, each as often as its weight says (`covering.Plan`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, TypeVar

from pydantic import Field

from leafmill.errors import TaxonomyError, unknown
from leafmill.records import Language, Record, digest

T = TypeVar("T")

MAX_VALUES = 60


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
    values: tuple[AxisValue, ...] = Field(min_length=2, max_length=MAX_VALUES)

    def value(self, name: str) -> AxisValue:
        for value in self.values:
            if value.name == name:
                return value
        raise TaxonomyError(unknown(f"value of axis {self.name!r}", name, (value.name for value in self.values)))


def in_language(texts: Mapping[Language, str], language: Language) -> str:
    """The text in that language, or else in one that it has: a screen may ask in another language than the taxonomy's."""
    return texts.get(language) or next(iter(texts.values()), "")


def deal(deck: Sequence[T], number: int, *key: str | int) -> T:
    """Card `number` of an endless row of shuffled decks. The key, not a shared generator, makes it the same in every process."""
    which, at = divmod(number, len(deck))
    cards = list(deck)
    Random(digest(*key, which)).shuffle(cards)
    return cards[at]
