"""The contract of all gates: what they are asked, how they answer, and what becomes of a gate that crashes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

from leafmill.errors import EndpointError, Halted, RunFolderError
from leafmill.records import Brief, Decision, Row, State, Verdict, Vote, digest

Stage = Literal["screen", "check", "agree", "score", "admit"]
"""Where a gate stands: `screen` sees the instruction, `check` the answer too, `agree` the votes, `score` the finished row,
`admit` runs once more inside the serial reducer, with nothing else in flight."""

ENDS: Mapping[Decision, State] = {"accept": "accepted", "reject": "rejected", "unscorable": "waiting", "error": "errored"}
"""The state in which a candidate ends by a gate's decision; what cannot be measured waits for a person."""


@dataclass(frozen=True)
class Subject:
    """What a gate is asked about: a row, and what is known of how it came to be."""

    id: str
    row: Row
    brief: Brief | None = None
    parent: Row | None = None
    """the row before the last evolution, if it was evolved"""
    rewritten: bool = True
    """whether it says its parent anew: an evolution in breadth writes another instruction"""
    votes: tuple[Vote, ...] = ()
    critic_score: int | None = None
    told: str = ""
    """what the critic told the answerer, whose words may not get into the answer"""
    cut_off: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> str:
        """What kind of task it is: of a candidate the branch of the taxonomy on which its leaf stands, of other rows what they say."""
        return self.brief.leaf.rpartition("/")[0] if self.brief else str(self.facts.get("task", ""))


class Gate(Protocol):
    """A filter. Implementations are frozen dataclasses; `name`, `stage` and `says` are class variables, the rest are settings."""

    @property
    def name(self) -> str: ...

    @property
    def stage(self) -> tuple[Stage, ...]: ...

    @property
    def says(self) -> str: ...

    async def __call__(self, subject: Subject) -> Verdict: ...


class Mended(NamedTuple):
    """A row as a gate would have it, and how often it changed what."""

    row: Row
    counts: Mapping[str, int]


@runtime_checkable
class Mending(Protocol):
    """A gate that accepts a row but not as it is. Once all gates of a door accept, the row goes on as it was mended."""

    def mend(self, row: Row) -> Mended: ...


def version(gate: Any) -> str:
    """Identifies a gate's rule and settings: `name@hash-of-settings`, over the fields with `repr=True`. Made once: they are frozen.

    A path counts by its name: where a folder lies changes no rule. A gate that reads a file has a field for what stands in it."""
    known: str | None = vars(gate).get("_version")
    if known is None:
        settings = {f.name: getattr(gate, f.name) for f in dataclasses.fields(gate) if f.repr}
        known = f"{gate.name}@{digest(type(gate).__qualname__, _plain(settings), length=8)}"
        object.__setattr__(gate, "_version", known)
    return known


def verdict(
    gate: Any, decision: Decision, code: str = "", *, value: float | None = None, threshold: float | None = None, **evidence: Any
) -> Verdict:
    """A verdict of `gate`. The code defaults to "ok" for accept and must be given otherwise."""
    if not code and decision != "accept":
        raise ValueError(f"gate {gate.name!r} must say why it decided {decision!r}")
    return Verdict(
        gate=gate.name, decision=decision, code=code or "ok", value=value, threshold=threshold, evidence=evidence, version=version(gate)
    )


async def judge(gate: Gate, subject: Subject) -> Verdict:
    """Ask one gate. A crash inside it is the state `error` with the exception's name, never a reject and never an accept.

    What stops a run (an endpoint that is down, a budget that is used up, a full disk) goes through.
    """
    try:
        return await gate(subject)
    except (EndpointError, Halted, RunFolderError):
        raise
    except Exception as fault:  # the boundary where a gate's bug becomes data, by the gate contract
        return verdict(gate, "error", f"{gate.name}_crashed", exception=type(fault).__name__, message=str(fault)[:500])


async def refusal(
    gates: Iterable[Gate], subject: Subject, note: Callable[[Verdict], None] = lambda verdict: None, seen: bool = False
) -> Verdict | None:
    """Ask gates in their order until one does not accept; that verdict, or None when all do. Each verdict is noted. `seen`: a person has
    judged the row, so what a gate cannot measure does not count."""
    for gate in gates:
        given = await judge(gate, subject)
        note(given)
        if given.decision != "accept" and not (seen and given.decision == "unscorable"):
            return given
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return value.name
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(v) for v in (sorted(value) if isinstance(value, (set, frozenset)) else value)]
    return value if isinstance(value, (str, int, float, bool, type(None))) else repr(value)
