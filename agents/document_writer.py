"""The document writer asks what a passage answers; unless the book is closed, the passage is the row's input."""

from __future__ import annotations

from agents.briefing import about_leaf
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf


async def write(chat: Chat, leaf: Leaf, brief: Brief, step: Step) -> tuple[Row, Reply]:
    """A new row without an answer, and the reply it came from. Raises CallError."""
    source, language, closed = brief.source, brief.written_in, brief.mode.closed_book
    assert source is not None, "a brief that is written from a document has a passage"
    told = {"scenario": brief.scenario, "passage": source.text, "heading": source.heading, "closed_book": closed}
    reply = await chat.ask("document-writer", language, step, {**about_leaf(leaf, language, brief.axes), **told})
    return Row(language=language, instruction=reply.get("instruction"), input="" if closed else source.text), reply
