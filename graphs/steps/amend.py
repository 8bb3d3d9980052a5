"""The nodes of the user's own roles: prompt files with `after:`, and roles in Python."""

from __future__ import annotations

from agents import amender, python_role
from graphs.state import Context, State, Update, Work
from graphs.steps.node import made_by
from leafmill import entrypoints
from leafmill.ledger import Step


def amend(name: str) -> Work:
    """The node of a role of the user's own."""

    async def rewrite(state: State, context: Context, step: Step) -> Update:
        brief, row, lineage = state["brief"], state["row"], state["lineage"]
        if role := context.python.get(name):
            row = await python_role.amend(role, name, row, brief)
            by = entrypoints.origin(entrypoints.ROLES, name)
            return {"row": row, "lineage": [*lineage, {"part": role.writes, "step": step.name, "role": name, "python": by}]}
        row, reply = await amender.amend(context.chat, name, context.leaf, brief, row, step)
        made = made_by(reply.role.head.writes or "answer", step, reply)
        return {"row": row, "cut_off": state["cut_off"] or reply.cut_off, "lineage": [*lineage, made]}

    return rewrite
