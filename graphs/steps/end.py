"""The last nodes: the gates on the finished row, the door of the dataset, and the end of what does not get in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from agents import critic
from graphs.state import Context, State, Update
from graphs.steps import revise
from graphs.steps.judge import MISALIGNED
from graphs.steps.node import ending_of, judged, lineage_of, subject_of
from leafmill.ledger import Ending, Step

SEND_BACK: Mapping[str, Literal["evolve", "criticise"]] = {"ifd.too_easy": "evolve", "ifd.misaligned": "criticise"}
"""What a verdict of the score stage is sent back for, and to whom. The critic sends on to the answerer."""


async def score(state: State, context: Context, step: Step, criticised: bool = True) -> Update:
    """The gates on the finished row. Too easy goes back to be evolved, misaligned to the critic and on to be answered anew (where there is
    no critic, at once), as often as `flow` allows."""
    verdict = await judged("score", state, context, step)
    if verdict is None:
        return {}
    ending, back = ending_of("score", verdict), SEND_BACK.get(verdict.code)
    if back == "evolve" and (state["row"].history or state["brief"].mode.tools != "none"):
        back = None  # a later message stands where it does because of those before it; a task for tools is never evolved
    if back is None or state.get("seen") or state["returned"] >= context.flow.score_returns:
        return {"ending": ending}
    sent: Update = {"returned": state["returned"] + 1, "fallback": ending}
    if back == "evolve":
        return {**sent, "feedback": "", "goto": back}
    language = state["row"].language
    again = revise.send_back(state, ending, "" if criticised else MISALIGNED[language], must_rise=False)
    return {**again, **sent, **({"finding": critic.MISALIGNED[language], "goto": back} if criticised else {})}


async def admit(state: State, context: Context, step: Step) -> Update:
    """The serial reducer: of near-twins in flight at once, exactly one gets in."""
    context.at_the_door(state["brief"])
    seen = state.get("seen", False)
    ending = await context.admission.admit(state["brief"], subject_of(state), lineage_of(state), step, state["eliminated"], seen=seen)
    return {"ending": ending}


async def reject(state: State, context: Context, step: Step) -> Update:
    """Decide what did not get in: rejected or errored; or left open for the next run. Its row is kept for those who look."""
    ending = state.get("ending") or Ending("errored", "graph", "no_ending", "the graph ended without a reason")
    await context.ledger.finish(state["brief"], ending, state["row"], lineage_of(state))
    return {"ending": ending}
