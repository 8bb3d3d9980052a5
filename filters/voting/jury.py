"""A jury's choice between answers that cannot be compared by what they say.

Judges favour a place: the first answer, or the last. So each pair is shown in both orders, and an answer is preferred only if it is in
both (Zheng et al. 2023, arXiv 2306.05685). A verdict that could not be read is no tie: the pair is unscored.

Answers meet in a knockout, k answers in k - 1 matches. Who stands where follows from the texts, not from the order in which they came.
Of a match without a winner the one with more wins goes on. The last one standing wins if it was preferred at least once: it was never
beaten, then, by any that it met; otherwise the jury has no opinion, and there is no winner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from leafmill.records import digest

Said = Literal["A", "B", "tie"]
"""what a juror says of the answers that it sees as A and B"""
Outcome = Literal["one", "other", "tie", "unscored"]
"""what came of a pair: of its two answers, which was preferred"""
BACK: dict[tuple[Said, bool], Outcome] = {
    ("A", False): "one",
    ("B", False): "other",
    ("A", True): "other",
    ("B", True): "one",
    ("tie", False): "tie",
    ("tie", True): "tie",
}
"""A verdict as one on the pair, by whether its answers were shown in the other order."""


class Match(NamedTuple):
    """Two answers, by their places."""

    one: int
    other: int


@dataclass(frozen=True)
class Played:
    match: Match
    outcome: Outcome


@dataclass(frozen=True)
class Result:
    """`winner` is the place of an answer, or None; `played` are the matches in their order."""

    winner: int | None
    played: tuple[Played, ...]


def swapped(first: Said | None, second: Said | None) -> Outcome:
    """One juror's verdicts on a pair: as it stands, and in the other order. None is a verdict that could not be had."""
    if first is None or second is None:
        return "unscored"
    one, again = BACK[first, False], BACK[second, True]
    return one if one == again else "tie"


def majority(outcomes: Iterable[Outcome]) -> Outcome:
    """What several jurors together make of a pair: the preference of more of them. One that could not be heard does not count."""
    votes = Counter(outcomes)
    if not votes.total() - votes["unscored"]:
        return "unscored"
    return "one" if votes["one"] > votes["other"] else "other" if votes["other"] > votes["one"] else "tie"


async def knockout(texts: Sequence[str], play: Callable[[Sequence[Match]], Awaitable[Sequence[Outcome]]]) -> Result:
    """Let answers meet until one is left; `play` is given the matches of a round, all at once. Of equal texts the first takes part."""
    first = {text: place for place, text in reversed([*enumerate(texts)])}
    left = sorted(first.values(), key=lambda place: digest(texts[place]))
    wins: Counter[int] = Counter()
    played: list[Played] = []
    if len(left) == 1:
        return Result(left[0], ())
    while len(left) > 1:
        matches = [Match(*left[at : at + 2]) for at in range(0, len(left) - 1, 2)]
        on = left[len(matches) * 2 :]  # one that meets nobody in this round
        for match, outcome in zip(matches, await play(matches), strict=True):
            played.append(Played(match, outcome))
            if outcome in ("one", "other"):
                ahead = match.one if outcome == "one" else match.other
                wins[ahead] += 1
            else:
                ahead = match.other if wins[match.other] > wins[match.one] else match.one
            on.append(ahead)
        left = on
    return Result(left[0] if wins[left[0]] else None, tuple(played))
