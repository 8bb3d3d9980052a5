"""The gate `exact`: the same prompt twice, up to width, case, invisible characters, spaces and traditional or simplified Han."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from filters.text import normalise, remembered
from leafmill.records import Verdict, digest


@dataclass(frozen=True)
class Exact:
    name: ClassVar[str] = "exact"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "the same prompt was accepted before"

    kept: dict[str, str] = field(default_factory=dict, repr=False, compare=False)
    """hash of the prompt -> id of the accepted row"""

    async def __call__(self, subject: Subject) -> Verdict:
        first = self.kept.get(_key(subject.row.instruction, subject.row.input), subject.id)
        return verdict(self, "accept") if first == subject.id else verdict(self, "reject", "exact.duplicate", value=1.0, kept=first)

    async def add(self, subject: Subject) -> None:
        self.kept.setdefault(_key(subject.row.instruction, subject.row.input), subject.id)


@remembered
def _key(instruction: str, input: str) -> str:
    """They are hashed apart, so that words cannot move between them."""
    return digest(normalise(instruction), normalise(input), length=32)
