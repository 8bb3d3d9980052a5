"""A grader gives one answer a grade from 1 to 10, without seeing the others to the same request: pointwise, so k answers take k calls."""

from __future__ import annotations

from dataclasses import dataclass

from agents.briefing import about_row
from agents.chat import Chat
from filters.voting import scores
from leafmill.errors import CallError
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf

UNREADABLE = "unreadable_grade"


@dataclass(frozen=True)
class Grade:
    """`value` is None where there is none, and `failed` says why."""

    alias: str
    value: float | None
    failed: str = ""


async def grade(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, alias: str = "") -> Grade:
    """The grade of the row's answer. A grader whose file says `reply: text` is read as text; what cannot be read is no grade."""
    try:
        reply = await chat.ask("grader", brief.language, step, about_row(leaf, brief, row), alias=alias or None)
    except CallError as fault:
        return Grade(alias, None, fault.code)
    value = scores.read(reply.text) if reply.value is None else float(reply.get("grade"))
    return Grade(alias, value, "" if value is not None else UNREADABLE)
