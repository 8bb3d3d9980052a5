"""What two texts are compared by: sets of n-grams and their Jaccard similarity."""

from __future__ import annotations

import re
from collections.abc import Hashable, Set
from typing import TypeVar

from filters.text import CJK, bare, tokens

LATIN = 4
"""characters per shingle of Latin and other spaced scripts, spaces counted"""
HAN = (1, 2)
"""characters per shingle of CJK; both sizes together gave the best recall on planted edits of Chinese instructions"""
RULE = f"cjk-{'+'.join(map(str, HAN))}/latin-{LATIN}"
"""names the rule, so that an index made under another one is not mixed with this"""

T = TypeVar("T", bound=Hashable)

_RUN = re.compile(rf"[{CJK}]+|[^{CJK}]+")
_IS_CJK = re.compile(rf"[{CJK}]")


def shingles(text: str) -> frozenset[str]:
    """The shingles of a text, each run of one script by its own rule. Empty only for a text with nothing but punctuation.

    Short texts are not dropped: n shrinks to the length of the run, so two different four-character prompts do not both become the
    empty set, which any MinHash holds to be equal.
    """
    return shingles_of_bare(bare(text))


def shingles_of_bare(text: str) -> frozenset[str]:
    """The same of a text that is `bare` already, which is most of the work."""
    if text.isascii():  # one run: there is no need to look for others
        return frozenset(char_ngrams(text, LATIN))
    found: set[str] = set()
    for run in _RUN.findall(text):
        for n in HAN if _IS_CJK.match(run) else (LATIN,):
            found |= char_ngrams(run, n)
    return frozenset(found)


def char_ngrams(text: str, n: int) -> set[str]:
    """Every run of n characters; n shrinks to the length of the text, as it stands (nothing is folded)."""
    n = min(n, len(text))
    return {text[i : i + n] for i in range(len(text) - n + 1)} if n else set()


def word_ngrams(text: str, n: int) -> set[tuple[str, ...]]:
    """Every run of n units (`filters.text.tokens`); n shrinks to their number."""
    words = tokens(text)
    n = min(n, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)} if n else set()


def jaccard(a: Set[T], b: Set[T]) -> float:
    """Size of the intersection over size of the union, 0..1. Two empty sets share nothing: 0, not 1."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared) if a or b else 0.0
