"""A page has two faces: HTML by its template, and the same view as JSON for whoever asks for it.

Every address answers both: `Accept: application/json`, or `?format=json`, gets the view itself, as the OpenAPI document describes it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from leafmill import __version__
from leafmill.ui import words

Theme = Literal["auto", "light", "dark"]
THEMES: tuple[Theme, ...] = get_args(Theme)
THEME_COOKIE = "theme"
YEAR = 365 * 24 * 3600

HTMX = {
    "allowEval": False,
    "allowScriptTags": False,
    "includeIndicatorStyles": False,
    "selfRequestsOnly": True,
    "historyCacheSize": 0,
    "refreshOnHistoryMiss": True,
    "responseHandling": [
        {"code": "204", "swap": False},
        {"code": "[23]..", "swap": True},
        {"code": "[45]..", "swap": True, "error": True, "target": "#notices", "swapOverride": "innerHTML"},
    ],
}
"""What htmx may do: nothing that the Content-Security-Policy forbids, and nothing of a page is kept in the browser. An error's notice goes
where notices stand."""

HERE = Path(__file__).parent
_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates = Jinja2Templates(env=_environment)
_environment.globals |= {"htmx_config": json.dumps(HTMX), "version": __version__}
filters = _environment.filters
"""Jinja filters that pages add: what turns text of a model into markup is escaped there, and nowhere else"""


def wants_json(request: Request) -> bool:
    """Whether the view itself is asked for, not the page that shows it."""
    if "format" in request.query_params:
        return request.query_params["format"] == "json"
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def wants_part(request: Request) -> bool:
    """Whether htmx asks, which puts what it gets into a page that is open."""
    return request.headers.get("hx-request") == "true"


def page(request: Request, template: str, view: BaseModel, status: int = 200, **more: Any) -> Response:
    """The view as JSON, or as HTML by its template, which knows it as `view` (and what `more` names)."""
    if wants_json(request):
        return JSONResponse(view.model_dump(mode="json"), status)
    language = words.language_of(request)
    known = {
        "view": view,
        "_": words.speaking(language),
        "language": language,
        "theme": theme_of(request),
        "csrf": request.state.csrf,
        "library": request.app.state.library,
        **more,
    }
    response = _templates.TemplateResponse(request, template, known, status)
    if words.asked_language(request):
        keep(response, words.COOKIE, language)
    return response


def written(template: str, language: words.Spoken, **known: Any) -> str:
    """A page that no browser asks for: its text."""
    return _environment.get_template(template).render(_=words.speaking(language), language=language, **known)


def theme_of(request: Request) -> Theme:
    """Light or dark as the reader chose; "auto" is what the system says."""
    return next((known for known in THEMES if known == request.cookies.get(THEME_COOKIE)), "auto")


def keep(response: Response, name: str, value: str) -> None:
    """Let the browser remember a choice of how pages look."""
    response.set_cookie(name, value, max_age=YEAR, httponly=True, samesite="strict")
