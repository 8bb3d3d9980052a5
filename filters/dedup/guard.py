"""What keeps near-identical instructions apart: "sort ascending" and "sort descending" are two tasks, not one.

Shingles and embeddings both hold two instructions to be equal when one number, negation or name was changed: without this guard 80 to
90 of 100 such pairs would be merged. `differs` looks for what a reader would call another task:

* numbers, as a multiset: Arabic, full width, number words, Chinese numerals. 1, "one" and 一 are left out, they are mostly articles;
* negations, counted: "do not use" and "without using" weigh the same;
* opposites that trade places (ascending / descending, 优点 / 缺点);
* operators between operands (x + 1 / x - 1);
* names: words with inner capitals, digits, underscores or dots, words before "(", capitalised words inside an English sentence, listed
  names in any case, every Latin word in a Chinese text, listed Chinese names (places, persons, languages, feasts);
* quoted text and titles.

Two rules make it conservative, that is slow to tell apart what was merely rephrased. A name or a quotation counts only when the *other*
text does not hold it in any case or with other punctuation, so "python", "Python" and `Python` are one. And a synonym is no difference:
only listed opposites and names are. A Chinese name that is on no list is missed; the shingles then decide alone.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from filters import words_en, words_zh
from filters.text import CJK, bare, normalise, script

_OPPOSITES = (*words_en.OPPOSITES, *words_zh.OPPOSITES)
_NOT_NUMBER = re.compile(words_zh.NOT_NUMBERS)
_NUMBER = re.compile(
    r"(?<![a-z_\d.])(?P<arabic>\d+(?:,\d{3})*(?:\.\d+)?)(?P<power>[百千万亿]*)"
    rf"|(?P<han>[{''.join([*words_zh.DIGITS, *words_zh.POWERS])}]+)"
)
_ENGLISH_NUMBER = re.compile(rf"\b(?:{'|'.join(words_en.NUMBERS)})\b")
_NOT_NEGATION = re.compile(f"{words_en.NOT_NEGATIONS}|{words_zh.NOT_NEGATIONS}")
_NEGATION = re.compile(f"{words_en.NEGATIONS}|{words_zh.NEGATIONS}")
_OPERATOR = re.compile(r"(?:(?<=\d)|(?<=[)\]])|(?<=\b[a-z]))\s*(<=|>=|==|!=|[-+*/=<>^≤≥≠×÷])\s*(?=\d|[a-z]\b|[(\[])")
_RANGE = re.compile(r"(?<=\d)-(?=\d)")
_WORD = re.compile(rf"[^\W\d{CJK}][^\W{CJK}]*(?:\.[^\W\d{CJK}]{{2,}})*(?:\+\+|#)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n\"“(*•>-]|\d[.)])\s*$")
_CODE_LIKE = re.compile(r".*[\d_.+#]|.+[A-Z]")
_QUOTES = (("“", "”"), ('"', '"'), ("‘", "’"), ("「", "」"), ("『", "』"), ("《", "》"), ("`", "`"))
_QUOTED = re.compile("|".join(rf"{a}([^{b}\n]{{1,80}}){b}" for a, b in _QUOTES) + r"|(?<!\w)'([^'\n]{1,80})'(?!\w)")


def differs(a: str, b: str) -> str | None:
    """What makes two similar instructions two tasks, such as "numbers: 3 / 5"; None when nothing does. Symmetric up to the order shown."""
    x, y = _marks(a), _marks(b)
    if x.numbers != y.numbers:
        return _versus("numbers", (x.numbers - y.numbers).elements(), (y.numbers - x.numbers).elements())
    if x.negations != y.negations:
        return f"negations: {x.negations} / {y.negations}"
    if x.operators != y.operators:
        return _versus("operators", (x.operators - y.operators).elements(), (y.operators - x.operators).elements())
    for one, other in ((x, y), (y, x)):
        for left, right in _OPPOSITES:
            if left in one and left not in other and right in other and right not in one:
                return f"opposites: {left} / {right}"
    only_x, only_y = {n for n in x.names if n not in y}, {n for n in y.names if n not in x}
    return _versus("names", only_x, only_y) if only_x or only_y else None


class _Marks(NamedTuple):
    folded: str
    bare: str
    words: frozenset[str]
    numbers: Counter[float]
    negations: int
    operators: Counter[str]
    names: frozenset[str]

    def __contains__(self, name: object) -> bool:
        """Whether the text holds a name: Latin words as whole words, the rest (Chinese, quotations) anywhere."""
        return name in self.words or (isinstance(name, str) and not _WORD.fullmatch(name) and (name in self.bare or name in self.folded))


@functools.lru_cache(maxsize=4096)
def _marks(text: str) -> _Marks:
    folded = normalise(text)
    return _Marks(
        folded=folded,
        bare=bare(text),
        words=frozenset(word for word in _WORD.findall(folded)),
        numbers=_numbers(folded),
        negations=len(_NEGATION.findall(_NOT_NEGATION.sub(" ", folded))),
        operators=Counter(_OPERATOR.findall(_RANGE.sub(" ", folded))),
        names=frozenset(_names(text, folded)),
    )


def _numbers(folded: str) -> Counter[float]:
    found: Counter[float] = Counter(float(words_en.NUMBERS[word]) for word in _ENGLISH_NUMBER.findall(folded))
    for match in _NUMBER.finditer(_NOT_NUMBER.sub(" ", folded)):
        if arabic := match["arabic"]:
            value = float(arabic.replace(",", ""))
            for power in match["power"]:
                value *= words_zh.POWERS[power]
        else:
            value = float(_chinese_number(match["han"]))
        found[value] += 1
    del found[1.0]
    return found


def _chinese_number(numeral: str) -> int:
    """三百二十 is 320, 二〇二四 is 2024, 三万五千 is 35000."""
    if not any(sign in words_zh.POWERS for sign in numeral):
        return int("".join(str(words_zh.DIGITS[sign]) for sign in numeral))
    total = section = digit = 0
    for sign in numeral:
        if sign in words_zh.DIGITS:
            digit = words_zh.DIGITS[sign]
        elif (power := words_zh.POWERS[sign]) < 10000:
            section += (digit or 1) * power
            digit = 0
        else:
            total = (total + section + digit or 1) * power
            section = digit = 0
    return total + section + digit


def _names(text: str, folded: str) -> Iterable[str]:
    text = unicodedata.normalize("NFKC", text)
    chinese = script(text) > 0.5
    for match in _WORD.finditer(text):
        word, name = match[0], normalise(match[0])
        called = text[match.end() : match.end() + 1] == "("
        capital = word[0].isupper() and word != "I" and not _SENTENCE_START.search(text[max(0, match.start() - 8) : match.start()])
        if called or capital or _CODE_LIKE.match(word) or name in words_en.ENTITIES or (chinese and name not in words_en.STOP_WORDS):
            yield name
    for groups in _QUOTED.findall(text):
        quoted = "".join(groups)
        yield bare(quoted) or normalise(quoted)
    yield from (name for name in words_zh.ENTITIES if name in folded)


def _versus(what: str, left: Iterable[object], right: Iterable[object]) -> str:
    def show(found: Iterable[object]) -> str:
        return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in sorted(found, key=str)) or "-"

    return f"{what}: {show(left)} / {show(right)}"
