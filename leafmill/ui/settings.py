"""How pages look to this browser: language and theme, kept in cookies."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Form
from starlette.responses import RedirectResponse

from leafmill.ui.page import THEME_COOKIE, Theme, keep
from leafmill.ui.words import COOKIE, Spoken

router = APIRouter(tags=["settings"])


@router.post("/settings", status_code=303, response_class=RedirectResponse, summary="Choose language and theme of the pages")
def choose(
    lang: Annotated[Spoken | None, Form()] = None,
    theme: Annotated[Theme | None, Form()] = None,
    back: Annotated[str, Form(description="the page to return to")] = "/",
) -> RedirectResponse:
    here = back.startswith("/") and not back.startswith(("//", "/\\"))
    answer = RedirectResponse(back if here else "/", 303)
    for name, value in ((COOKIE, lang), (THEME_COOKIE, theme)):
        if value is not None:
            keep(answer, name, value)
    return answer
