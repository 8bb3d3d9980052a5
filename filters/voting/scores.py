"""A score read from a judge's words, for judges that reply in text: "Score: 7.", "8/10", "评分：８", "[[6]]".

A score is what the judge wrote, or there is none. It is never rescaled (UltraFeedback's parser made tens of ones), no default stands in for
one, and what was not scored does not enter a mean.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

_NUMBER = r"(-?\d+(?:\.\d+)?)"
_OF = r"(?:\s*(?:/|out of|分之)\s*(\d+(?:\.\d+)?))?"
_MARKED = re.compile(
    rf"(?:\[result\]|\b(?:score|rating|grade)\b|评分|得分|分数|打分)(?:\s*(?:is|of|为|是))?\s*[:=]?\s*[\"'*\[(]*{_NUMBER}{_OF}|\[\[{_NUMBER}\]\]",
    re.IGNORECASE,
)
_WHOLE = re.compile(rf"[\"'*\[(]*{_NUMBER}{_OF}\s*(?:分|points?)?[\"'*\])]*[.。!]?", re.IGNORECASE)
_OUT_OF = re.compile(rf"(?<![\d./]){_NUMBER}\s*(?:/|out of)\s*(\d+(?:\.\d+)?)(?![\d/])", re.IGNORECASE)


class Mean(NamedTuple):
    """Of `n` scores; `value` is None when there is none."""

    value: float | None
    n: int


def read(text: str, low: int = 1, high: int = 10) -> float | None:
    """The score in a reply: all of it, or the last that is called one, or the only one that is said to be out of `high`. None where there
    is none, where several claim to be it, or where it does not lie on the scale."""
    said = unicodedata.normalize("NFKC", text).strip()
    if whole := _WHOLE.fullmatch(said):
        return _on_scale(whole[1], whole[2], low, high)
    if marked := list(_MARKED.finditer(said)):
        last = marked[-1]
        return _on_scale(last[1] or last[3], last[2], low, high)
    found = {_on_scale(number, of, low, high) for number, of in _OUT_OF.findall(said)}
    return found.pop() if len(found) == 1 else None


def mean(scores: Iterable[float | None]) -> Mean:
    """Of those that were scored.

    >>> mean([8, None, 6])
    Mean(value=7.0, n=2)
    """
    read_ = [score for score in scores if score is not None and math.isfinite(score)]
    return Mean(math.fsum(read_) / len(read_) if read_ else None, len(read_))


def _on_scale(number: str, of: str | None, low: int, high: int) -> float | None:
    """The number as it stands; None when it is out of something else, or beyond the scale."""
    value = float(number)
    return value if low <= value <= high and (of is None or float(of) == high) else None
