"""The gate `evolution`: an evolved instruction has to be new, clean and not bloated (Evol-Instruct's elimination, arXiv 2304.12244).

The released code of the paper eliminates nothing; its rules on refusals are the gate `refusal`, on equal difficulty a judge's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from filters import words_en, words_zh
from filters.dedup.guard import differs
from filters.gate import Stage, Subject, verdict
from filters.leak import in_instruction
from filters.text import bare, tokens, units
from leafmill.records import Verdict

STOP_WORDS = words_en.STOP_WORDS | words_zh.STOP_WORDS


@dataclass(frozen=True)
class Evolution:
    """Judges a row against its parent; a row without one passes.

    * `evolution.equal`: nothing but punctuation, case or spaces has changed;
    * `evolution.leak`: it holds words of the rewriting prompt that its parent did not;
    * `evolution.growth`: it is longer than `growth` times its parent and `slack` units;
    * `evolution.hollow`: its answer, if there is one, is nothing but punctuation and stop words.
    """

    name: ClassVar[str] = "evolution"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "an evolved instruction is new, holds no words of the rewriting prompt and has not grown too much"

    growth: float = 2.0
    slack: int = 60
    """units that any rewrite may add on top: the operators add 10 to 20 words each, complicated inputs more"""

    def __post_init__(self) -> None:
        if self.growth < 1 or self.slack < 0:
            raise ValueError(f"growth must be at least 1 and slack at least 0, got {self.growth} and {self.slack}")

    async def __call__(self, subject: Subject) -> Verdict:
        row, parent = subject.row, subject.parent
        if parent is None:
            return verdict(self, "accept")
        if bare(row.prompt) == bare(parent.prompt) and not differs(row.prompt, parent.prompt):
            return verdict(self, "reject", "evolution.equal")
        leak = in_instruction(row.instruction, bool(row.input))
        if leak and leak != in_instruction(parent.instruction, bool(parent.input)):
            return verdict(self, "reject", "evolution.leak", phrase=leak.phrase)
        length, cap = units(row.prompt), self.growth * units(parent.prompt) + self.slack
        if length > cap:
            return verdict(self, "reject", "evolution.growth", value=length, threshold=cap)
        if row.answer and hollow(row.answer):
            return verdict(self, "reject", "evolution.hollow")
        return verdict(self, "accept", value=length, threshold=cap)


def hollow(text: str) -> bool:
    """Whether a text is nothing but punctuation and stop words; a lone "yes" or 是 is an answer."""
    return STOP_WORDS.issuperset(tokens(text))
