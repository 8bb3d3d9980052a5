"""The gate `reasoning`: what was thought before an answer is there, leads to it, and is not needed to read it.

Rows are trained with their reasoning or without, so the answer has to stand alone; and reasoning that comes to another result than its
answer teaches that thinking does not matter. Results are compared where both name one (filters/voting/canonical.py): numbers, choices,
yes and no. Of the rest nothing is said.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import lcs, normalise, tokens
from filters.voting.canonical import Form, final, form
from filters.voting.numbers import quantity
from leafmill.records import Row, Verdict

NEAR = 0.01
"""relative difference up to which a number is a rounding of another"""
OPENING = 120
"""characters at an answer's beginning in which it may not point at its reasoning; further down it may mean steps of its own"""
COMPARED = ("number", "choice", "yes_no")

_POINTS_AT = re.compile(f"{words_en.AT_REASONING}|{words_zh.AT_REASONING}")
_CONCLUDES = re.compile(rf"(?:.*[=≈:]|.*\b(?:{words_en.CONCLUDES})\b|.*(?:{words_zh.CONCLUDES})|)\s*(\S[^=≈:]*)$", re.IGNORECASE)
_NUMBER = re.compile(
    r"\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?\s*%?|[零〇一二三四五六七八九十百千万亿两点]{2,}|百分之[零一二三四五六七八九十百点]+"
)


@dataclass(frozen=True)
class Reasoning:
    """Judged are answers of the depths `cot` and `deep`.

    * `reasoning.missing`: there is none;
    * `reasoning.repeats`: it says what the answer says, in the same words;
    * `reasoning.leaks`: the answer begins with words that point at it ("as my reasoning shows");
    * `reasoning.contradicts`: it comes to another result than the answer, or the answer's result is not in it.
    """

    name: ClassVar[str] = "reasoning"
    stage: ClassVar[tuple[Stage, ...]] = ("check",)
    says: ClassVar[str] = "what was thought before the answer is there, leads to it, and is not needed to read it"

    repeats: float = 0.9
    """share of the reasoning's words that stand in the answer, in the same order, from which it only repeats it"""

    def __post_init__(self) -> None:
        if not 0 < self.repeats <= 1:
            raise ValueError(f"repeats is a share, 0..1, got {self.repeats}")

    async def __call__(self, subject: Subject) -> Verdict:
        row, brief = subject.row, subject.brief
        if not row.reasoning.strip():
            wanted = brief is not None and brief.mode.depth != "direct"
            return verdict(self, "reject", "reasoning.missing") if wanted else verdict(self, "accept")
        if found := _POINTS_AT.search(normalise(row.answer)[:OPENING]):
            return verdict(self, "reject", "reasoning.leaks", phrase=found[0])
        thought, said = tokens(row.reasoning), tokens(row.answer)
        share = lcs(thought, said) / len(thought) if thought else 1.0
        if share >= self.repeats:
            return verdict(self, "reject", "reasoning.repeats", value=share, threshold=self.repeats)
        if results := contradiction(row):
            return verdict(self, "reject", "reasoning.contradicts", reasoning=results[0], answer=results[1])
        return verdict(self, "accept", value=share, threshold=self.repeats)


def contradiction(row: Row) -> tuple[str, str] | None:
    """What the reasoning comes to, and what the answer says instead; None where they agree, or cannot be compared."""
    thought, said = conclusion(row.reasoning), _compared(form(row.answer))
    if thought and said and thought.kind == said.kind:
        one, other = forms_alike(thought, said)
        return None if one == other else (one, other)
    if thought and thought.quantity and not said and not _holds(row.answer, thought):
        return thought.key, "other numbers"
    if said and said.quantity and not thought and not _holds(row.reasoning, said):
        return "other numbers", said.key
    return None


def conclusion(reasoning: str) -> Form | None:
    """The result that reasoning names in its last line: after a sign of equality, a colon, or words such as "so" and 所以."""
    named = final(reasoning)
    if named and named.marked:
        return _compared(form(reasoning))
    lines = [line.strip() for line in unicodedata.normalize("NFKC", reasoning).splitlines() if line.strip()]
    found = _CONCLUDES.match(lines[-1]) if lines else None
    return _compared(form(found[1])) if found else None


def forms_alike(one: Form, other: Form) -> tuple[str, str]:
    """The keys of two forms; those of numbers without their unit where only one has one."""
    if one.quantity and other.quantity:
        a, b = one.quantity, other.quantity
        near = abs(a.value - b.value) <= NEAR * abs(b.value)
        scaled = not (a.unit and b.unit) and any(abs(x.value * y.scale - y.value) <= NEAR * abs(y.value) for x, y in ((a, b), (b, a)))
        if scaled or (near and a.unit == b.unit):
            return other.key, other.key
    return one.key, other.key


def _holds(text: str, wanted: Form) -> bool:
    """Whether a number stands in a text, rounded perhaps, in any unit; or no number at all does, which may say it in words."""
    assert wanted.quantity is not None, "only numbers are looked for"
    value, found = wanted.quantity.value, [quantity(one.strip()) for one in _NUMBER.findall(unicodedata.normalize("NFKC", text))]
    known = [one.value for one in found if one is not None]
    plain = value / wanted.quantity.scale
    return not known or any(abs(one - goal) <= NEAR * abs(goal) for one in known for goal in (value, plain, plain / 100, plain * 100))


def _compared(found: Form | None) -> Form | None:
    return found if found and found.kind in COMPARED else None
