"""The node that makes the instruction harder."""

from __future__ import annotations

from agents import evolver
from graphs.state import Context, State, Update
from graphs.steps.node import made_by
from leafmill.errors import ReplyError
from leafmill.ledger import Step


async def evolve(state: State, context: Context, step: Step) -> Update:
    """A harder child. A reply that cannot be used is an evolution that failed: the parent goes on, as when the gates refuse a child."""
    brief, round_ = state["brief"], state["evolved"]
    try:
        child, reply = await evolver.evolve(context.chat, context.leaf, brief, state["row"], step, round_)
    except ReplyError:  # recorded by the call
        return {"evolved": round_ + 1, "ending": state.get("fallback")}
    made = {**made_by("instruction", step, reply), "operator": evolver.operator(brief, round_), "from": state["row"].instruction}
    return {"row": child, "parent": state["row"], "evolved": round_ + 1, "lineage": [*state["lineage"], made]}
