"""The nodes of the user's own roles."""

from __future__ import annotations

from agents import amender
from graphs.state import Context, State, Update, Work
from graphs.steps.node import made_by
from leafmill.ledger import Step


def amend(name: str) -> Work:
    """The node of a role of the user's own."""

    async def rewrite(state: State, context: Context, step: Step) -> Update:
        row, reply = await amender.amend(context.chat, name, context.leaf, state["brief"], state["row"], step)
        made = made_by(reply.role.head.writes or "answer", step, reply)
        return {"row": row, "cut_off": state["cut_off"] or reply.cut_off, "lineage": [*state["lineage"], made]}

    return rewrite
