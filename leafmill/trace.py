"""The trace of one candidate: every call, vote and verdict in the order in which they happened, read from the ledger."""

from __future__ import annotations

from typing import Any, get_args

import sqlalchemy as sa
from pydantic import BaseModel

from leafmill.errors import InputError, RunFolderError, unknown
from leafmill.ledger import CALLS, CANDIDATES, VERDICTS, VOTES, Ledger
from leafmill.records import State


class Trace(BaseModel):
    """`candidate` is its ledger entry (brief, state, reason, row, lineage); `events` are its calls, votes and verdicts by step."""

    candidate: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def tokens(self) -> int:
        return sum((event.get("prompt_tokens") or 0) + (event.get("completion_tokens") or 0) for event in self.events)


def read(ledger: Ledger, id_: str) -> Trace:
    """The trace of the candidate whose id is, or begins with, `id_`; or of `leaf#number`. Raises RunFolderError when there is none."""
    leaf, _, number = id_.rpartition("#")
    same = (
        sa.and_(CANDIDATES.c.leaf == leaf, CANDIDATES.c.number == int(number))
        if leaf and number.isdigit()
        else CANDIDATES.c.id.startswith(id_, autoescape=True)
    )
    found = ledger.rows(sa.select(CANDIDATES).where(same).limit(2))
    if len(found) != 1:
        problem = "no candidate has" if not found else "several candidates have"
        raise RunFolderError(f"{ledger.path}: {problem} the id {id_!r}; `leafmill candidates` lists them")
    events = [
        {"kind": kind, **row}
        for kind, table in (("call", CALLS), ("vote", VOTES), ("verdict", VERDICTS))
        for row in ledger.rows(sa.select(table).where(table.c.candidate == found[0]["id"]).order_by(table.c.id))
    ]
    return Trace(candidate=found[0], events=sorted(events, key=lambda event: event["seq"]))


def calls_of(ledger: Ledger, candidate: str) -> list[dict[str, Any]]:
    """The calls of a candidate, or of "leaf:<path>" what a leaf itself asked, in their order."""
    asked = sa.select(CALLS).where(CALLS.c.candidate == candidate).order_by(CALLS.c.seq, CALLS.c.id)
    return [{"kind": "call", **row} for row in ledger.rows(asked)]


def listing(ledger: Ledger, *, leaf: str = "*", state: str = "", code: str = "", limit: int = 50) -> list[dict[str, Any]]:
    """Candidates by leaf (a glob), state and reason, in the order of their numbers. Raises InputError for a state that is none."""
    if state and state not in get_args(State):
        raise InputError(unknown("state", state, get_args(State)))
    c = CANDIDATES.c
    query = sa.select(c.id, c.leaf, c.number, c.state, c.stage, c.code, c.row).where(c.leaf.op("GLOB")(leaf))
    if state:
        query = query.where(c.state == state)
    if code:
        query = query.where(c.code == code)
    found = ledger.rows(query.order_by(c.leaf, c.number).limit(limit))
    return [{**row, "row": _first_line(row["row"])} for row in found]


def sample(ledger: Ledger, number: int, leaf: str = "*") -> list[dict[str, Any]]:
    """Accepted rows, one from each leaf in turn until there are `number`."""
    c = CANDIDATES.c
    rank = sa.func.row_number().over(partition_by=c.leaf, order_by=c.number)
    query = sa.select(c.id, c.leaf, c.row).where(c.state == "accepted", c.leaf.op("GLOB")(leaf)).order_by(rank, c.leaf).limit(number)
    return ledger.rows(query)


def _first_line(row: dict[str, Any] | None) -> str:
    """Of what the user says first."""
    said = [*((row or {}).get("history") or ()), {"role": "user", "content": (row or {}).get("instruction", "")}]
    text = str(next(turn["content"] for turn in said if turn["role"] == "user")).strip().split("\n")[0]
    return text if len(text) <= 80 else text[:77] + "..."
