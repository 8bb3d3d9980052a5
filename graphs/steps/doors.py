"""The gates on an instruction, and on an answer, as the agents' doors ask them."""

from __future__ import annotations

from typing import Literal

from filters.gate import Mending
from graphs.state import Context, State, Update
from graphs.steps.node import ending_of, go_on, judged
from leafmill.ledger import Step


async def screen(state: State, context: Context, step: Step) -> Update:
    """The gates on the instruction. A child that they refuse gives way to its parent, unless it is a duplicate.

    Gates that remember are asked about the last version only, and end a candidate here as they would at admission: so its fate does not
    depend on how far other candidates have come.
    """
    evolving = will_evolve(state, context)
    verdict = await judged("screen", state, context, step, but=context.memory if evolving else ())
    if verdict is None:
        mended = mend("screen", state, context, step)
        return {**mended, "goto": "evolve"} if evolving else mended
    parent = state.get("parent")
    if parent is None or verdict.decision == "error" or verdict.gate in context.memory:
        return {"ending": ending_of("screen", verdict)}
    made = state["lineage"]
    grown = max(i for i, one in enumerate(made) if "operator" in one)
    back: Update = {"row": parent, "parent": None, "lineage": made[:grown], "ending": state.get("fallback")}
    return back if back["ending"] else await go_on("screen", screen, back, state, context, step)


async def check(state: State, context: Context, step: Step) -> Update:
    """The gates on the answer."""
    verdict = await judged("check", state, context, step)
    return {"ending": ending_of("check", verdict)} if verdict else mend("check", state, context, step)


def mend(stage: Literal["screen", "check"], state: State, context: Context, step: Step) -> Update:
    """The row as the gates of a stage that mend would have it; the lineage says how often they changed what, and never what it was."""
    row, lineage = state["row"], state["lineage"]
    for gate in context.gates.get(stage, ()):
        if isinstance(gate, Mending):
            row, counts = gate.mend(row)
            if counts:
                part = "instruction" if stage == "screen" else "answer"
                lineage = [*lineage, {"part": part, "step": step.name, "mended": gate.name, "counts": dict(counts)}]
    return {} if lineage is state["lineage"] else {"row": row, "lineage": lineage}


def will_evolve(state: State, context: Context) -> bool:
    """Whether an evolution round is left; a candidate that was sent back has been evolved for that once more already."""
    return not state.get("fallback") and state["evolved"] < context.flow.evolve_rounds
