"""What went wrong, as a page, as a notice in a page that is open, or as JSON: what happened, and what to do.

One table says which status an error has. An error that is not in it is a bug: the page tells nothing of its inside, the log does.
"""

from __future__ import annotations

import sqlite3
from http import HTTPStatus

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DatabaseError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from leafmill import errors
from leafmill.ui.page import page, wants_part
from leafmill.ui.words import phrase


class Problem(BaseModel):
    """An answer that is no page."""

    status: int
    title: str
    """what happened, in a few words"""
    detail: str = ""
    """the error's own words: the value, what was expected, where"""
    todo: str = ""


BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
BROKEN = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
OUT_OF_REACH = {sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_FULL}
"""primary result codes of SQLite that say something of the file; any other is a fault of ours"""

_LOCKED = (
    phrase("The ledger is locked"),
    phrase("Another program holds it for writing. This passes: load the page again in a moment."),
)
_DAMAGED = (
    phrase("The ledger is damaged"),
    phrase("Copy the run's folder first. Then try `sqlite3 ledger.db .recover | sqlite3 mended.db`, and put the mended file in its place."),
)
_OUT_OF_REACH = (
    phrase("The ledger cannot be read"),
    phrase("See whether the disk is full or gone, and whether you may read and write in the run's folder."),
)
_GONE = (
    phrase("There is no such thing here"),
    phrase("It may have been deleted, renamed or moved while its page was open. The page of all runs shows what there is."),
)
_NOT_KNOWN = (
    phrase("The address asks for something unknown"),
    phrase("Mend the part of the address that is named here, or go back and choose again."),
)

STATUS: dict[type[errors.LeafmillError], tuple[int, str, str]] = {
    errors.OtherVersionError: (
        409,
        phrase("The ledger was made by another version of Leafmill"),
        phrase("Look at it with the version that made it, or make the run again. Versions that only lack tables are brought up to date."),
    ),
    errors.LockedError: (409, phrase("The run is in use"), phrase("Another process works in its folder. Wait for it, or stop it first.")),
    errors.DiskError: (503, *_OUT_OF_REACH),
    errors.RunFolderError: (404, *_GONE),
    errors.ReviewError: (
        409,
        phrase("That could not be decided"),
        phrase("Load the queue again: somebody else may have decided it, or the run went on."),
    ),
    errors.InputError: (400, *_NOT_KNOWN),
    errors.LeafmillError: (500, phrase("That did not work"), phrase("The command line may say more: `leafmill doctor`.")),
}
"""the most special first"""

_OF_HTTP = {
    404: _GONE,
    405: (phrase("This address does not take that"), phrase("Go back and use the page's own buttons.")),
    413: (phrase("That is too much at once"), phrase("Send less: a few rows at a time.")),
    422: _NOT_KNOWN,
}


def handle_errors(app: FastAPI) -> None:
    """Give the application a page for each of them."""
    app.add_exception_handler(errors.LeafmillError, _answer)
    app.add_exception_handler(sqlite3.DatabaseError, _answer)
    app.add_exception_handler(DatabaseError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(RequestValidationError, _answer)


def show(request: Request, problem: Problem) -> Response:
    """The problem in the form that is asked for."""
    return page(request, "error_part.html" if wants_part(request) else "error.html", problem, problem.status)


def show_bug(request: Request) -> Response:
    """A fault of ours, of which the page tells nothing."""
    title = phrase("Something in Leafmill is broken")
    todo = phrase("The terminal in which `leafmill ui` runs says what. The runs are unharmed.")
    return show(request, Problem(status=500, title=title, todo=todo))


def problem_of(fault: Exception) -> Problem | None:
    """None: a bug."""
    match fault:
        case errors.DiskError(__cause__=(sqlite3.DatabaseError() | DatabaseError()) as cause):
            status, title, todo = STATUS[errors.DiskError]
            found = _of_sqlite(cause) or Problem(status=status, title=title, todo=todo)
            return found.model_copy(update={"detail": str(fault)})
        case errors.LeafmillError():
            status, title, todo = next(said for kind, said in STATUS.items() if isinstance(fault, kind))
            return Problem(status=status, title=title, detail=str(fault), todo=todo)
        case sqlite3.DatabaseError() | DatabaseError():
            return _of_sqlite(fault)
        case HTTPException(status_code=status):
            words = HTTPStatus(status).phrase
            title, todo = _OF_HTTP.get(status, (words, ""))
            return Problem(status=status, title=title, detail="" if fault.detail == words else str(fault.detail), todo=todo)
        case RequestValidationError():
            said = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}, got {one['input']!r:.80}" for one in fault.errors())
            return Problem(status=422, title=_NOT_KNOWN[0], detail=said, todo=_NOT_KNOWN[1])
    return None


def _of_sqlite(fault: sqlite3.DatabaseError | DatabaseError) -> Problem | None:
    """By SQLite's own code, which its texts only paraphrase."""
    cause = fault.orig if isinstance(fault, DatabaseError) else fault
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    kinds = ((BUSY, _LOCKED), (BROKEN, _DAMAGED), (OUT_OF_REACH, _OUT_OF_REACH))
    return next((Problem(status=503, title=said[0], detail=str(cause), todo=said[1]) for codes, said in kinds if code in codes), None)


async def _answer(request: Request, fault: Exception) -> Response:
    problem = problem_of(fault)
    if problem is None:
        raise fault
    response = show(request, problem)
    if isinstance(fault, HTTPException) and fault.headers:
        response.headers.update(fault.headers)
    return response
