"""The interface in two languages. Templates say `{{ _("Accepted") }}`: the English is the key, `words/*.zh.yaml` have the Chinese."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml
from starlette.requests import Request

Spoken = Literal["en", "zh"]
FOLDER = Path(__file__).parent / "words"
COOKIE = "lang"


@cache
def chinese() -> Mapping[str, str]:
    """All phrases of all files; the files are told apart by the page that they are of."""
    found: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.zh.yaml")):
        found |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return found


def phrase(english: str) -> str:
    """Marks a phrase that is translated where it is shown, not where it stands."""
    return english


def speaking(language: Spoken) -> Callable[..., str]:
    """`_`: a phrase in this language, its `{names}` filled in. A phrase without a translation is shown in English."""

    def say(phrase: str, **values: object) -> str:
        text = chinese().get(phrase, phrase) if language == "zh" else phrase
        return text.format(**values) if values else text

    return say


def asked_language(request: Request) -> Spoken | None:
    """What `?lang=` asks for; the page then sets the cookie, so that the next one is of the same language."""
    return _known(request.query_params.get("lang"))


def language_of(request: Request) -> Spoken:
    """`?lang=` first, then the cookie, then what the browser prefers."""
    browser = request.headers.get("accept-language", "")[:2]
    return asked_language(request) or _known(request.cookies.get(COOKIE)) or _known(browser) or "en"


def _known(language: str | None) -> Spoken | None:
    return next((known for known in get_args(Spoken) if known == language), None)
