"""A page has two faces: HTML by its template, and the same view as JSON for whoever asks for it.

Every address answers both: `Accept: application/json`, or `?format=json`, gets the view itself, as the OpenAPI document describes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse
from fastapi.templating import Jinja2Templates
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from pydantic import BaseModel

from leafmill.ui import words

HERE = Path(__file__).parent
_environment = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates = Jinja2Templates(env=_environment)
filters = _environment.filters
"""Jinja filters that pages add: what turns text of a model into markup is escaped there, and nowhere else"""


def wants_json(request: Request) -> bool:
    """Whether the view itself is asked for, not the page that shows it."""
    if "format" in request.query_params:
        return request.query_params["format"] == "json"
    accepted = request.headers.get("accept", "")
    return "application/json" in accepted and "text/html" not in accepted


def page(request: Request, template: str, view: BaseModel, status: int = 200, **more: Any) -> Response:
    """The view as JSON, or as HTML by its template, which knows it as `view` (and what `more` names)."""
    if wants_json(request):
        return JSONResponse(view.model_dump(mode="json"), status)
    language = words.language_of(request)
    known = {"view": view, "_": words.speaking(language), "language": language, "library": request.app.state.library, **more}
    return _templates.TemplateResponse(request, template, known, status)
