"""What all nodes share: their number, how they end a candidate, and the gates at their doors."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from functools import partial
from typing import Any, Literal

from langgraph.graph import END
from langgraph.runtime import Runtime
from langgraph.types import Command

from agents.chat import Reply
from agents.evolver import BREADTH
from filters.agreement import dispersion
from filters.gate import ENDS, Stage, Subject, refusal
from graphs.state import Context, Node, State, Update, Work, answering, standing
from leafmill.errors import CallError, Halted
from leafmill.ledger import Ending, Step
from leafmill.records import Evolution, Verdict


def node(name: str, work: Work, then: str) -> Node:
    """Number the step, end the candidate when its leaf is full or the run halts, turn a failed call into the state `errored`, and go on:
    to `then` unless the work says otherwise; when the candidate has ended, to `reject`, or to `wait` for a person."""

    async def run(state: State, runtime: Runtime[Context]) -> Command[str]:
        context, brief = runtime.context, state["brief"]
        # Limits do not rename a step, so that its recorded calls are found again: rounds of answers and evolutions do, and a second look.
        again = ".again" if state["finding"] else ""
        step = Step(brief.id, brief.leaf, state["seq"] + 1, f"{name}.{state['evolved']}.{state['answered']}{again}")
        if then == END:
            update = await work(state, context, step)
            return Command(update={"seq": step.seq, **update}, goto=_waits(update))
        by_person = name == "review"
        if context.admission.is_full(brief.leaf) and not (by_person or state.get("review") or state.get("awaited")):
            update = {"ending": Ending("rejected", name, "quota_met", "the leaf was full before this candidate was done")}
        elif not by_person and (why := context.halted()):
            update = {"ending": Ending("open", name, "halted", why)}
        else:
            try:
                update = await work(state, context, step)
            except CallError as fault:
                update = {"ending": Ending("errored", name, fault.code, str(fault))}
            except Halted as fault:
                update = {"ending": Ending("open", name, "halted", str(fault))}
        goto = update.pop("goto", then)
        goto = answering(brief.mode) if goto == "answer" else goto
        if update.get("ending"):
            goto = _waits(update) or "reject"
        return Command(update={"seq": step.seq, **update}, goto=goto)

    return run


def _waits(update: Update) -> Literal["wait"] | tuple[()]:
    ending = update.get("ending")
    return "wait" if ending and ending.state == "waiting" else ()


def gated(work: Work, stage: str, gates: Work) -> Work:
    """An agent's work, and then the gates at its door, unless the candidate has ended or is sent elsewhere."""

    async def both(state: State, context: Context, step: Step) -> Update:
        update = await work(state, context, step)
        done = update.get("ending") or update.get("goto")
        return update if done else await go_on(stage, gates, update, state, context, step)

    return both


async def go_on(name: str, work: Work, update: Update, state: State, context: Context, step: Step) -> Update:
    """What has been made so far, and what the next step makes of it within the same node."""
    made: State = {**state, **update}  # type: ignore[typeddict-unknown-key]
    here = step._replace(seq=step.seq + 1, name=f"{name}.{made['evolved']}.{made['answered']}")
    return {**update, "seq": here.seq, **await work(made, context, here)}


def part_of(step: Step, name: str) -> Step:
    """The step of one seat: its call is told from the others' by its name."""
    return step._replace(name=step.name.replace("annotate", name, 1))


async def judged(stage: Stage, state: State, context: Context, step: Step, but: Collection[str] = ()) -> Verdict | None:
    """Ask the gates of a stage in order, `but` some; the first verdict that is not `accept`, or None."""
    subject = subject_in(stage, state, step)
    gates = [gate for gate in context.gates.get(stage, ()) if gate.name not in but]
    return await refusal(gates, subject, partial(context.ledger.note_verdict, step), seen=state.get("seen", False))


def subject_in(stage: Stage, state: State, step: Step) -> Subject:
    """What the gates of a stage are asked about."""
    task = state.get("tool_task")
    demand = next((one["demand"] for one in state["lineage"] if "demand" in one), None)
    facts = {"stage": stage, "step": step, "left_out": task.left_out if task else "", "demand": demand}
    return replace(subject_of(state), facts=facts)


def subject_of(state: State) -> Subject:
    brief, critique, earlier, evolved = state["brief"], state.get("critique"), state.get("earlier"), standing(state)
    return Subject(
        id=brief.id,
        row=state["row"],
        brief=brief,
        parent=evolved.parent if evolved else None,
        rewritten=evolved is None or evolved.operator != BREADTH,
        told=earlier.told if earlier else "",
        votes=tuple(state["votes"]),
        critic_score=critique.score if critique else None,
        cut_off=state["cut_off"],
    )


def ending_of(stage: str, verdict: Verdict, hold: bool = False) -> Ending:
    return Ending("waiting" if hold else ENDS[verdict.decision], stage, verdict.code, verdict.sentence)


def made_by(part: str, step: Step, reply: Reply) -> dict[str, Any]:
    return {"part": part, "step": step.name, **reply.origin}


def lineage_of(state: State) -> dict[str, Any]:
    """Who made which part of the row, how often it was evolved by what, and what was thought of it: what the ledger keeps beside it."""
    evolutions = [Evolution(operator=one.operator, refused=one.refused).model_dump() for one in state["evolutions"]]
    critique = state.get("critique")
    judged_ = {
        "panel": dispersion(state["votes"]) if state["votes"] else None,
        "critic": critique and {"score": critique.score, **({"misquoted": True} if critique.misquoted else {})},
        "revisions": state["revisions"],
    }
    person = state.get("review")
    reviewed = person and {"decision": person.decision, "reviewer": person.reviewer, "at": person.at}
    found = {"evolutions": evolutions, **judged_, "review": reviewed}
    return {"made": state["lineage"], **{name: value for name, value in found.items() if value}}
