"""The gate `agreement`: enough annotators were heard, they agree well enough, and they think well enough of the row."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from leafmill.records import Verdict


@dataclass(frozen=True)
class Agreement:
    """Votes are 1..5. A failed vote is never a number: it only makes the panel smaller.

    `agreement.too_few_votes` is unscorable; `agreement.disagree` comes before `agreement.low`, because the median of a divided panel
    says nothing, and a person can settle it.
    """

    name: ClassVar[str] = "agreement"
    stage: ClassVar[tuple[Stage, ...]] = ("agree",)
    says: ClassVar[str] = "the panel has voted, does not disagree, and its median is high enough"

    min_votes: int = 2
    max_spread: int = 2
    """highest minus lowest vote"""
    min_median: float = 3

    def __post_init__(self) -> None:
        if self.min_votes < 1 or not 0 <= self.max_spread <= 4 or not 1 <= self.min_median <= 5:
            raise ValueError(
                "need min_votes >= 1, max_spread from 0 to 4 and min_median from 1 to 5, "
                f"got {self.min_votes}, {self.max_spread}, {self.min_median}"
            )

    async def __call__(self, subject: Subject) -> Verdict:
        votes = {vote.role: vote.score if vote.score is not None else vote.failed for vote in subject.votes}
        scores = [vote.score for vote in subject.votes if vote.score is not None]
        if len(scores) < self.min_votes:
            return verdict(self, "unscorable", "agreement.too_few_votes", value=len(scores), threshold=self.min_votes, votes=votes)
        if (spread := max(scores) - min(scores)) > self.max_spread:
            return verdict(self, "reject", "agreement.disagree", value=spread, threshold=self.max_spread, votes=votes)
        if (middle := median(scores)) < self.min_median:
            return verdict(self, "reject", "agreement.low", value=middle, threshold=self.min_median, votes=votes)
        return verdict(self, "accept", value=middle, threshold=self.min_median, votes=votes)
