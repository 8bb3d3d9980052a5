"""Rows that lie far apart, or at least not too near: farthest-first (k-center), DEITA's filter, InsTag's sampler."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import torch

AHEAD = 32
"""rows that are compared with all others at once, because they are probably the next farthest ones"""
BLOCK = 256
"""rows compared with the kept ones at once"""
ROUNDING = 1e-6
"""by which a similarity in single precision may be off"""


def placed(vectors: np.ndarray, device: str = "auto") -> torch.Tensor:
    """The vectors as a float32 tensor on a device; `auto` is a GPU where there is one."""
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(device)


def farthest_first(vectors: np.ndarray, n: int, taken: np.ndarray | None = None, device: str = "auto") -> list[int]:
    """Places of `n` rows, each the farthest from all before it and from the `taken` vectors (Gonzalez 1985: k-center within a factor of 2).

    The first is the most central row, unless something is taken. Of equally far ones the first comes first.
    """
    rows = placed(vectors, device)
    n = min(n, len(rows))
    if n == 0:
        return []
    if taken is not None and len(taken):
        near = (rows @ placed(taken, device).T).amax(1)
        chosen: list[int] = []
    else:
        chosen = [int((rows @ rows.mean(0)).argmax())]
        near = rows @ rows[chosen[0]]
        near[chosen] = np.inf
    known: dict[int, torch.Tensor] = {}
    while len(chosen) < n:
        place = int(near.argmin())
        if place not in known:
            ahead = near.topk(min(AHEAD, len(rows)), largest=False).indices
            ahead[0] = place  # of equals topk may give another
            known = dict(zip(ahead.tolist(), rows[ahead] @ rows.T, strict=True))
        near = near.maximum(known[place])
        near[place] = np.inf
        chosen.append(place)
    return chosen


def best_apart(vectors: np.ndarray, scores: np.ndarray, n: int) -> list[int]:
    """Places of the `n` best by score; of those that share the last score, the ones farthest from what was taken."""
    if n >= len(scores):
        return list(range(len(scores)))
    if n == 0:
        return []
    last = np.sort(scores)[-n]
    above, equal = np.flatnonzero(scores > last), np.flatnonzero(scores == last)
    farthest = farthest_first(vectors[equal], n - len(above), vectors[above])
    return [*above.tolist(), *equal[farthest].tolist()]


class Near(NamedTuple):
    kept: int
    """the place of the kept row"""
    similarity: float


class Unlike(NamedTuple):
    """What DEITA's filter did, by places: what it kept in order, and why it passed over others. Who is in neither was not looked at."""

    kept: list[int]
    passed_over: dict[int, Near]


def unlike(vectors: np.ndarray, order: Sequence[int], budget: int, similar: float = 0.9, device: str = "auto") -> Unlike:
    """Keeps rows in the given order (best first) unless one that is kept already has a similarity above `similar`, up to the budget.

    Compared with kept rows only: of a group of equals the best stays (arXiv 2312.15685).
    """
    rows = placed(vectors, device)
    kept: list[int] = []
    passed_over: dict[int, Near] = {}
    for start in range(0, len(order), BLOCK):
        places = list(order[start : start + BLOCK])
        block = rows[places]
        among = (block @ block.T).cpu().numpy()
        if kept:
            best = (block @ rows[kept].T).max(1)
            nearest, similarity = [kept[one] for one in best.indices.tolist()], best.values.cpu().numpy()
        else:
            nearest, similarity = [-1] * len(places), np.full(len(places), -2.0, np.float32)
        for here, place in enumerate(places):
            if len(kept) == budget:
                return Unlike(kept, passed_over)
            if similarity[here] > similar + ROUNDING:
                passed_over[place] = Near(nearest[here], float(similarity[here]))
                continue
            kept.append(place)
            for other in np.flatnonzero(among[here] > similarity):
                nearest[other], similarity[other] = place, among[here, other]
    return Unlike(kept, passed_over)


def complexity_first(tags: Sequence[Collection[str]], n: int) -> list[int]:
    """Places of `n` rows by InsTag's sampler (arXiv 2308.07074), in the order taken. Rows without tags are never taken.

    Those with most tags come first; each pass takes the rows that have a tag which is new in that pass.

    >>> complexity_first(["1234", "123", "45", "5", "12"], 4)  # a, c, then b, d
    [0, 2, 1, 3]
    """
    sets = [frozenset(some) for some in tags]
    left = deque(sorted((place for place, some in enumerate(sets) if some), key=lambda place: -len(sets[place])))
    there = Counter(tag for some in sets for tag in some)
    chosen: list[int] = []
    while left and len(chosen) < n:
        seen: set[str] = set()
        later: list[int] = []
        all_tags = len(there)
        while left and len(seen) < all_tags and len(chosen) < n:
            place = left.popleft()
            if sets[place] <= seen:
                later.append(place)
                continue
            seen |= sets[place]
            chosen.append(place)
            for tag in sets[place]:
                there[tag] -= 1
                if not there[tag]:
                    del there[tag]
        left.extendleft(reversed(later))
    return chosen
