"""The nouns that travel between the rooms of the house: Mode, Brief, Row, Verdict, Vote, Usage, and the states they end in.

They are frozen pydantic models, so they validate at the edges and serialise to the JSON that the ledger keeps. Everything that
can be computed from them (totals, ratios, why) is a property or a query, never a stored field.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
OTHER: Mapping[Language, Language] = {"en": "zh", "zh": "en"}
State = Literal["open", "accepted", "rejected", "errored", "waiting"]
Decision = Literal["accept", "reject", "unscorable", "error"]


class Record(BaseModel):
    """Base of all records: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Seed(Record):
    """A hand-written example of a leaf: instruction, optional input, output, and its language (None: fits any)."""

    instruction: str = Field(min_length=1)
    input: str = ""
    output: str = ""
    language: Language | None = None
    made: bool = False
    """an accepted row that is shown like a seed: a model wrote it"""


class Mode(Record):
    """How a candidate is made: a leaf's `settings: {mode: ...}` says it for all of its own, an axis value's `sets:` for those dealt it."""

    write: Literal["brief", "self_instruct", "rewrite", "document"] = "brief"
    """what its instruction is written from: the brief alone, seeds, a row of a data set, a passage of a document"""
    localised: bool = False
    """written in the other language first, then said again as a native would"""
    closed_book: bool = False
    """of what is written from a document: the passage is not in the row, and the question makes sense without it"""
    depth: Literal["direct", "cot", "deep"] = "direct"
    """how its answer is thought out: not at all, in steps that are kept apart from the answer, in a reasoning model's own field"""
    turns: int = Field(1, ge=1, le=8)
    """exchanges of the conversation"""
    topic_switch: bool = False
    """one of the later messages turns to another topic"""
    tools: Literal["none", "single", "parallel", "multi_step", "missing_tool", "missing_parameter"] = "none"
    """which calls of tools its answer takes; missing: it must decline or ask instead"""
    answers: int = Field(1, ge=1, le=16)
    """how many answers one is chosen of"""
    composite: bool = False
    """one task that joins several things of the leaf: its brief names two or three concepts"""

    @property
    def chooses(self) -> bool:
        """Whether one of several answers is chosen; an answer that takes tools is made once."""
        return self.answers > 1 and self.tools == "none"

    @property
    def declines(self) -> bool:
        """Whether its right answer says what it cannot do, or asks back."""
        return self.tools in ("missing_tool", "missing_parameter")


class Source(Record):
    """What a candidate is written from: a row of a data set or a passage of a document. `name` and `place` say where it stands."""

    name: str
    place: str
    text: str
    """the passage, or the instruction of the row"""
    input: str = ""
    output: str = ""
    language: Language | None = None
    heading: str = ""
    """of a passage: the titles that it stands under, "Returns > Within 30 days" """


AGAIN = 1_000_000
"""between the numbers of two candidates that take one cell after each other"""


class Evolution(Record):
    """One evolution of an instruction: its operator, and the code by which its child was refused; "": it stands."""

    operator: str
    refused: str = ""


class Brief(Record):
    """The plan of one candidate, made before a token is spent.

    `number` counts the cells of the leaf's plan from 0; what takes a cell once more has a number that is AGAIN higher. `axes` holds one
    value per axis of the leaf. `scenario` is one of the planner's, or "" when the leaf has none. `id` is derived from (run seed, leaf,
    number), so equal runs have equal ids.
    """

    id: str
    leaf: str
    number: int = Field(ge=0)
    language: Language
    axes: dict[str, str] = {}
    concepts: tuple[str, ...] = ()
    """what of the leaf's syllabus it is about; none when the leaf has no syllabus"""
    scenario: str = ""
    seeds: tuple[Seed, ...] = ()
    mode: Mode = Mode()
    source: Source | None = None
    persona: str = ""
    """who asks, where the taxonomy lists people"""

    @property
    def switch(self) -> int:
        """Which of the user's messages turns to another topic, never the first one; 0: none does."""
        later = self.mode.turns - 1
        return 2 + int(digest(self.id, "switch", length=8), 16) % later if self.mode.topic_switch and later else 0

    operators: dict[str, float] = {}
    """the share of the draws that each operator of the evolver has; none: all alike"""

    @property
    def cell(self) -> int:
        """Which cell of the leaf's plan it takes."""
        return self.number % AGAIN

    @property
    def attempt(self) -> int:
        """How many candidates have taken the cell before it."""
        return self.number // AGAIN

    @property
    def refills(self) -> int | None:
        """The number of the candidate whose cell it takes anew; None for the first of a cell."""
        return self.number - AGAIN if self.attempt else None

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among the candidates of its leaf: by cell, and of one cell by attempt."""
        return self.cell, self.attempt

    @property
    def written_in(self) -> Language:
        """The language that its instruction is written in first."""
        return OTHER[self.language] if self.mode.localised else self.language


class ToolCall(Record):
    """What an assistant asks a tool for; `id` is what the tool's message is told by."""

    id: str
    name: str
    arguments: dict[str, Any] = {}


class Turn(Record):
    """A message of a conversation before its last exchange. A tool's message is what it returned."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str
    calls: tuple[ToolCall, ...] = ()
    """of an assistant: the tools that it calls"""
    answers: str = ""
    """of a tool: the id of the call that it answers"""

    @property
    def text(self) -> str:
        """What it says, and which tools it calls."""
        called = [json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False) for call in self.calls]
        return "\n".join([*([self.content] if self.content else []), *called])

    @property
    def plain(self) -> dict[str, str]:
        """As a chat message of text alone, for what knows no calls."""
        return {"role": self.role, "content": self.text}

    def message(self, names: Mapping[str, str]) -> dict[str, Any]:
        """As a chat message. `names`: of the tools, by the id of the call."""
        said: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.calls:
            functions = ((call.id, {"name": call.name, "arguments": call.arguments}) for call in self.calls)
            said["tool_calls"] = [{"id": id_, "type": "function", "function": function} for id_, function in functions]
        if self.answers in names:
            said["name"] = names[self.answers]
        return {**said, "tool_call_id": self.answers} if self.answers else said


class Row(Record):
    """What a candidate says so far: the text that would go into the dataset. Only writer, evolver and answerer write here.

    A row is a conversation: what was said before (`history`), the last message of the user (`instruction`, perhaps with `input`),
    and the last message of the assistant (`answer`).
    """

    language: Language
    instruction: str
    input: str = ""
    answer: str = ""
    reasoning: str = ""
    history: tuple[Turn, ...] = ()
    steps: tuple[Turn, ...] = ()
    """between the last message of the user and the answer: what the assistant called, and what its tools returned"""
    tools: tuple[dict[str, Any], ...] = ()
    """the tools that the assistant may call: name, description, parameters (JSON Schema)"""

    @property
    def prompt(self) -> str:
        """Instruction and input as one user message."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction

    @property
    def opening(self) -> str:
        """The user's first message."""
        return next((turn.content for turn in self.history if turn.role == "user"), self.prompt)

    @property
    def exchanges(self) -> int:
        """How often the user has spoken."""
        return 1 + sum(turn.role == "user" for turn in self.history)

    @property
    def first_instruction(self) -> str:
        """What a conversation began with, without the input of a single exchange."""
        return self.opening if self.history else self.instruction

    @property
    def asked(self) -> tuple[Turn, ...]:
        """All that stands before the answer: the last message of the user and the steps are in it."""
        return (*self.history, Turn(role="user", content=self.prompt), *self.steps)

    @property
    def told(self) -> tuple[Turn, ...]:
        """All that the assistant knew when it answered: its tools, as a message of the system, stand before what was asked."""
        tools = json.dumps(self.tools, ensure_ascii=False)
        return (Turn(role="system", content=tools), *self.asked) if self.tools else self.asked

    @property
    def functions(self) -> list[dict[str, Any]]:
        """The tools as chat templates take them."""
        return [{"type": "function", "function": tool} for tool in self.tools]

    def messages(self) -> list[dict[str, Any]]:
        """All of it as chat messages; the arguments of a call are an object, as TRL and chat templates take them."""
        names = {call.id: call.name for turn in self.asked for call in turn.calls}
        return [turn.message(names) for turn in (*self.asked, Turn(role="assistant", content=self.answer))]


class Settled(Record):
    """What became of a candidate, as far as those that are planned much later may look back."""

    number: int
    state: State
    code: str
    row: Row | None = None
    """of one that was accepted"""
    made: tuple[dict[str, Any], ...] = ()
    """its lineage: what made each part of it"""
    evolutions: tuple[Evolution, ...] = ()


class Verdict(Record):
    """A gate's judgement of one candidate (the gate contract).

    Only `accept` moves on. `unscorable` means that the gate could not apply its measure (and why is the `code`); `error` means that
    the gate itself failed. `value` and `threshold` are in the gate's own unit. `evidence` names what the decision rests on: the id
    of the kept duplicate, the matched phrase, or stored parts of a score. `version` identifies the gate's rule and settings.
    """

    gate: str
    decision: Decision
    code: str
    value: float | None = None
    threshold: float | None = None
    evidence: dict[str, Any] = {}
    version: str = ""

    @property
    def sentence(self) -> str:
        """What was measured, against what, and on what evidence: "semantic: 0.93 against 0.9, kept=3f9a"."""
        value = "" if self.value is None else f"{self.value:.4g}"
        limit = "" if self.threshold is None else f"against {self.threshold:.4g}"
        measured = " ".join(part for part in (value, limit) if part)
        return f"{self.gate}: " + ", ".join(
            [*([measured] if measured else []), *(f"{k}={_plain(v)}" for k, v in self.evidence.items() if v is not None)]
        )


def _plain(found: Any) -> str:
    """Evidence as a person reads it."""
    if isinstance(found, Mapping):
        return f"({', '.join(f'{name} {_plain(value)}' for name, value in found.items())})"
    return str(found)


class Vote(Record):
    """One annotator's judgement. `score` is 1..5; None with a `failed` code when the annotator could not be heard."""

    role: str
    alias: str = ""
    """of the model that played it"""
    score: int | None = Field(default=None, ge=1, le=5)
    expected: float | None = Field(default=None, ge=1, le=5)
    """the mean of all scores that it might have written, where its server says how likely each was"""
    rationale: str = ""
    failed: str = ""
    answer_tokens: int | None = None
    """length of the answer that was judged"""

    @property
    def value(self) -> float | None:
        """What counts: the expected score where there is one, else the written one."""
        return self.score if self.expected is None else self.expected


Judged = Literal["accept", "reject", "edit"]


class Review(Record):
    """What a person decided of a candidate that waited for it."""

    candidate: str
    reviewer: str
    decision: Judged
    code: str = ""
    """why it is rejected: the last part of the candidate's code, `review.<code>`"""
    note: str = ""
    row: Row | None = None
    """of an edit: the row as it shall be"""
    at: float
    """seconds since the epoch"""

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> Review:
        """From the ledger's columns."""
        return cls.model_validate({name: columns[name] for name in cls.model_fields})


class Seat(NamedTuple):
    """A place on the panel: an annotator, and the alias of the model that plays it there; "" where variants have their own."""

    role: str
    alias: str
    name: str
    """what its calls are told by: the role where it is played by its own model, else role@alias"""


def seat_names(seats: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """What seats (role, alias) are called side by side: by the role, and with the model where several models play it."""
    known = list(dict.fromkeys(seats))
    players = Counter(role for role, _ in known)
    return {(role, alias): role if players[role] == 1 else f"{role}@{alias}" for role, alias in known}


class Usage(Record):
    """Tokens of one call as the server counted them; None where it did not say."""

    prompt: int | None = None
    completion: int | None = None
    cached: int | None = None
    reasoning: int | None = None

    @property
    def total(self) -> int:
        return (self.prompt or 0) + (self.completion or 0)


def digest(*parts: Any, length: int = 16) -> str:
    """A stable hex id of JSON-able parts: the same parts give the same id in every process."""
    text = json.dumps(parts, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]
