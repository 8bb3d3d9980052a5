"""The page of one run: how far it is, its funnel, coverage and distributions, its judges, and what it costs; live while it goes on.

The page is made of parts, each a view of its own, which htmx asks for again when the index has changed (`/events` says so). All parts but
the first two can be of one leaf alone (`?leaf=`). What is slow is found once for each version of the index.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Mapping
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import quote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from leafmill.errors import InputError, RunFolderError, unknown
from leafmill.index.index import Index
from leafmill.ui import words
from leafmill.ui.library import Library
from leafmill.ui.page import page
from leafmill.ui.run import crossing, distributions, failures, funnel, judging, plots, spending, standing
from leafmill.ui.run.crossing import Crossing
from leafmill.ui.run.distributions import PLOTS, Histogram, Seat
from leafmill.ui.run.failures import Failures
from leafmill.ui.run.funnel import Funnel
from leafmill.ui.run.judging import Judged
from leafmill.ui.run.spending import Spending
from leafmill.ui.run.standing import Standing
from taxonomy.covering import FACTORS

EVERY = 2.0
"""seconds between two looks at a run that goes on"""
PING = 15
"""seconds after which a stream says that it is still there"""

REST = 50.0
"""times as long as a part took it is left as it is while the run goes on: a small run is shown as it is, a huge one a little late"""

T = TypeVar("T")
router = APIRouter(tags=["run"])


class Distributions(BaseModel):
    leaf: str
    histograms: list[Histogram]


class Judges(Judged):
    """What is known of the judges, and how they score."""

    leaf: str
    seats: list[Seat]


class Building(BaseModel):
    """How much of the ledger has been taken up: candidates and calls."""

    done: int
    total: int


class View(BaseModel):
    run: str
    leaf: str
    """of which the parts are; "": all"""
    version: int
    """of the index: grows with what is shown"""
    building: Building | None
    """what is shown is of a part of the run as long as the index is being made"""
    standing: Standing
    funnel: Funnel
    coverage: Crossing
    distributions: Distributions
    judges: Judges
    spending: Spending
    failures: Failures


class Choice(NamedTuple):
    """What the page is asked to show."""

    leaf: str = ""
    across: str = ""
    down: str = ""


def _choice(
    leaf: Annotated[str, Query(description="the path of one leaf; empty: all")] = "",
    across: Annotated[str, Query(description="the axis of the heat map's columns")] = "",
    down: Annotated[str, Query(description="the axis of its rows")] = "",
) -> Choice:
    return Choice(leaf, across, down)


Asked = Annotated[Choice, Depends(_choice)]


@router.get("/runs/{run}", response_model=View, summary="A run: where it stands, and all that its candidates and calls say")
def run(request: Request, run: str, choice: Asked) -> Response:
    index = _index(request, run, choice)
    done = index.progress
    view = View(
        run=run,
        leaf=choice.leaf,
        version=index.version,
        building=Building(done=done.done, total=done.total) if done.done < done.total else None,
        standing=_standing(index, choice),
        funnel=_funnel(index, choice),
        coverage=_coverage(index, choice),
        distributions=_distributions(index, choice),
        judges=_judges(index, choice),
        spending=_spending(index, choice),
        failures=_failures(index, choice),
    )
    return page(request, "run.html", view, **_known(index, run, choice))


@router.get(
    "/runs/{run}/parts/{part}",
    response_model=Standing | Funnel | Crossing | Distributions | Judges | Spending | Failures,
    summary="One part of the page of a run",
)
def part(request: Request, run: str, part: str, choice: Asked) -> Response:
    if part not in PARTS:
        raise InputError(unknown("part", part, PARTS))
    index = _index(request, run, choice)
    return page(request, f"run_{part}.html", PARTS[part](index, choice), **_known(index, run, choice))


@router.get("/runs/{run}/charts/{chart}", response_model=dict[str, Any], summary="The Vega-Lite specification of a chart of a run")
def chart(request: Request, run: str, chart: str, choice: Asked) -> Response:
    if chart not in CHARTS:
        raise InputError(unknown("chart", chart, CHARTS))
    index, say = _index(request, run, choice), words.speaking(words.language_of(request))
    return JSONResponse(_drawn(index, run, chart, choice.leaf, say))


@router.get(
    "/runs/{run}/events", response_class=EventSourceResponse, summary="Says when a run that goes on has changed, and when it has ended"
)
async def events(request: Request, run: str) -> EventSourceResponse:
    library: Library = request.app.state.library
    await run_in_threadpool(library.index, run)  # a run that is not there is an error, not a stream
    return EventSourceResponse(changes(library, run), ping=PING)


async def changes(library: Library, run: str, every: float = EVERY) -> AsyncIterator[ServerSentEvent]:
    """`changed` with the version of the index, as often as that is another; `ended` when nothing more will come."""
    told = -1
    while True:
        try:
            version, goes_on = await run_in_threadpool(_look, library, run)
        except RunFolderError:  # it was deleted: the page asks once more, and is told
            version, goes_on = told, False
        if version != told:
            yield ServerSentEvent(event="changed", data=str(version))
            told = version
        if not goes_on:
            yield ServerSentEvent(event="ended", data=str(version))
            return
        await asyncio.sleep(every)


def _look(library: Library, run: str) -> tuple[int, bool]:
    """The version, and whether it may grow."""
    index = library.index(run)
    goes_on = _is_live(index)
    if not goes_on:
        index.refresh()  # what was written between the two looks
    return index.version, goes_on


def _is_live(index: Index) -> bool:
    """Whether what is shown may become more: the run goes on, or its index is not done."""
    process = standing.process_of(index)
    return index.progress.done < index.progress.total or (process is not None and process.is_alive)


def _index(request: Request, run: str, choice: Choice) -> Index:
    """Raises RunFolderError for a run that is not there, InputError for a leaf that it does not have."""
    library: Library = request.app.state.library
    index = library.index(run)
    if choice.leaf and not index.rows("SELECT 1 FROM candidates WHERE leaf = ? LIMIT 1", [choice.leaf]):
        known = list(standing.titles(index))
        if choice.leaf not in known:
            raise InputError(unknown("leaf", choice.leaf, known))
    return index


def _known(index: Index, run: str, choice: Choice) -> dict[str, Any]:
    """What the templates know beside the view."""
    asked = urlencode({key: value for key, value in choice._asdict().items() if value})
    return {
        "run": run,
        "here": f"/runs/{quote(run, safe='')}",
        "choice": choice,
        "asked": f"?{asked}" if asked else "",
        "titles": standing.titles(index),
        "live": _is_live(index),
        "plots": plots,
        "STATES": standing.STATES,
    }


# -- parts -------------------------------------------------------------------------------------------------------------


def _standing(index: Index, choice: Choice) -> Standing:
    return standing.read(index, _rest(index))


def _funnel(index: Index, choice: Choice) -> Funnel:
    return funnel.read(index, choice.leaf, _rest(index))


def _coverage(index: Index, choice: Choice) -> Crossing:
    factors = standing.meta(index, FACTORS) or {}
    return _once(index, ("coverage", *choice), lambda: crossing.read(index, factors, *choice))


def _distributions(index: Index, choice: Choice) -> Distributions:
    return Distributions(leaf=choice.leaf, histograms=[_histogram(index, score, choice.leaf) for score in PLOTS])


def _histogram(index: Index, score: str, leaf: str) -> Histogram:
    extents = _once(index, ("extents", leaf), lambda: distributions.extents(index, leaf))
    return _once(index, ("histogram", score, leaf), lambda: distributions.histogram(index, score, extents, leaf))


def _judges(index: Index, choice: Choice) -> Judges:
    return Judges(leaf=choice.leaf, seats=_seats(index, choice.leaf), **dict(judging.read(index)))


def _seats(index: Index, leaf: str) -> list[Seat]:
    return _once(index, ("seats", leaf), lambda: distributions.seats(index, leaf))


def _spending(index: Index, choice: Choice) -> Spending:
    return _once(index, ("spending", choice.leaf), lambda: spending.read(index, choice.leaf))


def _failures(index: Index, choice: Choice) -> Failures:
    return failures.read(index, choice.leaf, _rest(index))


def _once(index: Index, question: Hashable, answer: Callable[[], T]) -> T:
    return index.once(question, answer, _rest(index))


def _rest(index: Index) -> float:
    """Of a run that has ended everything is shown as it is."""
    return REST if _is_live(index) else 0.0


PARTS: Mapping[str, Callable[[Index, Choice], BaseModel]] = {
    "head": _standing,
    "leaves": _standing,
    "funnel": _funnel,
    "coverage": _coverage,
    "distributions": _distributions,
    "judges": _judges,
    "spending": _spending,
    "failures": _failures,
}
"""in the order of the page; each has a template `run_<part>.html`"""


# -- charts ------------------------------------------------------------------------------------------------------------

CHARTS = (*PLOTS, "seats", "agreement")


def _drawn(index: Index, run: str, chart: str, leaf: str, say: Callable[..., str]) -> dict[str, Any]:
    if chart == "seats":
        return plots.seats(_seats(index, leaf), run, say)
    if chart == "agreement":
        found = judging.read(index).judging
        return plots.agreement(found.panel if found else {}, run, say)
    return plots.histogram(_histogram(index, chart, leaf), run, say)
