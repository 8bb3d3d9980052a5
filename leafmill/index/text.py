"""What full-text search looks for: the same terms for a text and for what a person types.

SQLite's own tokenizer takes a Chinese sentence for one word. So a run of Han, kana or Hangul characters is given to it as its overlapping
pairs, and the last character alone: 列表推导 becomes 列表 表推 推导 导. What is asked for becomes a phrase of pairs, so it is found where
it stands and nowhere else (the character alone keeps two runs apart that meet in the same character). All other text is split into words
as Unicode has it. Compatibility forms and case are the same.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise

SHORTEST = 2
"""letters from which the last word may go on: there is hardly a text without a word that begins with a given one"""
_CJK = re.compile(
    "[\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u1100-\u11ff\u3130-\u318f\uac00-\ud7af"
    "\U0001b000-\U0001b16f\U00020000-\U0003ffff]+"
)
_EITHER = re.compile(f"{_CJK.pattern}|[^{_CJK.pattern[1:-2]}]+")
_QUOTED = re.compile('["“”„「」『』]([^"“”„「」『』]*)["“”„「」『』]')


def terms(text: str) -> str:
    """A text as it is given to the index."""
    return _CJK.sub(lambda run: f" {' '.join(_pairs(run[0]))} {run[0][-1]} ", _plain(text))


def query(asked: str) -> str:
    """What a person typed, as a query of FTS5; "" when there is nothing in it to search for.

    Every word, and every run of Chinese, must be there; what stands in quotation marks, in that order. The last word may go on.

    >>> query("Python列表")
    '"python" AND "列表"'
    >>> query('"for loop" lis')
    '"for loop" AND "lis" *'
    >>> query("表")
    '"表" *'
    """
    asked = _plain(asked)
    quoted = [_phrase(list(_parts(one))) for one in _QUOTED.findall(asked)]
    parts = list(_parts(_QUOTED.sub(" ", asked)))
    words = [_phrase([part], goes_on=place == len(parts) - 1) for place, part in enumerate(parts)]
    return " AND ".join(phrase for phrase in [*quoted, *words] if phrase)


def _phrase(parts: Sequence[str], goes_on: bool = False) -> str:
    """These parts, one behind the other. The last word may go on; a single character at the end always may: it is the beginning of a pair,
    or stands alone at the end of its run."""
    if not parts:
        return ""
    *before, last = parts
    single = _CJK.match(last) is not None and len(last) == 1
    ending = " ".join(_pairs(last)) if _CJK.match(last) and not single else last
    said = " ".join([*(terms(part).strip() for part in before), ending])
    goes_on = goes_on and len(last) >= SHORTEST and not _CJK.match(last)
    return f'"{said}"' + (" *" if single or goes_on else "")


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _pairs(run: str) -> Iterator[str]:
    return (one + other for one, other in pairwise(run))


def _parts(text: str) -> Iterator[str]:
    """Words, and runs of Chinese, in their order: what holds a letter or a digit."""
    for word in "".join(char if unicodedata.category(char)[0] in "LNM" else " " for char in text).split():
        for part in _EITHER.findall(word):
            if any(unicodedata.category(char)[0] in "LN" for char in part):
                yield part
