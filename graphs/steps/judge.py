"""The nodes that judge: the panel, the critic, and what becomes of a row by what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from agents import annotator, critic
from graphs.state import Context, State, Update
from graphs.steps.node import ending_of, judged, part_of
from leafmill.ledger import Step
from leafmill.records import Language, Vote

MISALIGNED: Mapping[Language, str] = {"en": "The answer does not follow from what was asked.", "zh": "回答与所问的对不上。"}
"""What the answerer is told of it where there is no critic, or none who says more."""
HOLD = frozenset({"agreement.disagree"})
"""Rejections that a person should see: the panel is split, so nobody knows."""


async def annotate(state: State, context: Context, step: Step) -> Update:
    """The panel votes, all at once and each alone. When one of them stops the candidate or the run, the others are recorded first."""

    async def vote(name: str) -> Vote:
        cast = await annotator.annotate(context.chat, name, context.leaf, state["brief"], state["row"], part_of(step, name))
        context.ledger.note_vote(step, cast)
        return cast

    votes = await asyncio.gather(*(vote(name) for name in context.panel), return_exceptions=True)
    for fault in votes:
        if isinstance(fault, BaseException):
            raise fault
    return {"votes": [cast for cast in votes if isinstance(cast, Vote)]}


async def criticise(state: State, context: Context, step: Step) -> Update:
    """What the critic says. Of a misaligned answer it says what is wrong, and that goes to the answerer, whatever its score."""
    finding = state["finding"]
    critique = await critic.criticise(context.chat, context.leaf, state["brief"], state["row"], step, finding)
    if not finding:
        return {"critique": critique}
    feedback = critique.reason or MISALIGNED[state["row"].language]
    return {"critique": critique, "finding": "", "feedback": feedback, "goto": "answer"}


async def agree(state: State, context: Context, step: Step) -> Update:
    """The gates on the votes and the critique. What they refuse is revised while rounds are left."""
    verdict = await judged("agree", state, context, step)
    critique = state.get("critique")
    if verdict is None:
        return {}
    if verdict.decision == "reject" and verdict.code not in HOLD and critique and state["revised"] < context.flow.revise_rounds:
        return {"goto": "answer", "revised": state["revised"] + 1, "feedback": critique.reason}
    return {"ending": ending_of("agree", verdict, hold=verdict.code in HOLD)}
