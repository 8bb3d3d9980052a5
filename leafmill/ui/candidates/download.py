"""Candidates as JSONL: what was selected in the table, or all that a filter finds, whatever became of it.

What a format cannot hold, and what has no answer, is left out. The page says beforehand how many these are and why, so that a download
never fails in the middle; it is written as it is read, a batch at a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from leafmill import export
from leafmill.errors import InputError, unknown
from leafmill.index import filter as filters
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.ledger import Ledger
from leafmill.ui.candidates.asked import PARAMETERS, Condition, conditions, indexed
from leafmill.ui.library import Library
from leafmill.ui.page import page

TITLES = {"messages": "Messages (OpenAI, TRL)", "sharegpt": "ShareGPT", "alpaca": "Alpaca"}
"""of the formats"""
AT_ONCE = 1000
"""candidates of an export that are looked at before its page is shown; of more, it is shown first"""
NAMED = 20
"""candidates of an export that are named as left out, by format, at most"""

BODY = {
    "required": True,
    "content": {
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "properties": {
                    "format": {"type": "string", "enum": [*TITLES], "default": "messages"},
                    "lineage": {"type": "string", "description": "any value: each line says where it comes from"},
                },
                "additionalProperties": {"type": "string", "description": "keys of the filter"},
            }
        }
    },
}
router = APIRouter(tags=["candidates"])


class Refusal(BaseModel):
    id: str
    why: str


class Shape(BaseModel):
    """What becomes of the selection in one format."""

    name: str
    rows: int
    """what is written"""
    unanswered: int = 0
    """candidates without an answer: they are left out, whatever the format"""
    refused: int = 0
    """candidates that the format cannot hold: they are left out"""
    named: list[Refusal] = []
    """the first of these"""

    def leave_out(self, one: export.Unwritable) -> None:
        self.rows -= 1
        if not one.answered:
            self.unanswered += 1
            return
        self.refused += 1
        if self.refused <= NAMED:
            self.named.append(Refusal(id=one.id, why=one.why))


class ExportView(BaseModel):
    run: str
    query: str
    conditions: list[Condition]
    found: int
    accepted: int
    indexed: float
    """the share of the ledger that was looked at"""
    formats: list[Shape] | None
    """None: so many are only looked at when `part=formats` asks for it"""


@router.get(
    "/runs/{run}/candidates/export",
    response_model=ExportView,
    openapi_extra={"parameters": PARAMETERS},
    summary="What an export of these candidates would hold",
)
def preview(
    request: Request, run: str, part: Annotated[str, Query(description="`formats`: look at all of them, however many there are")] = ""
) -> Response:
    library: Library = request.app.state.library
    index, wanted = library.index(run), Filter.of(request.query_params).without()
    found = filters.page(index, wanted, 1).total
    accepted = next((one.count for one in filters.facets(index, wanted)["state"] if one.value == "accepted"), 0)
    is_looked_at = found <= AT_ONCE or part == "formats"
    view = ExportView(
        run=run,
        query=wanted.query(),
        conditions=conditions(wanted),
        found=found,
        indexed=indexed(index),
        accepted=accepted if "accepted" in wanted.values("state") or not wanted.values("state") else 0,
        formats=_shapes(index, wanted) if is_looked_at else None,
    )
    pairs = [(key, one) for key, values in wanted.conditions for one in values]
    return page(request, "candidates_export.html", view, pairs=pairs, titles=TITLES, only_accepted=wanted.query(state="accepted"))


async def _form(request: Request) -> FormData:
    return await request.form()


@router.post(
    "/runs/{run}/candidates/export",
    response_class=StreamingResponse,
    openapi_extra={"requestBody": BODY},
    summary="These candidates as JSONL",
)
def download(request: Request, run: str, form: Annotated[FormData, Depends(_form)]) -> StreamingResponse:
    format_, lineage = str(form.get("format", "messages")), "lineage" in form
    if format_ not in export.FORMATS:
        raise InputError(unknown("format", format_, export.FORMATS))
    library: Library = request.app.state.library
    pairs = [(key, str(value)) for key, value in form.multi_items() if key not in ("csrf", "format", "lineage")]
    index = library.index(run)
    ids = _ids(index, Filter.of(pairs))
    ledger = Ledger(index.folder.ledger, read_only=True)
    named = quote(f"{run}-{format_}.jsonl")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{named}"}
    return StreamingResponse(_written(ledger, ids, format_, lineage), media_type="application/jsonl", headers=headers)


def _written(ledger: Ledger, ids: Sequence[str], format_: str, lineage: bool) -> Iterator[str]:
    """The lines of an export, so many at a time."""
    with ledger:
        for at in range(0, len(ids), export.BATCH):
            lines = export.lines(ledger, ids[at : at + export.BATCH], format_, lineage=lineage)
            yield "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines if not isinstance(line, export.Unwritable))


# -- the selection -----------------------------------------------------------------------------------------------------


def _ids(index: Index, wanted: Filter) -> list[str]:
    """Of all that a filter finds, in the order in which `leafmill export` writes them."""
    where, values = wanted.where()
    return [row["id"] for row in index.rows(f"SELECT c.id FROM candidates AS c WHERE {where} ORDER BY c.leaf, c.number", values)]


def _shapes(index: Index, wanted: Filter) -> list[Shape]:
    """What a selection becomes in each format: every row of it is looked at."""
    ids = _ids(index, wanted)
    shapes = {name: Shape(name=name, rows=len(ids)) for name in TITLES}
    with Ledger(index.folder.ledger, read_only=True) as ledger:
        for name, fault in export.unwritable(ledger, ids):
            shapes[name].leave_out(fault)
    return [*shapes.values()]
