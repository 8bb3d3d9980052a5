"""The answerer answers the instruction; told what the critic found wrong, it writes the whole answer anew."""

from __future__ import annotations

import re

from agents.briefing import about_row
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf

FENCE = re.compile(r"<answer>\s*(.*?)\s*(</answer>)?", re.DOTALL)


async def answer(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, feedback: str = "") -> tuple[Row, Reply]:
    """The row with an answer, reasoning kept apart, and the reply it came from. Raises CallError."""
    told = about_row(leaf, brief, row) if feedback else about_row(leaf, brief, row.model_copy(update={"answer": ""}))
    reply = await chat.ask("answerer", brief.language, step, {**told, "feedback": feedback})
    return row.model_copy(update={"answer": unfenced(reply.get("answer")), "reasoning": reply.reasoning}), reply


def unfenced(text: str) -> str:
    """The answer itself: small models like to put the tags of the prompt around it."""
    wrapped = FENCE.fullmatch(text)
    return wrapped[1] if wrapped else text
