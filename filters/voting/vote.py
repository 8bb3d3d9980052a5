"""The vote on answers that can be compared: self-consistency (Wang et al. 2023, arXiv 2203.11171), by model families.

Ten samples of one model are not ten opinions. So each family has one vote, shared among its answers; an answer that cannot be read keeps
its share and gives it to nobody. The most frequent answer wins when its share, and its lead over the next, are large enough; otherwise
there is no consensus, and that is a state. The order of the answers does not matter.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from statistics import median
from typing import NamedTuple

from filters.voting import equations

SHARE, MARGIN = 0.6, 0.2


class Ballot(NamedTuple):
    """`key` says what is voted for; None where that cannot be read."""

    family: str
    key: str | None


@dataclass(frozen=True)
class Tally:
    """`shares` are of all votes, by key, the largest first."""

    shares: dict[str, float]
    share: float
    """of the first"""
    margin: float
    """of the first over the second"""
    families: int
    winner: str | None


def count(ballots: Iterable[Ballot], share: float = SHARE, margin: float = MARGIN) -> Tally:
    """Count the votes, exactly: a share of three fifths is 0.6."""
    by_family: dict[str, list[str | None]] = defaultdict(list)
    for family, key in ballots:
        by_family[family].append(key)
    exact: dict[str, Fraction] = defaultdict(Fraction)
    for keys in by_family.values():
        for key, number in Counter(keys).items():
            if key is not None:
                exact[key] += Fraction(number, len(keys) * len(by_family))
    ranked = sorted(exact.items(), key=lambda one: (-one[1], one[0]))
    first, second = [*(part for _, part in ranked[:2]), Fraction(0), Fraction(0)][:2]
    wins = bool(ranked) and first > second and first >= Fraction(str(share)) and first - second >= Fraction(str(margin))
    return Tally(
        shares={key: float(part) for key, part in ranked},
        share=float(first),
        margin=float(first - second),
        families=len(by_family),
        winner=ranked[0][0] if wins else None,
    )


def middle(texts: Sequence[str]) -> int:
    """Which of several answers that say the same to take: neither the one that leaves out the way nor the one that pads it, but the one
    nearest to the median length. Solutions by the same equations count once, so that a way which was taken often does not decide."""
    ways: dict[str, list[int]] = defaultdict(list)
    for place, text in enumerate(texts):
        ways[equations.path(text) or f"#{text}"].append(place)
    one_of_each = [_nearest(texts, places) for places in ways.values()]
    return _nearest(texts, one_of_each)


def _nearest(texts: Sequence[str], places: Sequence[int]) -> int:
    usual = median(len(texts[place]) for place in places)
    return min(places, key=lambda place: (abs(len(texts[place]) - usual), texts[place], place))
