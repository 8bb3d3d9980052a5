"""How varied the accepted rows of a run are, by leaf and in all: their prompts' vectors, their axes, and whether they sound alike.

    found = await measure(ledger, embedder)

A leaf's numbers are its own; only NovelSum's density is that among all rows of the run. Distinct-n and openings
depend on how many rows there are, so compare leaves, or runs, of one size.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

import numpy as np
import sqlalchemy as sa
from pydantic import BaseModel

from filters.diversity.kmeans import cluster, usual_k
from filters.diversity.metrics import densities, distinct, entropy, gini, novelsum, opening
from filters.embedder import Embedder
from leafmill.ledger import CANDIDATES, Ledger
from leafmill.records import Brief, Row

ALL = "all"
MEASURED = 2000
"""rows of which NovelSum is taken, at most, evenly spaced: its cost grows with their square"""


class Sound(BaseModel):
    """Whether texts sound as if made from one template. In units: words, or Chinese characters."""

    opening: str | None
    """the commonest first three units"""
    share: float | None
    """of the texts that begin so"""
    distinct1: float | None
    distinct2: float | None
    """different units, and pairs of units, over all of them"""


class LeafDiversity(BaseModel):
    """None stands where nothing can be said, as of clusters of few rows."""

    rows: int
    novelsum: float | None
    gini: float | None
    """of the sizes of clusters: 0 when all are as large"""
    axes: dict[str, float | None]
    """bits of each axis's values"""
    evenness: float | None
    """mean over axes of their bits, over the most that so many rows could have among the values planned"""
    instructions: Sound
    answers: Sound


class Diversity(BaseModel):
    embedder: str
    leaves: dict[str, LeafDiversity]
    """by leaf, and of `all`"""


async def measure(ledger: Ledger, embedder: Embedder) -> Diversity:
    """Embeds every accepted row."""
    accepted = list(ledger.accepted())
    if not accepted:
        return Diversity(embedder=embedder.id, leaves={})
    vectors = await embedder.encode([row.prompt for _, row in accepted])
    density = densities(vectors, vectors)
    planned = _planned(ledger)
    places: dict[str, list[int]] = defaultdict(list)
    for place, (brief, _) in enumerate(accepted):
        places[brief.leaf].append(place)
    if len(places) > 1:
        places[ALL] = list(range(len(accepted)))
    found = {leaf: _leaf([accepted[place] for place in here], vectors[here], density[here], planned[leaf]) for leaf, here in places.items()}
    return Diversity(embedder=embedder.id, leaves=found)


Values = dict[str, Counter[str]]
"""how often each value of each axis occurs"""


def _planned(ledger: Ledger) -> dict[str, Values]:
    """The values that were dealt to a leaf's candidates, whatever became of them."""
    dealt = ledger.rows(sa.select(CANDIDATES.c.leaf, CANDIDATES.c.brief["axes"].label("axes")))
    by_leaf: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in dealt:
        by_leaf[row["leaf"]].append(row["axes"])
        by_leaf[ALL].append(row["axes"])
    return {leaf: _counted(axes) for leaf, axes in by_leaf.items()}


def _counted(dealt: Iterable[dict[str, str]]) -> Values:
    values: Values = defaultdict(Counter)
    for axes in dealt:
        for axis, value in axes.items():
            values[axis][value] += 1
    return values


def _leaf(accepted: Sequence[tuple[Brief, Row]], vectors: np.ndarray, density: np.ndarray, planned: Values) -> LeafDiversity:
    n, step = len(accepted), -(-len(accepted) // MEASURED)
    bits = {axis: entropy(counts.values()) for axis, counts in _counted(brief.axes for brief, _ in accepted).items()}
    most = {axis: math.log2(min(len(planned[axis]), n)) for axis in bits}
    shares = [found / most[axis] for axis, found in bits.items() if found is not None and most[axis]]
    return LeafDiversity(
        rows=n,
        novelsum=novelsum(vectors[::step], density[::step]),
        gini=gini(cluster(vectors).sizes.tolist()) if usual_k(n) > 1 else None,
        axes=bits,
        evenness=sum(shares) / len(shares) if shares else None,
        instructions=_sound([row.instruction for _, row in accepted]),
        answers=_sound([row.answer for _, row in accepted]),
    )


def _sound(texts: list[str]) -> Sound:
    first = opening(texts)
    return Sound(opening=first and first.words, share=first and first.share, distinct1=distinct(texts, 1), distinct2=distinct(texts, 2))
