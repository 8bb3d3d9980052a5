"""What an answer says in the end, so told that equal answers are told alike.

    "所以一共 0.5 升。\\n答案：５０%"     number 1/2
    "The answer is (B)."             choice B
    "Final: \\boxed{\\frac12}"        number 1/2

The final answer is what stands in the last \\boxed{}, on the last line after `####`, on one of the last lines after "Answer:" or 答案,
or the whole of a short answer. Nothing is rounded: 0.33 and 1/3 are two answers.
"""

from __future__ import annotations

import ast
import re
import unicodedata
from collections.abc import Callable, Sequence
from datetime import date
from typing import Literal, NamedTuple

from filters.text import bare, normalise, units
from filters.voting.maths import formula
from filters.voting.numbers import Quantity, quantity

Kind = Literal["number", "choice", "yes_no", "date", "list", "text", "code"]
Wanted = Literal["auto", "number", "choice", "exact", "code", "none"]
SHORT = 20
"""units of an answer that is its own final answer"""
MANY = 12
"""items of a list at most"""
END = 3
"""lines at the end of an answer in which it may name its final one"""


class Form(NamedTuple):
    """`key` is equal for answers that say the same. `marked`: the answer itself says that this is the final one."""

    kind: Kind
    key: str
    marked: bool = False
    quantity: Quantity | None = None
    """of a plain number"""


class Final(NamedTuple):
    text: str
    marked: bool


_HASHES = re.compile(r"#{4}\s*(\S.*)")
_SAYS = re.compile(
    r"(?:(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is\s*:?|:|=)|(?:最终|最后|正确)?(?:答案|结果)\s*(?:是|为)?\s*[::]|(?:最终|最后|正确|所以|因此|故)?答案(?:是|为))"
    r"\s*(\S.*)$",
    re.IGNORECASE,
)
_WRAPPED = re.compile(r"^(?:\*\*|__|`|\"|\\\(|\\\[|\$\$?)(.+?)(?:\*\*|__|`|\"|\\\)|\\\]|\$\$?)$", re.DOTALL)
_TAIL = re.compile(r"(?:[\s。；;,，!?]|\.(?!\d))+$")
_CHOICE = re.compile(r"(?i:选项?|选择|option|choice)?\s*[（(]?([A-H])[)）]?(?:\s*[.、:)]\s*\S.*|\s*)", re.DOTALL)
_CHOICES = re.compile(r"(?i:选项?|选择|options?)?\s*([A-H](?:\s*(?:,|、|和|与|and|&)?\s*[A-H])+)")
_YES = frozenset({"yes", "true", "correct", "right", "是", "是的", "对", "正确", "成立", "√", "✓"})
_NO = frozenset({"no", "false", "incorrect", "wrong", "否", "不是", "不对", "错", "错误", "不正确", "不成立", "×", "✗"})
_ISO = re.compile(r"(\d{4})\s*(?:[-/.]|年)\s*(\d{1,2})\s*(?:[-/.]|月)\s*(\d{1,2})\s*[日号]?")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAY_MONTH = re.compile(r"(\d{1,2})(?:st|nd|rd|th)?\s+(?:of\s+)?([a-z]{3})[a-z]*\.?,?\s+(\d{4})")
_MONTH_DAY = re.compile(r"([a-z]{3})[a-z]*\.?\s+(\d{1,2})(?:st|nd|rd|th)?,?\s+(\d{4})")
_BRACKETS = {"{": "}", "[": "]", "(": ")"}
_NAMED = re.compile(r"^[a-z]\w?\s*=\s*(?=[^=])")
_ALTERNATIVES = re.compile(r"\s*(?:\bor\b|\band\b|或者?|和|以及)\s*")
_FRACTION_IN_LATEX = re.compile(r"\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}")
_UNIT_IN_LATEX = re.compile(r"(?:\\[,;! ]|~|\s)*\\(?:text|mathrm)\s*\{\s*([^{}]*?)\s*\}$")
_EMPHASIS = re.compile(r"(?<!\w)(?:\*\*|__)|(?:\*\*|__)(?!\w)")
_SIGNS = re.compile(r"[<>=≤≥≠+*/^\\%|~∞±√-]")
_FENCED = re.compile(r"^[ \t]*(?:```|~~~)\w*[^\n]*\n(.*?)^[ \t]*(?:```|~~~)", re.DOTALL | re.MULTILINE)


def final(answer: str) -> Final | None:
    """The final answer of an answer; None of a long one that names none."""
    answer = _in_plain_characters(answer)
    if (boxed := _last_boxed(answer)) is not None:
        return Final(boxed, True)
    lines = [line.strip() for line in answer.split("\n") if line.strip()]
    if lines and (hashed := _HASHES.fullmatch(lines[-1])):
        return Final(hashed[1], True)
    for line in reversed(lines[-END:]):
        if said := _SAYS.search(_EMPHASIS.sub("", line)):
            return Final(said[1], True)
    return Final(answer.strip(), False) if lines and units(answer) <= SHORT else None


def form(answer: str, wanted: Wanted = "auto") -> Form | None:
    """What an answer says in the end; None where that cannot be read, or is not of the kind that is wanted."""
    if wanted == "code":
        return _code(answer)
    said = final(answer)
    if wanted == "exact":
        key = _words(_stripped(said.text if said else _in_plain_characters(answer)))
        return Form("text", key, bool(said and said.marked)) if key else None
    if said is None:
        return None
    text = _stripped(said.text)
    if wanted == "choice":
        found = _choice(text) or _choice(text.upper())
    else:
        found = next((made for read in READERS if (made := read(text))), None) or _text(text)
    if found is None or (wanted in ("number", "choice") and found.kind != wanted):
        return None
    return found._replace(marked=said.marked)


def forms(answers: Sequence[str], wanted: Wanted = "auto") -> list[Form | None]:
    """The forms of the answers to one question. Where all who name a unit name the same, a number without one is of that unit."""
    found = [form(answer, wanted) for answer in answers]
    named = {(one.quantity.unit, one.quantity.scale) for one in found if one and one.quantity and one.quantity.unit}
    if len(named) != 1:
        return found
    ((unit, scale),) = named
    for place, one in enumerate(found):
        if one and one.quantity and not one.quantity.unit:
            meant = Quantity(one.quantity.value * scale, unit, scale)
            found[place] = one._replace(key=meant.key, quantity=meant)
    return found


def is_verifiable(found: Sequence[Form | None], wanted: Wanted = "auto") -> bool:
    """Whether a vote can decide among them. In mode auto: all say something of one kind, and where that is mere words, each says that
    this is its final answer. Otherwise what the recipe or the leaf says."""
    if wanted != "auto":
        return wanted != "none"
    read = [one for one in found if one]
    if len(read) < len(found) or len({one.kind for one in read}) != 1:
        return False
    return all(one.kind != "text" or (one.marked and units(one.key) <= SHORT) for one in read)


def _in_plain_characters(text: str) -> str:
    """NFKC, but a square stays a square, and a half stands apart from the whole before it."""
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda found: "^" + unicodedata.normalize("NFKC", found[0]), text)
    return unicodedata.normalize("NFKC", text).replace("\u2044", "/")


def _last_boxed(answer: str) -> str | None:
    start = answer.rfind("\\boxed{")
    if start < 0:
        return None
    depth = 0
    for place in range(start + 6, len(answer)):
        depth += {"{": 1, "}": -1}.get(answer[place], 0)
        if depth == 0:
            return answer[start + 7 : place].strip() or None
    return None


def _stripped(text: str) -> str:
    """Without what stands around it: emphasis, dollar signs of maths, the full stop."""
    while True:
        shorter = _TAIL.sub("", text)
        wrapped = _WRAPPED.match(shorter)
        shorter = wrapped[1].strip() if wrapped else shorter
        shorter = re.sub(r"^\\text\{([^{}]*)\}$", r"\1", shorter)
        if shorter == text:
            return text
        text = shorter


def _choice(text: str) -> Form | None:
    if (found := _CHOICES.fullmatch(text)) and (letters := re.findall("[A-H]", found[1])) == sorted(set(letters)):
        return Form("choice", ",".join(letters))
    found = _CHOICE.fullmatch(text)
    return Form("choice", found[1]) if found else None


def _yes_no(text: str) -> Form | None:
    word = text.lower()
    return Form("yes_no", "yes") if word in _YES else Form("yes_no", "no") if word in _NO else None


def _date(text: str) -> Form | None:
    text = text.lower()
    if found := _ISO.fullmatch(text):
        year, month, day = map(int, found.groups())
    elif (found := _DAY_MONTH.fullmatch(text)) and found[2] in _MONTHS:
        year, month, day = int(found[3]), 1 + _MONTHS.index(found[2]), int(found[1])
    elif (found := _MONTH_DAY.fullmatch(text)) and found[1] in _MONTHS:
        year, month, day = int(found[3]), 1 + _MONTHS.index(found[1]), int(found[2])
    else:
        return None
    try:
        return Form("date", date(year, month, day).isoformat())
    except ValueError:
        return None


def _number(text: str) -> Form | None:
    """A number with or without its unit; a ratio; a formula."""
    low = _NAMED.sub("", text.lower()).replace("\\$", "$").replace("\\%", "%").replace("^\\circ", "°")
    low = _FRACTION_IN_LATEX.sub(r" \1/\2", _UNIT_IN_LATEX.sub(r" \1", low)).strip()
    if (found := quantity(low)) is not None:
        return Form("number", found.key, quantity=found)
    terms = [quantity(part) for part in low.split(":")] if ":" in low else []
    if terms and all(one is not None and not one.unit for one in terms):
        return Form("number", ":".join(one.key for one in terms if one))
    made = formula(text)
    return None if made is None else Form("number", str(made))


def _list(text: str) -> Form | None:
    """Items in order; in braces, or joined by "or", "and", 或, 和: in any order, each once."""
    inner = text.replace("\\{", "{").replace("\\}", "}").replace("\\left", "").replace("\\right", "")
    bracket = inner[0] if inner and _BRACKETS.get(inner[0]) == inner[-1] else ""
    inner = inner[1:-1] if bracket else inner
    joined = re.split(r"\s*[,、;]\s*", _ALTERNATIVES.sub(",", inner)) if not re.search(r"[{}\[\]()]", inner) else []
    items = [item for item in joined if item]
    if not 2 <= len(items) <= MANY and not (bracket == "{" and items):
        return None
    read = [_number(item) for item in items]
    if None in read and not bracket:
        return None  # words between commas are a sentence
    told = [number.key if number else f"={_words(item)}" for item, number in zip(items, read, strict=True)]
    is_set = bracket == "{" or (not bracket and bool(_ALTERNATIVES.search(text)))
    return Form("list", f"{{{','.join(sorted(set(told)))}}}" if is_set else f"[{','.join(told)}]")


def _text(text: str) -> Form | None:
    key = _words(text)
    return Form("text", key) if key else None


def _words(text: str) -> str:
    """Words without punctuation; but x > 3 is not x < 3."""
    return bare(text) if not _SIGNS.search(text) else normalise(text).replace(" ", "")


def _code(answer: str) -> Form | None:
    """The one fenced block: Python by its syntax tree, without comments and docstrings; anything else by its words."""
    blocks = _FENCED.findall(answer)
    if len(blocks) != 1 or not blocks[0].strip():
        return None
    try:
        return Form("code", ast.dump(_without_docstrings(ast.parse(blocks[0]))))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Form("code", " ".join(blocks[0].split()))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for part in ast.walk(tree):
        if isinstance(part, ast.Module | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(part) is not None:
            part.body = part.body[1:]
    return tree


READERS: tuple[Callable[[str], Form | None], ...] = (_choice, _yes_no, _date, _number, _list)
"""In this order: "A" is a choice before it is a formula, 2024-03-05 a date before it is a difference."""
