"""The gate `leak`: words of the prompts that made a row have got into it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import bare, normalise, normalised_lines, remembered, units, without_code
from leafmill.records import Row, Verdict

_PROMPT_WORDS = tuple(map(re.compile, (*words_en.PROMPT_WORDS, *words_zh.PROMPT_WORDS)))
_GIVEN_PROMPT = re.compile(f"{words_en.GIVEN_PROMPT}|{words_zh.GIVEN_PROMPT}")
_MARKERS = tuple(map(re.compile, (*words_en.MARKERS, *words_zh.MARKERS)))
_OPENINGS = tuple(re.compile(rf"[\"'*#>\s]*(?:{opening})") for opening in (words_en.ROLES, words_zh.ROLES))
_DIALOGUE = re.compile(f"{words_en.DIALOGUE}|{words_zh.DIALOGUE}")
_PREAMBLES = tuple(re.compile(rf"[\"'*#>\s]*(?:{preamble})") for preamble in (*words_en.PREAMBLES, *words_zh.PREAMBLES))

_SENTENCE_END = re.compile(r"[.!?。！？;；\n]+")
LONG_ENOUGH = 8
"""units of a sentence that two do not write alike by chance"""


class Found(NamedTuple):
    kind: str
    phrase: str


@dataclass(frozen=True)
class Leak:
    """Code is left out: a question about chat templates may show one in backticks.

    * `leak.prompt_words`: "#Rewritten Prompt#", "created prompt", 改写后的指令; "given prompt" only in an instruction without an input that
      it could mean (list of Evol-Instruct's elimination, made bilingual);
    * `leak.marker`: chat markers, prompt frames, role tags, or a speaker's name at the start;
    * `leak.preamble`: an instruction about itself, "Here is a new task:";
    * `leak.critic`: a sentence of the critic that found fault with the answer before this one, word for word.
    """

    name: ClassVar[str] = "leak"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "words of the prompts or of a chat template are in the row"

    async def __call__(self, subject: Subject) -> Verdict:
        row = subject.row
        parts = {"instruction": in_instruction(row.instruction, bool(row.input)), "answer": in_answer(row.answer, row.prompt)}
        for part, found in parts.items():
            if found:
                return verdict(self, "reject", f"leak.{found.kind}", part=part, phrase=found.phrase)
        if said := of_critic(subject.told, row):
            return verdict(self, "reject", "leak.critic", part="answer", units=units(said))
        return verdict(self, "accept")


@remembered
def in_instruction(text: str, has_input: bool = False) -> Found | None:
    """What of a prompt is in an instruction, if anything."""
    folded = _lines(text)
    given = () if has_input else (_GIVEN_PROMPT,)
    return (
        _search("prompt_words", (*_PROMPT_WORDS, *given), folded)
        or _search("marker", _MARKERS, folded)
        or _start("marker", _OPENINGS, folded)
        or _start("preamble", _PREAMBLES, folded)
    )


def in_answer(text: str, prompt: str = "") -> Found | None:
    """What of a prompt is in an answer, if anything. What the question itself says may be said in the answer."""
    folded, asked = _lines(text), normalise(prompt)
    openings = () if _DIALOGUE.search(asked) else _OPENINGS  # in a conversation somebody has to speak first
    found = _search("prompt_words", _PROMPT_WORDS, folded) or _search("marker", _MARKERS, folded) or _start("marker", openings, folded)
    return found if found and found.phrase not in asked else None


def of_critic(told: str, row: Row) -> str:
    """A sentence of the critic's that is in the answer, though nobody had asked in these words; "" when there is none."""
    sentences = (one for one in _SENTENCE_END.split(told) if units(one) >= LONG_ENOUGH)
    return next((one for one in sentences if bare(one) in bare(row.answer) and bare(one) not in bare(row.prompt)), "")


def _search(kind: str, patterns: tuple[re.Pattern[str], ...], text: str) -> Found | None:
    return next((Found(kind, found[0].strip()) for pattern in patterns if (found := pattern.search(text))), None)


def _start(kind: str, patterns: tuple[re.Pattern[str], ...], text: str) -> Found | None:
    return next((Found(kind, found[0].strip()) for pattern in patterns if (found := pattern.match(text))), None)


def _lines(text: str) -> str:
    """Folded, without code, and still in lines, because headings count only at the start of one."""
    return normalised_lines(without_code(text)).strip()
