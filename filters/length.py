"""The gate `length`: instruction and answer are there, whole, and neither too short nor too long."""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar

from filters.gate import Stage, Subject, verdict
from filters.text import units
from filters.weights import load_tokenizer
from leafmill.records import Row, Verdict
from leafmill.tokens import count_prompt, count_tokens

_FENCE = re.compile(r"(?m)^[ \t]*(```+|~~~+)")


@dataclass(frozen=True)
class Length:
    """Lengths are in units: CJK characters and words of other scripts. An answer that is "" is judged only where the fact `stage` says
    "check": before that it is merely not written yet."""

    name: ClassVar[str] = "length"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "instruction and answer are complete, and neither too short nor too long"

    min_instruction: int = 3
    """3 words pass ("Sort this list"), and so does 写首诗; a later message of a conversation may be shorter ("Why?")"""
    max_instruction: int = 1500
    """instruction and input together"""
    min_answer: int = 1
    max_answer: int = 6000
    max_tokens: int = 8192
    """prompt, reasoning and answer together; an answer is never cut to fit"""
    tokenizer: str = ""
    """folder or hub name of the model that will be trained: its tokens are counted, its chat template too; "": tokens are estimated"""
    count: Callable[[Row], int] | None = field(default=None, repr=False, compare=False)
    """counts tokens in the place of both"""

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
        if length < self.min_instruction and not row.history:
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
        count = self.count or (open_tokenizer(self.tokenizer) if self.tokenizer else estimate)
        tokens = count(row)
        if tokens > self.max_tokens:
            return verdict(self, "reject", "length.tokens", value=tokens, threshold=self.max_tokens)
        return None


def estimate(row: Row) -> int:
    """Tokens of a row as a chat, roughly."""
    return count_prompt([*(turn.plain for turn in row.told), {"content": row.answer}]) + count_tokens(row.reasoning)


@functools.cache
def open_tokenizer(path_or_name: str) -> Callable[[Row], int]:
    """What counts a row by the tokenizer of a model: as its chat template writes it, or as plain texts where it has none. WeightsError."""
    tokenizer = load_tokenizer(path_or_name)

    def ids(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    def count(row: Row) -> int:
        if not tokenizer.chat_template:
            return sum(map(ids, (*(turn.text for turn in row.told), row.answer, row.reasoning)))
        written = tokenizer.apply_chat_template(row.messages(), tools=row.functions or None, tokenize=False)
        return ids(written) + ids(row.reasoning)

    return count
