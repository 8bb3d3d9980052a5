"""Which candidates are meant: the query that every link to the table of candidates is written in, as SQL and as an address.

    leaf=support/billing  leaf=support/*  state=rejected  state=errored  code=ifd.low  reached=answered
    axis.tone=urgent  ifd.min=0.4  ifd.max=0.5  q=列表  ids=3f9a,77b0  sort=-ifd  after=...

A key that is repeated means any of its values; different keys must all hold. `min` and `max` are half-open: min <= x < max. An empty value
is no condition, for forms send what is left empty, too.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Protocol, get_args, runtime_checkable
from urllib.parse import parse_qsl, urlencode

from pydantic import BaseModel

from leafmill.errors import InputError, unknown
from leafmill.index import text
from leafmill.index.index import Index
from leafmill.index.schema import SCORES, STEPS
from leafmill.records import Language, State

COLUMNS = ("leaf", "state", "stage", "code", "language")
TAGS = ("role", "model", "variant", "operator", "concept", "gate")
AXIS = "axis."
SORTS = ("n", *COLUMNS, "number", "step", "begun_at", "ended_at", "calls", "exchanges", "money", *SCORES)
RANGES = tuple(f"{score}.{end}" for score in SCORES for end in ("min", "max"))
KEYS = (*COLUMNS, "step", "reached", *TAGS, *RANGES, "q", "ids", "sort", "after", "before")
FOR_THE_PAGE = ("format", "lang", "raw", "part")
"""what an address may say beside: of how it is shown, not of which candidates"""
FIXED: Mapping[str, Sequence[str]] = {"state": get_args(State), "language": get_args(Language), "step": STEPS, "reached": STEPS}
COUNTED_BY = (*COLUMNS, "step")
"""in the order of the index `counted`, which alone answers this"""
SHOWN = 50
"""values of a facet at most"""

Scalar = str | float | int | None


@runtime_checkable
class Params(Protocol):
    """The query parameters of a request."""

    def multi_items(self) -> list[tuple[str, str]]: ...


@dataclass(frozen=True)
class Filter:
    """Made by `Filter.of`. `conditions`: (key, values), in the order of KEYS; the SQL is about `candidates AS c`."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...] = ()
    sort: str = "-n"
    after: str = ""
    before: str = ""

    @classmethod
    def of(cls, params: Params | Iterable[tuple[str, str]] | str = ()) -> Filter:
        """From a request's query. Raises InputError for a key or a value that is none."""
        pairs = params.multi_items() if isinstance(params, Params) else parse_qsl(params) if isinstance(params, str) else params
        found: dict[str, list[str]] = {}
        for key, value in pairs:
            if value and key not in FOR_THE_PAGE:
                found.setdefault(_known(key), []).append(_checked(key, value))
        for key in found:
            if len(found[key]) > 1 and (key in ("sort", "after", "before") or key.endswith((".min", ".max"))):
                raise InputError(f"{key}: may be said once, not {len(found[key])} times: {', '.join(found[key])}")
        (sort,), (after,), (before,) = (found.pop(key, [usual]) for key, usual in (("sort", "-n"), ("after", ""), ("before", "")))
        if after and before:
            raise InputError("after, before: only one of them says where the page is")
        made = cls(tuple((key, tuple(dict.fromkeys(found[key]))) for key in sorted(found, key=_place)), sort, after, before)
        made._cursor()
        return made

    def values(self, key: str) -> tuple[str, ...]:
        """What is asked of a key; none: it may be anything."""
        return dict(self.conditions).get(key, ())

    def without(self, *keys: str) -> Filter:
        """The same, whatever these keys are."""
        return replace(self, conditions=tuple(one for one in self.conditions if one[0] not in keys), after="", before="")

    def where(self) -> tuple[str, list[Any]]:
        """The condition, for `SELECT ... FROM candidates AS c WHERE ...`, and its values."""
        parts = [_sql(key, values) for key, values in self.conditions]
        return " AND ".join(sql for sql, _ in parts) or "1", [value for _, values in parts for value in values]

    def order(self) -> str:
        """What comes first, for `ORDER BY`; what is not known comes last, either way."""
        column, direction = self._by()
        return f"c.{column} IS NULL, c.{column} {direction}, c.n {direction}" if column != "n" else f"c.n {direction}"

    def query(self, **changes: Scalar | Sequence[Scalar]) -> str:
        """The same as the query of an address, with changes: `query(state="rejected", **{"ifd.min": 0.4}, leaf=None)`. None takes a key
        away. Who changes anything begins at the first page again."""
        said: dict[str, Sequence[Scalar]] = dict(self.conditions)
        if self.sort != "-n":
            said["sort"] = [self.sort]
        if not changes:
            said |= {"after": [self.after], "before": [self.before]}
        for key, value in changes.items():
            said[key] = [value] if isinstance(value, str | float | int) or value is None else value
        return urlencode([(key, value) for key in sorted(said, key=_place) for value in said[key] if value is not None and value != ""])

    def _by(self) -> tuple[str, str]:
        return self.sort.removeprefix("-"), "DESC" if self.sort.startswith("-") else "ASC"

    def _cursor(self) -> tuple[Scalar, int] | None:
        """The value that it was sorted by, and the number, of the candidate that the page stands behind, or before."""
        if not (place := self.after or self.before):
            return None
        try:
            value, n = json.loads(base64.urlsafe_b64decode(place.encode()))
            if not isinstance(n, int) or not isinstance(value, str | float | int | None):
                raise ValueError("not a place in the table")
        except (ValueError, binascii.Error) as fault:
            raise InputError(
                f"{'after' if self.after else 'before'}: {place!r} is no place in the table; leave it out to begin at the first page"
            ) from fault
        return value, n


class Page(BaseModel):
    """Some candidates, and where the next ones begin."""

    rows: list[dict[str, Any]]
    """columns of `candidates`"""
    next: str | None
    """what `after` is to be for the next page; None: this is the last one"""
    previous: str | None
    """what `before` is to be for the page before; None: this is the first one"""
    total: int
    """how many there are in all"""


class Facet(BaseModel):
    value: str
    count: int


def page(index: Index, wanted: Filter, size: int = 50) -> Page:
    """The candidates of a filter, from where it says on."""
    found: list[dict[str, Any]] = []
    column, _ = wanted._by()
    by = "INDEXED BY counted" if column in SCORES else ""
    for where, values, order in _sections(wanted):
        if len(found) <= size:  # which ones is read from an index; only then whole rows are
            which = f"SELECT c.n FROM candidates AS c {by} WHERE {where} ORDER BY {order} LIMIT ?"
            sql = f"SELECT c.* FROM candidates AS c WHERE c.n IN ({which}) ORDER BY {order}"
            found += index.rows(sql, [*values, size + 1 - len(found)])
    if wanted.before and len(found) <= size:  # too near to the first one for a whole page
        return page(index, replace(wanted, before=""), size)
    rows = found[:size][::-1] if wanted.before else found[:size]
    more = len(found) > size
    last = rows[-1] if wanted.before or more else None
    first = rows[0] if wanted.before or (wanted.after and rows) else None
    return Page(
        rows=rows,
        next=last and place_of(last[column], last["n"]),
        previous=first and place_of(first[column], first["n"]),
        total=sum(group["count"] for group in _groups(index, wanted, COUNTED_BY)),
    )


def facets(index: Index, wanted: Filter) -> dict[str, list[Facet]]:
    """How many candidates there are of each value, the most first; of what a filter says of a key itself, as if it did not."""
    found = {}
    for key in COUNTED_BY:
        counts: Counter[str] = Counter()
        for group in _groups(index, wanted, [other for other in COUNTED_BY if other != key]):
            counts[_said(key, group[key])] += group["count"]
        most = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
        found[key] = [Facet(value=value, count=count) for value, count in most[:SHOWN] if value]
    return found


def _groups(index: Index, wanted: Filter, keys: Sequence[str]) -> Iterable[dict[str, Any]]:
    """How many candidates there are of each combination, where what the filter says of these keys holds.

    They are counted whatever it says of any of COUNTED_BY, once; whoever chooses among these values chooses among the counts.
    """
    others = wanted.without(*COUNTED_BY)
    where, values = others.where()
    columns = ", ".join(f"c.{key}" for key in COUNTED_BY)
    sql = f"SELECT {columns}, count(*) AS count FROM candidates AS c INDEXED BY counted WHERE {where} GROUP BY {columns}"
    groups = index.once(("groups", others.conditions), lambda: index.rows(sql, values))
    for key, asked in wanted.conditions:
        if key in keys:
            groups = [group for group in groups if _holds(group, key, asked)]
    return groups


def _sections(wanted: Filter) -> list[tuple[str, list[Any], str]]:
    """What to ask one after the other: first where the value to sort by is known, then where it is not; backwards for what is `before`."""
    where, values = wanted.where()
    column, direction = wanted._by()
    if wanted.before:
        direction = "ASC" if direction == "DESC" else "DESC"
    cursor, beyond = wanted._cursor(), "<" if direction == "DESC" else ">"
    if column == "n":
        place = [(f"c.n {beyond} ?", [cursor[1]])] if cursor else []
        return [_section(where, values, place, f"c.n {direction}")]
    known: list[tuple[str, list[Any]]] = [(f"c.{column} IS NOT NULL", [])]
    unknown_: list[tuple[str, list[Any]]] = [(f"c.{column} IS NULL", [])]
    if cursor is not None:
        value, n = cursor
        at, condition = (
            (unknown_, (f"c.n {beyond} ?", [n])) if value is None else (known, (f"(c.{column}, c.n) {beyond} (?, ?)", [value, n]))
        )
        at.append(condition)
    sections = [
        _section(where, values, known, f"c.{column} {direction}, c.n {direction}"),
        _section(where, values, unknown_, f"c.n {direction}"),
    ]
    if cursor is not None and (cursor[0] is None) is not bool(wanted.before):  # what stands on the other side of the cursor
        del sections[0 if cursor[0] is None else 1]
    return sections[::-1] if wanted.before else sections


def _section(where: str, values: Sequence[Any], more: Iterable[tuple[str, list[Any]]], order: str) -> tuple[str, list[Any], str]:
    parts = [(where, [*values]), *more]
    return " AND ".join(sql for sql, _ in parts), [value for _, of in parts for value in of], order


def place_of(value: Scalar, n: int) -> str:
    """A place in the table that is sorted by that value, as `after` and `before` say it."""
    return base64.urlsafe_b64encode(json.dumps([value, n]).encode()).decode()


def _sql(key: str, values: Sequence[str]) -> tuple[str, list[Any]]:
    among = ", ".join("?" * len(values))
    name, _, end = key.rpartition(".")
    if key == "leaf":
        return _any("c.leaf GLOB ?" if "*" in one else "c.leaf = ?" for one in values), [_glob(one) for one in values]
    if key in COLUMNS:
        return f"c.{key} IN ({among})", [*values]
    if key == "step":
        return f"c.step IN ({among})", [STEPS.index(one) for one in values]
    if key == "reached":
        return "c.step >= ?", [min(STEPS.index(one) for one in values)]
    if key in TAGS or key.startswith(AXIS):
        return f"c.n IN (SELECT n FROM tags WHERE kind = ? AND value IN ({among}))", [key, *values]
    if key == "ids":
        ids = [id_ for value in values for id_ in value.split(",") if id_]
        return f"c.id IN ({', '.join('?' * len(ids))})", ids
    if key == "q":
        asked = [query for value in values if (query := text.query(value))]
        if not asked:
            return "0", []
        return "c.doc IN (SELECT rowid FROM search WHERE search MATCH ?)", [" OR ".join(f"({one})" for one in asked)]
    return f"c.{name} {'>=' if end == 'min' else '<'} ?", [float(values[0])]


def _any(conditions: Iterable[str]) -> str:
    return f"({' OR '.join(conditions)})"


def _glob(path: str) -> str:
    """Only * stands for anything; a path without one is itself."""
    return path.replace("[", "[[]").replace("?", "[?]") if "*" in path else path


def _known(key: str) -> str:
    if key not in KEYS and not (key.startswith(AXIS) and key != AXIS):
        raise InputError(unknown("key of the query", key, [*KEYS, f"{AXIS}<name>"]))
    return key


def _checked(key: str, value: str) -> str:
    if key in FIXED and value not in FIXED[key]:
        raise InputError(unknown(key, value, FIXED[key]))
    if key == "sort" and value.removeprefix("-") not in SORTS:
        raise InputError(unknown("column to sort by", value, SORTS))
    if key.endswith((".min", ".max")) and not key.startswith(AXIS):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{key}: needs a number, got {value!r}")
    return value


def _place(key: str) -> tuple[int, str]:
    return (KEYS.index(key) if key in KEYS else len(COLUMNS), key)


def _holds(group: Mapping[str, Any], key: str, values: Sequence[str]) -> bool:
    """The same condition, on candidates that were counted together."""
    if key == "leaf":
        return any(fnmatchcase(group["leaf"], _glob(value)) if "*" in value else group["leaf"] == value for value in values)
    return _said(key, group[key]) in values


def _said(key: str, value: Any) -> str:
    return STEPS[value] if key == "step" else str(value)
