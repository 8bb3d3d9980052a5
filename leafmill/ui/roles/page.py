"""The roles of a run, and each by itself: its prompt file, what was really sent for it in a leaf, its place in the graph, its figures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Query
from markupsafe import Markup
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from leafmill.errors import InputError, RunFolderError, unknown
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.ui import numbers, words
from leafmill.ui.candidates.asked import indexed
from leafmill.ui.page import page
from leafmill.ui.roles import cast, drawing
from leafmill.ui.roles.cast import Role, RoleFile
from leafmill.ui.roles.drawing import Graph, Note
from leafmill.ui.run import spending
from leafmill.ui.run.spending import Took
from leafmill.ui.words import phrase

REASONS = 12
"""of refusal that are shown"""
ENDS = {
    "admit": ("accepted", phrase("{n} accepted")),
    "reject": ("rejected", phrase("{n} rejected")),
    "review": ("waiting", phrase("{n} waiting")),
}
"""nodes at which candidates end, and in which state"""

router = APIRouter(tags=["roles"])


class Roles(BaseModel):
    """Everybody who works in a run."""

    run: str
    leaf: str
    """"": all of them together"""
    leaves: list[str]
    graph: Graph
    ended: dict[str, int]
    """candidates by state"""
    roles: list[Role]
    indexed: float
    """the share of the ledger that all this is of: less than 1 while the index of the run is being made"""


class Message(BaseModel):
    role: str
    content: str


class Rendered(BaseModel):
    """One call as it was sent, and what came back."""

    call: int
    leaf: str
    candidate: str
    """"": it was not asked for a candidate"""
    seq: int
    step: str
    variant: str
    prompt: str
    """the hash of the file that it was rendered from"""
    model: str
    status: str
    error: str
    started_at: float
    messages: list[Message]
    reply: str
    older: int | None
    """the call of the same role before it"""
    newer: int | None


class Reason(BaseModel):
    """Why candidates were refused in which the role worked."""

    stage: str
    code: str
    count: int
    query: str


class AskedIn(BaseModel):
    leaf: str
    calls: int


class Section(BaseModel):
    """A part of a prompt file."""

    kind: Literal["head", "system", "user", "file"]
    """the contract, one of the two messages; `file`: all of a file that has no such parts"""
    text: str


class RoleView(BaseModel):
    """One role."""

    run: str
    leaf: str
    leaves: list[AskedIn]
    graph: Graph
    ended: dict[str, int]
    role: Role
    variant: str
    """whose file is shown"""
    variant_chosen: bool
    file: RoleFile | None
    sections: list[Section]
    """of the prompt file; none when it is not in the run's folder"""
    rendered: Rendered | None
    elsewhere: bool
    """the leaf has no call of it: what is shown is of another one"""
    reasons: list[Reason]
    took: list[Took]
    """by model, over all leaves"""
    indexed: float
    """the share of the ledger that all this is of: less than 1 while the index of the run is being made"""


@router.get("/runs/{run}/roles", response_model=Roles, summary="The roles of a run, their places in the graph and their figures")
def roles(request: Request, run: str, leaf: Annotated[str, Query(description="one leaf; otherwise all")] = "") -> Response:
    index = request.app.state.library.index(run)
    leaves = cast.leaves(index)
    _check(leaf, leaves)
    view = Roles(
        run=run,
        leaf=leaf,
        leaves=leaves,
        graph=cast.graph(index, leaf),
        ended=_ended(index, leaf),
        roles=cast.roles(index, leaf),
        indexed=indexed(index),
    )
    return page(request, "roles.html", view, draw=_drawer(request, run, leaf, view.graph, view.roles, view.ended))


@router.get(
    "/runs/{run}/roles/{role}", response_model=RoleView, summary="One role: prompt file, what was sent, place in the graph, figures"
)
def role(
    request: Request,
    run: str,
    role: str,
    leaf: Annotated[str, Query(description="the leaf to show it at work in; otherwise the one where it worked last")] = "",
    variant: Annotated[str, Query(description="one of its prompt files; otherwise the one that was used last")] = "",
    language: Annotated[str, Query(description="of the prompt file, where no variant is given")] = "",
    call: Annotated[int | None, Query(description="the id of one call of it")] = None,
) -> Response:
    index = request.app.state.library.index(run)
    everybody = {one.name: one for one in cast.roles(index, leaf)}
    if role not in everybody:
        raise RunFolderError(f"run {run!r}: {unknown('role', role, everybody)}")
    found = everybody[role]
    asked = _asked_in(index, role)
    _check(leaf, [one.leaf for one in asked])
    variants = {one.variant: one for one in found.variants}
    if variant and variant not in variants:
        raise InputError(unknown(f"variant of the role {role!r}", variant, variants))
    wanted = variant or next((one.variant for one in found.variants if language and one.file and language in one.file.language), "")
    shown = call if call is not None else _last(index, role, wanted, leaf)
    elsewhere = shown is None and bool(leaf)
    if elsewhere:
        shown = _last(index, role, wanted, "")
    rendered = _rendered(index, role, wanted, "" if elsewhere else leaf, shown) if shown is not None else None
    now = wanted or (rendered.variant if rendered else next(iter(variants), ""))
    file = variants[now].file if now in variants else None
    view = RoleView(
        run=run,
        leaf=leaf,
        leaves=asked,
        graph=cast.graph(index, leaf),
        ended=_ended(index, leaf),
        role=found,
        variant=now,
        variant_chosen=bool(wanted),
        file=file,
        sections=_sections(index, file),
        rendered=rendered,
        elsewhere=elsewhere,
        reasons=_reasons(index, role, variant, leaf),
        took=[one for one in spending.read(index).latencies if one.role == role],
        indexed=indexed(index),
    )
    draw = _drawer(request, run, leaf, view.graph, [*everybody.values()], view.ended, found.nodes)
    return page(request, "role.html", view, draw=draw, here=_address(run, role))


def _check(leaf: str, leaves: list[str]) -> None:
    if leaf and leaf not in leaves:
        raise InputError(unknown("leaf", leaf, leaves))


def _address(run: str, role: str) -> Callable[..., str]:
    """The address of a role's page, with what is asked of it."""

    def of(**asked: object) -> str:
        given = urlencode({key: value for key, value in asked.items() if value not in ("", None)})
        return f"/runs/{quote(run, safe='')}/roles/{quote(role, safe='')}{'?' if given else ''}{given}"

    return of


def _drawer(
    request: Request, run: str, leaf: str, graph: Graph, everybody: list[Role], ended: Mapping[str, int], chosen: list[str] | None = None
) -> Callable[[], Markup]:
    """Draws the graph for the reader, once the page comes to it: who asks for JSON needs no picture."""
    say = words.speaking(words.language_of(request))
    return lambda: drawing.svg(graph, dict(_notes(run, leaf, graph, everybody, ended, say)), chosen or (), say=say)


def _notes(
    run: str, leaf: str, graph: Graph, everybody: list[Role], ended: Mapping[str, int], say: Callable[..., str]
) -> Iterator[tuple[str, Note]]:
    """What each node says: how often it asked, and how candidates fared. A node of one role leads to it, others to the table."""
    here = f"/runs/{quote(run, safe='')}/roles"
    for node in graph.nodes:
        if node in ENDS:
            state, told = ENDS[node]
            yield (
                node,
                Note(
                    say(told, n=numbers.short(ended.get(state, 0))),
                    f"/runs/{quote(run, safe='')}/candidates?{Filter().query(leaf=leaf, state=state)}",
                ),
            )
            continue
        there = [one for one in everybody if node in one.nodes]
        if not there:
            continue
        asked = [one for one in there if one.calls] or there
        calls = sum(one.calls for one in asked if one.nodes[0] == node)
        rates = {one.fared.rate for one in asked if one.fared and one.fared.tried}
        line = say("{n} calls", n=numbers.short(calls))
        if len(rates) == 1 and (rate := next(iter(rates))) is not None:
            line += f" · {numbers.share(rate)}"
        query = f"?{urlencode({'leaf': leaf})}" if leaf else ""
        href = f"{here}/{quote(asked[0].name, safe='')}{query}" if len(asked) == 1 else f"{here}{query}#{quote(f'node-{node}')}"
        yield node, Note("" if asked[0].python else line, href, ", ".join(one.name for one in asked))


def _ended(index: Index, leaf: str) -> dict[str, int]:
    where = "WHERE leaf = :leaf" if leaf else ""
    sql = f"SELECT state, count(*) AS n FROM candidates {where} GROUP BY 1"
    return index.once(("ended", leaf), lambda: {row["state"]: row["n"] for row in index.rows(sql, {"leaf": leaf})})


def _asked_in(index: Index, role: str) -> list[AskedIn]:
    """All leaves, with how often the role was asked in each."""
    rows = index.rows("SELECT leaf, sum(calls) AS calls FROM spent WHERE role = ? GROUP BY 1", (role,))
    calls = {row["leaf"]: row["calls"] for row in rows}
    return [AskedIn(leaf=leaf, calls=calls.get(leaf, 0)) for leaf in cast.leaves(index)]


def _reasons(index: Index, role: str, variant: str, leaf: str) -> list[Reason]:
    """Why those were refused in which it spoke, the most frequent first."""
    kind, value = ("variant", f"{role}.{variant}") if variant else ("role", role)
    sql = f"""SELECT c.stage, c.code, count(*) AS count FROM tags AS t CROSS JOIN candidates AS c ON c.n = t.n
        WHERE t.kind = :kind AND t.value = :value AND c.state = 'rejected' AND c.code <> 'quota_met' {"AND c.leaf = :leaf" if leaf else ""}
        GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT :most"""
    asked = {"kind": kind, "value": value, "leaf": leaf, "most": REASONS}
    rows = index.once(("reasons", role, variant, leaf), lambda: index.rows(sql, asked))
    found = Filter()
    return [
        Reason(**row, query=found.query(leaf=leaf, state="rejected", stage=row["stage"], code=row["code"], **{kind: value})) for row in rows
    ]


def _sections(index: Index, file: RoleFile | None) -> list[Section]:
    """What the prompt file in the run's folder says."""
    text = cast.text(index, file.file) if file else None
    if text is None:
        return []
    before, *parts = re.split(r"^---[ \t]*(?:\n|\Z)", text, flags=re.M)
    kinds: dict[int, tuple[Literal["head", "system", "user"], ...]] = {2: ("head", "user"), 3: ("head", "system", "user")}
    if before or len(parts) not in kinds:
        return [Section(kind="file", text=text)]
    return [Section(kind=kind, text=part) for kind, part in zip(kinds[len(parts)], parts, strict=True)]


# -- calls of a role ---------------------------------------------------------------------------------------------------


def _last(index: Index, role: str, variant: str, leaf: str) -> int | None:
    """The last call of a role (of one variant) in a leaf, or anywhere: of the candidate that was begun last."""
    for candidate in _candidates(index, role, variant, leaf):
        if found := _call(index, role, variant, candidate, "1", {}, "DESC"):
            return found
    return None


def _candidates(
    index: Index, role: str, variant: str, leaf: str, than: str = "1", values: Mapping[str, Any] | None = None
) -> Iterator[str]:
    """Those for whom a role was asked, the last one first; `than` narrows their numbers. Then what stands for a leaf itself, or for
    gold rows, which are no candidates."""
    tagged = {"kind": "variant", "value": f"{role}.{variant}"} if variant else {"kind": "role", "value": role}
    order = "ASC" if ">" in than else "DESC"
    if leaf:
        sql = f"""SELECT c.id FROM candidates AS c WHERE c.leaf = :leaf AND {than}
            AND EXISTS (SELECT 1 FROM tags AS t WHERE t.kind = :kind AND t.value = :value AND t.n = c.n) ORDER BY c.n {order} LIMIT 1"""
    else:
        sql = f"""SELECT c.id FROM tags AS t CROSS JOIN candidates AS c ON c.n = t.n WHERE t.kind = :kind AND t.value = :value AND {than}
            ORDER BY t.n {order} LIMIT 1"""
    yield from (row["id"] for row in index.rows(sql, {**tagged, "leaf": leaf, **(values or {})}))
    if than == "1":
        of_leaves = "SELECT DISTINCT leaf FROM spent WHERE role = :role AND (:leaf = '' OR leaf = :leaf)"
        for row in index.rows(of_leaves, {"role": role, "leaf": leaf}):
            yield f"leaf:{row['leaf']}"
            gold = "SELECT candidate FROM ledger.calls WHERE candidate > :first AND candidate < :last AND role = :role LIMIT 1"
            within = {"first": f"{row['leaf']}:", "last": f"{row['leaf']};", "role": role}
            yield from (found["candidate"] for found in index.rows(gold, within))


def _call(index: Index, role: str, variant: str, candidate: str, than: str, values: Mapping[str, Any], order: str) -> int | None:
    """A call of a role for a candidate: the last one (DESC) or the first (ASC) of those that `than` leaves."""
    only = "AND variant = :variant" if variant else ""
    sql = f"""SELECT id FROM ledger.calls WHERE candidate = :candidate AND role = :role {only} AND {than}
        ORDER BY seq {order}, id {order} LIMIT 1"""
    rows = index.rows(sql, {"candidate": candidate, "role": role, "variant": variant, **values})
    return rows[0]["id"] if rows else None


def _rendered(index: Index, role: str, variant: str, leaf: str, call: int) -> Rendered:
    """One call, and which stand before and behind it."""
    columns = "id, leaf, candidate, seq, step, variant, prompt_hash, model, status, error, started_at, messages, reply"
    rows = index.rows(f"SELECT {columns} FROM ledger.calls WHERE id = :call AND role = :role", {"call": call, "role": role})
    if not rows:
        raise InputError(f"call {call} is none of the role {role!r}: leave `call` out to see its last one")
    (row,) = rows
    candidate = row["candidate"]
    here = {"seq": row["seq"], "id": row["id"]}
    older = _call(index, role, variant, candidate, "(seq, id) < (:seq, :id)", here, "DESC")
    newer = _call(index, role, variant, candidate, "(seq, id) > (:seq, :id)", here, "ASC")
    of = index.rows("SELECT n FROM candidates WHERE id = ?", (candidate,))
    if of and older is None:
        before = next(_candidates(index, role, variant, leaf, "c.n < :n", of[0]), None)
        older = None if before is None else _call(index, role, variant, before, "1", {}, "DESC")
    if of and newer is None:
        behind = next(_candidates(index, role, variant, leaf, "c.n > :n", of[0]), None)
        newer = None if behind is None else _call(index, role, variant, behind, "1", {}, "ASC")
    messages = [Message(role=str(one.get("role", "")), content=str(one.get("content", ""))) for one in json.loads(row["messages"])]
    return Rendered(
        **{name: row[name] for name in ("leaf", "seq", "step", "variant", "model", "status", "error", "started_at", "reply")},
        call=row["id"],
        candidate=candidate if of else "",
        prompt=row["prompt_hash"],
        messages=messages,
        older=older,
        newer=newer,
    )
