"""The page `review`: one candidate at a time of those who wait for a person, and what was decided of the others.

To open the page claims the candidate that it shows for ten minutes; to ask for it as JSON claims nothing. A decision is a POST of a form
or of JSON; a browser is sent on to the next candidate, with a line that says what happened. Who decides is asked once, kept in a cookie,
and believed.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import JSONResponse, RedirectResponse

from leafmill import agreement, reviews
from leafmill.agreement import PeopleReport
from leafmill.case import Case
from leafmill.errors import InputError, ReviewError
from leafmill.index.filter import FOR_THE_PAGE, Filter
from leafmill.ledger import Ledger
from leafmill.reviews import CLAIMED, PARTS, REASONS, Counts, Entry, Going, Queue, Refused, Wanted
from leafmill.ui import text  # noqa: F401  the filters that show what models wrote
from leafmill.ui.library import Library
from leafmill.ui.page import keep, page, wants_json

COOKIE = "reviewer"
OWN = ("reviewer", "did", "take")
"""what an address of this page says beside the filter"""
HISTORY = 100
"""decisions on one page"""

router = APIRouter(tags=["review"])


class Refusal(BaseModel):
    """Why nothing was written down. `code`: as of ReviewError, or `input` for what is no decision."""

    code: str
    problem: str


class ReviewView(BaseModel):
    """The queue as one reviewer sees it."""

    run: str
    reviewer: str
    is_named: bool
    """the reviewer has said who they are"""
    query: str
    """the filter, as the query of an address"""
    case: Case | None
    """who is next; None: nobody waits (of those that the filter finds)"""
    counts: Counts
    refused: list[Refused]
    """of the ids that were asked for, those that cannot be decided now"""
    going: Going
    did: Entry | None
    """what was done last"""
    problem: Refusal | None
    """why what was asked for was not done"""
    reasons: list[str]
    draft: dict[str, str] | None
    """an edit that was begun: what stands in its fields"""
    claimed_until: float | None


class AgreementView(BaseModel):
    run: str
    reviewer: str
    people: PeopleReport
    going: Going
    history: list[Entry]
    before: int | None
    """the id to ask for the decisions before these by; None: these are all"""


class Decision(BaseModel):
    """What is decided of a candidate. A form has the parts of the row as fields of their own."""

    decision: str = Field(description="accept, reject, edit or skip")
    code: str = Field("", description="why it is rejected: " + ", ".join(REASONS))
    note: str = ""
    row: dict[str, Any] | None = Field(None, description="of an edit: the row as it shall be, or those parts of it that change")
    reviewer: str = Field("", description="who decides; default: the cookie `reviewer`, else the user that the server runs as")


class Done(BaseModel):
    """What was written down, and who goes on by it."""

    entry: Entry
    going: Going


class Claim(BaseModel):
    until: float


class Visit(NamedTuple):
    """Who asks for the queue of which run."""

    request: Request
    run: str
    queue: Queue
    reviewer: str

    @property
    def query(self) -> str:
        """The filter of the address."""
        return urlencode([(key, value) for key, value in self._pairs if key not in FOR_THE_PAGE and value])

    @property
    def wanted(self) -> Wanted:
        """Whom the filter means. Raises InputError for a key or a value that is none."""
        found = Filter.of(self._pairs)
        ids = tuple(id_ for value in found.values("ids") for id_ in value.split(",") if id_)
        if set(dict(found.conditions)) <= {"leaf", "code", "ids"}:
            return Wanted(found.values("leaf"), found.values("code"), ids or None)
        where, values = found.where()
        library: Library = self.request.app.state.library
        rows = library.index(self.run).rows(f"SELECT c.id FROM candidates AS c WHERE {where}", values)
        return Wanted(ids=tuple(row["id"] for row in rows))

    @property
    def ids(self) -> list[str]:
        """Those that the address names."""
        return [id_ for key, value in self._pairs if key == "ids" for id_ in value.split(",") if id_]

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        return [(key, value) for key, value in parse_qsl(self.request.url.query) if key not in OWN]


def _visit(request: Request, run: str) -> Visit:
    library: Library = request.app.state.library
    return Visit(request, run, Queue(library.folder(run).ledger), _asked(request) or _known(request))


async def _decision(request: Request) -> Decision:
    """From a form or from JSON. Raises InputError."""
    kind = request.headers.get("content-type", "")
    try:
        if kind.startswith("application/json"):
            return Decision.model_validate_json(await request.body())
        form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
        row = {part: form[part] for part in PARTS if part in form}
        return Decision.model_validate({**{name: form[name] for name in ("decision", "code", "note") if name in form}, "row": row})
    except ValidationError as fault:
        said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in fault.errors())
        raise InputError(f"this is no decision: {said}") from None


Here = Annotated[Visit, Depends(_visit)]
BODY = {
    "content": {
        "application/json": {"schema": Decision.model_json_schema()},
        "application/x-www-form-urlencoded": {
            "schema": {
                "type": "object",
                "properties": {name: {"type": "string"} for name in ("decision", "code", "note", *PARTS, "csrf")},
                "required": ["decision"],
            }
        },
    }
}


# -- what is shown -----------------------------------------------------------------------------------------------------


@router.get("/runs/{run}/review", response_model=ReviewView, summary="The queue of those who wait, and the first of them")
def review(
    here: Here,
    did: Annotated[int | None, Query(description="the id of what was done last")] = None,
    take: Annotated[int | None, Query(description="the answer to begin an edit with, of several of which none was chosen")] = None,
) -> Response:
    """Takes the filter of the candidates as well. A page claims the candidate that it shows for the reviewer; JSON does not."""
    if here.reviewer != (before := _known(here.request)) and not wants_json(here.request):
        here.queue.release(before)  # the same person, by another name
    view = _seen(here, did=did)
    if take is not None and view.case is not None:
        taken = [one for one in view.case.answers if one.sample == take]
        view.draft = {"answer": taken[0].answer, "reasoning": taken[0].reasoning} if taken else None
    return _shown(here, view)


@router.get("/runs/{run}/review/agreement", response_model=AgreementView, summary="People against the panel, and what they decided")
def agreement_of_people(
    here: Here, before: Annotated[int | None, Query(description="decisions before that of this id")] = None
) -> Response:
    with Ledger(here.queue.path, read_only=True) as ledger:
        people = agreement.read(ledger)
    history = here.queue.history(HISTORY, before)
    last = history[-1].id if len(history) == HISTORY else None
    going = here.queue.going()
    view = AgreementView(run=here.run, reviewer=here.reviewer, people=people, going=going, history=history, before=last)
    return page(here.request, "review_agreement.html", view, clock=reviews.clock)


# -- what is done ------------------------------------------------------------------------------------------------------


@router.post("/runs/{run}/review/undo", response_model=Done, responses={409: {"model": Refusal}}, summary="Take back one's last decision")
def undo(here: Here) -> Response:
    try:
        entry = here.queue.undo(here.reviewer)
    except ReviewError as fault:
        return _refused(here, fault, 409)
    return _done(here, entry)


@router.post("/runs/{run}/review/release", status_code=204, summary="Let go of the candidate that one looks at")
def release(here: Here, until: Annotated[float | None, Query(description="only a claim that holds no longer")] = None) -> Response:
    here.queue.release(here.reviewer, *([] if until is None else [until]))
    return Response(status_code=204)


@router.post("/runs/{run}/review/{id}/claim", response_model=Claim, responses={409: {"model": Refusal}}, summary="Look at this candidate")
def claim(here: Here, id: str) -> Response:
    """Nobody else is shown it for ten minutes; whatever else the reviewer looked at is let go."""
    try:
        here.queue.claim(id, here.reviewer)
    except ReviewError as fault:
        return JSONResponse(Refusal(code=fault.code, problem=str(fault)).model_dump(), 409)
    return JSONResponse(Claim(until=time.time() + CLAIMED).model_dump())


@router.post(
    "/runs/{run}/review/{id}",
    response_model=Done,
    responses={400: {"model": Refusal}, 409: {"model": Refusal}},
    openapi_extra={"requestBody": BODY},
    summary="Decide a candidate: accept, reject, edit or skip it",
)
def decide(here: Here, id: str, said: Annotated[Decision, Depends(_decision)]) -> Response:
    here = here._replace(reviewer=reviews.name_of(said.reviewer) or here.reviewer)
    try:
        made = here.queue.decide(id, here.reviewer, said.decision, code=said.code, note=said.note, row=said.row)
    except ReviewError as fault:
        return _refused(here, fault, 409)
    except InputError as fault:
        return _refused(here, fault, 400, said.row if said.decision == "edit" else None)
    entry = here.queue.entry(made)
    assert entry is not None, "it was written down a moment ago"
    return _done(here, entry)


def _is_program(request: Request) -> bool:
    """Whether whoever decides by this request wants to be told in JSON."""
    return wants_json(request) or request.headers.get("content-type", "").startswith("application/json")


def _done(here: Visit, entry: Entry) -> Response:
    """To a program what was written down; to a browser the next candidate."""
    if _is_program(here.request):
        return JSONResponse(Done(entry=entry, going=here.queue.going()).model_dump(mode="json"))
    rest = [here.query, f"did={entry.id}"]
    return RedirectResponse(f"/runs/{quote(here.run, safe='')}/review?{'&'.join(filter(None, rest))}", 303)


def _refused(here: Visit, fault: ReviewError | InputError, status: int, draft: dict[str, str] | None = None) -> Response:
    """To a program why; to a browser the next candidate, too; `draft` keeps what was written."""
    problem = Refusal(code=fault.code if isinstance(fault, ReviewError) else "input", problem=str(fault))
    if _is_program(here.request):
        return JSONResponse(problem.model_dump(), status)
    return _shown(here, _seen(here, problem=problem).model_copy(update={"draft": draft}), status)


def _seen(here: Visit, did: int | None = None, problem: Refusal | None = None) -> ReviewView:
    queue, me, wanted = here.queue, here.reviewer, here.wanted
    peeking = wants_json(here.request)
    found = queue.first_for(me, wanted) if peeking else queue.next_for(me, wanted)
    return ReviewView(
        run=here.run,
        reviewer=me,
        is_named=bool(_asked(here.request) or here.request.cookies.get(COOKIE)),
        query=here.query,
        case=queue.case(found) if found else None,
        counts=queue.counts(me, wanted),
        refused=queue.not_decidable(me, here.ids),
        going=queue.going(),
        did=queue.entry(did) if did else None,
        problem=problem,
        reasons=list(REASONS),
        draft=None,
        claimed_until=None if peeking or found is None else time.time() + CLAIMED,
    )


def _shown(here: Visit, view: ReviewView, status: int = 200) -> Response:
    address = f"/runs/{quote(here.run, safe='')}/review"

    def narrowed(**changes: str | None) -> str:
        """This page with another filter."""
        pairs = [(key, value) for key, value in parse_qsl(view.query) if key not in changes]
        query = urlencode([*pairs, *((key, value) for key, value in changes.items() if value)])
        return f"{address}?{query}" if query else address

    response = page(
        here.request, "review.html", view, status, address=address, narrowed=narrowed, pairs=parse_qsl(view.query), clock=reviews.clock
    )
    if asked := _asked(here.request):
        keep(response, COOKIE, quote(asked))
    return response


# -- who reviews -------------------------------------------------------------------------------------------------------


def _asked(request: Request) -> str:
    """The name that the address says."""
    return reviews.name_of(request.query_params.get("reviewer", ""))


def _known(request: Request) -> str:
    """Who it was until now: as they said once, else the user that the server runs as."""
    return reviews.name_of(unquote(request.cookies.get(COOKIE, ""))) or reviews.this_user()
