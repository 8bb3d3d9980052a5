"""The gates on an instruction, and on an answer, as the agents' doors ask them."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from agents import comparer
from agents.evolver import BREADTH
from filters.evolution import BY_ANSWER
from filters.gate import Mending
from graphs.state import Context, State, Update, goes_on, standing
from graphs.steps import revise
from graphs.steps.node import ending_of, go_on, judged
from leafmill.ledger import Step
from leafmill.records import Verdict


async def screen(state: State, context: Context, step: Step, compared: bool = False) -> Update:
    """The gates on the instruction. A child that they refuse gives way to its parent, unless it is a duplicate. `compared`: one that they
    let pass goes to the comparer, unless it is no rewrite.

    Gates that remember are asked about the last version only, and end a candidate here as they would at admission: so its fate does not
    depend on how far other candidates have come.
    """
    evolved = standing(state)
    next_ = "compare" if compared and can_compare(state, context) else "evolve" if will_evolve(state, context) else ""
    verdict = await judged("screen", state, context, step, but=context.memory if next_ else ())
    if verdict is None:
        mended = mend("screen", state, context, step)
        return {**mended, "goto": next_} if next_ else mended
    if evolved is None or verdict.decision == "error" or verdict.gate in context.memory:
        return {"ending": ending_of("screen", verdict)}
    return await give_way(verdict, state, context, step)


async def check(state: State, context: Context, step: Step) -> Update:
    """The gates on the answer. While a conversation goes on, it is the user's turn after each. An evolved instruction whose first answer is
    a refusal or hollow gives way to its parent, as Evol-Instruct has it, and that is answered instead: once. A revised answer that is
    refused gives way to the one before it."""
    verdict = await judged("check", state, context, step)
    if verdict is None:
        mended = mend("check", state, context, step)
        return {**mended, "goto": "follow_up"} if goes_on(state) else mended
    if state.get("seen"):  # it is as a person wants it
        return {"ending": ending_of("check", verdict)}
    if state.get("earlier") is not None and verdict.decision != "error":  # the answer that it should take the place of stays
        return revise.give_back(state, context, {"step": step.name, "refused": verdict.code, "stays": False})
    evolved = standing(state)
    is_first = evolved is not None and len(state["row"].history) == len(evolved.parent.history)
    if verdict.code not in BY_ANSWER or not is_first or state["eliminated"] is not None:
        return {"ending": ending_of("check", verdict)}
    update = await give_way(verdict, {**state, "eliminated": state["row"], "cut_off": False}, context, step)
    return {**update, "eliminated": state["row"], "cut_off": False, "goto": "answer"}


async def give_way(verdict: Verdict, state: State, context: Context, step: Step) -> Update:
    """The parent is the row again, as it was before its last evolution that stood, and is screened as what it is now. If the child was to
    mend what the score gate found wrong with its parent, that is the end of it."""
    made, evolved = state["evolutions"], standing(state)
    assert evolved is not None, "only an evolved row has a parent to give way to"
    refused = [replace(one, refused=verdict.code) if one is evolved else one for one in made]
    back: Update = {"row": evolved.parent, "evolutions": refused, "lineage": [*evolved.made], "ending": state.get("fallback")}
    return back if back["ending"] else await go_on("screen", screen, back, state, context, step)


def can_compare(state: State, context: Context) -> bool:
    """Whether the row is a child that the comparer can hold against its parent: a rewrite, and there is a comparer."""
    evolved = state["evolutions"][-1]
    return not evolved.refused and evolved.operator != BREADTH and context.chat.roles.speaks(comparer.NAME, state["row"].language)


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
    """Whether an evolution round is left; a candidate that was sent back has been evolved for that once more already. What is asked of
    tools is never evolved: it would no longer be what its tools are for, and say what it has to leave out."""
    is_open = not state.get("fallback") and state["evolved"] < context.flow.evolve_rounds
    return is_open and state["brief"].mode.tools == "none"
