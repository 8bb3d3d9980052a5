"""The gate `critic`: the critic's score is high enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from leafmill.records import Verdict


@dataclass(frozen=True)
class Critic:
    name: ClassVar[str] = "critic"
    stage: ClassVar[tuple[Stage, ...]] = ("agree",)
    says: ClassVar[str] = "the critic's score is high enough"

    min_score: int = 3
    """1..5, as the critic scores"""

    def __post_init__(self) -> None:
        if not 1 <= self.min_score <= 5:
            raise ValueError(f"min_score must be from 1 to 5, got {self.min_score}")

    async def __call__(self, subject: Subject) -> Verdict:
        score = subject.critic_score
        if score is None:
            return verdict(self, "unscorable", "critic.no_score", threshold=self.min_score)
        if score < self.min_score:
            return verdict(self, "reject", "critic.low", value=score, threshold=self.min_score)
        return verdict(self, "accept", value=score, threshold=self.min_score)
