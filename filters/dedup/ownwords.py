"""The words that only one of two texts has: what an embedding of the whole hardly sees.

Two instructions that share most of their words lie close together whatever the other words say: "a cover letter for a job as a nurse" and
"as a teacher" are at 0.82, nearer than most rephrasings of either. So the words that are not shared are compared once more by themselves:
"nurse" and "teacher" are far apart, "solve the equation" and "find x if" are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher

from filters.text import bare, script, tokens


def own_words(a: str, b: str) -> tuple[str, str] | None:
    """What each of two texts has beside the words that stand in both in the same order; of Chinese characters only two in a row are a
    word that both have. None when there is nothing; both empty when it is the order alone."""
    x, y = tokens(a), tokens(b)
    if x == y:
        return None
    if sorted(x) == sorted(y):
        return "", ""
    runs = [run for run in SequenceMatcher(None, x, y, autojunk=False).get_matching_blocks() if run.size > 1 or not _is_lone(x, run.a)]
    return _without(x, [(run.a, run.size) for run in runs]), _without(y, [(run.b, run.size) for run in runs])


def _is_lone(words: Sequence[str], at: int) -> bool:
    return at < len(words) and script(words[at]) > 0


def _without(words: Sequence[str], runs: Sequence[tuple[int, int]]) -> str:
    shared = {place for start, size in runs for place in range(start, start + size)}
    return bare(" ".join(word for place, word in enumerate(words) if place not in shared))
