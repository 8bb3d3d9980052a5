"""The gate `refusal`: the answer refuses or excuses itself instead of answering."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import normalise, units
from leafmill.records import Verdict

_KINDS = {
    kind: re.compile(rf"[\"'*#>\s]*(?:(?:{'|'.join(words_en.REFUSALS[kind])})|(?:{'|'.join(words_zh.REFUSALS[kind])}))")
    for kind in words_en.REFUSALS
}
_INABILITY_NEAR = re.compile(rf"{words_en.REFUSED}|\bdon't have\b|{words_zh.REFUSED}|不能")
_SYMPATHY = re.compile(rf"[\"'*#>\s]*(?:{words_en.SYMPATHY}|{words_zh.SYMPATHY})")
_ABOUT_APOLOGY = re.compile(f"{words_en.ABOUT_APOLOGY}|{words_zh.ABOUT_APOLOGY}")


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
        answer, prompt, length = normalise(subject.row.answer), normalise(subject.row.prompt), units(subject.row.answer)
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
            return verdict(self, "reject", f"refusal.{kind}", value=length, threshold=limit, phrase=found[0])
        return verdict(self, "accept")
