"""The gate `agreement`: enough seats of the panel were heard, they agree well enough, and they think well enough of the row."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median, pstdev
from typing import Any, ClassVar

from filters.gate import Stage, Subject, verdict
from leafmill.records import Verdict, Vote, seat_names

ARBITER = "arbiter"
"""The role that breaks a tie; its vote is none of the panel's."""
OUTER = 5
"""One vote in so many, at either end, does not count towards the spread: in a large panel there is always somebody who stands apart."""
NEAR = 1.0
"""points within which a vote is on the arbiter's side"""


@dataclass(frozen=True)
class Agreement:
    """Votes are 1..5, expected scores where there are any. A failed vote is never a number: it only makes the panel smaller.

    A dimension is what one annotator judges; several models may play it. Its score is the median of its seats.

    * `agreement.too_few_votes` is unscorable;
    * `agreement.disagree` comes before the others, because the median of a divided panel says nothing: the arbiter can settle it, if it
      sides with a majority, or a person;
    * `agreement.low`: the median of all votes is too low;
    * `agreement.low_dimension`: that of one dimension is so low that the others cannot make up for it.
    """

    name: ClassVar[str] = "agreement"
    stage: ClassVar[tuple[Stage, ...]] = ("agree",)
    says: ClassVar[str] = "the panel has voted, does not disagree, and its median is high enough, in every dimension"

    min_votes: int = 2
    max_spread: float = 2
    """highest minus lowest, of all votes and of those of each dimension; of five and more without the outermost fifth at either end"""
    min_median: float = 3
    """of all votes"""
    min_dimension: float = 2
    """of the votes of each dimension"""

    def __post_init__(self) -> None:
        in_range = 0 <= self.max_spread <= 4 and 1 <= self.min_median <= 5 and 1 <= self.min_dimension <= 5
        if self.min_votes < 1 or not in_range:
            raise ValueError(
                "need min_votes >= 1, max_spread from 0 to 4, min_median and min_dimension from 1 to 5, "
                f"got {self.min_votes}, {self.max_spread}, {self.min_median}, {self.min_dimension}"
            )

    async def __call__(self, subject: Subject) -> Verdict:
        panel, arbiter = _apart(subject.votes)
        scores = [vote.value for vote in panel if vote.value is not None]
        told = dispersion(subject.votes)
        if len(scores) < self.min_votes:
            return verdict(self, "unscorable", "agreement.too_few_votes", value=len(scores), threshold=self.min_votes, **told)
        by_dimension = dimensions(panel)
        if (apart := max(map(spread, (scores, *by_dimension.values())))) > self.max_spread:
            side = sides_with(arbiter, scores)
            if side is None:
                return verdict(self, "reject", "agreement.disagree", value=apart, threshold=self.max_spread, **told)
            return self._by_median(side, {**told, "settled": len(side)})
        found = self._by_median(scores, told)
        lowest = min(by_dimension, key=lambda one: median(by_dimension[one]))
        if found.decision == "accept" and (low := median(by_dimension[lowest])) < self.min_dimension:
            told["dimension"] = lowest
            return verdict(self, "reject", "agreement.low_dimension", value=low, threshold=self.min_dimension, **told)
        return found

    def _by_median(self, scores: Sequence[float], told: dict[str, Any]) -> Verdict:
        if (middle := median(scores)) < self.min_median:
            return verdict(self, "reject", "agreement.low", value=middle, threshold=self.min_median, **told)
        return verdict(self, "accept", value=middle, threshold=self.min_median, **told)


def spread(scores: Sequence[float]) -> float:
    """Highest minus lowest, without the outermost fifth at either end: all of four votes, the middle three of five."""
    outer = len(scores) // OUTER
    inner = sorted(scores)[outer : len(scores) - outer]
    return inner[-1] - inner[0]


def dimensions(votes: Sequence[Vote]) -> dict[str, list[float]]:
    """The scores by annotator, of the seats that were heard."""
    heard: dict[str, list[float]] = defaultdict(list)
    for vote in votes:
        if vote.value is not None:
            heard[vote.role].append(vote.value)
    return heard


def sides_with(arbiter: Vote | None, scores: Sequence[float]) -> list[float] | None:
    """The votes within a point of the arbiter's, its own among them, if they are more than half of all; else None: still divided."""
    if arbiter is None or arbiter.value is None:
        return None
    everyone = [*scores, arbiter.value]
    side = [score for score in everyone if abs(score - arbiter.value) <= NEAR]
    return side if 2 * len(side) > len(everyone) else None


def dispersion(votes: Sequence[Vote]) -> dict[str, Any]:
    """What every seat said, and how far apart they are (standard deviation), and what the arbiter said."""
    panel, arbiter = _apart(votes)
    names = seat_names((vote.role, vote.alias) for vote in panel)
    said = {names[vote.role, vote.alias]: vote.failed if vote.value is None else vote.value for vote in panel}
    scores = [vote.value for vote in panel if vote.value is not None]
    ruled = {} if arbiter is None else {ARBITER: arbiter.failed if arbiter.value is None else arbiter.value}
    return {"votes": said, "deviation": round(pstdev(scores), 3) if scores else None, **ruled}


def _apart(votes: Sequence[Vote]) -> tuple[list[Vote], Vote | None]:
    """The panel's votes, and the arbiter's."""
    return [vote for vote in votes if vote.role != ARBITER], next((vote for vote in votes if vote.role == ARBITER), None)
