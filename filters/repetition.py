"""The gate `repetition`: a text that goes round in circles, as language models do when they lose the thread.

The tests are those of Gopher (Rae 2021) and datatrove, which are made for web pages; here the limits are for answers, where tables, lists,
refrains and worked steps repeat themselves with good reason. n-grams are of units: words, and characters in Chinese. Code is left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from filters.form import prose
from filters.gate import Stage, Subject, verdict
from filters.text import remembered, script, tokens
from leafmill.records import Language, Verdict

TOP = (2, 3, 4)
"""sizes of n-gram of which the most frequent one is looked at"""
REPEATED: dict[Language, int] = {"en": 6, "zh": 10}
"""the size of n-gram whose second and later occurrences are counted: about as much is said in ten characters as in six words"""

LOOPS, LOOP_UNITS, LOOP_PERIOD = 4, 24, 60
"""how often, over how many units, and how long a phrase"""

_RUN = re.compile(r"([^\W_])\1{39,}")
_MARKS = re.compile(r"^[\s\-*+>|#·•]*(?:\(?\d{1,3}[.)、:]\s*)?")


class Measured(NamedTuple):
    """How much of a text, 0..1, is repeated."""

    units: int
    lines: float
    """share of units in lines that stand in the text before"""
    top: float
    """of the most frequent short n-gram, the share of units that it takes; the worst of its sizes"""
    ngrams: float
    """share of units in longer n-grams that occurred before"""
    loop: str
    """what it says over and over at its end, or a character that stands forty times in a row"""


@dataclass(frozen=True)
class Repetition:
    """Judged are instruction and answer, if they are long enough to tell.

    Codes: `repetition.loop` it ends in the same words again and again, or holds one character forty times; `repetition.top` one phrase
    takes too much of the text; `repetition.lines` whole lines come again; `repetition.ngrams` longer phrases do.
    """

    name: ClassVar[str] = "repetition"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "the text does not go round in circles"

    lines: float = 0.5
    top: float = 0.4
    ngrams: float = 0.5
    min_units: int = 50
    """shorter texts are judged for loops only: a four-line poem may have a refrain of two"""

    def __post_init__(self) -> None:
        if not all(0 < limit <= 1 for limit in (self.lines, self.top, self.ngrams)) or self.min_units < 1:
            raise ValueError(f"limits are shares, 0..1, got {self.lines}, {self.top} and {self.ngrams}, from {self.min_units} units on")

    async def __call__(self, subject: Subject) -> Verdict:
        worst = 0.0
        for part, text in (("instruction", subject.row.instruction), ("answer", subject.row.answer)):
            found = measure(text)
            if found.loop:
                return verdict(self, "reject", "repetition.loop", part=part, phrase=found.loop)
            if found.units < self.min_units:
                continue
            for what in ("top", "lines", "ngrams"):
                value, limit = getattr(found, what), getattr(self, what)
                if value > limit:
                    return verdict(self, "reject", f"repetition.{what}", value=value, threshold=limit, part=part)
            worst = max(worst, found.ngrams)
        return verdict(self, "accept", value=worst, threshold=self.ngrams)


@remembered
def measure(text: str) -> Measured:
    """How much of a text is repeated."""
    said = prose(text)
    units = tokens(said)
    run = _RUN.search(said)
    size = REPEATED["zh" if script(said) > 0.5 else "en"]
    return Measured(
        units=len(units),
        lines=_repeated_lines(said.splitlines()),
        top=max((_top(units, n) for n in TOP), default=0.0),
        ngrams=_repeated_ngrams(units, size),
        loop=run[1] if run else _loop(units),
    )


def _loop(units: Sequence[str]) -> str:
    """The words that a text ends with at least `LOOPS` times in a row, over `LOOP_UNITS` units or more."""
    for period in range(1, len(units) // LOOPS + 1):
        if period > LOOP_PERIOD:
            break
        phrase, times = units[-period:], 1
        while units[-(times + 1) * period : -times * period] == phrase:
            times += 1
        if times >= LOOPS and times * period >= LOOP_UNITS:
            return " ".join(phrase)
    return ""


def _repeated_lines(lines: Iterable[str]) -> float:
    """A line is known by its words: numbering and bullets differ. What has fewer than three, such as a cell or a chorus, may come again."""
    known, total, again = set[tuple[str, ...]](), 0, 0
    for line in lines:
        words = tuple(tokens(_MARKS.sub("", line)))
        total += len(words)
        again += len(words) if words in known else 0
        if len(words) >= 3:
            known.add(words)
    return again / total if total else 0.0


def _top(units: Sequence[str], n: int) -> float:
    """The share of the most frequent n-gram, if it comes at least three times."""
    times = max(Counter(_ngrams(units, n)).values(), default=0)
    return min(1.0, times * n / len(units)) if times > 2 else 0.0


def _repeated_ngrams(units: Sequence[str], n: int) -> float:
    """The share of units that lie in an n-gram which began earlier too."""
    known, again, covered = set[tuple[str, ...]](), 0, 0
    for start, gram in enumerate(_ngrams(units, n)):
        if gram in known:
            again += start + n - max(start, covered)
            covered = start + n
        known.add(gram)
    return again / len(units) if units else 0.0


def _ngrams(units: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    return zip(*(units[start:] for start in range(n)), strict=False)
