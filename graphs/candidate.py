"""The state machine of one candidate, from its brief to its end.

    write =screen=> evolve (0..r rounds) =screen=> answer =check=> annotate (panel, parallel) -> criticise =agree=> score -> admit
                       ^                              ^                                            |  ^             | |
                       |                              '----- revise (0..r rounds), misaligned -----'  '- misaligned-' |
                       '----------------------------------------- too easy -------------------------------------------'

An arrow with a name is an agent's door: what it made passes the gates of that stage before it goes on. Any gate, and any failed call, ends
a candidate: `reject` decides what did not get in.

Roles of the user's own (`after: answer`) stand behind write, evolve or answer. Every loop has its counter in the state and its bound
in the recipe's `flow`. A call that fails ends the candidate `errored`, a gate that cannot measure or a panel that is split leaves
it `waiting` for a person, a gate that refuses ends it `rejected`: always with the stage, a code and a sentence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal, Protocol, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Command

from agents import amender, annotator, answerer, critic, evolver, writer
from agents.chat import Chat, Reply
from agents.governor import Halted
from filters.gate import ENDS, Gate, Mending, Stage, Subject, refusal
from filters.memory import Remembering
from graphs.admission import Admission
from leafmill.errors import CallError, ReplyError
from leafmill.ledger import Ending, Ledger, Step
from leafmill.recipe import Flow
from leafmill.records import Brief, Language, Row, Verdict, Vote
from taxonomy import Leaf

RECURSION_LIMIT = 1000
"""far above what the loops' own bounds allow: a guard against a bug in the routes"""
SEND_BACK: Mapping[str, Literal["evolve", "criticise"]] = {"ifd.too_easy": "evolve", "ifd.misaligned": "criticise"}
"""What a verdict of the score stage is sent back for, and to whom. The critic sends on to the answerer."""
MISALIGNED: Mapping[Language, str] = {"en": "The answer does not follow from what was asked.", "zh": "回答与所问的对不上。"}
"""What the answerer is told of it where there is no critic, or none who says more."""
HOLD = frozenset({"agreement.disagree"})
"""Rejections that a person should see: the panel is split, so nobody knows."""


class State(TypedDict, total=False):
    """What a candidate is so far. `seq` counts the steps taken; the other counters bound the loops."""

    brief: Brief
    row: Row
    parent: Row | None
    seq: int
    evolved: int
    answered: int
    revised: int
    returned: int
    votes: list[Vote]
    critique: critic.Critique | None
    feedback: str
    finding: str
    """what the score gate found, while the critic has yet to look at it"""
    cut_off: bool
    lineage: list[dict[str, Any]]
    fallback: Ending | None
    """the ending of a candidate that was sent back, should its evolution fail"""
    ending: Ending | None


class Update(State, total=False):
    """What a node has to say."""

    goto: str
    """where to send the candidate, when that is not what usually comes next"""


@dataclass(frozen=True)
class Context:
    """What the nodes of one leaf work with."""

    leaf: Leaf
    chat: Chat
    ledger: Ledger
    panel: Sequence[str]
    """the annotators"""
    gates: Mapping[Stage, Sequence[Gate]]
    admission: Admission
    flow: Flow
    halted: Callable[[], str | None] = lambda: None
    """why candidates under way should be left open where they stand (a budget is used up, a person interrupts), or None"""
    at_the_door: Callable[[Brief], None] = lambda brief: None
    """told of a candidate that has nothing left to do but to wait for its turn to be admitted"""

    @cached_property
    def memory(self) -> frozenset[str]:
        """The gates of `screen` that remember."""
        return frozenset(gate.name for gate in self.gates.get("screen", ()) if isinstance(gate, Remembering))


Work = Callable[[State, Context, Step], Awaitable[Update]]


class Node(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: State, runtime: Runtime[Context]) -> Command[str]: ...


def start(brief: Brief) -> State:
    """The state in which a candidate enters its graph."""
    row = Row(language=brief.language, instruction="")
    counters: State = {"seq": 0, "evolved": 0, "answered": 0, "revised": 0, "returned": 0}
    told: State = {"feedback": "", "finding": "", "cut_off": False}
    return {**counters, **told, "brief": brief, "row": row, "parent": None, "votes": [], "lineage": []}


# -- the nodes, top down -----------------------------------------------------------------------------------------------


async def write(state: State, context: Context, step: Step) -> Update:
    row, reply = await writer.write(context.chat, context.leaf, state["brief"], step)
    return {"row": row, "lineage": [_made("instruction", step, reply)]}


async def screen(state: State, context: Context, step: Step) -> Update:
    """The gates on the instruction. A child that they refuse gives way to its parent, unless it is a duplicate.

    Gates that remember are asked about the last version only, and end a candidate here as they would at admission: so its fate does not
    depend on how far other candidates have come.
    """
    evolving = _will_evolve(state, context)
    verdict = await _judged("screen", state, context, step, but=context.memory if evolving else ())
    if verdict is None:
        mended = _mended("screen", state, context, step)
        return {**mended, "goto": "evolve"} if evolving else mended
    parent = state.get("parent")
    if parent is None or verdict.decision == "error" or verdict.gate in context.memory:
        return {"ending": _ending("screen", verdict)}
    made = state["lineage"]
    grown = max(i for i, one in enumerate(made) if "operator" in one)
    back: Update = {"row": parent, "parent": None, "lineage": made[:grown], "ending": state.get("fallback")}
    return back if back["ending"] else await _then("screen", screen, back, state, context, step)


async def evolve(state: State, context: Context, step: Step) -> Update:
    """A harder child. A reply that cannot be used is an evolution that failed: the parent goes on, as when the gates refuse a child."""
    brief, round_ = state["brief"], state["evolved"]
    try:
        child, reply = await evolver.evolve(context.chat, context.leaf, brief, state["row"], step, round_)
    except ReplyError:  # recorded by the call
        return {"evolved": round_ + 1, "ending": state.get("fallback")}
    made = {**_made("instruction", step, reply), "operator": evolver.operator(brief, round_), "from": state["row"].instruction}
    return {"row": child, "parent": state["row"], "evolved": round_ + 1, "lineage": [*state["lineage"], made]}


async def answer(state: State, context: Context, step: Step) -> Update:
    row, reply = await answerer.answer(context.chat, context.leaf, state["brief"], state["row"], step, state["feedback"])
    lineage = [*(m for m in state["lineage"] if m["part"] != "answer"), _made("answer", step, reply)]
    return {"row": row, "cut_off": reply.cut_off, "answered": state["answered"] + 1, "votes": [], "lineage": lineage}


async def check(state: State, context: Context, step: Step) -> Update:
    """The gates on the answer."""
    verdict = await _judged("check", state, context, step)
    return {"ending": _ending("check", verdict)} if verdict else _mended("check", state, context, step)


async def annotate(state: State, context: Context, step: Step) -> Update:
    """The panel votes, all at once and each alone. When one of them stops the candidate or the run, the others are recorded first."""

    async def vote(name: str) -> Vote:
        cast = await annotator.annotate(context.chat, name, context.leaf, state["brief"], state["row"], _part_of(step, name))
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
    verdict = await _judged("agree", state, context, step)
    critique = state.get("critique")
    if verdict is None:
        return {}
    if verdict.decision == "reject" and verdict.code not in HOLD and critique and state["revised"] < context.flow.revise_rounds:
        return {"goto": "answer", "revised": state["revised"] + 1, "feedback": critique.reason}
    return {"ending": _ending("agree", verdict, hold=verdict.code in HOLD)}


async def score(state: State, context: Context, step: Step, criticised: bool = True) -> Update:
    """The gates on the finished row. Too easy goes back to be evolved, misaligned to the critic and on to be answered anew (where there is
    no critic, at once), as often as `flow` allows."""
    verdict = await _judged("score", state, context, step)
    if verdict is None:
        return {}
    ending, back = _ending("score", verdict), SEND_BACK.get(verdict.code)
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
    ending = await context.admission.admit(state["brief"], _subject(state), {"made": state["lineage"]}, step)
    return {"ending": ending}


async def reject(state: State, context: Context, step: Step) -> Update:
    """Decide what did not get in: rejected, errored or waiting; or left open for the next run. Its row is kept for those who look."""
    ending = state.get("ending") or Ending("errored", "graph", "no_ending", "the graph ended without a reason")
    await context.ledger.finish(state["brief"], ending, state["row"], {"made": state["lineage"]})
    return {"ending": ending}


def amend(name: str) -> Work:
    """The node of a role of the user's own."""

    async def rewrite(state: State, context: Context, step: Step) -> Update:
        row, reply = await amender.amend(context.chat, name, context.leaf, state["brief"], state["row"], step)
        made = _made(reply.role.head.writes or "answer", step, reply)
        return {"row": row, "cut_off": state["cut_off"] or reply.cut_off, "lineage": [*state["lineage"], made]}

    return rewrite


# -- the wiring --------------------------------------------------------------------------------------------------------


def build(
    own: Mapping[str, Sequence[str]] | None = None, *, criticised: bool = True, scored: bool = True
) -> CompiledStateGraph[State, Context, State, State]:
    """Compile the graph: `own` names the user's roles that come after write, evolve or answer; a recipe may do without the critic, and a
    leaf without the gates on the finished row."""
    after = {stage: list((own or {}).get(stage, ())) for stage in ("write", "evolve", "answer")}
    graph = StateGraph(State, context_schema=Context)

    def add(name: str, work: Work, then: str, *instead: str) -> None:
        """A node, what comes after it, and where else it may send a candidate; any may end it."""
        graph.add_node(name, _node(name, work, then), destinations=(then, *instead, "reject"))

    def chain(first: str, work: Work, stage: str, gates: Work, then: str, *instead: str) -> None:
        """A node and behind it the user's own roles; at the door of the last stand the gates."""
        *names, last = [first, *after[first]]
        works = {first: work, **{name: amend(name) for name in after[first]}}
        for here, there in pairwise([*names, last]):
            add(here, works[here], there)
        add(last, _gated(works[last], stage, gates), then, *instead)

    graph.add_edge(START, "write")
    chain("write", write, "screen", screen, "answer", "evolve")
    chain("evolve", evolve, "screen", screen, "answer", "evolve")
    chain("answer", answer, "check", check, "annotate")
    if criticised:
        add("annotate", annotate, "criticise")
    last, work = ("criticise", criticise) if criticised else ("annotate", annotate)
    add(last, _gated(work, "agree", agree), "score" if scored else "admit", "answer")
    if scored:
        add("score", partial(score, criticised=criticised), "admit", "evolve", "criticise" if criticised else "answer")
    add("admit", admit, END)
    add("reject", reject, END)
    return graph.compile()


def studio() -> CompiledStateGraph[State, Context, State, State]:
    """The graph with the built-in roles, for LangGraph's own studio (see langgraph.json)."""
    return build()


# -- what all nodes share ----------------------------------------------------------------------------------------------


def _node(name: str, work: Work, then: str) -> Node:
    """Number the step, end the candidate when its leaf is full or the run halts, turn a failed call into the state `errored`, and go on:
    to `then` unless the work says otherwise, to `reject` when the candidate has ended."""

    async def run(state: State, runtime: Runtime[Context]) -> Command[str]:
        context, brief = runtime.context, state["brief"]
        # Limits do not rename a step, so that its recorded calls are found again: rounds of answers and evolutions do, and a second look.
        again = ".again" if state["finding"] else ""
        step = Step(brief.id, brief.leaf, state["seq"] + 1, f"{name}.{state['evolved']}.{state['answered']}{again}")
        if then == END:
            return Command(update={"seq": step.seq, **await work(state, context, step)})
        if context.admission.is_full(brief.leaf):
            update: Update = {"ending": Ending("rejected", name, "quota_met", "the leaf was full before this candidate was done")}
        elif why := context.halted():
            update = {"ending": Ending("open", name, "halted", why)}
        else:
            try:
                update = await work(state, context, step)
            except CallError as fault:
                update = {"ending": Ending("errored", name, fault.code, str(fault))}
            except Halted as fault:
                update = {"ending": Ending("open", name, "halted", str(fault))}
        goto = update.pop("goto", then)
        return Command(update={"seq": step.seq, **update}, goto="reject" if update.get("ending") else goto)

    return run


def _gated(work: Work, stage: str, gates: Work) -> Work:
    """An agent's work, and then the gates at its door, unless the candidate has ended or is sent elsewhere."""

    async def both(state: State, context: Context, step: Step) -> Update:
        update = await work(state, context, step)
        done = update.get("ending") or update.get("goto")
        return update if done else await _then(stage, gates, update, state, context, step)

    return both


async def _then(name: str, work: Work, update: Update, state: State, context: Context, step: Step) -> Update:
    """What has been made so far, and what the next step makes of it within the same node."""
    made: State = {**state, **update}  # type: ignore[typeddict-unknown-key]
    here = step._replace(seq=step.seq + 1, name=f"{name}.{made['evolved']}.{made['answered']}")
    return {**update, "seq": here.seq, **await work(made, context, here)}


def _part_of(step: Step, name: str) -> Step:
    """The step of one annotator: its call is told from the others' by its name."""
    return step._replace(name=step.name.replace("annotate", name, 1))


async def _judged(stage: Stage, state: State, context: Context, step: Step, but: Collection[str] = ()) -> Verdict | None:
    """Ask the gates of a stage in order, `but` some; the first verdict that is not `accept`, or None."""
    subject = replace(_subject(state), facts={"stage": stage})
    gates = [gate for gate in context.gates.get(stage, ()) if gate.name not in but]
    return await refusal(gates, subject, partial(context.ledger.note_verdict, step))


def _mended(stage: Literal["screen", "check"], state: State, context: Context, step: Step) -> Update:
    """The row as the gates of a stage that mend would have it; the lineage says how often they changed what, and never what it was."""
    row, lineage = state["row"], state["lineage"]
    for gate in context.gates.get(stage, ()):
        if isinstance(gate, Mending):
            row, counts = gate.mend(row)
            if counts:
                part = "instruction" if stage == "screen" else "answer"
                lineage = [*lineage, {"part": part, "step": step.name, "mended": gate.name, "counts": dict(counts)}]
    return {} if lineage is state["lineage"] else {"row": row, "lineage": lineage}


def _will_evolve(state: State, context: Context) -> bool:
    """Whether an evolution round is left; a candidate that was sent back has been evolved for that once more already."""
    return not state.get("fallback") and state["evolved"] < context.flow.evolve_rounds


def _subject(state: State) -> Subject:
    brief, critique = state["brief"], state.get("critique")
    return Subject(
        id=brief.id,
        row=state["row"],
        brief=brief,
        parent=state.get("parent"),
        votes=tuple(state["votes"]),
        critic_score=critique.score if critique else None,
        cut_off=state["cut_off"],
    )


def _ending(stage: str, verdict: Verdict, hold: bool = False) -> Ending:
    return Ending("waiting" if hold else ENDS[verdict.decision], stage, verdict.code, verdict.sentence)


def _made(part: str, step: Step, reply: Reply) -> dict[str, Any]:
    return {"part": part, "step": step.name, **reply.origin}
