"""The gate `refusal`: the answer refuses or excuses itself instead of answering."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import normalise, units
from filters.tools import tool_failed
from leafmill.records import Row, Verdict

_KINDS = {
    kind: re.compile(rf"[\"'*#>\s]*(?:(?:{'|'.join(words_en.REFUSALS[kind])})|(?:{'|'.join(words_zh.REFUSALS[kind])}))")
    for kind in words_en.REFUSALS
}
_INABILITY_NEAR = re.compile(rf"{words_en.REFUSED}|\bdon't have\b|{words_zh.REFUSED}|不能")
_SYMPATHY = re.compile(rf"[\"'*#>\s]*(?:{words_en.SYMPATHY}|{words_zh.SYMPATHY})")
_ABOUT_APOLOGY = re.compile(f"{words_en.ABOUT_APOLOGY}|{words_zh.ABOUT_APOLOGY}")


class Refused(NamedTuple):
    """What an answer refuses by; `limit` is the length from which on it would not count."""

    kind: str
    phrase: str
    length: int
    limit: int | None


@dataclass(frozen=True)
class Refusal:
    """Only what an answer starts with counts, so an essay that quotes "I cannot help" passes.

    * `refusal.assistant`: it speaks of itself as an AI, unless the prompt does so first;
    * `refusal.inability`: "I cannot help with", 我无法提供;
    * `refusal.apology`: sorry, 抱歉, in an answer of fewer than `max_units` (Evol-Instruct: "sorry" and under 80 words). Where the prompt
      is about apologising, or somebody is felt sorry for, it must go on to an inability within its first 120 characters.
    """

    name: ClassVar[str] = "refusal"
    stage: ClassVar[tuple[Stage, ...]] = ("check",)
    says: ClassVar[str] = "the answer refuses, or speaks of itself as an AI"

    max_units: int = 80
    """answers from this length on may start with an apology: a letter of apology does"""
    max_inability: int = 200
    """answers from this length on may start with an inability: a story told in the first person might"""

    async def __call__(self, subject: Subject) -> Verdict:
        if (subject.brief and subject.brief.mode.declines) or tool_failed(subject.row):
            return verdict(self, "accept")  # to say no, or to ask back, is the right answer here
        found = self.found(subject.row)
        if found is None:
            return verdict(self, "accept")
        return verdict(self, "reject", f"refusal.{found.kind}", value=found.length, threshold=found.limit, phrase=found.phrase)

    def found(self, row: Row) -> Refused | None:
        """How the answer refuses, if it does."""
        answer, prompt, length = normalise(row.answer), normalise(row.prompt), units(row.answer)
        limits = {"assistant": None, "inability": self.max_inability, "apology": self.max_units}
        for kind, limit in limits.items():
            found = _KINDS[kind].match(answer)
            if not found or (limit is not None and length >= limit):
                continue
            if kind == "assistant" and found[0].strip() in prompt:
                continue
            kind_words = kind == "apology" and (_ABOUT_APOLOGY.search(prompt) or _SYMPATHY.match(answer))
            if kind_words and not _INABILITY_NEAR.search(answer[:120]):
                continue
            return Refused(kind, found[0], length, limit)
        return None
