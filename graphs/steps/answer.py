"""The node that answers."""

from __future__ import annotations

from agents import answerer
from graphs.state import Context, State, Update
from graphs.steps.node import made_by
from leafmill.ledger import Step


async def answer(state: State, context: Context, step: Step) -> Update:
    row, reply = await answerer.answer(context.chat, context.leaf, state["brief"], state["row"], step, state["feedback"])
    lineage = [*(m for m in state["lineage"] if m["part"] != "answer"), made_by("answer", step, reply)]
    return {"row": row, "cut_off": reply.cut_off, "answered": state["answered"] + 1, "votes": [], "lineage": lineage}
