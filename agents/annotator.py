"""An annotator scores a row by its own rubric, alone: it sees no other vote, and its words never enter the row."""

from __future__ import annotations

from agents.briefing import about_row
from agents.chat import Chat
from leafmill.errors import CallError
from leafmill.ledger import Step
from leafmill.records import Brief, Row, Vote
from taxonomy import Leaf


async def annotate(chat: Chat, name: str, leaf: Leaf, brief: Brief, row: Row, step: Step) -> Vote:
    """One vote. An annotator that cannot be heard is a vote that failed, so that its siblings' paid votes are kept."""
    try:
        reply = await chat.ask(name, brief.language, step, about_row(leaf, brief, row))
    except CallError as fault:
        return Vote(role=name, failed=fault.code)
    return Vote(role=name, score=reply.get("score"), rationale=reply.get("rationale"))
