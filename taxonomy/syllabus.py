"""The syllabus of a leaf: sessions of key concepts, and which of them a brief is about (GLAN, Li et al. 2024, arXiv 2402.13064).

A brief is about one concept, until each has had its own; a composite task is about two or three together, taken from one session or from
two, and so are all briefs once no concept is left that none has had.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from itertools import zip_longest
from math import comb
from random import Random
from typing import NamedTuple

MOST = 5
"""concepts that GLAN puts together at most"""
DRAWS = 20
"""combinations that are tried for one that no brief has had"""


class Session(NamedTuple):
    """What is taught together."""

    title: str
    concepts: tuple[str, ...]


def one_session(concepts: int) -> int:
    """How many combinations of up to five concepts a session has.

    >>> one_session(5)
    31
    """
    return sum(comb(concepts, size) for size in range(1, MOST + 1))


def two_sessions(one: int, other: int) -> int:
    """How many combinations of up to five concepts touch both of two sessions.

    >>> two_sessions(5, 5), two_sessions(5, 3)
    (575, 180)
    """
    return sum(comb(one + other, size) - comb(one, size) - comb(other, size) for size in range(2, MOST + 1))


def alone(sessions: Sequence[Session]) -> Iterator[str]:
    """All concepts, the first of each session first: a short run gets something of every session."""
    for row in zip_longest(*(session.concepts for session in sessions)):
        yield from (concept for concept in row if concept is not None)


def together(sessions: Sequence[Session], before: Collection[Sequence[str]], composite: bool, rng: Random) -> tuple[str, ...]:
    """Two concepts, for a composite task perhaps three, that no brief has had together if there are such: by turns of one session and of
    two, those that came least often first."""
    combined = [frozenset(concepts) for concepts in before if len(concepts) > 1]
    uses = Counter(concept for concepts in before for concept in concepts)
    size = 2 + (composite and len(combined) % 4 > 1)
    homes = [session for session in sessions if len(session.concepts) > 1]
    across = len(combined) % 2 == 1 or not homes
    found: tuple[str, ...] = ()
    for _ in range(DRAWS):
        home = min(homes or sessions, key=lambda session: (min(uses[concept] for concept in session.concepts), rng.random()))
        others = [session for session in sessions if session != home]
        picked = [_least_used(home.concepts, uses, rng)]
        while len(picked) < size:
            pool = rng.choice(others).concepts if across and others and len(picked) == 1 else home.concepts
            rest = [concept for concept in pool if concept not in picked]
            if not rest:
                break
            picked.append(_least_used(rest, uses, rng))
        found = tuple(picked)
        if len(found) > 1 and frozenset(found) not in combined:
            break
        uses.update(found)  # so that the next draw is another
    return found


def _least_used(concepts: Sequence[str], uses: Counter[str], rng: Random) -> str:
    return min(concepts, key=lambda concept: (uses[concept], rng.random()))
