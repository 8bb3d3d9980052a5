"""What a candidate is on its way through its graph, what the nodes of a leaf work with, and what a node is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, Protocol, TypedDict

from langgraph.runtime import Runtime
from langgraph.types import Command

from agents.chat import Chat
from agents.critic import Critique
from agents.python_role import PythonRole
from agents.tool_writer import Toolbox
from filters.gate import Gate, Stage
from filters.memory import Remembering
from filters.scoring.reward import Rewarding
from graphs.admission import Admission
from leafmill.ledger import Ending, Ledger, Step
from leafmill.recipe import Answers, Flow
from leafmill.records import Brief, Mode, Review, Row, Seat, Vote
from taxonomy import Leaf
from taxonomy.tools import ToolTask


@dataclass(frozen=True)
class Evolved:
    """An evolution of a candidate: its operator, and the row and lineage before it."""

    operator: str
    parent: Row
    made: Sequence[dict[str, Any]]
    refused: str = ""
    """the code by which the child gave way to its parent; "": it stands"""


@dataclass(frozen=True)
class Earlier:
    """An answer that another may take the place of, what was said of it, and how the candidate ends if none is better."""

    row: Row
    votes: Sequence[Vote]
    critique: Critique | None
    cut_off: bool
    made: Sequence[dict[str, Any]]
    ending: Ending
    feedback: str
    """what the answerer is told"""
    told: str
    """the critic's own words in it"""
    must_rise: bool
    """the panel's score; else it may not fall, for it was not the panel that found fault"""


class State(TypedDict, total=False):
    """What a candidate is so far. `seq` counts the steps taken; the other counters bound the loops."""

    brief: Brief
    row: Row
    evolutions: list[Evolved]
    eliminated: Row | None
    """the child whose answer was eliminated: its parent is answered instead, and that once"""
    seq: int
    evolved: int
    answered: int
    revised: int
    returned: int
    votes: list[Vote]
    critique: Critique | None
    earlier: Earlier | None
    """the answer that is being revised"""
    revisions: list[dict[str, Any]]
    """what became of each try to revise"""
    feedback: str
    finding: str
    """what the score gate found, while the critic has yet to look at it"""
    cut_off: bool
    tool_task: ToolTask | None
    """what a candidate whose answer takes tools is about"""
    tool_rounds: int
    """replies of the tool-user so far, on the way to one answer"""
    tool_problem: str
    """what was wrong with the calls of its last reply"""
    closed: str
    """why a conversation ended before it had the exchanges that its brief asks for"""
    lineage: list[dict[str, Any]]
    review: Review | None
    """what a person decided when it waited for one"""
    awaited: bool
    """it was decided by a person already, and is carried to where it waited once more: whether its leaf is full does not matter"""
    seen: bool
    """a person has judged the row with its answer: what cannot be measured no longer holds it up"""
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
    panel: Sequence[Seat]
    """the annotators, each with each of its models"""
    gates: Mapping[Stage, Sequence[Gate]]
    admission: Admission
    flow: Flow
    seed: int = 0
    """the run's, by which mock tools make up what they give"""
    python: Mapping[str, PythonRole] = field(default_factory=dict)
    """the roles that are no prompt files, by name"""
    answers: Answers = field(default_factory=Answers)
    """how one of several answers is chosen"""
    reward: Rewarding | None = None
    """who scores answers, where they are chosen by reward"""
    halted: Callable[[], str | None] = lambda: None
    """why candidates under way should be left open where they stand (a budget is used up, a person interrupts), or None"""
    at_the_door: Callable[[Brief], None] = lambda brief: None
    """told of a candidate that has nothing left to do but to wait for its turn to be admitted"""

    @cached_property
    def toolbox(self) -> Toolbox:
        """The tools of the leaf."""
        return Toolbox(self.leaf, self.chat)

    @cached_property
    def memory(self) -> frozenset[str]:
        """The gates of `screen` that remember."""
        return frozenset(gate.name for gate in self.gates.get("screen", ()) if isinstance(gate, Remembering))


def standing(state: State) -> Evolved | None:
    """The last evolution that nothing has refused."""
    return next((one for one in reversed(state["evolutions"]) if not one.refused), None)


Work = Callable[[State, Context, Step], Awaitable[Update]]


class Node(Protocol):
    """A node as LangGraph calls it."""

    async def __call__(self, state: State, runtime: Runtime[Context]) -> Command[str]: ...


Answering = Literal["answer", "use_tools", "vote"]


def answering(mode: Mode) -> Answering:
    """The node that answers candidates of this mode. Who sends one to be answered says "answer", and `node` finds the right one."""
    if mode.tools != "none":
        return "use_tools"
    return "vote" if mode.chooses else "answer"


def goes_on(state: State) -> bool:
    """Whether a conversation has exchanges left."""
    return not state["closed"] and state["row"].exchanges < state["brief"].mode.turns


def start(brief: Brief) -> State:
    """The state in which a candidate enters its graph."""
    row = Row(language=brief.language, instruction="")
    counters: State = {"seq": 0, "evolved": 0, "answered": 0, "revised": 0, "returned": 0, "tool_rounds": 0}
    told: State = {"feedback": "", "finding": "", "cut_off": False, "closed": "", "tool_problem": ""}
    nothing: State = {"votes": [], "revisions": [], "lineage": []}
    return {**nothing, **counters, **told, "brief": brief, "row": row, "evolutions": [], "eliminated": None}
