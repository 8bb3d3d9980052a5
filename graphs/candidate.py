"""The state machine of one candidate, from its brief to its end.

    write =screen=> evolve =screen=> compare -> ANSWER =check=> annotate -> criticise =agree=> score -> admit
                     ^ ^                |        ^ ^            (panel)      ^   |              | |
                     | '- 0..r rounds --'        | '- revise (0..r rounds) --|---'              | |
                     |                           '- misaligned --------------'------------------' |
                     '------------------------------- too easy -----------------------------------'

    ANSWER            answer
                or    use_tools -> call_tools -> use_tools ...         until it calls no more tools but answers
                or    vote                                             several at once, of which one is chosen, or none
        =check=>      follow_up =screen=> ANSWER                       while a conversation has exchanges left
    criticise =agree=> arbitrate =agree=>                              where the panel is divided
    (any door)         wait -> review                                  for a person: and on from behind that door, or to `reject`

An arrow with a name is an agent's door: what it made passes the gates of that stage before it goes on. Any gate, and any failed call, ends
a candidate: `reject` decides what did not get in.

Roles of the user's own (`after: answer`) stand behind write, evolve or answer. Every loop has its counter in the state and its bound
in the recipe's `flow`. A call that fails ends the candidate `errored`, a gate that refuses ends it `rejected`. A gate that cannot
measure, a panel that is split, or the recipe's `review:` rule leaves it `waiting` at `review`, which is LangGraph's `interrupt`. Always
with the stage, a code and a sentence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphs.state import Answering, Context, State, Work, answering, start
from graphs.steps.amend import amend
from graphs.steps.answer import answer
from graphs.steps.doors import check, screen
from graphs.steps.end import admit, reject, score
from graphs.steps.evolve import compare, evolve
from graphs.steps.follow_up import follow_up
from graphs.steps.judge import agree, annotate, arbitrate, criticise
from graphs.steps.node import gated, node
from graphs.steps.review import review, wait, whether
from graphs.steps.use_tools import call_tools, use_tools
from graphs.steps.vote import vote
from graphs.steps.write import write
from leafmill.records import Mode

__all__ = ["RECURSION_LIMIT", "Context", "Shape", "State", "build", "start", "studio"]

RECURSION_LIMIT = 1000
"""far above what the loops' own bounds allow: a guard against a bug in the routes"""
ANSWERING: Mapping[Answering, Work] = {"answer": answer, "use_tools": use_tools, "vote": vote}
"""The nodes that answer: each candidate is answered by that of its mode, every time."""
LOOPS: Mapping[str, tuple[str, ...]] = {"use_tools": ("call_tools", "use_tools")}
"""Where a node sends a candidate while its own work goes on."""


@dataclass(frozen=True)
class Shape:
    """Which nodes a leaf's graph has. Leaves of one shape share a compiled graph."""

    own: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """the user's roles that come after write, evolve or answer"""
    criticised: bool = True
    scored: bool = True
    """it has gates on the finished row"""
    arbitrated: bool = True
    """there is somebody to ask when the panel is divided"""
    answering: frozenset[Answering] = frozenset({"answer"})
    converses: bool = False
    """some of its candidates are conversations"""

    @classmethod
    def of(
        cls, modes: Iterable[Mode], own: Mapping[str, Sequence[str]], *, criticised: bool, scored: bool, arbitrated: bool = True
    ) -> Shape:
        """The shape for candidates of these modes."""
        named = tuple((stage, tuple(names)) for stage, names in sorted(own.items()) if names)
        found = tuple(modes)
        nodes = frozenset(answering(mode) for mode in found)
        return cls(named, criticised, scored, arbitrated, nodes, converses=any(mode.turns > 1 for mode in found))


WHOLE = Shape(answering=frozenset(ANSWERING), converses=True)


def build(shape: Shape = WHOLE) -> CompiledStateGraph[State, Context, State, State]:
    """Compile the graph of a shape."""
    own = dict(shape.own)
    graph = StateGraph(State, context_schema=Context)

    def add(name: str, work: Work, then: str, *instead: str) -> None:
        """A node, what comes after it, and where else it may send a candidate; any may end it. `answer` is whichever node answers it."""
        wanted = [place for one in (then, *instead, "reject", "wait") for place in (sorted(shape.answering) if one == "answer" else [one])]
        graph.add_node(name, node(name, work, then), destinations=tuple(dict.fromkeys(wanted)))

    def chain(stage: str, works: Mapping[str, Work], door: str, gates: Work, then: str, *instead: str) -> None:
        """The nodes of a stage, of which a candidate takes one, and behind them the user's own roles; at the door of the last stand the
        gates."""
        names = own.get(stage, ())
        for name, work in works.items():
            if names:
                add(name, work, names[0], *LOOPS.get(name, ()))
            else:
                add(name, gated(work, door, gates), then, *instead, *LOOPS.get(name, ()))
        for here, there in pairwise(names):
            add(here, amend(here), there)
        if names:
            add(names[-1], gated(amend(names[-1]), door, gates), then, *instead)

    graph.add_edge(START, "write")
    chain("write", {"write": write}, "screen", screen, "answer", "evolve")
    chain("evolve", {"evolve": evolve}, "screen", partial(screen, compared=True), "answer", "evolve", "compare")
    add("compare", compare, "answer", "evolve")
    talk = ["follow_up"] if shape.converses else []
    chain("answer", {name: ANSWERING[name] for name in sorted(shape.answering)}, "check", check, "annotate", *talk)
    if "use_tools" in shape.answering:
        add("call_tools", call_tools, "use_tools")
    if shape.converses:
        add("follow_up", follow_up, "answer", "annotate")
    if shape.criticised:
        add("annotate", annotate, "criticise")
    last, work = ("criticise", criticise) if shape.criticised else ("annotate", annotate)
    then = "score" if shape.scored else "admit"
    add(last, gated(work, "agree", agree), then, "answer", *(["arbitrate"] if shape.arbitrated else []))
    if shape.arbitrated:
        add("arbitrate", gated(arbitrate, "agree", agree), then, "answer")
    if shape.scored:
        add("score", partial(score, criticised=shape.criticised), "admit", "evolve", "criticise" if shape.criticised else "answer")
    add("admit", admit, END)
    graph.add_node("wait", node("wait", wait, END))
    graph.add_conditional_edges("wait", whether, ["review", "reject"])
    others = ("evolve", "answer", "follow_up") if shape.converses else ("evolve", "answer")
    add("review", partial(review, settled=then), then, "annotate", *dict.fromkeys(("admit", *others)))
    graph.add_node("reject", node("reject", reject, END))
    graph.add_edge("reject", END)
    return graph.compile()


def studio() -> CompiledStateGraph[State, Context, State, State]:
    """The graph with the built-in roles, for LangGraph's own studio (see langgraph.json)."""
    return build()
