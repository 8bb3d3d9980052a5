"""What keeps near-identical instructions apart: "sort ascending" and "sort descending" are two tasks, not one.

Shingles and embeddings both hold two instructions to be equal when one number, negation or name was changed: without this guard 80 to
90 of 100 such pairs would be merged. `differs` looks for what a reader would call another task:

* numbers, as a multiset: Arabic, full width, number words, Chinese numerals. 1, "one" and 一 are left out, they are mostly articles;
* units that trade places (km / miles, 元 / 美元, minutes / hours), by whatever name;
* negations, counted: "do not use" and "without using" weigh the same;
* opposites that trade places (ascending / descending, 优点 / 缺点);
* operators between operands (x + 1 / x - 1);
* languages and programming languages, listed;
* names: words with inner capitals, digits, underscores or dots, words before "(", capitalised words inside an English sentence, first
  names, listed names in any case, every Latin word in a Chinese text, listed Chinese names (places, feasts, firms), and persons as
  Chinese tasks call them (王芳, 刘老师, 小明);
* quoted text and titles.

Two rules make it conservative, that is slow to tell apart what was merely rephrased. A name or a quotation counts only when the *other*
text does not hold it in any case or with other punctuation, so "python", "Python" and `Python` are one. And a synonym is no difference:
only listed opposites, units and names are. A Chinese name that is on no list is missed; the shingles then decide alone.

`replaced` is for what compares words only: there a synonym cannot be told from another subject, but a whole phrase in another's place can.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import Literal, NamedTuple

from filters import words_en, words_zh
from filters.text import CJK, bare, lcs_f1, normalise, script, tokens, units

Kind = Literal["numbers", "units", "negations", "operators", "opposites", "languages", "programming", "names", "words"]


class Difference(NamedTuple):
    kind: Kind
    text: str
    """what each text has that the other lacks, as in: 3 / 5"""

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def differs(a: str, b: str) -> Difference | None:
    """What makes two similar instructions two tasks, such as "numbers: 3 / 5"; None when nothing does. Symmetric up to the order shown."""
    x, y = _marks(a), _marks(b)
    if x.numbers != y.numbers:
        return _versus("numbers", (x.numbers - y.numbers).elements(), (y.numbers - x.numbers).elements())
    if (only_x := x.units - y.units) and (only_y := y.units - x.units):
        return _versus("units", only_x.elements(), only_y.elements())
    if x.negations != y.negations:
        return Difference("negations", f"{x.negations} / {y.negations}")
    if x.operators != y.operators:
        return _versus("operators", (x.operators - y.operators).elements(), (y.operators - x.operators).elements())
    for one, other in ((x, y), (y, x)):
        for left in one.sides - other.sides:
            if right := (_OPPOSITES[left] & other.sides) - one.sides:
                return Difference("opposites", f"{left} / {min(right)}")
    missing_x, missing_y = x.missing(y), y.missing(x)
    if missing := {**missing_x, **missing_y}:
        return _versus(min(missing.values(), key=_NAMED.index), missing_x, missing_y)
    strange_x, strange_y = x.strange(y), y.strange(x)
    if strange_x or strange_y:
        return _versus("names", strange_x, strange_y)
    for one, other in ((x, y), (y, x)):
        for house, name in one.houses:
            rivals = [rival for kind, rival in other.houses if kind == house and rival not in one.folded]
            if rivals and name not in other.folded:
                return _versus("names", [name], rivals[:1])
    return None


PHRASE = 4
"""weight from which what stands in another's place is a phrase: two words, or four Chinese characters"""
MANY = 4
SHARE = 0.25
"""weight, and share of a text's, over which single words are so many that it is another text"""
TYPO = 3
"""letters over which a word may be another one with a typo"""
SAME_WORD = 0.7
"""F1 of the longest common subsequence of letters from which it is"""
SAME_NAME = 0.8
"""the same for names, of which one may be like another"""
TITLE = 8
"""units over which a quotation is no word or title"""
SAME_QUOTE = 0.7
"""F1 of the longest common subsequence of characters from which two quotations are one with an edit"""


def replaced(a: str, b: str) -> Difference | None:
    """What stands in another's place in two texts of similar words: a phrase where the other has another phrase, or many single words.

    Words that the other text has, too, wherever, and stop words end a phrase, and so does a word like one of the other's (a typo).
    """
    words, others = tokens(a), tokens(b)
    if not (set(words).difference(others, _STOP_WORDS) and set(others).difference(words, _STOP_WORDS)):
        return None
    x, y = _foreign(words, others), _foreign(others, words)
    phrase_x, phrase_y = max(x.phrases, key=_weight, default=[]), max(y.phrases, key=_weight, default=[])
    if min(_weight(phrase_x), _weight(phrase_y)) >= PHRASE:
        return _versus("words", [" ".join(phrase_x)], [" ".join(phrase_y)])
    all_x, all_y = ([word for phrase in foreign.phrases for word in phrase] for foreign in (x, y))
    if min(_weight(all_x), _weight(all_y)) >= MANY and (_weight(all_x) > SHARE * x.weight or _weight(all_y) > SHARE * y.weight):
        return _versus("words", all_x, all_y)
    return None


_STOP_WORDS = words_en.STOP_WORDS | words_zh.STOP_WORDS
_NAMED: list[Kind] = ["languages", "programming", "names"]


class _Marks(NamedTuple):
    folded: str
    bare: str
    words: frozenset[str]
    numbers: Counter[float]
    units: Counter[str]
    negations: int
    operators: Counter[str]
    sides: frozenset[str]
    """words that have an opposite"""
    names: Mapping[str, Kind]
    quoted: frozenset[str]
    houses: frozenset[tuple[str, str]]
    """what a Chinese name may end with, and the name"""

    def missing(self, other: _Marks) -> dict[str, Kind]:
        """Its names that the other text does not hold: Latin words as whole words, the rest (Chinese, quotations) anywhere."""
        found = {}
        for name, kind in self.names.items():
            if name in other.names or name in other.words:
                continue
            if not (other.misspells(name) if _WORD.fullmatch(name) else other.holds(name)):
                found[name] = kind
        return found

    def strange(self, other: _Marks) -> list[str]:
        """What it quotes and the other text does not hold. Of more than a word, something close to it is enough."""
        return [
            quote
            for quote in self.quoted - other.quoted
            if not other.holds(quote) and not (units(quote) > 1 and any(lcs_f1(quote, near) >= SAME_QUOTE for near in other.quoted))
        ]

    def misspells(self, name: str) -> bool:
        """Whether it has, as a plain word, the name with a typo."""
        return len(name) > TYPO and any(
            word[0] == name[0] and abs(len(word) - len(name)) < 2 and lcs_f1(word, name) > SAME_NAME
            for word in self.words - self.names.keys()
        )

    def holds(self, name: str) -> bool:
        return name in self.words or name in self.bare or name in self.folded


@functools.lru_cache(maxsize=4096)
def _marks(text: str) -> _Marks:
    folded = normalise(text)
    words = frozenset(_WORD.findall(folded))
    counted = _COUNTED.findall(folded)
    plain = folded.isascii()
    return _Marks(
        folded=folded,
        bare=bare(text),
        words=words,
        numbers=_numbers(folded, counted),
        units=Counter(_units(folded, counted)),
        negations=_negations(folded, words),
        operators=Counter() if _SIGNS.isdisjoint(folded) else Counter(_OPERATOR.findall(_RANGE.sub(" ", folded))),
        sides=(words & _OPPOSITES.keys()) | (frozenset() if plain else frozenset(side for side in _ZH_SIDES if side in folded)),
        names=dict(_names(text, folded)),
        quoted=frozenset(_quotations(text)),
        houses=frozenset() if plain else frozenset((match[2], match[1] + match[2]) for match in _HOUSE.finditer(folded)),
    )


class _Foreign(NamedTuple):
    phrases: list[list[str]]
    """words that the other text lacks, neighbours together"""
    weight: int
    """of all words but stop words"""


def _foreign(words: list[str], others: list[str]) -> _Foreign:
    theirs = frozenset(others)
    new = [other for other in theirs.difference(words) if len(other) > TYPO]
    ours = {
        word
        for word in set(words).difference(theirs, _STOP_WORDS)
        if len(word) <= TYPO or all(lcs_f1(word, other) < SAME_WORD for other in new)
    }
    runs = groupby(words, ours.__contains__)
    return _Foreign([list(run) for foreign, run in runs if foreign], _weight(word for word in words if word not in _STOP_WORDS))


def _weight(words: Iterable[str]) -> int:
    """A Chinese character is about half a word."""
    return sum([1 if word > "\u2e7f" else 2 for word in words])


# Opposites and negations.

_OPPOSITES: dict[str, set[str]] = defaultdict(set)
for _left, _right in (*words_en.OPPOSITES, *words_zh.OPPOSITES):
    _OPPOSITES[_left].add(_right)
    _OPPOSITES[_right].add(_left)
_ZH_SIDES = tuple(side for side in _OPPOSITES if not side.isascii())
_NEGATION = re.compile(
    rf"(?:{words_en.NOT_NEGATIONS}|{words_zh.NOT_NEGATIONS})|"
    rf"(?P<no>\b(?:{'|'.join(words_en.NEGATIONS)})\b|n't\b|{words_zh.NEGATIONS})"
)
_OPERATOR = re.compile(r"(?:(?<=\d)|(?<=[)\]])|(?<=\b[a-z]))\s*(<=|>=|==|!=|[-+*/=<>^≤≥≠×÷])\s*(?=\d|[a-z]\b|[(\[])")
_RANGE = re.compile(r"(?<=\d)-(?=\d)")
_SIGNS = frozenset("-+*/=!<>^≤≥≠×÷")


def _negations(folded: str, words: frozenset[str]) -> int:
    if folded.isascii() and "n't" not in folded and words.isdisjoint(words_en.NEGATIONS):
        return 0
    return sum(match.lastgroup == "no" for match in _NEGATION.finditer(folded))


# Numbers and units.

_NOT_NUMBER = re.compile(words_zh.NOT_NUMBERS)
_NUMERALS = "".join([*words_zh.DIGITS, *words_zh.POWERS])
_ARABIC = r"(?<![a-z_\d])(?<!\d\.)(?P<arabic>\d+(?:,\d{3})*(?:\.\d+)?)"
_ASCII_NUMBER = re.compile(_ARABIC)
_NUMBER = re.compile(rf"{_ARABIC}(?P<power>[百千万亿]*)|(?P<han>[{_NUMERALS}]+)")


def _longest(words: Iterable[str]) -> str:
    return "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))


_COUNTED = re.compile(r"[$€£¥]|°?[a-z]+|\d+(?:,\d{3})*(?:\.\d+)?|%")
_COUNTERS = frozenset(words_en.NUMBERS) | frozenset(["a", "an", "per", "each", "every", "many", "few", "several"])
_PLAIN_UNITS = frozenset(word for word, unit in words_en.UNITS.items() if unit in words_en.PLAIN_UNITS and len(word) > 1)
_ZH_UNIT = re.compile(
    rf"[\d{_NUMERALS}几多数每半] ?(?:多|余)?({_longest(words_zh.UNITS)})|"
    rf"({_longest(word for word, unit in words_zh.UNITS.items() if unit in words_en.PLAIN_UNITS)})"
)


def _numbers(folded: str, words: list[str]) -> Counter[float]:
    found: Counter[float] = Counter(float(words_en.NUMBERS[word]) for word in words if word in words_en.NUMBERS)
    if folded.isascii():
        found.update(float(number.replace(",", "")) for number in _ASCII_NUMBER.findall(folded))
        del found[1.0]
        return found
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


def _units(folded: str, words: list[str]) -> Iterator[str]:
    """The first name of each unit in a text: of plain ones wherever they stand, of others where they are counted."""
    for place, word in enumerate(words):
        if word in words_en.UNITS:
            before, after = words[place - 1] if place else "", "".join(words[place + 1 : place + 2])
            counted = before[:1].isdecimal() or before in _COUNTERS or (word in "$€£¥" and after[:1].isdecimal())
            if counted or word in _PLAIN_UNITS:
                yield words_en.UNITS[word]
    if not folded.isascii():
        yield from (words_zh.UNITS[counted or plain] for counted, plain in _ZH_UNIT.findall(folded))


# Names.

_WORD = re.compile(rf"[^\W\d{CJK}][^\W{CJK}]*(?:\.[^\W\d{CJK}]{{2,}})*(?:\+\+|#)?")
_SENTENCE_START = re.compile(r"(?:^|[.!?:;\n\"“(*•>#-]|\d[.)])\s*$")
_TITLED = re.compile(r"\b(?:Mrs?|Ms|Dr|Prof|St|Mt)\. $")
_NEXT = re.compile(r"'s\b|\s+([a-z]+)")
_CODE_LIKE = re.compile(r".*[\d_.+#]|.+[A-Z]")
_QUOTES = (("“", "”"), ('"', '"'), ("‘", "’"), ("「", "」"), ("『", "』"), ("《", "》"), ("`", "`"))
_QUOTED = re.compile("|".join(rf"{a}([^{b}\n]{{1,80}}){b}" for a, b in _QUOTES) + r"|(?<!\w)'([^'\n]{1,80})'(?!\w)")
_PERSON = re.compile(words_zh.PERSONS)
_HOUSE = re.compile(rf"(?=((?:(?![{words_zh.NOT_HOUSES}])[{CJK}]){{2}})({words_zh.HOUSES}))")
_KINDS: dict[str, Kind] = {
    **dict.fromkeys(words_en.PROGRAMMING, "programming"),
    **dict.fromkeys(words_en.LANGUAGES, "languages"),
    **dict.fromkeys(words_zh.LANGUAGES, "languages"),
}
_LISTED = words_en.ENTITIES | words_en.LANGUAGES
_ZH_LISTED: dict[str, list[str]] = defaultdict(list)
"""by their first two characters"""
for _name in sorted(words_zh.ENTITIES | words_zh.LANGUAGES.keys(), key=len):
    _ZH_LISTED[_name[:2]].append(_name)


def _names(text: str, folded: str) -> Iterator[tuple[str, Kind]]:
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    chinese = not text.isascii() and script(text) > 0.5
    for match in _WORD.finditer(text):
        word = match[0]
        called = text[match.end() : match.end() + 1] == "("
        if not (called or chinese) and word.islower() and word.isalpha():  # most words
            if word in _LISTED:
                yield word, _KINDS.get(word, "names")
            continue
        name = normalise(word)
        if (
            name in _LISTED
            or _CODE_LIKE.match(word)
            or called
            or (word[0].isupper() and _is_name(text, match, name))
            or (chinese and name not in words_en.STOP_WORDS)
        ):
            yield name, _KINDS.get(name, "names")
    if not folded.isascii():
        for place in range(len(folded) - 1):
            for name in _ZH_LISTED.get(folded[place : place + 2], ()):
                if folded.startswith(name, place):
                    yield words_zh.LANGUAGES.get(name, name), _KINDS.get(name, "names")
        yield from ((match[0], "names") for match in _PERSON.finditer(folded))


def _quotations(text: str) -> Iterator[str]:
    """Words and titles in quotation marks; what is longer is text like any other."""
    for groups in _QUOTED.findall(text if text.isascii() else unicodedata.normalize("NFKC", text)):
        quoted = "".join(groups)
        if units(quoted) <= TITLE:
            yield bare(quoted) or normalise(quoted)


def _is_name(text: str, match: re.Match[str], name: str) -> bool:
    """Whether a word with a capital is a name: inside a sentence always, at its start when it is called one or stands as one."""
    before = text[max(0, match.start() - 8) : match.start()]
    if not _SENTENCE_START.search(before) or _TITLED.search(before):
        return match[0] != "I"
    if name in words_en.FIRST_NAMES:
        return True
    if text[match.end() : match.end() + 1] in ("", "\n") and text[match.start() - 1 : match.start()] in ("", "\n"):
        return True  # alone on its line
    following = _NEXT.match(text, match.end())
    return following is not None and name not in words_en.STOP_WORDS and (following[1] or "is") in words_en.NAMED


def _versus(kind: Kind, left: Iterable[object], right: Iterable[object]) -> Difference:
    def show(found: Iterable[object]) -> str:
        return " ".join(f"{item:g}" if isinstance(item, float) else str(item) for item in sorted(found, key=str)) or "-"

    return Difference(kind, f"{show(left)} / {show(right)}")
