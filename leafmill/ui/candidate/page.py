"""The page of one candidate: what it says, every step that made it, and why it ended as it did. Of "leaf:<path>" what a leaf itself asked.

What is long stands at addresses of its own, `.../text/<part>`: a part is `call-12.prompt`, `call-12.reply`, `row.answer`, `row.history.0`.
Prompts are fetched from there as they are unfolded; `?raw=1` gives every text as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import BaseModel, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from leafmill import export, trace
from leafmill.errors import RunFolderError
from leafmill.ledger import CALLS, Ledger
from leafmill.records import AGAIN, Mode, Row
from leafmill.ui.candidate import chain, judged, timeline
from leafmill.ui.candidate.chain import Change, Choice
from leafmill.ui.candidate.judged import Held, Judgement, Look, Neighbour
from leafmill.ui.candidate.timeline import Step
from leafmill.ui.library import Library
from leafmill.ui.page import page, wants_part
from leafmill.ui.text import RENDERED, SHOWN, storable

router = APIRouter(tags=["candidate"])


class Turn(BaseModel):
    """One message. `part` is its address behind `/text/`."""

    role: str
    part: str
    content: str
    calls: list[dict[str, Any]] = []
    reasoning: str = ""


class Head(BaseModel):
    """What a candidate was to be, and what became of it. `brief` has the rest."""

    id: str
    leaf: str
    title: dict[str, str]
    number: int
    cell: int
    attempt: int
    language: str
    state: str
    stage: str
    code: str
    detail: str
    mode: dict[str, Any]
    """how it is made, without what is as always"""
    begun_at: float
    ended_at: float | None
    previous: str | None
    """ids of candidates of its leaf: before and after it, and those that had or have its cell"""
    next: str | None
    refills: str | None
    refilled_by: str | None


class Asked(BaseModel):
    """A call of the leaf that came before its candidates."""

    id: int
    step: str
    role: str
    model: str
    status: str
    tokens: int
    seconds: float


class CandidateView(BaseModel):
    """The trace, as `leafmill trace --json` has it, and what can be read from it."""

    run: str
    id: str
    raw: bool
    """whether texts are wanted as they were written"""
    head: Head | None
    """None for what a leaf itself asked"""
    candidate: dict[str, Any]
    events: list[dict[str, Any]]
    calls: int
    tokens: int
    money: float | None
    """of the calls whose cost is known"""
    unpriced: int
    seconds: float
    turns: list[Turn]
    """the row as it stands"""
    tools: list[dict[str, Any]]
    steps: list[Step]
    changes: list[Change]
    choice: Choice | None
    looks: list[Look]
    judgements: list[Judgement]
    neighbours: list[Neighbour]
    held: list[Held]
    made: list[dict[str, Any]]
    exported: dict[str, Any] | None
    """the line of an export in the format `messages`; None where there is no row, or none of this version's shape"""
    leaf_calls: list[Asked]


class TextView(BaseModel):
    """One long text, or the messages of a prompt."""

    run: str
    id: str
    part: str
    raw: bool
    turns: list[Turn]


@router.get("/runs/{run}/candidates/{id:path}/text/{part}", response_model=TextView, summary="One text of a candidate, whole")
def text(request: Request, run: str, id: str, part: str, raw: bool = False) -> Response:
    """A part of a candidate's texts, whole."""
    with _ledger(request, run) as ledger:
        found = storable(trace.read(ledger, id).model_dump())
    view = TextView(run=run, id=id, part=part, raw=raw, turns=list(_part(found, part)))
    asked = wants_part(request)
    return page(request, "candidate_part.html" if asked else "candidate_text.html", view, most=SHOWN if asked else RENDERED)


@router.get("/runs/{run}/candidates/{id:path}", response_model=CandidateView, summary="A candidate: its trace, gates, votes and lineage")
def candidate(request: Request, run: str, id: str, raw: bool = False) -> Response:
    """One candidate: by its id or the beginning of it, or as leaf#number; or `leaf:<path>`."""
    library: Library = request.app.state.library
    with _ledger(request, run) as ledger:
        view = read(ledger, library, run, id, raw)
    return page(request, "candidate.html", view, part_address=_address(run, view.id))


def read(ledger: Ledger, library: Library, run: str, id_: str, raw: bool = False) -> CandidateView:
    """All that the page shows. Raises RunFolderError when there is no such candidate."""
    found = storable(trace.read(ledger, id_).model_dump())
    entry = found["candidate"]
    id_ = entry.get("id", id_)
    roles = ledger.meta("roles") or []
    events = timeline.told(found["events"], roles, lambda call: timeline.replay_command(run, library.runs, id_, call))
    nodes = {role.get("name"): role.get("node") for role in roles if role.get("name") and role.get("node")}
    calls = [event for event in events if event["kind"] == "call"]
    priced = [call["cost"] for call in calls if call["cost"] is not None]
    given, lineage = entry.get("row") or {}, entry.get("lineage") or {}
    row, made = _row(given), [one for one in lineage.get("made") or () if isinstance(one, dict)]
    turns = list(_turns(given))
    return CandidateView(
        run=run,
        id=id_,
        raw=raw,
        head=_head(ledger, entry) if entry else None,
        candidate=entry,
        events=events,
        calls=len(calls),
        tokens=sum((call["prompt_tokens"] or 0) + (call["completion_tokens"] or 0) for call in calls),
        money=sum(priced) if priced else None,
        unpriced=len(calls) - len(priced),
        seconds=sum(call["seconds"] for call in calls),
        turns=turns,
        tools=given.get("tools") or [],
        steps=timeline.steps(events, nodes),
        changes=chain.changes(row, lineage, events),
        choice=chain.choice(made, events, (ledger.meta("identity") or {}).get("seed"), row),
        looks=judged.looks(events),
        judgements=judged.judgements(events),
        neighbours=judged.neighbours(ledger, events, judged.first_instruction(given)),
        held=list(judged.held(events, [turn.content for turn in turns])),
        made=made,
        exported=export.messages(row, row.answer) if row else None,
        leaf_calls=_of_leaf(ledger, entry["leaf"]) if entry else [],
    )


def _ledger(request: Request, run: str) -> Ledger:
    library: Library = request.app.state.library
    return Ledger(library.folder(run).ledger, read_only=True)


def _address(run: str, id_: str) -> str:
    return f"/runs/{quote(run, safe='')}/candidates/{quote(id_, safe='')}"


def _head(ledger: Ledger, entry: Mapping[str, Any]) -> Head:
    leaf, number, always = entry["leaf"], entry["number"], Mode().model_dump(mode="json")
    title = ((ledger.meta("leaves") or {}).get(leaf) or {}).get("title") or {}
    mode = {name: value for name, value in (entry["brief"].get("mode") or {}).items() if value != always.get(name)}
    columns = {
        name: entry[name] for name in ("id", "leaf", "number", "language", "state", "stage", "code", "detail", "begun_at", "ended_at")
    }
    near = trace.beside(ledger, leaf, number)
    return Head(
        **columns,
        title=title,
        cell=number % AGAIN,
        attempt=number // AGAIN,
        mode=mode,
        previous=near.before,
        next=near.after,
        refills=near.refills,
        refilled_by=near.refilled_by,
    )


def _row(given: Mapping[str, Any]) -> Row | None:
    """The row; None where there is none, or one that another version wrote."""
    try:
        return Row.model_validate(given) if given else None
    except ValidationError:
        return None


def _turns(row: Mapping[str, Any]) -> Iterator[Turn]:
    """A row as it was said, whatever it lacks."""
    if not row:
        return
    yield from _said(row, "history")
    yield Turn(role="user", part="row.instruction", content=str(row.get("instruction") or ""))
    if row.get("input"):
        yield Turn(role="input", part="row.input", content=str(row["input"]))
    yield from _said(row, "steps")
    if row.get("answer") or row.get("reasoning"):
        reasoning = str(row.get("reasoning") or "")
        yield Turn(role="assistant", part="row.answer", content=str(row.get("answer") or ""), reasoning=reasoning)


def _said(row: Mapping[str, Any], name: str) -> Iterator[Turn]:
    for at, turn in enumerate(row.get(name) or ()):
        role, content = str(turn.get("role") or "?"), str(turn.get("content") or "")
        yield Turn(role=role, part=f"row.{name}.{at}", content=content, calls=turn.get("calls") or [])


def _part(found: Mapping[str, Any], part: str) -> Iterator[Turn]:
    """What stands at an address, or below it. Raises RunFolderError where nothing does."""
    row = found["candidate"].get("row") or {}
    thoughts = [Turn(role="reasoning", part="row.reasoning", content=str(row["reasoning"]))] if row.get("reasoning") else []
    said = [turn for event in found["events"] if event["kind"] == "call" for turn in _of_call(event)]
    wanted = [turn for turn in (*_turns(row), *thoughts, *said) if turn.part == part or turn.part.startswith(f"{part}.")]
    if not wanted:
        raise RunFolderError(f"this candidate has no text {part!r}: expected call-<number>.prompt, .reply or .reasoning, or row.<part>")
    yield from wanted


def _of_call(call: Mapping[str, Any]) -> Iterator[Turn]:
    """All texts of a call."""
    for at, message in enumerate(call["messages"]):
        yield Turn(role=str(message.get("role")), part=f"call-{call['id']}.prompt.{at}", content=str(message.get("content") or ""))
    for name in ("reply", "reasoning", "error"):
        yield Turn(role=name, part=f"call-{call['id']}.{name}", content=call[name])


def _of_leaf(ledger: Ledger, leaf: str) -> list[Asked]:
    c = CALLS.c
    tokens = sa.func.coalesce(c.prompt_tokens, 0) + sa.func.coalesce(c.completion_tokens, 0)
    asked = sa.select(c.id, c.step, c.role, c.model, c.status, c.seconds, tokens.label("tokens"))
    return [Asked(**call) for call in ledger.rows(asked.where(c.candidate == f"{trace.LEAF}{leaf}").order_by(c.seq, c.id))]
