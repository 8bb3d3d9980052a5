"""The candidates of a run as a table: searched, filtered, sorted, page by page.

What is selected in it is a filter, too: the ids of the rows that were ticked, or all that the table's own filter finds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from leafmill.index import build
from leafmill.index import filter as filters
from leafmill.index.filter import AXIS, Facet, Filter
from leafmill.index.index import Index
from leafmill.index.schema import SCORES, STEPS
from leafmill.records import Row
from leafmill.ui import numbers, text
from leafmill.ui.candidates.asked import PARAMETERS, Condition, conditions, indexed
from leafmill.ui.library import Library
from leafmill.ui.page import page, wants_part

FACETS = ("state", "code", "language", "step")
"""keys of the filter that are offered with how many candidates there are of each value"""
CHOICES = ("model", "role", "variant", "operator", "gate")
"""keys of which one value is chosen, like the axes"""
COLUMNS = ("panel", "critic", "ifd", "similarity", "instruction_length", "answer_length", "tokens")
"""scores that the table shows"""
SORTS = ("n", "ended_at", "leaf", "state", "code", *SCORES)
LEAVES = 1000
"""leaves that are offered at most; any other can be typed"""
EXCERPT = 200
"""characters of a text that the table shows"""
router = APIRouter(tags=["candidates"])


class Leaf(BaseModel):
    path: str
    title: dict[str, str] = {}
    """by language"""


class Line(BaseModel):
    """A candidate, as the table shows it. None is what is not known."""

    id: str
    leaf: str
    number: int
    language: str
    state: str
    stage: str
    code: str
    step: str
    """the last of the funnel that it passed"""
    begun_at: float
    ended_at: float | None
    instruction: str
    """its beginning, on one line; so of the answer"""
    answer: str
    hit: str = ""
    """what stands around the words of a search, where neither beginning has them"""
    exchanges: int
    calls: int
    tokens: int
    money: float | None
    seconds: float
    instruction_length: int | None
    answer_length: int | None
    ifd: float | None
    panel: float | None
    deviation: float | None
    critic: float | None
    similarity: float | None
    neighbour: str | None


class View(BaseModel):
    run: str
    all: int
    """candidates of the run"""
    found: int
    """of these, what the filter finds"""
    query: str
    """the filter as the query of an address"""
    sort: str
    conditions: list[Condition]
    facets: dict[str, list[Facet]]
    choices: dict[str, list[str]]
    """the values of other keys"""
    leaves: list[Leaf]
    rows: list[Line]
    next: str | None
    """the query of the next page"""
    previous: str | None
    indexed: float
    """the share of the ledger that all this is of: less than 1 while the index of the run is being made"""


class By(NamedTuple):
    """A head of the table: what it sorts by when it is clicked, and how the table is sorted by it now."""

    query: str
    now: str


@router.get(
    "/runs/{run}/candidates",
    response_model=View,
    openapi_extra={"parameters": PARAMETERS},
    summary="Candidates that a filter finds, page by page",
)
def candidates(request: Request, run: str) -> Response:
    library: Library = request.app.state.library
    index, wanted = library.index(run), Filter.of(request.query_params)
    found = filters.page(index, wanted)
    titles = _titles(index)
    view = View(
        run=run,
        all=_all(index),
        found=found.total,
        query=wanted.without().query(),
        sort=wanted.sort,
        conditions=conditions(wanted),
        facets=_facets(index, wanted),
        choices=_choices(index, wanted),
        leaves=[Leaf(path=path, title=titles.get(path, {})) for path in _leaves(index)],
        rows=_hit(index, [Line(**{**row, "step": STEPS[row["step"]]}) for row in found.rows], _sought(wanted)),
        next=found.next and wanted.query(after=found.next),
        previous=found.previous and wanted.query(before=found.previous),
        indexed=indexed(index),
    )
    response = page(
        request,
        "candidates.html",
        view,
        titles=titles,
        scores=SCORES,
        columns=COLUMNS,
        sorts=dict.fromkeys([*SORTS, wanted.sort.removeprefix("-")]),
        figure=_figure,
        chosen=lambda key: next(iter(wanted.values(key)), ""),
        is_chosen=lambda key, value: value in wanted.values(key),
        kept=_kept(wanted, view.choices),
        more=sum(len(values) for key, values in wanted.conditions if key not in ("q", "leaf", "state", "ids")),
        sorting=lambda column: _sorting(wanted, column),
        excerpt=lambda said: text.snippet(said, EXCERPT, _sought(wanted)),
    )
    if wants_part(request):
        here = f"/runs/{quote(run)}/candidates" + (f"?{said}" if (said := wanted.query()) else "")
        if not request.headers.get("hx-current-url", "").endswith(here):
            response.headers["HX-Push-Url"] = here
    return response


# -- what the index knows ----------------------------------------------------------------------------------------------


def _all(index: Index) -> int:
    return index.once("candidates.all", lambda: int(index.rows("SELECT count(*) AS found FROM candidates")[0]["found"]))


def _titles(index: Index) -> dict[str, dict[str, str]]:
    """Of the leaves, by path and language."""

    def read() -> dict[str, dict[str, str]]:
        found = index.rows("SELECT value FROM ledger.meta WHERE key = 'leaves'")
        return {path: leaf["title"] for path, leaf in json.loads(found[0]["value"]).items()} if found else {}

    return index.once("candidates.titles", read)


def _leaves(index: Index) -> list[str]:
    """Found by hops: there are few of them among many candidates. So are the choices."""
    hops = """WITH RECURSIVE found(leaf) AS (
        SELECT min(leaf) FROM candidates UNION ALL
        SELECT (SELECT min(leaf) FROM candidates WHERE leaf > found.leaf) FROM found WHERE leaf IS NOT NULL
    ) SELECT leaf FROM found WHERE leaf IS NOT NULL LIMIT ?"""
    return index.once("candidates.leaves", lambda: [row["leaf"] for row in index.rows(hops, (LEAVES,))])


def _choices(index: Index, wanted: Filter) -> dict[str, list[str]]:
    """The values of axes and other tags, those that the filter names among them."""
    hops = """WITH RECURSIVE kinds(kind) AS (
        SELECT min(kind) FROM tags UNION ALL
        SELECT (SELECT min(kind) FROM tags WHERE kind > kinds.kind) FROM kinds WHERE kind IS NOT NULL
    ), found(kind, value) AS (
        SELECT kind, (SELECT min(value) FROM tags WHERE kind = kinds.kind) FROM kinds WHERE kind <> 'concept' UNION ALL
        SELECT kind, (SELECT min(value) FROM tags WHERE kind = found.kind AND value > found.value) FROM found WHERE value IS NOT NULL
    ) SELECT kind, value FROM found WHERE value IS NOT NULL ORDER BY kind, value"""

    def read() -> dict[str, list[str]]:
        known: dict[str, list[str]] = {}
        for row in index.rows(hops):
            known.setdefault(row["kind"], []).append(row["value"])
        return known

    known = index.once("candidates.choices", read)
    axes = [kind for kind in known if kind.startswith(AXIS)]
    return {key: list(dict.fromkeys([*known[key], *wanted.values(key)])) for key in (*axes, *CHOICES) if key in known}


def _facets(index: Index, wanted: Filter) -> dict[str, list[Facet]]:
    """What is chosen is among them, even where nothing is found; the steps are in the order of the funnel."""
    counted = filters.facets(index, wanted)
    found = {key: [*counted[key]] for key in FACETS}
    for key in FACETS:
        missing = set(wanted.values(key)) - {one.value for one in found[key]}
        found[key] += [Facet(value=value, count=0) for value in sorted(missing)]
    found["step"].sort(key=lambda one: STEPS.index(one.value))
    return found


def _hit(index: Index, lines: Sequence[Line], sought: Sequence[str]) -> list[Line]:
    """The lines, with where a search has found those in which it is not seen at once."""
    if not sought:
        return [*lines]
    words = re.compile("|".join(map(re.escape, sought)), re.I)
    unseen = [line.id for line in lines if not words.search(f"{line.instruction}\n{line.answer}")]
    texts = "SELECT id, row FROM ledger.candidates WHERE id IN (SELECT value FROM json_each(?)) AND row IS NOT NULL"
    around = {}
    for one in index.rows(texts, [json.dumps(unseen)]):
        said = build.all_said(one["id"], Row.model_validate_json(one["row"]))
        if found := words.search(said):
            start = max(0, found.start() - EXCERPT // 4)
            around[one["id"]] = "…" * (start > 0) + " ".join(said[start : start + EXCERPT].split())
    return [line.model_copy(update={"hit": around.get(line.id, "")}) for line in lines]


# -- what the page shows -----------------------------------------------------------------------------------------------


def _kept(wanted: Filter, choices: Iterable[str]) -> list[tuple[str, str]]:
    """What the form of the filter has no control for: other keys, and further values of those of which it shows one."""
    controls = {"q", "leaf", "concept", *choices, *filters.RANGES}
    others = ((key, values[1:] if key in controls else values) for key, values in wanted.conditions if key not in FACETS)
    return [(key, value) for key, values in others for value in values]


def _sorting(wanted: Filter, column: str) -> By:
    """The first click on a number shows the largest, on a text the first; the next one turns it round."""
    first, other = (f"-{column}", column) if column in (*SCORES, "n", "ended_at") else (column, f"-{column}")
    query = wanted.query(sort=other if wanted.sort == first else first)
    return By(query, {column: "ascending", f"-{column}": "descending"}.get(wanted.sort, ""))


def _sought(wanted: Filter) -> list[str]:
    """The words of a search, and its runs of Chinese; the longest first, for others may be parts of it."""
    words = [word for asked in wanted.values("q") for word in re.findall(r"[\u3005-\u9fff]+|[^\W\u3005-\u9fff]+", asked)]
    return sorted(dict.fromkeys(words), key=lambda word: (-len(word), word))


def _figure(row: Line, score: str) -> str:
    """A score as the table shows it."""
    is_whole = score in ("instruction_length", "answer_length", "tokens")
    return numbers.count(getattr(row, score)) if is_whole else numbers.hundredths(getattr(row, score))
