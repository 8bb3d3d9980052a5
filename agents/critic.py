"""The critic says whether an expert would take the row, and what is most wrong with it."""

from __future__ import annotations

from collections.abc import Mapping

from agents.briefing import about_row
from agents.chat import Chat
from leafmill.ledger import Step
from leafmill.records import Brief, Language, Record, Row
from taxonomy import Leaf

MISALIGNED: Mapping[Language, str] = {
    "en": "knowing what was asked makes this answer no easier to predict, as if it answered something else.",
    "zh": "知道问了什么，并没有让这个回答更容易预测，好像它答的是别的事。",
}
"""The finding of a score gate that calls an answer misaligned."""


class Critique(Record):
    """The critic's judgement: a score from 1 to 5, and the reason, which only the answerer is told."""

    score: int
    reason: str = ""


async def criticise(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, finding: str = "") -> Critique:
    """With a `finding`: what a gate has measured of the row, which the critic is to explain. Raises CallError."""
    reply = await chat.ask("critic", brief.language, step, {**about_row(leaf, brief, row), "finding": finding})
    return Critique(score=reply.get("score"), reason=reply.get("reason"))
