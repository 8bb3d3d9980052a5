"""The state machine of one candidate, from its brief to its end.

    write -> screen -> evolve (0..r rounds) -> screen -> answer -> check -> annotate (panel, parallel) -> criticise -> agree
     |                   ^                                ^                                                             | |
     |                   |                                '------------------- revise (0..r rounds) --------------------' |
     |                   '---- too easy ----.---- misaligned ----> answer                                                 v
     '-> reject <- any gate             score <-----------------------------------------------------------------------'
                                          '-> admit

Roles of the user's own (`after: answer`) stand behind write, evolve or answer. Every loop has its counter in the state and its bound
in the recipe's `flow`. A call that fails ends the candidate `errored`, a gate that cannot measure or a panel that is split leaves
it `waiting` for a person, a gate that refuses ends it `rejected`: always with the stage, a code and a sentence.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Annotated, Any, Literal, Protocol, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import amender, annotator, answerer, critic, evolver, writer
from agents.chat import Chat, Reply
from filters.gate import ENDS, Gate, Stage, Subject, refusal
from filters.memory import Remembering
from graphs.admission import Admission
from leafmill.errors import CallError, ReplyError
from leafmill.ledger import Ending, Ledger, Step
from leafmill.recipe import Flow
from leafmill.records import Brief, Language, Row, Verdict, Vote
from taxonomy import Leaf

RECURSION_LIMIT = 1000
"""far above what the loops' own bounds allow: a guard against a bug in the routes"""
SEND_BACK: Mapping[str, Literal["evolve", "answer"]] = {"ifd.too_easy": "evolve", "ifd.misaligned": "answer"}
"""What a verdict of the score stage is sent back for, and to whom."""
MISALIGNED: Mapping[Language, str] = {"en": "The answer does not follow from what was asked.", "zh": "回答与所问的对不上。"}
"""What the answerer is told then: the critic had nothing against the answer."""
HOLD = frozenset({"agreement.disagree"})
"""Rejections that a person should see: the panel is split, so nobody knows."""


def _heard(old: list[Vote], new: list[Vote] | None) -> list[Vote]:
    """Votes of parallel annotators add up; None begins a new round."""
    return [] if new is None else [*old, *new]


def _later(old: int, new: int) -> int:
    return max(old, new)


def _last(old: Ending | None, new: Ending | None) -> Ending | None:
    """Several annotators may find the leaf full in one step; they say the same."""
    return new


class State(TypedDict, total=False):
    """What a candidate is so far. `seq` counts the steps taken; the other counters bound the loops."""

    brief: Brief
    row: Row
    parent: Row | None
    seq: Annotated[int, _later]
    evolved: int
    answered: int
    revised: int
    returned: int
    votes: Annotated[list[Vote], _heard]
    critique: critic.Critique | None
    feedback: str
    cut_off: bool
    goto: str
    lineage: list[dict[str, Any]]
    fallback: Ending | None
    """the ending of a candidate that was sent back, should its evolution fail"""
    ending: Annotated[Ending | None, _last]


@dataclass(frozen=True)
class Context:
    """What the nodes of one leaf work with."""

    leaf: Leaf
    chat: Chat
    ledger: Ledger
    gates: Mapping[Stage, Sequence[Gate]]
    admission: Admission
    flow: Flow
    halted: Callable[[], str | None] = lambda: None
    """why candidates under way should be left open where they stand (a budget is used up, a person interrupts), or None"""


Work = Callable[[State, Context, Step], Awaitable[State]]


class Node(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: State, runtime: Runtime[Context]) -> State: ...


def start(brief: Brief) -> State:
    """The state in which a candidate enters its graph."""
    row = Row(language=brief.language, instruction="")
    counters: State = {"seq": 0, "evolved": 0, "answered": 0, "revised": 0, "returned": 0}
    return {**counters, "brief": brief, "row": row, "parent": None, "votes": [], "lineage": [], "feedback": "", "cut_off": False}


# -- the nodes, top down -----------------------------------------------------------------------------------------------


async def write(state: State, context: Context, step: Step) -> State:
    row, reply = await writer.write(context.chat, context.leaf, state["brief"], step)
    return {"row": row, "lineage": [_made("instruction", step, reply)]}


async def screen(state: State, context: Context, step: Step) -> State:
    """The gates on the instruction. A child that they refuse gives way to its parent, unless it is a duplicate.

    Gates that remember are asked about the last version only, and end a candidate here as they would at admission: so its fate does not
    depend on how far other candidates have come.
    """
    evolving = _will_evolve(state, context)
    memory = {gate.name for gate in context.gates.get("screen", ()) if isinstance(gate, Remembering)}
    verdict = await _judged("screen", state, context, step, but=memory if evolving else ())
    if verdict is None:
        return {"goto": "evolve" if evolving else "answer"}
    parent = state.get("parent")
    if parent is None or verdict.decision == "error" or verdict.gate in memory:
        return {"ending": _ending("screen", verdict)}
    made = state["lineage"]
    grown = max(i for i, one in enumerate(made) if "operator" in one)
    return {"row": parent, "parent": None, "lineage": made[:grown], "ending": state.get("fallback"), "goto": "screen"}


async def evolve(state: State, context: Context, step: Step) -> State:
    """A harder child. A reply that cannot be used is an evolution that failed: the parent goes on, as when the gates refuse a child."""
    brief, round_ = state["brief"], state["evolved"]
    try:
        child, reply = await evolver.evolve(context.chat, context.leaf, brief, state["row"], step, round_)
    except ReplyError:  # recorded by the call
        return {"evolved": round_ + 1, "ending": state.get("fallback")}
    made = {**_made("instruction", step, reply), "operator": evolver.operator(brief, round_), "from": state["row"].instruction}
    return {"row": child, "parent": state["row"], "evolved": round_ + 1, "lineage": [*state["lineage"], made]}


async def answer(state: State, context: Context, step: Step) -> State:
    row, reply = await answerer.answer(context.chat, context.leaf, state["brief"], state["row"], step, state["feedback"])
    lineage = [*(m for m in state["lineage"] if m["part"] != "answer"), _made("answer", step, reply)]
    return {"row": row, "cut_off": reply.cut_off, "answered": state["answered"] + 1, "votes": None, "lineage": lineage}  # type: ignore[typeddict-item]


async def check(state: State, context: Context, step: Step) -> State:
    """The gates on the answer."""
    verdict = await _judged("check", state, context, step)
    return {"ending": _ending("check", verdict)} if verdict else {}


async def criticise(state: State, context: Context, step: Step) -> State:
    return {"critique": await critic.criticise(context.chat, context.leaf, state["brief"], state["row"], step)}


async def agree(state: State, context: Context, step: Step) -> State:
    """The gates on the votes and the critique. What they refuse is revised while rounds are left."""
    verdict = await _judged("agree", state, context, step)
    critique = state.get("critique")
    if verdict is None:
        return {"goto": "score"}
    if verdict.decision == "reject" and verdict.code not in HOLD and critique and state["revised"] < context.flow.revise_rounds:
        return {"goto": "answer", "revised": state["revised"] + 1, "feedback": critique.reason}
    return {"ending": _ending("agree", verdict, hold=verdict.code in HOLD)}


async def score(state: State, context: Context, step: Step) -> State:
    """The gates on the finished row. Too easy goes back to be evolved, misaligned to be answered anew, as often as `flow` allows."""
    verdict = await _judged("score", state, context, step)
    if verdict is None:
        return {"goto": "admit"}
    ending, back = _ending("score", verdict), SEND_BACK.get(verdict.code)
    if back is None or state["returned"] >= context.flow.score_returns:
        return {"ending": ending}
    feedback = MISALIGNED[state["row"].language] if back == "answer" else ""
    return {"goto": back, "returned": state["returned"] + 1, "feedback": feedback, "fallback": ending}


async def admit(state: State, context: Context, step: Step) -> State:
    """The serial reducer: of near-twins in flight at once, exactly one gets in."""
    ending = await context.admission.admit(state["brief"], _subject(state), {"made": state["lineage"]}, step)
    return {"ending": ending}


async def reject(state: State, context: Context, step: Step) -> State:
    """Decide what did not get in: rejected, errored or waiting; or left open for the next run. Its row is kept for those who look."""
    ending = state.get("ending") or Ending("errored", "graph", "no_ending", "the graph ended without a reason")
    await context.ledger.finish(state["brief"], ending, state["row"], {"made": state["lineage"]})
    return {"ending": ending}


def annotate(name: str) -> Work:
    """The node of one annotator."""

    async def vote(state: State, context: Context, step: Step) -> State:
        cast = await annotator.annotate(context.chat, name, context.leaf, state["brief"], state["row"], step)
        context.ledger.note_vote(step, cast)
        return {"votes": [cast]}

    return vote


def amend(name: str) -> Work:
    """The node of a role of the user's own."""

    async def rewrite(state: State, context: Context, step: Step) -> State:
        row, reply = await amender.amend(context.chat, name, context.leaf, state["brief"], state["row"], step)
        made = _made(reply.role.head.writes or "answer", step, reply)
        return {"row": row, "cut_off": state["cut_off"] or reply.cut_off, "lineage": [*state["lineage"], made]}

    return rewrite


# -- the wiring --------------------------------------------------------------------------------------------------------


def build(panel: Sequence[str], own: Mapping[str, Sequence[str]] | None = None) -> CompiledStateGraph[State, Context, State, State]:
    """Compile the graph: `panel` names the annotators, `own` the roles that come after write, evolve or answer."""
    after = {stage: list((own or {}).get(stage, ())) for stage in ("write", "evolve", "answer")}
    graph = StateGraph(State, context_schema=Context)
    for name, work in {"write": write, "evolve": evolve, "answer": answer, "criticise": criticise}.items():
        graph.add_node(name, _node(name, work))
    for name, work in {"screen": screen, "check": check, "agree": agree, "score": score, "admit": admit, "reject": reject}.items():
        graph.add_node(name, _node(name, work))
    for name in panel:
        graph.add_node(name, _node(name, annotate(name)))
    for names in after.values():
        for name in names:
            graph.add_node(name, _node(name, amend(name)))

    graph.add_edge(START, "write")
    for first, chain, last in (
        ("write", after["write"], "screen"),
        ("evolve", after["evolve"], "screen"),
        ("answer", after["answer"], "check"),
    ):
        _chain(graph, [first, *chain, last])
    graph.add_conditional_edges("screen", _to_goto, ["screen", "evolve", "answer", "reject"])
    graph.add_conditional_edges("check", _after_check(panel), [*panel, "reject"])
    for name in panel:
        graph.add_edge(name, "criticise")
    graph.add_conditional_edges("criticise", _unless_ended("agree"), ["agree", "reject"])
    graph.add_conditional_edges("agree", _to_goto, ["score", "answer", "reject"])
    graph.add_conditional_edges("score", _to_goto, ["admit", "evolve", "answer", "reject"])
    graph.add_edge("admit", END)
    graph.add_edge("reject", END)
    return graph.compile()


def studio() -> CompiledStateGraph[State, Context, State, State]:
    """The graph with the built-in roles, for LangGraph's own studio (see langgraph.json)."""
    from agents.role import BUILT_IN, Roles

    return build(Roles.load(BUILT_IN).at("annotate"))


def _chain(graph: StateGraph[State, Context, State, State], names: Sequence[str]) -> None:
    for here, there in pairwise(names):
        graph.add_conditional_edges(here, _unless_ended(there), [there, "reject"])


def _unless_ended(there: str) -> Callable[[State], str]:
    def route(state: State) -> str:
        return "reject" if state.get("ending") else there

    return route


def _after_check(panel: Sequence[str]) -> Callable[[State], list[str]]:
    def route(state: State) -> list[str]:
        return ["reject"] if state.get("ending") else list(panel)

    return route


def _to_goto(state: State) -> str:
    return "reject" if state.get("ending") else state["goto"]


# -- what all nodes share ----------------------------------------------------------------------------------------------


def _node(name: str, work: Work) -> Node:
    """Number the step, end the candidate when its leaf is full or the run halts, and turn a failed call into the state `errored`."""

    async def run(state: State, runtime: Runtime[Context]) -> State:
        context, brief = runtime.context, state["brief"]
        # Limits do not rename a step, so that its recorded calls are found again: rounds of answers and evolutions do.
        step = Step(brief.id, brief.leaf, state["seq"] + 1, f"{name}.{state['evolved']}.{state['answered']}")
        if name not in ("admit", "reject"):
            if context.admission.is_full(brief.leaf):
                return {
                    "seq": step.seq,
                    "ending": Ending("rejected", name, "quota_met", "the leaf was full before this candidate was done"),
                }
            if why := context.halted():
                return {"seq": step.seq, "ending": Ending("open", name, "halted", why)}
        try:
            return {"seq": step.seq, **await work(state, context, step)}
        except CallError as fault:
            return {"seq": step.seq, "ending": Ending("errored", name, fault.code, str(fault))}

    return run


async def _judged(stage: Stage, state: State, context: Context, step: Step, but: Collection[str] = ()) -> Verdict | None:
    """Ask the gates of a stage in order, `but` some; the first verdict that is not `accept`, or None."""
    subject = replace(_subject(state), facts={"stage": stage})
    gates = [gate for gate in context.gates.get(stage, ()) if gate.name not in but]
    return await refusal(gates, subject, partial(context.ledger.note_verdict, step))


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
