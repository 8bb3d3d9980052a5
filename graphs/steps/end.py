"""The last nodes: the gates on the finished row, the door of the dataset, and the end of what does not get in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from agents import critic
from graphs.state import Context, State, Update
from graphs.steps.judge import MISALIGNED
from graphs.steps.node import ending_of, judged, subject_of
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
    if back is None or state["returned"] >= context.flow.score_returns:
        return {"ending": ending}
    sent: Update = {"goto": back, "returned": state["returned"] + 1, "feedback": "", "fallback": ending}
    if back == "evolve":
        return sent
    language = state["row"].language
    return {**sent, "finding": critic.MISALIGNED[language]} if criticised else {**sent, "goto": "answer", "feedback": MISALIGNED[language]}


async def admit(state: State, context: Context, step: Step) -> Update:
    """The serial reducer: of near-twins in flight at once, exactly one gets in."""
    context.at_the_door(state["brief"])
    ending = await context.admission.admit(state["brief"], subject_of(state), {"made": state["lineage"]}, step)
    return {"ending": ending}


async def reject(state: State, context: Context, step: Step) -> Update:
    """Decide what did not get in: rejected, errored or waiting; or left open for the next run. Its row is kept for those who look."""
    ending = state.get("ending") or Ending("errored", "graph", "no_ending", "the graph ended without a reason")
    await context.ledger.finish(state["brief"], ending, state["row"], {"made": state["lineage"]})
    return {"ending": ending}
