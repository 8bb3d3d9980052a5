"""The gate `review`: rows that passed everything else and that a person should see, by the recipe's `review:` rule."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from statistics import median
from typing import ClassVar

from filters.agreement import ARBITER
from filters.gate import Stage, Subject, verdict
from leafmill.recipe import ReviewRule
from leafmill.records import Verdict, digest

NAME = "review"


@dataclass(frozen=True)
class Review:
    """It cannot say whether a row is good: that is for a person to say, so what it picks is unscorable, and waits."""

    name: ClassVar[str] = NAME
    stage: ClassVar[tuple[Stage, ...]] = ("score",)
    says: ClassVar[str] = "nobody has to look at the row: not the recipe's `review:` rule, nor its audit sample"

    rule: ReviewRule

    async def __call__(self, subject: Subject) -> Verdict:
        leaf = subject.brief.leaf if subject.brief else ""
        if any(fnmatchcase(leaf, glob) for glob in self.rule.leaves):
            return verdict(self, "unscorable", "review.leaf", leaf=leaf)
        panel = [vote.value for vote in subject.votes if vote.value is not None and vote.role != ARBITER]
        limit, middle = self.rule.panel_below, median(panel) if panel else None
        if limit is not None and middle is not None and middle < limit:
            return verdict(self, "unscorable", "review.panel", value=middle, threshold=limit)
        limit, score = self.rule.critic_below, subject.critic_score
        if limit is not None and score is not None and score < limit:
            return verdict(self, "unscorable", "review.critic", value=score, threshold=limit)
        if (lot := drawn(subject.id)) < self.rule.share:
            return verdict(self, "unscorable", "review.sample", value=round(lot, 6), threshold=self.rule.share)
        return verdict(self, "accept", value=round(lot, 6), threshold=self.rule.share)


def drawn(candidate: str) -> float:
    """The lot of a candidate, from 0 to 1: the same in every process, and independent of all that happens to it.

    Ids are derived from the run's seed, so another seed draws others.
    """
    return int(digest(candidate, NAME, length=8), 16) / 2**32


def holds(code: str) -> bool:
    """Whether a candidate waits by the rule, so that it will be in the dataset if nobody objects."""
    return code.startswith(f"{NAME}.")
