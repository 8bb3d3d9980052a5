"""The web application: what every page shares, and the pages."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from leafmill.ui import candidate, candidates, compare, review, roles, run, runs
from leafmill.ui.library import Library
from leafmill.ui.page import HERE

PAGES = (runs, run, candidates, candidate, review, roles, compare)


def create(folder: Path) -> FastAPI:
    """The application over a folder of runs."""
    app = FastAPI(title="Leafmill", docs_url=None, redoc_url=None)
    app.state.library = Library(folder)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    for page in PAGES:
        app.include_router(page.router)
    return app
