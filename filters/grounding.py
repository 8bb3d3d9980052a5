"""The gate `grounding`: an answer from a document says what the passage says, and a question for a closed book does without it.

InstructLab asks a model whether an answer is faithful, shows it an example in which an unsupported claim passes, and reads one word. Here
the judge first names each claim that the passage does not bear out, and only then says what it makes of the whole; a judge who
contradicts itself has not judged.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

from filters import words_en, words_zh
from filters.gate import Stage, Subject, verdict
from filters.text import normalise
from leafmill.errors import CallError, ReplyError
from leafmill.records import Row, Verdict

_PASSAGE = re.compile("|".join((*words_en.PASSAGE, *words_zh.PASSAGE)))


class Grounds(NamedTuple):
    """What a judge says of an answer and its passage."""

    unsupported: Sequence[str]
    """the claims that the passage does not bear out"""
    grounded: bool


Judge = Callable[[Subject], Awaitable[Grounds]]


@dataclass(frozen=True)
class Grounding:
    """Asked of candidates that are written from documents.

    * `grounding.unsupported`: the answer claims what the passage does not say; the claims are the evidence;
    * `grounding.contradictory` (unscorable): the judge names such claims and calls the answer grounded, or the other way round;
    * `grounding.unreadable` (unscorable): the judge's reply could not be read;
    * `grounding.refers`: the book is closed, and the question or the answer speaks of a passage that nobody sees.
    """

    name: ClassVar[str] = "grounding"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "what is said from a document stands in its passage"

    judge: Judge = field(repr=False)

    async def __call__(self, subject: Subject) -> Verdict:
        brief = subject.brief
        if brief is None or brief.source is None or brief.mode.write != "document":
            return verdict(self, "accept")
        if brief.mode.closed_book and (phrase := _refers(subject.row)):
            return verdict(self, "reject", "grounding.refers", phrase=phrase)
        if subject.facts.get("stage") != "check":
            return verdict(self, "accept")
        try:
            said = await self.judge(subject)
        except ReplyError as fault:  # recorded by the call
            return verdict(self, "unscorable", "grounding.unreadable", message=str(fault))
        except CallError as fault:
            return verdict(self, "error", fault.code, message=str(fault))
        claims = list(said.unsupported)
        if said.grounded == bool(claims):
            return verdict(self, "unscorable", "grounding.contradictory", value=len(claims), claims=claims, grounded=said.grounded)
        if claims:
            return verdict(self, "reject", "grounding.unsupported", value=len(claims), threshold=0, claims=claims)
        return verdict(self, "accept", value=0, threshold=0)


def _refers(row: Row) -> str:
    """The words in which a row speaks of a passage."""
    found = _PASSAGE.search(normalise(row.instruction)) or _PASSAGE.search(normalise(row.answer))
    return found[0] if found else ""
