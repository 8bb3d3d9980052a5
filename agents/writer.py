"""The writer turns a brief into an instruction, with the input it works on."""

from __future__ import annotations

from agents.briefing import about_leaf
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf


async def write(chat: Chat, leaf: Leaf, brief: Brief, step: Step) -> tuple[Row, Reply]:
    """A new row without an answer, and the reply it came from. Raises CallError."""
    language = brief.written_in
    told = {"concepts": brief.concepts, "scenario": brief.scenario, "seeds": brief.seeds, "persona": brief.persona}
    reply = await chat.ask("writer", language, step, {**about_leaf(leaf, language, brief.axes), **told})
    return Row(language=language, instruction=reply.get("instruction"), input=reply.get("input")), reply
