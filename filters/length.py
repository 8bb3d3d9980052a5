"""The gate `length`: instruction and answer are there, whole, and neither too short nor too long."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from filters.text import script, units
from leafmill.records import Row, Verdict

_FENCE = re.compile(r"(?m)^[ \t]*(```+|~~~+)")


def estimate(text: str) -> int:
    """Tokens of a text, roughly: one for a CJK character, four thirds for a word, one for every four characters of code and the like.

    It errs on the high side; give the gate the tokenizer of the model that will be trained where the limit matters.
    """
    cjk = round(script(text) * (length := units(text)))
    return max(cjk + ceil((length - cjk) * 4 / 3), cjk + (len(text) - cjk) // 4)


@dataclass(frozen=True)
class Length:
    """Lengths are in units: CJK characters and words of other scripts. An answer that is "" is judged only where the fact `stage` says
    "check": before that it is merely not written yet."""

    name: ClassVar[str] = "length"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "instruction and answer are complete, and neither too short nor too long"

    min_instruction: int = 3
    """3 words pass ("Sort this list"), and so does 写首诗"""
    max_instruction: int = 1500
    """instruction and input together"""
    min_answer: int = 1
    max_answer: int = 6000
    max_tokens: int = 8192
    """prompt, reasoning and answer together; an answer is never cut to fit"""
    count: Callable[[str], int] = field(default=estimate, repr=False, compare=False)
    """counts tokens"""

    def __post_init__(self) -> None:
        for low, high in ((self.min_instruction, self.max_instruction), (self.min_answer, self.max_answer), (1, self.max_tokens)):
            if not 0 < low <= high:
                raise ValueError(f"limits must be positive and the smaller one first, got {low} and {high}")

    async def __call__(self, subject: Subject) -> Verdict:
        row = subject.row
        return self._instruction(row) or self._answer(subject) or self._tokens(row) or verdict(self, "accept", value=units(row.instruction))

    def _instruction(self, row: Row) -> Verdict | None:
        length, whole = units(row.instruction), units(row.prompt)
        if not length:
            return verdict(self, "reject", "length.instruction_empty")
        if length < self.min_instruction:
            return verdict(self, "reject", "length.instruction_short", value=length, threshold=self.min_instruction)
        if whole > self.max_instruction:
            return verdict(self, "reject", "length.instruction_long", value=whole, threshold=self.max_instruction)
        return self._fence("instruction", row.prompt)

    def _answer(self, subject: Subject) -> Verdict | None:
        answer = subject.row.answer
        if subject.cut_off:
            return verdict(self, "reject", "length.cut_off")
        if not answer and subject.facts.get("stage") != "check":
            return None
        if all(unicodedata.category(character)[0] in "PZC" for character in answer):
            return verdict(self, "reject", "length.answer_empty")
        length = units(answer) or 1  # a symbol, such as ✓ or +
        if length < self.min_answer:
            return verdict(self, "reject", "length.answer_short", value=length, threshold=self.min_answer)
        if length > self.max_answer:
            return verdict(self, "reject", "length.answer_long", value=length, threshold=self.max_answer)
        return self._fence("answer", answer)

    def _fence(self, part: str, text: str) -> Verdict | None:
        """A code fence that is opened and never closed is what a cut-off reply leaves."""
        return verdict(self, "reject", "length.open_fence", part=part) if len(_FENCE.findall(text)) % 2 else None

    def _tokens(self, row: Row) -> Verdict | None:
        tokens = sum(self.count(text) for text in (row.prompt, row.reasoning, row.answer) if text)
        if tokens > self.max_tokens:
            return verdict(self, "reject", "length.tokens", value=tokens, threshold=self.max_tokens)
        return None
