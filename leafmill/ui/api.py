"""The addresses of all pages for programs: what each takes, and how to ask."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from leafmill.ui.page import page

ABOUT = """\
What the pages of `leafmill ui` show, for programs. Every address answers HTML or JSON: say `Accept: application/json`, or add
`?format=json`. A POST needs the header `X-CSRF-Token`, with what the last reply gave in the header of the same name, and its cookie.
Where `leafmill ui` asks for a token, say `Authorization: Bearer <token>`.
"""

router = APIRouter(tags=["api"])


class Parameter(BaseModel):
    name: str
    place: str
    """path or query"""
    kind: str
    required: bool
    description: str


class Address(BaseModel):
    """One method of one address."""

    method: str
    path: str
    page: str
    """whose data it gives"""
    summary: str
    parameters: list[Parameter]


class Api(BaseModel):
    """What programs may ask for; /openapi.json says the same in full, with the fields of every reply."""

    addresses: list[Address]


@router.get("/api", response_model=Api, summary="What programs may ask for")
def api(request: Request) -> Response:
    return page(request, "api.html", Api(addresses=_addresses(request.app.openapi())), base=str(request.base_url))


def _addresses(document: dict[str, Any]) -> list[Address]:
    return [
        Address(
            method=method.upper(),
            path=path,
            page=", ".join(operation.get("tags", ())),
            summary=operation.get("summary", ""),
            parameters=[_parameter(one) for one in operation.get("parameters", ())],
        )
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def _parameter(said: dict[str, Any]) -> Parameter:
    schema = said["schema"]
    kinds = [one.get("type", "") for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]
    return Parameter(
        name=said["name"], place=said["in"], kind=" or ".join(kinds), required=said["required"], description=said.get("description", "")
    )
