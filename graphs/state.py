"""What a candidate is on its way through its graph, what the nodes of a leaf work with, and what a node is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Protocol, TypedDict

from langgraph.runtime import Runtime
from langgraph.types import Command

from agents.chat import Chat
from agents.critic import Critique
from filters.gate import Gate, Stage
from filters.memory import Remembering
from graphs.admission import Admission
from leafmill.ledger import Ending, Ledger, Step
from leafmill.recipe import Flow
from leafmill.records import Brief, Mode, Row, Vote
from taxonomy import Leaf


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
    critique: Critique | None
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


Answering = Literal["answer", "use_tools", "vote"]


def answering(mode: Mode) -> Answering:
    """The node that answers candidates of this mode. Who sends one to be answered says "answer", and `node` finds the right one."""
    if mode.tools != "none":
        return "use_tools"
    return "vote" if mode.answers > 1 else "answer"


def start(brief: Brief) -> State:
    """The state in which a candidate enters its graph."""
    row = Row(language=brief.language, instruction="")
    counters: State = {"seq": 0, "evolved": 0, "answered": 0, "revised": 0, "returned": 0}
    told: State = {"feedback": "", "finding": "", "cut_off": False}
    return {**counters, **told, "brief": brief, "row": row, "parent": None, "votes": [], "lineage": []}
