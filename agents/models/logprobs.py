"""What else might have stood where a judge wrote its score, and how likely: read from the log-probabilities of its reply's tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

SCORE = re.compile(rb'"score"\s*:\s*(?=\d)')


def at_score(told: Any) -> dict[str, float] | None:
    """Log-probabilities by token at the place of the score, from a choice's `logprobs` as OpenAI's protocol has them.

    None where there is no score in the reply, or the server tells nothing that can be read."""
    content = told.get("content") if isinstance(told, dict) else None
    tokens = [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []
    texts = [_bytes(one) for one in tokens]
    found = [*SCORE.finditer(b"".join(texts))]
    if not found:
        return None
    place = found[-1].end()  # a reason may speak of scores, too
    for one, text in zip(tokens, texts, strict=True):
        if place < len(text):
            return dict(_likely(one)) or None
        place -= len(text)
    return None


def _bytes(token: Mapping[str, Any]) -> bytes:
    """The bytes of a token: of Chinese it may hold a part of a character, which its text cannot say."""
    given = token.get("bytes")
    if isinstance(given, list) and all(isinstance(one, int) and 0 <= one < 256 for one in given):
        return bytes(given)
    return str(token.get("token", "")).encode("utf-8", "replace")


def _likely(token: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for one in token.get("top_logprobs") or ():
        if isinstance(one, dict) and isinstance(one.get("token"), str) and isinstance(one.get("logprob"), int | float):
            yield one["token"], float(one["logprob"])
