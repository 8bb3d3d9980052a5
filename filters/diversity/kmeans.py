"""Groups of rows that lie together (spherical K-means), and a selection that takes its share of each.

K-means follows Lloyd with centres of length 1, so that the centre a row is nearest to is the one it is most similar to. It starts from
k-means++ (rows far from those chosen are likelier), several drawn at a time so that it is a matrix product. On a GPU where there is one.

The selection is kMQ (arXiv 2409.11378) with quotas that add up and follow the sizes of the clusters.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from filters.diversity.quota import allot
from filters.diversity.spread import best_apart, placed

if TYPE_CHECKING:
    import torch

SEEDINGS = 16
"""rounds in which the starting centres are drawn: more are slower and hardly better"""
TURNS = 25
STILL = 1e-3
"""of the mean similarity of rows to their centres: a turn that gains less is the last"""
BLOCK = 8192
"""rows compared with all centres at once"""


class Clusters(NamedTuple):
    labels: np.ndarray
    """(n,) the cluster of each row"""
    centres: np.ndarray
    """(k, dimension) unit vectors"""
    similarity: np.ndarray
    """(n,) of each row to its centre"""

    @property
    def sizes(self) -> np.ndarray:
        return np.bincount(self.labels, minlength=len(self.centres))


def usual_k(n: int) -> int:
    """How many clusters n rows are worth: min(sqrt(n/2), n/20), at least 1."""
    return max(1, int(min(math.sqrt(n / 2), n / 20)))


def cluster(vectors: np.ndarray, k: int | None = None, seed: int = 0, device: str = "auto") -> Clusters:
    """K-means of unit vectors; k of `usual_k` unless given, never more than there are rows. Equal seeds give equal clusters."""
    import torch

    rows = placed(vectors, device)
    k = min(k or usual_k(len(rows)), len(rows))
    if not k:
        return Clusters(np.empty(0, np.int64), vectors[:0], np.empty(0, np.float32))
    centres = rows[_start(rows, k, seed)]
    before = -math.inf
    for _ in range(TURNS):
        similarity, labels = _nearest(rows, centres)
        mean = float(similarity.double().mean())
        if mean - before < STILL:
            break
        before = mean
        sizes = torch.bincount(labels, minlength=k)
        sums = torch.segment_reduce(rows[labels.argsort(stable=True)], "sum", lengths=sizes)  # the same on every device and every time
        nobodys = sizes == 0
        sums[nobodys] = rows[similarity.argsort(stable=True)[: int(nobodys.sum())]]
        centres = torch.nn.functional.normalize(sums, dim=1)
    similarity, labels = _nearest(rows, centres)
    return Clusters(labels.cpu().numpy(), centres.cpu().numpy(), similarity.cpu().numpy())


def share_of_each(
    vectors: np.ndarray,
    clusters: Clusters,
    budget: int,
    scores: np.ndarray | None = None,
    *,
    equal: bool = False,
    draw: bool = False,
    seed: int = 0,
) -> list[int]:
    """Which rows to keep, as places: of each cluster a number in proportion to its size, or `equal` ones; what it lacks others give.

    Inside a cluster the best by score and, of equals, those that lie farthest from what was taken; with `draw` each row by chance, with
    odds of exp(score), as kMQ does.
    """
    sizes = clusters.sizes
    quotas = allot(budget, [1.0] * len(sizes) if equal else [max(1.0, float(size)) for size in sizes], sizes.tolist())
    members = np.split(clusters.labels.argsort(kind="stable"), np.cumsum(sizes)[:-1])
    scores = np.zeros(len(vectors)) if scores is None else scores
    rng = np.random.default_rng(seed)
    kept: list[int] = []
    for here, quota in zip(members, quotas, strict=True):
        places = drawn(scores[here], quota, rng) if draw else best_apart(vectors[here], scores[here], quota)
        kept += here[places].tolist()
    return sorted(kept)


def drawn(scores: np.ndarray, n: int, rng: np.random.Generator) -> list[int]:
    """`n` places drawn without replacement, each with odds of exp(score) among those that are left.

    The n highest of score + Gumbel noise are such a draw (Gumbel-max), and no exponent has to be taken: a score of 800 is one like any.
    """
    order = np.argsort(-(scores + rng.gumbel(size=len(scores))), kind="stable")
    return [int(place) for place in order[:n]]


def _start(rows: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    """Places of k starting centres, by k-means++ in rounds."""
    import torch

    rng = torch.Generator().manual_seed(seed)  # on the CPU, so that a device starts like any other
    chosen = torch.randint(len(rows), (1,), generator=rng)
    odds = 1 - (rows @ rows[chosen[0]]).cpu()
    while len(chosen) < k:
        odds[chosen] = 0
        odds = odds.clamp(min=0)
        n = min(max(1, k // SEEDINGS), k - len(chosen), int((odds > 0).sum()))
        if n == 0:  # all that is left lies upon a centre
            left = torch.ones(len(rows), dtype=torch.bool)
            left[chosen] = False
            return torch.cat([chosen, left.nonzero().flatten()[: k - len(chosen)]])
        new = odds.multinomial(n, generator=rng)
        odds = odds.minimum(1 - (rows @ rows[new].T).amax(1).cpu())
        chosen = torch.cat([chosen, new])
    return chosen


def _nearest(rows: torch.Tensor, centres: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each row the similarity to its nearest centre, and which that is."""
    import torch

    parts = [(block @ centres.T).max(1) for block in torch.split(rows, BLOCK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])
