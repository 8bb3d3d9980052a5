"""The gate `rewrite`: what was made of a row of a data set is no longer that row. Near-duplicates among rows are other gates' business."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from filters.text import normalise
from leafmill.records import Verdict


@dataclass(frozen=True)
class Rewrite:
    """`rewrite.unchanged`: instruction and input are those of the source, up to width, case and spaces. Other candidates pass."""

    name: ClassVar[str] = "rewrite"
    stage: ClassVar[tuple[Stage, ...]] = ("screen",)
    says: ClassVar[str] = "a rewritten instruction is not the one that it was made of"

    async def __call__(self, subject: Subject) -> Verdict:
        brief, row = subject.brief, subject.row
        if brief is None or brief.source is None or brief.mode.write != "rewrite":
            return verdict(self, "accept")
        source = brief.source
        if (normalise(row.instruction), normalise(row.input)) == (normalise(source.text), normalise(source.input)):
            return verdict(self, "reject", "rewrite.unchanged", source=f"{source.name}:{source.place}")
        return verdict(self, "accept")
