"""The interface in two languages. Templates say `{{ _("Accepted") }}`: the English is the key, `words/*.zh.yaml` have the Chinese."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

import yaml
from fastapi import Request

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


def speaking(language: Spoken) -> Callable[..., str]:
    """`_`: a phrase in this language, its `{names}` filled in. A phrase without a translation is shown in English."""

    def say(phrase: str, **values: object) -> str:
        text = chinese().get(phrase, phrase) if language == "zh" else phrase
        return text.format(**values) if values else text

    return say


def language_of(request: Request) -> Spoken:
    """`?lang=` first, then the cookie that it sets, then what the browser prefers."""
    asked = (request.query_params.get("lang"), request.cookies.get(COOKIE), request.headers.get("accept-language", "")[:2])
    return next((known for one in asked for known in get_args(Spoken) if one == known), "en")
