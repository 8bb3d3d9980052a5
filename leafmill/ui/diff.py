"""What has changed from one text to another, word by word; of Chinese and its like, sign by sign.

Common ends are set aside first. What is too long to be compared by words is compared by lines, and what has too many lines is shown as
one text gone and another come, so that no pair of texts takes long.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

WORDS = 1500
"""units of either text between its common ends that are compared one by one"""
_UNIT = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff\U00020000-\U0003ffff]\s*|\w+\s*|\s+|[^\w\s]\s*")
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Piece(NamedTuple):
    """A piece of both texts (`same`), of the earlier only (`gone`) or of the later only (`come`)."""

    change: Literal["same", "gone", "come"]
    text: str


def diff(before: str, after: str) -> list[Piece]:
    """The pieces: those that are not `come` make the earlier text, those that are not `gone` the later one."""
    for unit in (_UNIT, _LINE):
        old, new = unit.findall(before), unit.findall(after)
        head = _common(old, new)
        tail = _common(old[head:][::-1], new[head:][::-1])
        first, second = old[head : len(old) - tail], new[head : len(new) - tail]
        if max(len(first), len(second)) <= WORDS:
            between = _compared(first, second)
            return _joined([Piece("same", "".join(old[:head])), *between, Piece("same", "".join(old[len(old) - tail :]))])
    return _joined([Piece("gone", before), Piece("come", after)])


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many units both begin with."""
    return next((at for at, both in enumerate(zip(one, other, strict=False)) if both[0] != both[1]), min(len(one), len(other)))


def _compared(old: list[str], new: list[str]) -> list[Piece]:
    found = []
    for kind, *ends in SequenceMatcher(None, old, new).get_opcodes():
        gone, come = "".join(old[ends[0] : ends[1]]), "".join(new[ends[2] : ends[3]])
        found += [Piece("same", gone)] if kind == "equal" else [Piece("gone", gone), Piece("come", come)]
    return found


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """Without what is empty, what changes in one place put together. A sign or a space between two changes belongs to both."""
    kept: list[Piece] = []
    gone = come = ""
    for at, piece in enumerate([*pieces, Piece("same", "")]):
        if piece.change == "same" and (re.search(r"\w", piece.text) or at in (0, len(pieces) - 1, len(pieces))):
            kept += [Piece("gone", gone), Piece("come", come), piece]
            gone = come = ""
        else:
            gone += piece.text if piece.change != "come" else ""
            come += piece.text if piece.change != "gone" else ""
    return [piece for piece in kept if piece.text]
