"""The localiser says an instruction again as a native of the brief's language would. Its answer is written in that language, never
translated."""

from __future__ import annotations

from agents.briefing import about_leaf
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf


async def localise(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step) -> tuple[Row, Reply]:
    """The row in the brief's language, and the reply it came from; a passage stays as its document has it. Raises CallError."""
    from_document = brief.mode.write == "document"
    told = {"instruction": row.instruction, "input": "" if from_document else row.input}
    reply = await chat.ask("localiser", brief.language, step, {**about_leaf(leaf, brief.language, brief.axes), **told})
    material = row.input if from_document else reply.get("input")
    return Row(language=brief.language, instruction=reply.get("instruction"), input=material), reply
