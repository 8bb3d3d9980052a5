"""What two texts are compared by: sets of n-grams and their Jaccard similarity, and the same as numbers for many texts at once."""

from __future__ import annotations

import functools
import re
from collections.abc import Hashable, Sequence, Set
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from filters.text import CJK, bare, tokens

LATIN = 4
"""characters per shingle of Latin and other spaced scripts, spaces counted"""
HAN = (1, 2)
"""characters per shingle of CJK; both sizes together gave the best recall on planted edits of Chinese instructions"""
RULE = f"cjk-{'+'.join(map(str, HAN))}/latin-{LATIN}"
"""names the rule, so that an index made under another one is not mixed with this"""

T = TypeVar("T", bound=Hashable)

SEPARATOR = "\n"
"""stands between texts that are looked at together; bare text holds none"""

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


Hashes = NDArray[np.uint32]
FACTOR = 0x9E3779B1
HASH = "polynomial32-1"
"""names how a shingle becomes a number: its length and its characters as the digits of a number to the base FACTOR, mod 2^32"""


class Hashed(NamedTuple):
    """The shingles of many texts as numbers. A shingle that a text has twice is there twice."""

    hashes: Hashes
    starts: NDArray[np.intp]
    """where each text's begin"""


def hashed(texts: Sequence[str]) -> Hashed:
    """The shingles of texts that are `bare` and not empty, all in one go: those of `shingles_of_bare`, text by text."""
    signs = np.frombuffer((SEPARATOR.join(texts) + SEPARATOR).encode("utf-32-le"), np.uint32)
    between = signs == ord(SEPARATOR)
    cjk = _cjk().take(signs)
    run = between.view(np.uint8) * 2 + cjk  # what kind of run a character stands in
    ends = np.append(np.flatnonzero(run[1:] != run[:-1]) + 1, len(run)).astype(np.int32)
    lengths = np.diff(ends, prepend=np.int32(0))
    left = np.repeat(ends, lengths) - np.arange(len(run), dtype=np.int32)  # characters to the end of the run
    sizes = dict(enumerate(_digits(signs), 1))

    latin = run == 0
    whole = np.flatnonzero(latin & (left >= LATIN))
    found = [(whole, sizes[LATIN][whole])]
    for n in range(1, LATIN):  # runs shorter than a shingle
        short = (ends - lengths)[lengths == n]
        short = short[latin[short]]
        found.append((short, sizes[n][short]))
    for n in HAN if cjk.any() else ():
        place = np.flatnonzero(cjk & (left >= n))
        found.append((place, sizes[n][place]))

    places, hashes = (np.concatenate(parts) for parts in zip(*found, strict=True))
    if len(whole) < len(places):
        order = np.argsort(places, kind="stable")
        places, hashes = places[order], hashes[order]
    first = np.concatenate([[0], np.flatnonzero(between)[:-1] + 1])
    return Hashed(hashes, np.searchsorted(places, first))


def _digits(signs: Hashes) -> list[Hashes]:
    """For n from 1 to LATIN: the n characters from each place on, as one number."""
    plain = [signs]
    for n in range(1, LATIN):
        longer = plain[-1] * np.uint32(FACTOR)
        longer[:-n] += signs[n:]
        plain.append(longer)
    return [numbers ^ np.uint32(n << 29) for n, numbers in enumerate(plain, 1)]


@functools.cache
def _cjk() -> NDArray[np.bool_]:
    """By code point, whether it is CJK."""
    table = np.zeros(0x110000, np.bool_)
    for first, last in re.findall("(.)(?:-(.))?", CJK):
        table[ord(first) : ord(last or first) + 1] = True
    return table
