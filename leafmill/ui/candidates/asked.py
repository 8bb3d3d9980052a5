"""What is asked of the candidates, as a page shows it and as programs are told of it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from leafmill.index.filter import AXIS, FIXED, KEYS, RANGES, Filter
from leafmill.index.index import Index

SAID = {
    "leaf": "a path, or a pattern with `*`",
    "step": "the last step of the funnel that it passed",
    "reached": "this step of the funnel, or a later one",
    "variant": "`role.variant`",
    "gate": "that refused it",
    "q": "words of its text",
    "ids": "several in one value, with commas between them",
    "sort": "a column of the table; `-` before it: from the largest down",
    "after": "what `next` of a page says",
    "before": "what `previous` of a page says",
}
"""keys of the filter, for programs"""


def _parameter(key: str) -> dict[str, Any]:
    """A key of the filter, as OpenAPI describes it."""
    kind: dict[str, Any] = {"type": "number"} if key in RANGES else {"type": "string"}
    kind |= {"enum": [*FIXED[key]]} if key in FIXED else {}
    is_said_once = key in (*RANGES, "sort", "after", "before")
    schema = kind if is_said_once else {"type": "array", "items": kind}
    return {"name": key, "in": "query", "required": False, "description": SAID.get(key, ""), "schema": schema}


PARAMETERS = [_parameter(key) for key in (*KEYS, f"{AXIS}<name>")]
"""of an address that takes a filter, as `openapi_extra` has them"""


class Condition(BaseModel):
    """One value of the filter, and the query of the address without it."""

    key: str
    value: str
    without: str


def conditions(wanted: Filter) -> list[Condition]:
    """One for each value; ids are one condition together."""
    found = ((key, (",".join(values),) if key == "ids" else values) for key, values in wanted.conditions)
    return [
        Condition(key=key, value=value, without=wanted.query(**{key: [one for one in values if one != value]}))
        for key, values in found
        for value in values
    ]


def indexed(index: Index) -> float:
    """The share of the ledger that the index holds: less than 1 while it is being made."""
    return index.progress.done / index.progress.total if index.progress.total else 1.0
