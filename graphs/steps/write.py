"""The node that writes the instruction."""

from __future__ import annotations

from agents import writer
from graphs.state import Context, State, Update
from graphs.steps.node import made_by
from leafmill.ledger import Step


async def write(state: State, context: Context, step: Step) -> Update:
    row, reply = await writer.write(context.chat, context.leaf, state["brief"], step)
    return {"row": row, "lineage": [made_by("instruction", step, reply)]}
