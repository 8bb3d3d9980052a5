"""The gate `self_instruct`: the filters of Self-Instruct and Alpaca on what a model wrote after examples, made right for Chinese.

Length counts Chinese characters and Latin words, case is kept, no rule asks for ASCII, and every filter has a code of its own. What the
original only counts is here an end of the candidate with its reason; novelty is the gate `novelty`.
"""

from __future__ import annotations

import functools
import re
import string
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import normalise
from leafmill.records import Language, Seed, Verdict
from taxonomy.seeds import clean, fault

_KEYWORDS: Mapping[Language, re.Pattern[str]] = {
    "en": re.compile("|".join(words_en.KEYWORDS)),
    "zh": re.compile("|".join((*words_zh.KEYWORDS, *words_en.KEYWORDS))),
}
_PROGRAM = re.compile(f"{words_en.PROGRAM}|{words_zh.PROGRAM}")


@dataclass(frozen=True)
class SelfInstruct:
    """Judges the instruction and, with the instances that a model wrote for it, the task.

    * `self_instruct.too_short`, `.too_long`: under 4 units, over 150 English words or 250 Chinese characters;
    * `self_instruct.keyword`: speaks of images, files, links or whatever else a text model cannot be given;
    * `self_instruct.starts_with_program`: "Write a program", with which machine-made instructions begin far too often;
    * `self_instruct.starts_with_punctuation`: a list's mark or half a sentence; brackets and quotation marks may open a title;
    * `self_instruct.empty_output`, `.output_is_input`, `.ends_in_colon`, `.conflicting_outputs`: its instances are no examples.
    """

    name: ClassVar[str] = "self_instruct"
    stage: ClassVar[tuple[Stage, ...]] = ("screen",)
    says: ClassVar[str] = "what was written after examples is a task that a text model can be given"

    allow: tuple[str, ...] = ()
    """keywords and openings that are fine here, such as ["file", "write a program"] in a taxonomy of programming"""

    async def __call__(self, subject: Subject) -> Verdict:
        return self.instruction(subject.row.instruction, subject.row.language)

    def instruction(self, text: str, language: Language) -> Verdict:
        if found := fault(Seed(instruction=text, language=language)):
            return verdict(self, "reject", f"self_instruct.{found.code}", length=found.evidence)
        said, allowed = normalise(text), _allowed(self.allow)
        if (program := _PROGRAM.match(said)) and not any(program[0].startswith(one) for one in allowed):
            return verdict(self, "reject", "self_instruct.starts_with_program", phrase=program[0])
        for keyword in _KEYWORDS[language].finditer(said):
            if keyword[0] not in allowed:
                return verdict(self, "reject", "self_instruct.keyword", phrase=keyword[0])
        if _is_mark(text.lstrip()[0]):
            return verdict(self, "reject", "self_instruct.starts_with_punctuation", phrase=text.lstrip()[:10])
        return verdict(self, "accept")

    def instances(self, written: Sequence[Seed]) -> tuple[Seed | None, Verdict]:
        """The first instance of a task that is fit to be one; none when two of them contradict each other. An instance without an output
        was not asked for one."""
        found = clean(written)
        if found.kept:
            return found.kept[0], verdict(self, "accept", instances=len(found.kept))
        first = found.dropped[0]
        return None, verdict(self, "reject", f"self_instruct.{first.code}", found=first.evidence or None)


@functools.cache
def _allowed(words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normalise, words))


def _is_mark(character: str) -> bool:
    """Whether no sentence begins with it: a quotation mark or a bracket may open a title."""
    return (character in string.punctuation or unicodedata.category(character)[0] == "P") and (
        unicodedata.category(character) not in ("Ps", "Pi") and character not in "\"'`$"
    )
