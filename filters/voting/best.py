"""The best of the answers to one prompt, by numbers that a judge or a reward model gave them.

Such numbers mean something beside each other only within a prompt, so what counts is the rank there, and the lead over the mean; there is
no global cut, which would only keep the easy prompts. Where the numbers merely follow the length of the answers, what is left of them once
length is taken out decides: who is better than its length explains.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from filters.scoring.reward import Ranking, Reward, rank
from filters.voting.scores import mean
from filters.voting.vote import middle
from leafmill.tokens import count_tokens

FEW = 4
"""answers below which nothing is said about their lengths"""
FOLLOWS = 0.8
"""Spearman's correlation of number and length above which the numbers merely follow it"""


class Best(NamedTuple):
    """`place` is None where nothing was scored or the lead is too small, and `code` says which: `unscored`, `too_close`."""

    place: int | None
    code: str
    lead: float | None
    """over the mean of all"""
    values: tuple[float | None, ...]
    """by which it was chosen: margins over the mean, without length where `by_length`"""
    length_rho: float | None
    by_length: bool


def best(ranking: Ranking, texts: Sequence[str], lead: float = 0.0) -> Best:
    """The best of a ranking; of equals, the one of middle length."""
    rho, values = ranking.length_rho, tuple(None if one is None else round(one, 9) for one in ranking.margins)
    follows = len(ranking.order) >= FEW and rho is not None and rho > FOLLOWS
    if follows:
        values = _without_length(ranking)
    known = {place: value for place, value in enumerate(values) if value is not None}
    if not known:
        return Best(None, "unscored", None, values, rho, False)
    most = max(known.values())
    top = [place for place, value in known.items() if value == most]
    place = top[middle([texts[one] for one in top])]
    if most < lead:
        return Best(None, "too_close", most, values, rho, follows)
    return Best(place, "ok", most, values, rho, follows)


def graded(scores: Sequence[Sequence[float | None]], texts: Sequence[str]) -> Ranking:
    """The ranking by graders; each gave a score for each answer, or None. A grader's scores are taken as margins over its own mean, so that
    a generous one, which could not be heard on one answer, does not lift the others."""
    margins: list[list[float | None]] = []
    for of_one in scores:
        usual = mean(of_one).value
        margins.append([None if score is None or usual is None else score - usual for score in of_one])
    values = [mean(of_answer).value for of_answer in zip(*margins, strict=True)]
    return rank(
        [
            Reward(
                value, count_tokens(text), "unscored" if value is None else "scored", "grade.unheard" if value is None else "", "graders"
            )
            for value, text in zip(values, texts, strict=True)
        ]
    )


def _without_length(ranking: Ranking) -> tuple[float | None, ...]:
    """What is left of each margin once the line through margins and lengths is taken from it."""
    lengths = np.array([ranking.rewards[place].tokens for place in ranking.order], np.float64)
    margins = np.array([ranking.margins[place] for place in ranking.order], np.float64)
    slope, start = np.polyfit(lengths, margins, 1)
    left = dict(zip(ranking.order, margins - (slope * lengths + start), strict=True))
    return tuple(round(float(left[place]), 9) if place in left else None for place in range(len(ranking.rewards)))
