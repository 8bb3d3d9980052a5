"""A number shared out among groups: in proportion, in whole numbers that add up, and never more than a group has.

The usual floor(budget / groups) loses what does not divide: 500 over 512 groups comes to nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import floor


def allot(total: int, weights: Sequence[float], rooms: Sequence[int]) -> list[int]:
    """How many of `total` each group gets: proportional to its weight (above 0), rounded by largest remainder, at most its room.

    What a full group cannot take spills over to the others by their weights. The sum is `total`, or all rooms where they are fewer.

    >>> allot(10, [1, 1, 1], [2, 9, 9]), allot(5, [3, 1], [9, 9]), allot(9, [1, 1], [2, 3])
    ([2, 4, 4], [4, 1], [2, 3])
    """
    given = [0] * len(weights)
    shares = {group: Fraction(weights[group]) for group, room in enumerate(rooms) if room > 0}  # exact, so that the sum is
    left = min(total, sum(rooms))
    while shares:
        unit = left / sum(shares.values())
        full = [group for group, share in shares.items() if share * unit >= rooms[group]]
        if not full:
            break
        for group in full:
            given[group] = rooms[group]
            left -= rooms[group]
            del shares[group]
    for group, share in shares.items():
        given[group] = floor(share * unit)
    rest = left - sum(given[group] for group in shares)
    for group in sorted(shares, key=lambda group: (given[group] - shares[group] * unit, group))[:rest]:
        given[group] += 1
    return given


def tempered(sizes: Sequence[float], alpha: float) -> list[float]:
    """Shares p_i ~ n_i^alpha of sizes: 1 leaves their proportions, 0 makes all equal, 0.3 to 0.7 lifts the small ones.

    >>> [round(share, 4) for share in tempered([100, 300, 600], 0.5)]
    [0.193, 0.3343, 0.4727]
    """
    most = max(sizes, default=1)
    powers = [(size / most) ** alpha for size in sizes]
    return [power / sum(powers) for power in powers]
