"""How rows and items are read: their parts, the tokens of these, and the tokens as numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from struct import Struct
from typing import Literal, NamedTuple

from filters.text import CJK, normalise, units_of_normalised
from leafmill.records import Row

Reading = Literal["words", "code"]

NUMBER = Struct("=i")
UNKNOWN = NUMBER.pack(0)
"""a token that is in no test set"""
PIECES, SHORT = 200_000, 32
"""pieces of text that are remembered, and how long they may be"""

_CODE_TOKEN = re.compile(rf"[{CJK}]|\d+(?:\.\d+)?|[^\W\d{CJK}][^\W{CJK}]*|[^\w\s'\"`]")


class Message(NamedTuple):
    """A part of a row, which n-grams do not reach across."""

    part: str
    text: str
    alone: tuple[str, ...] = ()
    """what of it may be a short item, word for word"""


def messages(row: Row) -> tuple[Message, ...]:
    """The parts of a row as they are looked at."""
    said = [Message(f"history.{i}", turn.content, (turn.content,) if turn.role == "user" else ()) for i, turn in enumerate(row.history)]
    asked = Message("prompt", row.prompt, (row.prompt, row.instruction, row.input) if row.input else (row.prompt,))
    made = [Message(part, text) for part, text in (("reasoning", row.reasoning), ("answer", row.answer)) if text]
    return (*said, asked, *made)


def code_tokens(text: str) -> list[str]:
    """Names, numbers and signs, normalised.

    >>> code_tokens("for i in range(10):  print('a')")
    ['for', 'i', 'in', 'range', '(', '10', ')', ':', 'print', '(', 'a', ')']
    """
    return _of_normalised_code(normalise(text))


def _of_normalised_code(text: str) -> list[str]:
    return _CODE_TOKEN.findall(text)


READ: Mapping[Reading, Callable[[str], list[str]]] = {"words": units_of_normalised, "code": _of_normalised_code}
"""How a text is read that is normalised already; white space always parts tokens."""


class NumbersOf(dict[str, bytes]):
    """The numbers of the tokens of a piece of normalised text between two spaces, as the bytes of an array. Pieces come again and again:
    "day." is taken apart once."""

    def __init__(self, read: Callable[[str], list[str]], vocabulary: Mapping[str, int]) -> None:
        self._tokens, self._vocabulary = read, vocabulary

    def __missing__(self, piece: str) -> bytes:
        numbers = b"".join(NUMBER.pack(self._vocabulary.get(token, 0)) for token in self._tokens(piece))
        if len(piece) <= SHORT:
            if len(self) >= PIECES:
                self.clear()
            self[piece] = numbers
        return numbers
