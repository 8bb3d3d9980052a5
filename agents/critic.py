"""The critic says whether an expert would take the row, what is most wrong with it, and where. It never writes: the answerer mends."""

from __future__ import annotations

from collections.abc import Mapping

from agents.briefing import about_row
from agents.chat import Chat
from filters.text import normalise
from leafmill.ledger import Step
from leafmill.records import Brief, Language, Record, Row
from taxonomy import Leaf

MISALIGNED: Mapping[Language, str] = {
    "en": "knowing what was asked makes this answer no easier to predict, as if it answered something else.",
    "zh": "知道问了什么，并没有让这个回答更容易预测，好像它答的是别的事。",
}
"""The finding of a score gate that calls an answer misaligned."""
HERE: Mapping[Language, str] = {"en": 'It is here: "{where}"', "zh": "在这里：“{where}”"}


class Critique(Record):
    """The critic's judgement: a score from 1 to 5, and the reason, which only the answerer is told."""

    score: int
    reason: str = ""
    where: str = ""
    """the faulty part of the answer, in its own words"""
    misquoted: bool = False
    """it named a part that the answer does not have, which is dropped"""

    def feedback(self, language: Language) -> str:
        """What the answerer is told: what is wrong, and where."""
        return "\n".join([*([self.reason] if self.reason else []), *([HERE[language].format(where=self.where)] if self.where else [])])


async def criticise(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, finding: str = "") -> Critique:
    """With a `finding`: what a gate has measured of the row, which the critic is to explain. Raises CallError."""
    reply = await chat.ask("critic", brief.language, step, {**about_row(leaf, brief, row), "finding": finding})
    where = reply.get("where").strip("\"'“”‘’「」 ")
    found = bool(where) and normalise(where) in normalise(row.answer)
    return Critique(score=reply.get("score"), reason=reply.get("reason"), where=where if found else "", misquoted=bool(where) and not found)
