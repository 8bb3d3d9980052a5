"""How far annotators agree beyond chance: Krippendorff's alpha and Fleiss' kappa, of a whole panel over many rows; Cohen's kappa of two.

They tell whether a panel (its prompts, its models) measures anything; a single row is judged by its votes' spread. Where votes are nearly
all the same both fall although annotators agree: chance alone would agree as often. So read them beside the raw agreement.
0.8 is customarily called firm, 0.667 enough for tentative conclusions.

What is undefined is None with a reason, never 0 or 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

Level = Literal["nominal", "ordinal", "interval", "ratio"]
Unit = Sequence[float | None]
"""the ratings of one row, in any order; None where an annotator was not heard"""


class Alpha(NamedTuple):
    value: float | None
    why: str
    """why there is no value; "" when there is"""
    units: int
    """rows with at least two ratings: only they count"""
    ratings: int
    """in those rows"""
    agreement: float | None
    """of the pairs of ratings of one row, the share that is equal: no chance taken off"""


class Interval(NamedTuple):
    low: float
    high: float
    undefined: int
    """draws in which alpha was undefined; they are left out"""


class Kappa(NamedTuple):
    value: float | None
    """None when only one category was ever used"""
    agreement: float
    """mean share of equal pairs (P-bar)"""
    chance: float
    """that share if ratings were dealt by chance (P_e)"""
    randolph: float | None
    """the free-marginal kappa: chance is 1 / categories. None with a single category"""


class Cohen(NamedTuple):
    value: float | None
    why: str
    """why there is no value; "" when there is"""
    pairs: int
    agreement: float | None
    """the share that both put into the same category: no chance taken off"""


def alpha(units: Iterable[Unit], level: Level) -> Alpha:
    """Krippendorff's alpha: 1 - observed over expected disagreement. 1 is perfect, 0 chance, below 0 worse than chance."""
    rated = _rated(units)
    if not rated:
        return Alpha(None, "no row has two ratings", 0, 0, None)
    counts, values = _counts(rated)
    (found,) = _alphas(_pairs(counts, np.ones((1, len(counts)))), values, level)
    value = float(found) if np.isfinite(found) else None
    why = "" if value is not None else "all ratings are the same: there is nothing to tell apart"
    sizes = counts.sum(1)
    equal = (counts * (counts - 1)).sum() / (sizes * (sizes - 1)).sum()
    return Alpha(value, why, len(rated), int(counts.sum()), float(equal))


def interval(units: Iterable[Unit], level: Level, *, share: float = 0.95, draws: int = 1000, seed: int = 0) -> Interval | None:
    """Where alpha lies with probability `share`, by drawing rows with replacement (bootstrap). None when it is undefined in all draws."""
    rated = _rated(units)
    if not rated:
        return None
    alike = Counter(tuple(sorted(ratings)) for ratings in rated)  # rows with the same ratings are drawn together
    counts, values = _counts(list(alike))
    times = np.array(list(alike.values()))
    rng = np.random.default_rng(seed)
    drawn = _alphas(_pairs(counts, rng.multinomial(len(rated), times / len(rated), size=draws)), values, level)
    found = drawn[np.isfinite(drawn)]
    if not found.size:
        return None
    low, high = np.quantile(found, [(1 - share) / 2, (1 + share) / 2])
    return Interval(float(low), float(high), draws - found.size)


def spearman(pairs: Iterable[tuple[float, float]]) -> float | None:
    """Rank correlation, ties sharing their mean rank. None of fewer than two pairs, or where either side is all the same."""
    table = np.array(list(pairs), dtype=np.float64).reshape(-1, 2)
    if len(table) < 2 or (table == table[0]).all(0).any():
        return None
    one, other = (_ranks(column) for column in table.T)
    return float(np.corrcoef(one, other)[0, 1])


def fleiss(counts: Sequence[Sequence[float]]) -> Kappa:
    """Fleiss' kappa of a table: for each row how many raters chose each category. ValueError unless all rows have as many raters."""
    table = np.asarray(counts, dtype=np.float64)
    if table.ndim != 2 or not table.size or (table < 0).any():
        raise ValueError("expected a table of counts: for each row how many raters chose each category")
    raters = table.sum(1)
    if not np.allclose(raters, raters[0]) or raters[0] <= 1:
        raise ValueError(f"every row must have the same number of raters, at least 2: got {sorted({*raters.tolist()})[:5]}")
    n = raters[0]
    agreement = float((((table**2).sum(1) - n) / (n * (n - 1))).mean())
    chance, even = float(((table.sum(0) / table.sum()) ** 2).sum()), 1 / table.shape[1]
    value = (agreement - chance) / (1 - chance) if chance < 1 else None
    return Kappa(value, agreement, chance, (agreement - even) / (1 - even) if even < 1 else None)


def cohen(pairs: Iterable[tuple[Hashable, Hashable]]) -> Cohen:
    """Cohen's kappa of two raters, each with shares of categories of its own: (observed - chance) / (1 - chance)."""
    rated = list(pairs)
    if not rated:
        return Cohen(None, "nothing was rated by both", 0, None)
    n = len(rated)
    one, other = Counter(first for first, _ in rated), Counter(second for _, second in rated)
    agreement, by_chance = sum(first == second for first, second in rated) / n, sum(one[category] * other[category] for category in one)
    if by_chance == n * n:
        return Cohen(None, "both said the same of all: there is nothing to tell apart", n, agreement)
    chance = by_chance / (n * n)
    return Cohen((agreement - chance) / (1 - chance), "", n, agreement)


def _ranks(column: np.ndarray) -> np.ndarray:
    """From 0; equal values share the mean of their ranks."""
    _, place, counts = np.unique(column, return_inverse=True, return_counts=True)
    ranks: np.ndarray = (np.cumsum(counts) - (counts + 1) / 2)[place]
    return ranks


def _rated(units: Iterable[Unit]) -> list[list[float]]:
    """The ratings of units that have two or more."""
    heard = ([rating for rating in unit if rating is not None] for unit in units)
    return [ratings for ratings in heard if len(ratings) > 1]


def _counts(rated: Sequence[Sequence[float]]) -> tuple[np.ndarray, np.ndarray]:
    """How often each value was given in each unit, (units, values), and the values in order."""
    values = np.array(sorted({rating for ratings in rated for rating in ratings}), dtype=np.float64)
    place = {value: at for at, value in enumerate(values.tolist())}
    counts = np.zeros((len(rated), len(values)))
    for row, ratings in zip(counts, rated, strict=True):
        for rating in ratings:
            row[place[rating]] += 1
    return counts, values


def _pairs(counts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The coincidences o_ck, (draws, values, values): ordered pairs of values within units, each unit's over its ratings less one. In each
    draw (draws, units) a unit counts as many `times`."""
    units, values = counts.shape
    own = counts[:, :, None] * (counts[:, None, :] - np.eye(values)) / (counts.sum(1) - 1)[:, None, None]
    pairs: np.ndarray = (times @ own.reshape(units, -1)).reshape(-1, values, values)
    return pairs


def _alphas(pairs: np.ndarray, values: np.ndarray, level: Level) -> np.ndarray:
    """Alpha of each draw; NaN where only one value was drawn."""
    given = pairs.sum(2)
    n = given.sum(1)
    distance = _distances(given, values, level)
    expected = np.einsum("dc,dck,dk->d", given, distance, given) / (n * (n - 1))
    observed = (pairs * distance).sum((1, 2)) / n
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(expected > 0, 1 - observed / expected, np.nan)


def _distances(given: np.ndarray, values: np.ndarray, level: Level) -> np.ndarray:
    """How far apart two values are, squared, in each draw."""
    a, b = values[:, None], values[None, :]
    match level:
        case "nominal":
            return np.asarray(a != b, np.float64)[None]
        case "ordinal":  # as many ranks as ratings lie between them, half of those at the ends included
            ranks = np.cumsum(given, 1) - given / 2
            return np.asarray((ranks[:, :, None] - ranks[:, None, :]) ** 2)
        case "interval":
            return np.asarray((a - b) ** 2)[None]
        case "ratio":
            both = a + b
            return np.asarray(np.divide(a - b, both, out=np.zeros_like(both), where=both != 0) ** 2)[None]
