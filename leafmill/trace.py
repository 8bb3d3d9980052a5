"""The trace of one candidate: every call, vote, verdict and decision of a person in the order in which they happened, read from the
ledger."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import sqlalchemy as sa
from pydantic import BaseModel

from leafmill.errors import InputError, RunFolderError, unknown
from leafmill.ledger import CALLS, CANDIDATES, REVIEWS, VERDICTS, VOTES, Ledger
from leafmill.records import AGAIN, State

LEAF = "leaf:"
"""what the calls of a leaf itself are told by, before its path"""


class Trace(BaseModel):
    """`candidate` is its ledger entry (brief, state, reason, row, lineage), empty for what a leaf asked; `events` are its calls, votes,
    verdicts and reviews by step."""

    candidate: dict[str, Any]
    events: list[dict[str, Any]]

    @property
    def tokens(self) -> int:
        return sum((event.get("prompt_tokens") or 0) + (event.get("completion_tokens") or 0) for event in self.events)


def read(ledger: Ledger, id_: str) -> Trace:
    """The trace of the candidate whose id is, or begins with, `id_`; or of `leaf#number`; or of what a leaf itself asked, `leaf:<path>`.
    Raises RunFolderError when there is none."""
    if id_.startswith(LEAF):
        if not (calls := calls_of(ledger, id_)):
            raise RunFolderError(f"{ledger.path}: the leaf {id_.removeprefix(LEAF)!r} has asked nothing by itself")
        return Trace(candidate={}, events=calls)
    leaf, _, number = id_.rpartition("#")
    same = (
        sa.and_(CANDIDATES.c.leaf == leaf, CANDIDATES.c.number == int(number))
        if leaf and number.isdigit()
        else sa.and_(CANDIDATES.c.id >= id_, CANDIDATES.c.id < f"{id_}\U0010ffff")  # which the index knows, unlike LIKE
    )
    found = ledger.rows(sa.select(CANDIDATES).where(same).limit(2))
    if len(found) != 1:
        problem = "no candidate has" if not found else "several candidates have"
        raise RunFolderError(f"{ledger.path}: {problem} the id {id_!r}; `leafmill candidates` lists them")
    events = [
        {"kind": kind, **row}
        for kind, table in (("call", CALLS), ("vote", VOTES), ("verdict", VERDICTS), ("review", REVIEWS))
        for row in ledger.rows(sa.select(table).where(table.c.candidate == found[0]["id"]).order_by(table.c.id))
    ]
    return Trace(candidate=found[0], events=sorted(events, key=lambda event: event["seq"]))


class Beside(NamedTuple):
    """The ids of candidates of the same leaf: that before it and that after it by number, that whose cell it takes anew, and that which
    takes its cell after it."""

    before: str | None
    after: str | None
    refills: str | None
    refilled_by: str | None


def beside(ledger: Ledger, leaf: str, number: int) -> Beside:
    """Who stands beside a candidate."""
    c = CANDIDATES.c

    def one(which: sa.ColumnElement[bool], *order: sa.ColumnElement[Any]) -> sa.ScalarSelect[Any]:
        return sa.select(c.id).where(c.leaf == leaf, which).order_by(*order).limit(1).scalar_subquery()

    near = one(c.number < number, c.number.desc()), one(c.number > number, c.number)
    of_cell = one(c.number == number - AGAIN), one(c.number == number + AGAIN)
    found = ledger.rows(sa.select(*(query.label(name) for name, query in zip(Beside._fields, (*near, *of_cell), strict=True))))
    return Beside(**found[0])


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
