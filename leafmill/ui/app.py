"""The web application: what every page shares, and the pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from leafmill import __version__
from leafmill.ui import api, errors_page, review, runs, settings
from leafmill.ui.access import Access
from leafmill.ui.candidate import page as candidate
from leafmill.ui.candidates import download
from leafmill.ui.candidates import page as candidates
from leafmill.ui.compare import page as compare
from leafmill.ui.library import Library
from leafmill.ui.page import HERE
from leafmill.ui.roles import page as roles
from leafmill.ui.run import page as run

PAGES = (runs, run, candidates, download, candidate, review, roles, compare, api, settings)


def create(folder: Path, token: str | None = None) -> FastAPI:
    """The application over a folder of runs; who shows no token, if there is one, sees nothing of it."""
    app = FastAPI(title="Leafmill", version=__version__, description=api.ABOUT, docs_url=None, redoc_url=None)
    app.state.library = library = Library(folder)
    app.state.shelf = runs.Shelf(library)
    app.add_middleware(Access, token=token)
    errors_page.handle_errors(app)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for page in PAGES:
        app.include_router(page.router)
    return app
