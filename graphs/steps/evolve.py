"""The nodes that make the instruction harder, and that ask whether it has become so."""

from __future__ import annotations

from dataclasses import replace

from agents import comparer, evolver
from graphs.state import Context, Evolved, State, Update, standing
from graphs.steps.doors import give_way, will_evolve
from graphs.steps.node import ending_of, judged, made_by
from leafmill.errors import ReplyError
from leafmill.ledger import Step


async def evolve(state: State, context: Context, step: Step) -> Update:
    """A child by the operator of this round. A reply that cannot be used is an evolution that failed: the parent goes on, as when the gates
    refuse a child. What was sent back for being too easy can only be made harder."""
    brief, row, made = state["brief"], state["row"], state["lineage"]
    change = evolver.operator(brief, state["evolved"], in_depth=bool(state.get("fallback")))
    evolved, round_ = Evolved(change, row, made), state["evolved"] + 1
    try:
        child, reply = await evolver.evolve(context.chat, context.leaf, brief, row, step, change)
    except ReplyError as fault:  # recorded by the call
        failed = replace(evolved, refused=fault.code)
        return {"evolved": round_, "evolutions": [*state["evolutions"], failed], "ending": state.get("fallback")}
    by = {**made_by("instruction", step, reply), "operator": change, "from": row.instruction}
    return {"row": child, "evolved": round_, "evolutions": [*state["evolutions"], evolved], "lineage": [*made, by]}


async def compare(state: State, context: Context, step: Step) -> Update:
    """The comparer's word on a child that the gates have let pass, all but those that remember: they see the last version only. A child
    without gain gives way to its parent; so does one on which the comparer's reply cannot be read, for only `accept` moves on."""
    evolved = standing(state)
    assert evolved is not None, "`screen` sends evolved candidates only"
    verdict = await comparer.compare(context.chat, context.leaf, state["brief"], evolved.parent, state["row"], step)
    context.ledger.note_verdict(step, verdict)
    if verdict.decision != "accept":
        return await give_way(verdict, state, context, step)
    if will_evolve(state, context):
        return {"goto": "evolve"}
    others = {gate.name for gate in context.gates.get("screen", ())} - context.memory
    found = await judged("screen", state, context, step, but=others)
    return {"ending": ending_of("screen", found)} if found else {}
