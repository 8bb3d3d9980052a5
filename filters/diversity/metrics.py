"""What can be said of how varied a set is. None where nothing can be said; no number of a set of one.

Of vectors: NovelSum, coverage. Of counts: entropy, Gini. Of texts: whether they sound as from one template.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from filters.diversity.spread import placed
from filters.text import tokens

if TYPE_CHECKING:
    import torch

BLOCK = 512
"""rows compared with all others at once"""


def novelsum(
    vectors: np.ndarray, density: np.ndarray | None = None, *, alpha: float = 1.0, itself: bool = True, device: str = "auto"
) -> float | None:
    """NovelSum (arXiv 2502.17184): how far rows lie from each other, near ones counting more, and more where rows are dense.

    A row's value is the mean of its cosine distances to all rows, weighted by 1/rank^alpha from the nearest on, times its density (1 unless
    given). With `itself` the row is its own nearest, as in the authors' code. Compare sets of one size, one embedder, one reference only.
    """
    if len(vectors) < 2:
        return None
    rows = placed(vectors, device)
    first = 0 if itself else 1
    weights = 1.0 / np.arange(1, len(rows) + 1 - first) ** alpha
    values: list[np.ndarray] = []
    for block in _blocks(rows):
        distance = 1 - block @ rows.T
        nearest = distance.sort(dim=1).values[:, first:].clamp(min=0)  # the row itself, or a duplicate of it, is first
        values.append(nearest.cpu().numpy().astype(np.float64) @ weights / weights.sum())
    return float((np.concatenate(values) * (1.0 if density is None else density)).mean())


def densities(vectors: np.ndarray, reference: np.ndarray, *, k: int = 10, beta: float = 0.5, device: str = "auto") -> np.ndarray:
    """NovelSum's density of rows within a reference set that holds them: (mean squared distance to the k nearest others)^-beta."""
    dense = placed(np.unique(reference, axis=0), device)
    if len(dense) < 2:
        return np.ones(len(vectors))
    around: list[np.ndarray] = [np.empty(0)]
    for block in _blocks(placed(vectors, device)):
        near = (1 - block @ dense.T).topk(min(k + 1, len(dense)), largest=False).values[:, 1:]
        around.append(2 * near.clamp(min=0).mean(1).cpu().numpy().astype(np.float64))  # of unit vectors |a - b|^2 is 2 (1 - cos)
    return np.asarray((np.concatenate(around) + 1e-9) ** -beta)


def coverage(vectors: np.ndarray, chosen: np.ndarray, device: str = "auto") -> float | None:
    """How well chosen vectors stand for all: the mean, over all rows, of the similarity to the nearest chosen one."""
    if not len(chosen):
        return None
    some = placed(chosen, device)
    near = [(block @ some.T).amax(1).cpu().numpy() for block in _blocks(placed(vectors, device))]
    return float(np.concatenate(near).mean(dtype=np.float64))


def entropy(counts: Iterable[int]) -> float | None:
    """Bits of a distribution: 0 when all is one value, log2(n) when n values are equally common."""
    there = [count for count in counts if count]
    total = sum(there)
    return abs(-sum(count / total * math.log2(count / total) for count in there)) if there else None


def gini(counts: Iterable[int]) -> float | None:
    """How unequal groups are: 0 when all are of one size, near 1 when one has nearly everything. Groups of 0 count."""
    ordered = sorted(counts)
    total = sum(ordered)
    if not total:
        return None
    n = len(ordered)
    return sum((2 * rank - n - 1) * count for rank, count in enumerate(ordered, 1)) / (n * total)


def _blocks(rows: torch.Tensor) -> Iterator[torch.Tensor]:
    return (rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK))


class Opening(NamedTuple):
    words: str
    share: float
    """of the texts that begin so"""


def opening(texts: Iterable[str], units: int = 3) -> Opening | None:
    """The commonest first units (words; of Chinese, characters) of texts, and how common they are."""
    starts = Counter(tuple(tokens(text)[:units]) for text in texts)
    if not starts:
        return None
    words, count = max(starts.items(), key=lambda item: (item[1], item[0]))
    together = all(len(word) == 1 and not word.isascii() for word in words)
    return Opening(("" if together else " ").join(words), count / starts.total())


def distinct(texts: Iterable[str], n: int) -> float | None:
    """Distinct-n (Li et al. 2016): different n-grams of units over all n-grams. It falls as a set grows: compare sets of one size."""
    grams: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        words = tokens(text)
        grams.update(zip(*(words[start:] for start in range(n)), strict=False))
    return len(grams) / grams.total() if grams else None
