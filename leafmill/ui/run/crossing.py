"""The coverage of a run as a heat map: any two of leaf, language and axes crossed, each cell with what was planned and what is accepted.

A cell is a hole where something could be and nothing is accepted: `never` where nothing was ever planned, `none` where what was planned did
not get in. A cell that no leaf can have (its axes lack these values) is no hole; it is empty.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, product
from typing import Any, Literal

from pydantic import BaseModel

from leafmill.errors import InputError, unknown
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from taxonomy.covering import LANGUAGE

LEAF = "leaf"
LEVELS = 5
Factors = Mapping[str, Mapping[str, Sequence[str]]]
"""what there is to cover: by leaf, by axis, its values"""


class Cell(BaseModel):
    """Two values together."""

    planned: int
    accepted: int
    hole: Literal["", "never", "none"] = ""
    possible: bool = True
    """whether any leaf has both"""
    level: int = 0
    """of its colour: 0 where nothing is accepted, 5 for the fullest cell"""
    query: str


class Line(BaseModel):
    """A value of one axis with all of the other, and their sums."""

    value: str
    cells: list[Cell]
    sum: Cell


class Crossing(BaseModel):
    leaf: str
    """"": all of them"""
    axes: list[str]
    """that can be crossed: "leaf", "language", and the names of axes"""
    across: str
    down: str
    columns: list[str]
    rows: list[Line]
    sums: list[Cell]
    """of the columns"""
    never: int
    none: int
    """holes"""
    possible: int
    """cells that could be filled"""


def read(index: Index, factors: Factors, leaf: str = "", across: str = "", down: str = "") -> Crossing:
    """Of one leaf or of all; without a choice, the first axis across, and leaves (of one leaf: the next axis) down. Raises InputError."""
    scope = {leaf: factors.get(leaf, {})} if leaf else dict(factors)
    axes = _axes(index, scope, bool(leaf))
    across = across or next((axis for axis in axes if axis not in (LEAF, LANGUAGE)), LANGUAGE)
    if down in ("", across):
        down = next((axis for axis in axes if axis != across), across)
    for axis in (across, down):
        if axis not in axes:
            raise InputError(unknown("axis", axis, axes))
    counted = _counted(index, across, down, leaf)
    columns, lines = (_values(axis, scope, seen) for axis, seen in zip((across, down), _each(counted), strict=True))
    there_are = _possible(scope, across, down)
    most = max((accepted for _, accepted in counted.values()), default=0)

    def find(column: str, line: str) -> str:
        keys = {axis if axis in (LEAF, LANGUAGE) else f"axis.{axis}": value for axis, value in ((across, column), (down, line)) if value}
        return Filter().query(**{LEAF: leaf, **keys})

    def cell(column: str, line: str) -> Cell:
        planned, accepted = counted.get((column, line), (0, 0))
        possible = planned > 0 or there_are is None or (column, line) in there_are
        hole: Literal["", "never", "none"] = "" if accepted or not possible else "none" if planned else "never"
        level = math.ceil(LEVELS * accepted / most) if accepted else 0
        return Cell(planned=planned, accepted=accepted, hole=hole, possible=possible, level=level, query=find(column, line))

    rows = [Line(value=line, cells=(cells := [cell(c, line) for c in columns]), sum=_sum(cells, find("", line))) for line in lines]
    every = [one for row in rows for one in row.cells]
    return Crossing(
        leaf=leaf,
        axes=axes,
        across=across,
        down=down,
        columns=columns,
        rows=rows,
        sums=[_sum([row.cells[at] for row in rows], find(column, "")) for at, column in enumerate(columns)],
        never=sum(one.hole == "never" for one in every),
        none=sum(one.hole == "none" for one in every),
        possible=sum(one.possible for one in every),
    )


def _axes(index: Index, scope: Factors, one_leaf: bool) -> list[str]:
    """As the taxonomy orders them; then those of which only candidates tell. Kinds of tags are found by hops: there are few of them."""
    hops = """WITH RECURSIVE kinds(kind) AS (
        SELECT min(kind) FROM tags WHERE kind >= 'axis.' UNION ALL
        SELECT (SELECT min(kind) FROM tags WHERE kind > kinds.kind) FROM kinds WHERE kind < 'axis/'
    ) SELECT substr(kind, 6) AS axis FROM kinds WHERE kind >= 'axis.' AND kind < 'axis/'"""
    known = [axis for axes in scope.values() for axis in axes if axis != LANGUAGE]
    seen = [] if one_leaf and known else [row["axis"] for row in index.rows(hops)]
    return list(dict.fromkeys([*([] if one_leaf else [LEAF]), LANGUAGE, *known, *seen]))


def _counted(index: Index, across: str, down: str, leaf: str) -> dict[tuple[str, str], tuple[int, int]]:
    """How many are planned and accepted, by the two values."""
    # first all that are alike, along an index: there are far fewer combinations of values than candidates
    alike = f"""SELECT leaf, language, axes, count(*) AS planned, sum(state = 'accepted') AS accepted FROM candidates
        {"WHERE leaf = :leaf" if leaf else ""} GROUP BY leaf, language, axes"""
    named = {"leaf": leaf, "across": f'$."{across}"', "down": f'$."{down}"'}
    columns = [axis if axis in (LEAF, LANGUAGE) else f"json_extract(axes, :{name})" for name, axis in (("across", across), ("down", down))]
    sql = f"""SELECT {columns[0]} AS across, {columns[1]} AS down, sum(planned) AS planned, sum(accepted) AS accepted FROM ({alike})
        GROUP BY 1, 2 HAVING across IS NOT NULL AND down IS NOT NULL"""
    used = {name: value for name, value in named.items() if f":{name}" in sql}
    return {(row["across"], row["down"]): (row["planned"], row["accepted"]) for row in index.rows(sql, used)}


def _each(counted: Iterable[tuple[str, str]]) -> tuple[list[str], list[str]]:
    pairs = sorted(counted)
    return list(dict.fromkeys(one for one, _ in pairs)), list(dict.fromkeys(other for _, other in pairs))


def _values(axis: str, scope: Factors, seen: Sequence[str]) -> list[str]:
    """As the taxonomy orders them; then those that only candidates have (a taxonomy may have changed since)."""
    known = list(scope) if axis == LEAF else [value for axes in scope.values() for value in axes.get(axis, ())]
    return list(dict.fromkeys([*known, *seen]))


def _possible(scope: Factors, across: str, down: str) -> set[tuple[str, str]] | None:
    """The pairs of values that some leaf has; None where nothing is known of any leaf."""

    def of(leaf: str, axes: Mapping[str, Sequence[str]], axis: str) -> Sequence[str]:
        return [leaf] if axis == LEAF else axes.get(axis, ())

    pairs = (product(of(leaf, axes, across), of(leaf, axes, down)) for leaf, axes in scope.items())
    return set(chain.from_iterable(pairs)) if any(scope.values()) else None


def _sum(cells: Sequence[Cell], found: str) -> Cell:
    total: dict[str, Any] = {name: sum(getattr(one, name) for one in cells) for name in ("planned", "accepted")}
    return Cell(**total, query=found)
