"""The rewriter puts an instruction of a data set into a leaf's style and format; what it asks for stays, and it is always answered anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agents.briefing import about_row
from filters.demand import Demand, draw
from leafmill.ledger import Step
from leafmill.records import Brief, Row
from taxonomy import Leaf
from taxonomy.axes import deal
from taxonomy.material import of_leaf
from taxonomy.sources import SourceSpec

if TYPE_CHECKING:  # plan-cost asks for the operation only, and does not speak
    from agents.chat import Chat, Reply


def operation(leaf: Leaf, brief: Brief) -> str:
    """What is done to the row: the leaf's operations are dealt in turn."""
    spec = of_leaf(leaf, "rewrite") or SourceSpec(texts=("",))
    return deal(spec.operations, brief.number, leaf.path, "operation")


def demand(leaf: Leaf, brief: Brief) -> Demand | None:
    """What the rewritten instruction demands of its answer's form, where that is its operation."""
    return draw(brief.language, brief.id) if operation(leaf, brief) == "constraint" else None


async def rewrite(chat: Chat, leaf: Leaf, brief: Brief, step: Step) -> tuple[Row, Reply]:
    """The row with new words and its old material, without an answer, and the reply it came from. Raises CallError."""
    source = brief.source
    assert source is not None, "a brief that rewrites has a row to rewrite"
    row = Row(language=brief.written_in, instruction=source.text, input=source.input)
    told = about_row(leaf, brief.model_copy(update={"language": brief.written_in}), row)
    reply = await chat.ask("rewriter", brief.written_in, step, {**told, "operation": operation(leaf, brief)})
    return row.model_copy(update={"instruction": reply.get("instruction")}), reply
