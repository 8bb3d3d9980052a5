"""What became of the rows of a file, counted: the summary of a command, and what its pictures are drawn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pydantic import BaseModel

from leafmill.dataset.items import Broken, Item
from leafmill.records import Decision, Verdict

PLACES: dict[Decision, str] = {"accept": "kept", "reject": "dropped", "unscorable": "waiting", "error": "waiting"}
"""where a row goes by the decision on it"""
DIGITS = 2
"""decimals to which values are counted; outputs hold them in full"""
FARTHEST = 1000.0
"""values beyond are counted as this: a ratio of perplexities may be anything"""
SHOWN = 3
"""broken lines that the summary shows"""
LINES = 4
"""thresholds of one gate and language that are remembered; each row may have its own"""


class Spread(NamedTuple):
    """How the values of a gate lie, for the rows of one language that went one way."""

    gate: str
    language: str
    place: str
    code: str
    """what the gate remarked on them, if it did"""
    counts: Mapping[float, int]
    """value -> rows"""

    @property
    def n(self) -> int:
        return sum(self.counts.values())

    def quantile(self, share: float) -> float:
        """The smallest value that this share of the rows does not exceed."""
        reached = 0
        for value in sorted(self.counts):
            reached += self.counts[value]
            if reached >= share * self.n:
                return value
        raise ValueError("no values were counted")


class Tally(BaseModel):
    """Counts of the rows seen. read = kept + dropped + waiting + broken, always."""

    read: int = 0
    kept: int = 0
    dropped: int = 0
    waiting: int = 0
    broken: int = 0
    errors: int = 0
    """of those waiting, the ones on which a gate itself failed"""
    formats: dict[str, int] = {}
    codes: dict[str, int] = {}
    """why rows are not kept"""
    languages: dict[str, dict[str, int]] = {}
    """language -> place -> rows"""
    faults: list[str] = []
    """the first broken lines"""
    values: dict[str, dict[str, int]] = {}
    """gate/language/place/code -> value -> rows"""
    thresholds: dict[str, list[float]] = {}
    """gate/language -> what values were held against"""

    @property
    def words(self) -> str:
        """The counts in a line."""
        counts = {place: getattr(self, place) for place in ("kept", "dropped", "waiting", "broken")}
        return ", ".join([f"{self.read:,} read", *(f"{n:,} {place}" for place, n in counts.items() if n)])

    def see_broken(self, broken: Broken) -> None:
        self.read += 1
        self.broken += 1
        _count(self.codes, "broken")
        if len(self.faults) < SHOWN:
            self.faults.append(f"line {broken.line}: {broken.fault}")

    def see(self, item: Item, verdicts: tuple[Verdict, ...]) -> str:
        """Count a row by the last verdict on it; the place to which it goes."""
        last, language = verdicts[-1], item.row.language
        place = PLACES[last.decision]
        self.read += 1
        setattr(self, place, getattr(self, place) + 1)
        self.errors += last.decision == "error"
        _count(self.formats, item.format)
        _count(self.languages.setdefault(language, {}), place)
        if place != "kept":
            _count(self.codes, last.code)
        for verdict in verdicts:
            self._measure(verdict, language, place)
        return place

    def check(self) -> None:
        if self.read != self.kept + self.dropped + self.waiting + self.broken:
            raise RuntimeError(f"rows were lost: {self!r}")

    def spreads(self) -> Iterator[Spread]:
        for key, counts in sorted(self.values.items()):
            gate, language, place, code = key.split("/")
            yield Spread(gate, language, place, code, {float(value): n for value, n in counts.items()})

    def _measure(self, verdict: Verdict, language: str, place: str) -> None:
        if verdict.value is not None:
            value = round(max(-FARTHEST, min(FARTHEST, verdict.value)), DIGITS)
            code = "" if verdict.code == "ok" else verdict.code
            _count(self.values.setdefault(f"{verdict.gate}/{language}/{place}/{code}", {}), str(value))
        if verdict.threshold is not None:
            known = self.thresholds.setdefault(f"{verdict.gate}/{language}", [])
            if verdict.threshold not in known and len(known) < LINES:
                known.append(verdict.threshold)


def _count(counts: dict[str, int], key: str) -> None:
    counts[key] = counts.get(key, 0) + 1
