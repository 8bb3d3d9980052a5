"""The nouns that travel between the rooms of the house: Mode, Brief, Row, Verdict, Vote, Usage, and the states they end in.

They are frozen pydantic models, so they validate at the edges and serialise to the JSON that the ledger keeps. Everything that
can be computed from them (totals, ratios, why) is a property or a query, never a stored field.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Language = Literal["en", "zh"]
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


class Mode(Record):
    """How a candidate is made: a leaf's `settings: {mode: ...}` says it for all of its own, an axis value's `sets:` for those dealt it."""

    write: Literal["brief", "self_instruct", "rewrite", "document"] = "brief"
    """what its instruction is written from: the brief alone, seeds, a row of a data set, a passage of a document"""
    localised: bool = False
    """written in the other language first, then said again as a native would"""
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


class Source(Record):
    """What a candidate is written from: a row of a data set or a passage of a document. `name` and `place` say where it stands."""

    name: str
    place: str
    text: str
    """the passage, or the instruction of the row"""
    input: str = ""
    output: str = ""


class Brief(Record):
    """The plan of one candidate, made before a token is spent.

    `number` counts a leaf's briefs from 0. `axes` holds one value per axis of the leaf. `scenario` is one of the planner's, or ""
    when the leaf has none. `id` is derived from (run seed, leaf, number), so equal runs have equal ids.
    """

    id: str
    leaf: str
    number: int = Field(ge=0)
    language: Language
    axes: dict[str, str] = {}
    scenario: str = ""
    seeds: tuple[Seed, ...] = ()
    mode: Mode = Mode()
    source: Source | None = None


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
    def asked(self) -> tuple[Turn, ...]:
        """All that stands before the answer: the last message of the user and the steps are in it."""
        return (*self.history, Turn(role="user", content=self.prompt), *self.steps)

    def messages(self) -> list[dict[str, str]]:
        return [turn.model_dump() for turn in (*self.asked, Turn(role="assistant", content=self.answer))]


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
            [*([measured] if measured else []), *(f"{k}={v}" for k, v in self.evidence.items() if v is not None)]
        )


class Vote(Record):
    """One annotator's judgement. `score` is 1..5; None with a `failed` code when the annotator could not be heard."""

    role: str
    alias: str = ""
    """of the model that played it"""
    score: int | None = Field(default=None, ge=1, le=5)
    rationale: str = ""
    failed: str = ""


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
