"""A role of the user's own (a prompt file with `after:` and `writes:`) reads the row and replaces one part of it."""

from __future__ import annotations

from agents.briefing import about_row
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf


async def amend(chat: Chat, name: str, leaf: Leaf, brief: Brief, row: Row, step: Step) -> tuple[Row, Reply]:
    """The row with the role's part replaced, and the reply it came from. Raises CallError."""
    reply = await chat.ask(name, brief.language, step, about_row(leaf, brief, row))
    part = reply.role.head.writes or "answer"
    return row.model_copy(update={part: reply.get(part)}), reply
