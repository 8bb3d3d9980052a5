"""The gate `evolution`: an evolved instruction has to be new, clean, whole and not bloated, and its answer an answer (Evol-Instruct's
elimination, arXiv 2304.12244).

The released code of the paper eliminates nothing. The one rule that takes a judge, whether a child asks for more than its parent, is the
role `comparer`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from filters import words_en, words_zh
from filters.dedup.guard import differs
from filters.gate import Stage, Subject, verdict
from filters.leak import in_instruction
from filters.refusal import Refusal
from filters.text import bare, lcs, rouge_l, tokens, units
from leafmill.records import Row, Verdict

STOP_WORDS = words_en.STOP_WORDS | words_zh.STOP_WORDS
BY_ANSWER = frozenset({"evolution.refused", "evolution.hollow"})
"""Codes by which an instruction is eliminated for its answer."""
SHOWN = 80
"""characters of what was dropped that a verdict shows"""

_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~)[^\n]*\n(?P<block>.*?)(?:^[ \t]*\1[ \t]*$|\Z)")
_TABLE = re.compile(r"(?m)(?:^[^\n|\t]*[|\t][^\n]*[|\t][^\n]*(?:\n|\Z)){2,}")
_URL = re.compile(r"https?://[^\s<>\"'()（）【】，。；、]+")
_NUMBER = r"[-+]?\d[\d,.:/%]*"
_NUMBERS = re.compile(rf"(?:{_NUMBER}[ \t]*[,，、;；\s][ \t]*){{3,}}{_NUMBER}")


@dataclass(frozen=True)
class Evolution:
    """Judges a row against its parent; a row without one passes.

    * `evolution.equal`: nothing but punctuation, case or spaces has changed; of an evolution in breadth, it is as close to its parent as
      `alike` (ROUGE-L), for it should be another instruction;
    * `evolution.leak`: it holds words of the rewriting prompt that its parent did not;
    * `evolution.growth`: it is longer than `growth` times its parent and `slack` units;
    * `evolution.shrunk`: in breadth, it is so much shorter;
    * `evolution.dropped`: less than `kept` of a code block, a table, a list of numbers or the input of its parent is in it, or a URL is
      gone; not in breadth;
    * `evolution.refused`, `evolution.hollow`: its answer, if there is one, refuses (by the rules of the gate `refusal`), or is nothing but
      punctuation and stop words.
    """

    name: ClassVar[str] = "evolution"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "an evolved instruction is new and whole, not grown too much, without words of its prompt, and gets an answer"

    growth: float = 2.0
    slack: int = 60
    """units that any rewrite may add on top: the operators add 10 to 20 words each, complicated inputs more"""
    kept: float = 0.5
    """share of the units of a block that must still be there, in order"""
    alike: float = 0.7
    """as the novelty rule of Self-Instruct"""

    def __post_init__(self) -> None:
        if self.growth < 1 or self.slack < 0:
            raise ValueError(f"growth must be at least 1 and slack at least 0, got {self.growth} and {self.slack}")
        if not (0 <= self.kept <= 1 and 0 < self.alike <= 1):
            raise ValueError(f"kept must lie in 0 to 1, and alike in 0 to 1 but not at 0, got {self.kept} and {self.alike}")

    async def __call__(self, subject: Subject) -> Verdict:
        row, parent = subject.row, subject.parent
        if parent is None or len(row.history) != len(parent.history):  # a conversation has gone on: its messages are no evolutions
            return verdict(self, "accept")
        if bare(row.prompt) == bare(parent.prompt) and not differs(row.prompt, parent.prompt):
            return verdict(self, "reject", "evolution.equal")
        if not subject.rewritten and (close := rouge_l(row.prompt, parent.prompt)) > self.alike:
            return verdict(self, "reject", "evolution.equal", value=close, threshold=self.alike)
        leak = in_instruction(row.instruction, bool(row.input))
        if leak and leak != in_instruction(parent.instruction, bool(parent.input)):
            return verdict(self, "reject", "evolution.leak", phrase=leak.phrase)
        length, before = units(row.prompt), units(parent.prompt)
        cap = self.growth * before + self.slack
        if length > cap:
            return verdict(self, "reject", "evolution.growth", value=length, threshold=cap)
        if not subject.rewritten and self.growth * length + self.slack < before:
            return verdict(self, "reject", "evolution.shrunk", value=length, threshold=(before - self.slack) / self.growth)
        if subject.rewritten and (gone := dropped(parent, row, self.kept)):
            return verdict(self, "reject", "evolution.dropped", what=gone.kind, text=gone.text[:SHOWN])
        if row.answer and (refused := Refusal().found(row)):
            return verdict(self, "reject", "evolution.refused", value=refused.length, threshold=refused.limit, phrase=refused.phrase)
        if row.answer and hollow(row.answer):
            return verdict(self, "reject", "evolution.hollow")
        return verdict(self, "accept", value=length, threshold=cap)


class Block(NamedTuple):
    """Material of an instruction that a rewrite has to keep."""

    kind: str
    text: str


def dropped(parent: Row, child: Row, kept: float) -> Block | None:
    """The first block of the parent of which too little is in the child; None when all are there."""
    said = tokens(child.prompt)

    def stands(block: Block) -> bool:
        words = tokens(block.text)
        return block.text in child.prompt if block.kind == "url" else lcs(words, said) >= kept * len(words)

    return next((block for block in blocks(parent) if not stands(block)), None)


def blocks(row: Row) -> Iterator[Block]:
    """Fenced code, tables (two lines and more with two bars or tabs), lists of four numbers and more, URLs, and the input."""
    text = row.instruction
    yield from (Block("code", found["block"]) for found in _CODE.finditer(text))
    yield from (Block("table", found[0]) for found in _TABLE.finditer(text))
    yield from (Block("numbers", found[0]) for found in _NUMBERS.finditer(text))
    yield from (Block("url", found[0].rstrip(".,;:!?。")) for found in _URL.finditer(text))
    if row.input:
        yield Block("input", row.input)


def hollow(text: str) -> bool:
    """Whether a text is nothing but punctuation and stop words; a lone "yes" or 是 is an answer."""
    return STOP_WORDS.issuperset(tokens(text))
