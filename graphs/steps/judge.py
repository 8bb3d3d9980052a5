"""The nodes that judge: the panel, the critic, the arbiter, and what becomes of a row by what they say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from agents import annotator, arbiter, critic
from agents.together import together
from filters.agreement import ARBITER
from graphs.state import Context, State, Update
from graphs.steps import revise
from graphs.steps.node import ending_of, judged, part_of
from leafmill.ledger import Step
from leafmill.records import Language, Seat, Vote

MISALIGNED: Mapping[Language, str] = {"en": "The answer does not follow from what was asked.", "zh": "回答与所问的对不上。"}
"""What the answerer is told of it where there is no critic, or none who says more."""
DIVIDED = "agreement.disagree"
"""The panel is split: the arbiter is asked, and where that does not settle it a person should see it, for nobody knows."""


async def annotate(state: State, context: Context, step: Step) -> Update:
    """Every seat of the panel votes, all at once and each alone. When one of them stops the candidate or the run, the others are recorded
    first."""

    async def vote(seat: Seat) -> Vote:
        cast = await annotator.annotate(context.chat, seat, context.leaf, state["brief"], state["row"], part_of(step, seat.name))
        context.ledger.note_vote(step, cast)
        return cast

    return {"votes": await together(vote(seat) for seat in context.panel)}


async def criticise(state: State, context: Context, step: Step) -> Update:
    """What the critic says. Of a misaligned answer it says what is wrong, and that goes to the answerer, whatever its score."""
    finding, language, earlier = state["finding"], state["row"].language, state.get("earlier")
    critique = await critic.criticise(context.chat, context.leaf, state["brief"], state["row"], step, finding)
    if not finding:
        return {"critique": critique}
    feedback = critique.feedback(language) or MISALIGNED[language]
    told = earlier and replace(earlier, feedback=feedback, told=critique.reason)
    return {"critique": critique, "earlier": told, "finding": "", "feedback": feedback, "goto": "answer"}


async def arbitrate(state: State, context: Context, step: Step) -> Update:
    """The arbiter's vote is counted with those of the panel that could not agree."""
    cast = await arbiter.arbitrate(context.chat, context.leaf, state["brief"], state["row"], state["votes"], step)
    context.ledger.note_vote(step, cast)
    return {"votes": [*state["votes"], cast]}


async def agree(state: State, context: Context, step: Step) -> Update:
    """The gates on the votes and the critique; a revised answer must first prove better than the one before. What they refuse is revised
    while rounds are left."""
    compared: Update = {} if state.get("earlier") is None else revise.compare(state, context, step)
    if compared.get("goto") or compared.get("ending"):
        return compared
    state = {**state, **compared}  # type: ignore[typeddict-unknown-key]
    verdict = await judged("agree", state, context, step)
    critique = state.get("critique")
    if verdict is None:
        return compared
    divided = verdict.code == DIVIDED
    if divided and not any(vote.role == ARBITER for vote in state["votes"]) and context.chat.roles.speaks(ARBITER, state["row"].language):
        return {**compared, "goto": "arbitrate"}
    ending = ending_of("agree", verdict, hold=divided)
    if verdict.decision == "reject" and not divided and critique and state["revised"] < context.flow.revise_rounds:
        feedback = critique.feedback(state["row"].language)
        sent = revise.send_back(state, ending, feedback, told=critique.reason)
        return {**compared, **sent, "revised": state["revised"] + 1}
    return {**compared, "ending": ending}
