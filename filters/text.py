"""How text is folded, counted and compared, in Chinese and English alike.

A *unit* is what a reader would call one word: a CJK character (Han or kana), or a run of other letters or digits. Lengths, ROUGE-L
and n-grams all count units, so a Chinese sentence is not "one word" (the fault of rules that split at spaces or `\\W`).

All gates look at the same few texts of a row, so what is found out about a text is `remembered` for a while.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

HAN = "々〇\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
KANA = "\u3041-\u30ff"
CJK = HAN + KANA
LONG = 1024
"""characters over which a text is remembered only until a few others of its size have come"""
MANY = 4096
"""other texts that are remembered: those of a few batches"""

P = ParamSpec("P")
T = TypeVar("T")

_OTHER_UNIT = rf"\d+(?:[.,]\d+)*(?![^\W_{CJK}])|[^\W{CJK}]+(?:'[^\W\d_{CJK}]+)*"
_UNIT = re.compile(rf"[{CJK}]|{_OTHER_UNIT}")
_SPAN = re.compile(rf"[{CJK}]+|{_OTHER_UNIT}")
_ASCII_UNIT = re.compile(r"\d+(?:[.,]\d+)*(?![a-z\d])|\w+(?:'[a-z]+)*", re.ASCII)
"""the same for folded text that is ASCII, which most English is"""
_CJK_UNIT = re.compile(rf"[{CJK}]")
_SPACE_BESIDE_CJK = re.compile(rf"(?<=[{CJK}]) | (?=[{CJK}])")
_INVISIBLE = dict.fromkeys([0xAD, 0x180E, 0xFEFF, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065)])
_PLAIN = str.maketrans("‘’“”–—", "''\"\"--")
_CODE = re.compile(r"(?ms)^[ \t]*(```|~~~).*?(?:^[ \t]*\1[ \t]*$|\Z)|`[^`\n]+`")


def remembered(work: Callable[Concatenate[str, P], T]) -> Callable[Concatenate[str, P], T]:
    """A function of a text that keeps its last results: those of many texts, and of 8 long ones, so that they stay small."""
    many, few = functools.lru_cache(maxsize=MANY)(work), functools.lru_cache(maxsize=8)(work)

    @functools.wraps(work)
    def known(text: str, *args: P.args, **named: P.kwargs) -> T:
        return (few if len(text) > LONG else many)(text, *args, **named)  # type: ignore[arg-type]

    return known  # type: ignore[return-value]


@remembered
def normalise(text: str) -> str:
    """The same text for the same words: NFKC (full and half width), casefold, no invisible characters, plain quotes and dashes,
    single spaces, simplified Han.

    Punctuation stays. Normalising twice changes nothing.
    """
    return _normalised(text)


@remembered
def normalised_lines(text: str) -> str:
    """The text normalised line by line, for rules about what stands at the start of one."""
    return "\n".join(map(_normalised, text.splitlines()))


@remembered
def bare(text: str) -> str:
    """The normalised text without punctuation and symbols: its units joined by spaces, CJK characters joined by nothing."""
    folded = normalise(text)
    if folded.isascii():
        return " ".join(_ASCII_UNIT.findall(folded))
    return _SPACE_BESIDE_CJK.sub("", " ".join(_SPAN.findall(folded)))


def tokens(text: str) -> list[str]:
    """The units of a text, normalised, in order.

    >>> tokens("用 Python 3.11 排序")
    ['用', 'python', '3.11', '排', '序']
    """
    return units_of_normalised(normalise(text))


def units_of_normalised(text: str) -> list[str]:
    """The units of a text that is normalised already, or of a piece of one between spaces."""
    return (_ASCII_UNIT if text.isascii() else _UNIT).findall(text)


def units(text: str) -> int:
    """How long a text is, in units."""
    return _count(text).units


def script(text: str) -> float:
    """The share of CJK units among all units, 0..1; 0 for a text without units."""
    count = _count(text)
    return count.cjk / count.units if count.units else 0.0


def without_code(text: str) -> str:
    """The text without fenced blocks (an unclosed one runs to the end) and inline code."""
    return _CODE.sub(" ", text)


def rouge_l(a: str, b: str) -> float:
    """ROUGE-L F1 over units (Lin 2004), 0..1; 0 when either has none.

    `rouge_score` keeps only [a-z0-9], so identical Chinese strings score 0 there; here they score 1.
    """
    return lcs_f1(tokens(a), tokens(b))


def lcs_f1(a: Sequence[str], b: Sequence[str]) -> float:
    """F1 of the longest common subsequence: 2 * LCS / (len(a) + len(b)); 0 when either is empty."""
    return 2 * lcs(a, b) / (len(a) + len(b)) if a and b else 0.0


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    return common_with(a)(b)


def common_with(a: Sequence[str]) -> Callable[[Sequence[str]], int]:
    """How long the longest common subsequence with `a` is, bit-parallel (Hyyrö 2004): one big-integer step per item of the other."""
    where: dict[str, int] = {}
    for place, item in enumerate(a):
        where[item] = where.get(item, 0) | 1 << place
    full = (1 << len(a)) - 1

    def length(b: Sequence[str]) -> int:
        open_ = full  # a zero bit is an item of `a` that the subsequence has reached
        for item in b:
            step = open_ & where.get(item, 0)
            open_ = ((open_ + step) | (open_ - step)) & full
        return len(a) - open_.bit_count()

    return length


class _Count(NamedTuple):
    units: int
    cjk: int


@remembered
def _count(text: str) -> _Count:
    return _Count(len(tokens(text)), len(_CJK_UNIT.findall(normalise(text))))  # every CJK character is a unit of its own


def _normalised(text: str) -> str:
    if text.isascii():  # the same, for nothing else in it can be folded
        return " ".join(text.lower().split())
    folded = text.translate(_alone())
    if not unicodedata.is_normalized("NFKC", folded):  # characters that become one: they have to be folded together
        folded = _folded(text)
    return " ".join(folded.split())


def _folded(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text.translate(_INVISIBLE)).casefold()
    return unicodedata.normalize("NFKC", folded.translate(_simplified()).translate(_PLAIN))


class _Learned(dict[int, str]):
    """A `str.translate` table that learns each character when it first meets it."""

    def __init__(self, one: Callable[[str], str]) -> None:
        self._one = one

    def __missing__(self, code: int) -> str:
        self[code] = found = self._one(chr(code))
        return found


@functools.cache
def _simplified() -> _Learned:
    """Simplified for traditional Han. Character by character is many-to-one and enough for comparing; OpenCC's phrases would only
    matter for text that people read."""
    from opencc import OpenCC  # type: ignore[import-untyped]

    convert = OpenCC("t2s").convert

    def simplified(one: str) -> str:
        was = ""
        while one > "\u2e7f" and one != was:  # one character of the table needs two steps
            was, one = one, convert(one)
        return one

    return _Learned(simplified)


@functools.cache
def _alone() -> _Learned:
    """What each character is folded to where its neighbours do not matter, which is nearly everywhere."""
    return _Learned(_folded)
