"""The critic says whether an expert would take the row, and what is most wrong with it."""

from __future__ import annotations

from agents.briefing import about_row
from agents.chat import Chat
from leafmill.ledger import Step
from leafmill.records import Brief, Record, Row
from taxonomy import Leaf


class Critique(Record):
    """The critic's judgement: a score from 1 to 5, and the reason, which only the answerer is told."""

    score: int
    reason: str = ""


async def criticise(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step) -> Critique:
    """Raises CallError."""
    reply = await chat.ask("critic", brief.language, step, about_row(leaf, brief, row))
    return Critique(score=reply.get("score"), reason=reply.get("reason"))
