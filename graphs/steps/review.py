"""The nodes where a candidate waits for a person, and goes on by what the person decided.

    (cannot be measured, panel divided, `review:` rule) -> wait -> REVIEW -accept-> on behind the door that held it
                                                                     |----edit---> the gates of the answer, then as if the panel agreed
                                                                     '---reject--> reject

REVIEW is LangGraph's `interrupt`: the graph stops there until somebody resumes it with a decision (`graphs/waiting.py`), be it in the
same process or in another. As its body is run again from the first line then, what has to be done once is done by `wait`.

A person who has seen an answer has judged the row: no panel is asked after that, what cannot be measured no longer holds it up, and it
gets in even when its leaf is full meanwhile. What gates can measure still counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from langgraph.types import interrupt

from filters.review import NAME, holds
from graphs.state import Context, State, Update, Work
from graphs.steps.doors import check, screen
from graphs.steps.end import score
from graphs.steps.node import lineage_of
from leafmill.ledger import Ending, Step
from leafmill.records import Review, Row, Verdict


async def wait(state: State, context: Context, step: Step) -> Update:
    """Write down that it waits, with its row, for those who look."""
    ending, leaf = state["ending"], state["brief"].leaf
    assert ending is not None, "it is sent here with the reason for which it waits"
    if holds(ending.code) and not state.get("awaited"):  # one that is carried here once more is counted already
        if context.admission.is_full(leaf):
            return {"ending": Ending("rejected", "wait", "quota_met", "good, but the leaf was full")}
        context.admission.hold(leaf, 1)
    if state.get("review"):
        context.ledger.note_taken(step.candidate)  # what was decided before has been followed as far as this
    await context.ledger.finish(state["brief"], ending, state["row"], lineage_of(state))
    return {}


def whether(state: State) -> Literal["review", "reject"]:
    """Where to from `wait`."""
    ending = state["ending"]
    return "review" if ending and ending.state == "waiting" else "reject"


async def review(state: State, context: Context, step: Step, settled: str = "admit") -> Update:
    """`settled`: where a row goes that the panel agrees on."""
    held = state["ending"]
    assert held is not None, "it waits for a reason"
    decided = Review.model_validate(interrupt({"candidate": step.candidate, **held._asdict()}))
    context.ledger.forget_from(step)  # a run that was stopped as it went on from here
    context.ledger.note_verdict(step, _verdict(decided))
    if decided.decision == "reject":
        return {"review": decided, "ending": Ending("rejected", NAME, f"{NAME}.{decided.code or 'other'}", decided.note)}
    row = decided.row or state["row"]
    on: Update = {"review": decided, "row": row, "ending": None, "fallback": None, "earlier": None, "finding": "", "seen": bool(row.answer)}
    if decided.decision == "edit":
        on |= _edited(state, row, decided, step)
        return await _through("check", check, {**on, "goto": settled}, state, context, step)
    if held.stage == "admit":
        return {**on, "goto": "admit"}
    if held.stage == "score":
        return await _through("score", score, {**on, "goto": "admit"}, state, context, step)
    if held.stage == "agree":
        return {**on, "goto": settled}
    if held.stage == "vote":
        return {**on, "ending": held._replace(detail="it has no answer that could be accepted: one has to be written, or it is rejected")}
    if row.answer:
        return await _through("check", check, {**on, "goto": "annotate"}, state, context, step)
    found = await _through("screen", screen, {**on, "seen": True, "goto": "answer"}, state, context, step)
    return {**found, "seen": False}  # of what comes now nobody has seen anything


async def _through(stage: str, door: Work, on: Update, state: State, context: Context, step: Step) -> Update:
    """On, unless the gates at the door of a stage find something that they can measure, or know another way."""
    here = step._replace(seq=step.seq + 1, name=f"{stage}.{state['evolved']}.{state['answered']}.reviewed")
    made: State = {**state, **on}  # type: ignore[typeddict-unknown-key]
    made.pop("goto", None)  # type: ignore[typeddict-item]
    found = await door(made, context, here)
    return {**on, "seq": here.seq, **found}


def _edited(state: State, row: Row, decided: Review, step: Step) -> Update:
    """What the person wrote is the person's: no vote or critique of the row before is of it."""
    parts = [part for part in ("instruction", "input", "reasoning", "answer") if getattr(row, part) != getattr(state["row"], part)]
    written = [{"part": part, "step": step.name, "reviewer": decided.reviewer} for part in parts]
    kept = [one for one in state["lineage"] if one["part"] not in parts or one["part"] == "instruction"]
    return {"lineage": [*kept, *written], "votes": [], "critique": None, "cut_off": False, "feedback": ""}


def _verdict(decided: Review) -> Verdict:
    evidence: Mapping[str, Any] = {"reviewer": decided.reviewer, "decision": decided.decision, "note": decided.note or None}
    told = {name: value for name, value in evidence.items() if value is not None}
    if decided.decision == "reject":
        return Verdict(gate=NAME, decision="reject", code=f"{NAME}.{decided.code or 'other'}", evidence=told, version=f"{NAME}@1")
    return Verdict(gate=NAME, decision="accept", code="ok", evidence=told, version=f"{NAME}@1")
