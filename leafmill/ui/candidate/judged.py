"""What was thought of a candidate: the panel's looks at it, the gates' values, the candidates that it is near, what test sets it holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median, pstdev
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel

from filters.agreement import ARBITER
from leafmill.ledger import CANDIDATES, Ledger
from leafmill.records import seat_names
from leafmill.ui.candidate.timeline import Event
from leafmill.ui.diff import Piece, diff

AGREEMENT = "agreement"
"""the gate on the panel's votes"""
NEAR = ("kept", "nearest")
"""what gates call the id of a neighbour"""
NEIGHBOURS = 3
"""that are shown"""


class Seat(BaseModel):
    """One vote. `value` is what counts: the expected score where there is one, else the written one."""

    name: str
    role: str
    score: int | None
    expected: float | None
    value: float | None
    rationale: str
    failed: str


class Look(BaseModel):
    """The panel's votes on one state of a row, and what came of them."""

    seq: int
    seats: list[Seat]
    median: float | None
    spread: float | None
    """standard deviation"""
    arbiter: Seat | None = None
    decision: str = ""
    code: str = ""


class Gauge(BaseModel):
    """A value and its threshold on a scale from 0 to 100; `band` where a value has to lie between two."""

    value: float
    threshold: float | None
    band: tuple[float, float] | None
    low: float
    high: float


class Judgement(BaseModel):
    """One verdict. `at` is its place in the trace's events."""

    at: int
    gauge: Gauge | None


class Neighbour(BaseModel):
    """What a gate found a row near to. Of a seed only the name is known."""

    gate: str
    id: str
    refused: bool
    view: str
    similarity: float | None
    threshold: float | None
    leaf: str = ""
    number: int | None = None
    state: str = ""
    row: dict[str, Any] | None = None
    """None where it is no candidate of this run (any more)"""
    diff: list[Piece] = []
    """from its instruction to that of the candidate"""


class Held(BaseModel):
    """A piece of a test set that a row holds: `before` and `after` are what stands around it in the row."""

    set: str
    item: str
    part: str
    text: str
    before: str = ""
    after: str = ""


def looks(events: Sequence[Event]) -> list[Look]:
    """Every look of the panel. The arbiter's vote belongs to the look before it."""
    found: list[Look] = []
    votes = [event for event in events if event["kind"] == "vote"]
    for seq in dict.fromkeys(vote["seq"] for vote in votes):
        now = [vote for vote in votes if vote["seq"] == seq]
        names = seat_names((vote["role"], vote["alias"]) for vote in now)
        seats = [_seat(vote, names[vote["role"], vote["alias"]]) for vote in now]
        if found and {seat.role for seat in seats} == {ARBITER}:
            found[-1].arbiter = seats[0]
            continue
        heard = [seat.value for seat in seats if seat.value is not None]
        found.append(Look(seq=seq, seats=seats, median=median(heard) if heard else None, spread=pstdev(heard) if heard else None))
    for event in events:
        looked = [look for look in found if look.seq < event["seq"]]
        if looked and event["kind"] == "verdict" and event["gate"] == AGREEMENT:
            looked[-1].decision, looked[-1].code = event["decision"], event["code"]
    return found


def judgements(events: Sequence[Event]) -> list[Judgement]:
    """All verdicts in their order."""
    return [Judgement(at=at, gauge=_gauge(event)) for at, event in enumerate(events) if event["kind"] == "verdict"]


def neighbours(ledger: Ledger, events: Sequence[Event], instruction: str) -> list[Neighbour]:
    """The last of each id and gate, those on which the row was refused first."""
    named: dict[tuple[str, str], Neighbour] = {}
    for event in events:
        if event["kind"] == "verdict" and (id_ := _near(event["evidence"])):
            likeness = event["evidence"].get("similarity", event["value"])
            told = {"view": str(event["evidence"].get("view", "")), "similarity": likeness, "threshold": event["threshold"]}
            named[event["gate"], id_] = Neighbour(gate=event["gate"], id=id_, refused=event["decision"] != "accept", **told)
    found = sorted(named.values(), key=lambda one: (not one.refused, -(one.similarity or 0)))[:NEIGHBOURS]
    c = CANDIDATES.c
    of = sa.select(c.id, c.leaf, c.number, c.state, c.row).where(c.id.in_({one.id for one in found}))
    known = {row.pop("id"): row for row in ledger.rows(of)} if found else {}
    return [_beside(one.model_copy(update=known.get(one.id, {})), instruction) for one in found]


def held(events: Sequence[Event], texts: Sequence[str]) -> Iterator[Held]:
    """What the last verdict on test sets says is in the row, each piece within one of its texts."""
    last = next((event for event in reversed(events) if event["kind"] == "verdict" and event["evidence"].get("set")), None)
    if last is None:
        return
    about = {"set": str(last["evidence"]["set"]), "item": str(last["evidence"].get("item", ""))}
    spans = last["evidence"].get("spans") or [{"part": "", "text": str(last["evidence"].get("text", ""))}]
    for span in spans:
        piece = str(span.get("text", ""))
        around = next((text.partition(piece) for text in texts if piece and piece in text), ("", "", ""))
        yield Held(**about, part=str(span.get("part", "")), text=piece, before=around[0][-200:], after=around[2][:200])


def _seat(vote: Event, name: str) -> Seat:
    value = vote["score"] if vote["expected"] is None else vote["expected"]
    columns = {key: vote[key] for key in ("role", "score", "expected", "rationale", "failed")}
    return Seat(name=name, value=value, **columns)


def _near(evidence: dict[str, Any]) -> str | None:
    return next((str(evidence[name]) for name in NEAR if evidence.get(name)), None)


def _beside(one: Neighbour, instruction: str) -> Neighbour:
    return one.model_copy(update={"diff": diff(first_instruction(one.row), instruction)}) if one.row else one


def first_instruction(row: dict[str, Any]) -> str:
    """What the user of a row says first; the row may be of another version than this one's."""
    said = [turn.get("content") for turn in row.get("history") or () if turn.get("role") == "user"]
    return str(said[0] if said else row.get("instruction") or "")


def _gauge(verdict: Event) -> Gauge | None:
    """None where there is nothing to hold a value against."""
    value, limit, band = verdict["value"], verdict["threshold"], verdict["evidence"].get("band")
    ends = [end for end in band if isinstance(end, int | float)] if isinstance(band, list) else []
    marks = [*([] if limit is None else [limit]), *(ends if len(ends) == 2 else [])]
    if value is None or not marks:
        return None
    low, high = min(0.0, value, *marks), max(value, *marks)
    room = (high - low) * 1.15 or 1.0
    place = [round(100 * (one - low) / room, 2) for one in (value, *ends)] if len(ends) == 2 else [round(100 * (value - low) / room, 2)]
    at = None if limit is None else round(100 * (limit - low) / room, 2)
    return Gauge(value=place[0], threshold=at, band=(place[1], place[2]) if len(place) == 3 else None, low=low, high=low + room)
