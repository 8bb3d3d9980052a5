"""What it costs to choose rows by their vectors, and how well the chosen ones stand for all.

    python -m bench.select [--rows 50000] [--keep 1000] [--dimension 512] [--turns 3]

Made-up unit vectors in clusters of very different sizes, the same for every way, all in one process on one thread, in turns. CPU seconds
are the median over the turns. Our ways stand beside scikit-learn's mini-batch K-means (the row nearest to each centre) and beside
farthest-first one row at a time, where scikit-learn is installed. The exit code is 1 when looking ahead chose other rows than that.

    coverage    mean over all rows of the cosine similarity to the nearest chosen row
    NovelSum    of the chosen rows, at most 2,000 of them, with the density among all rows
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from filters.diversity.kmeans import cluster, share_of_each, usual_k
from filters.diversity.metrics import coverage, densities, novelsum
from filters.diversity.spread import farthest_first, unlike

Way = Callable[[np.ndarray, int], list[int]]
PLAIN, AHEAD = "farthest-first, row by row", "k-center"


def rows_in_clusters(n: int, dimension: int, seed: int = 0) -> np.ndarray:
    """Rows around n/30 centres, whose sizes fall as 1/rank."""
    rng = np.random.default_rng(seed)
    centres = _unit(rng.normal(size=(max(2, n // 30), dimension)))
    odds = 1 / np.arange(1, len(centres) + 1)
    near = centres[rng.choice(len(centres), n, p=odds / odds.sum())]
    return _unit(near + rng.normal(size=(n, dimension)) * 0.8 / dimension**0.5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def by_kmeans(vectors: np.ndarray, keep: int) -> list[int]:
    return share_of_each(vectors, cluster(vectors), keep)


def by_kmeans_one_each(vectors: np.ndarray, keep: int) -> list[int]:
    return share_of_each(vectors, cluster(vectors, keep), keep, equal=True)


def by_k_center(vectors: np.ndarray, keep: int) -> list[int]:
    return farthest_first(vectors, keep)


def row_by_row(vectors: np.ndarray, keep: int) -> list[int]:
    chosen = [int((vectors @ vectors.mean(0)).argmax())]
    near = vectors @ vectors[chosen[0]]
    while len(chosen) < keep:
        near[chosen[-1]] = np.inf
        chosen.append(int(near.argmin()))
        near = np.maximum(near, vectors @ vectors[chosen[-1]])
    return chosen


def by_deita(vectors: np.ndarray, keep: int) -> list[int]:
    return unlike(vectors, np.random.default_rng(0).permutation(len(vectors)).tolist(), keep, 0.6).kept


def by_chance(vectors: np.ndarray, keep: int) -> list[int]:
    return np.random.default_rng(0).permutation(len(vectors))[:keep].tolist()


def by_sklearn(vectors: np.ndarray, keep: int) -> list[int]:
    from sklearn.cluster import MiniBatchKMeans

    centres = _unit(MiniBatchKMeans(keep, random_state=0, n_init=1).fit(vectors).cluster_centers_)
    nearest = [int((vectors @ centre).argmax()) for centre in centres]
    return list(dict.fromkeys(nearest))


def ways(n: int, keep: int) -> dict[str, Way]:
    found: dict[str, Way] = {
        "random": by_chance,
        f"kmeans ({usual_k(n)} clusters)": by_kmeans,
        f"kmeans ({keep} clusters, one row each)": by_kmeans_one_each,
        AHEAD: by_k_center,
        PLAIN: row_by_row,
        "deita's filter (0.6, scores by chance)": by_deita,
    }
    if importlib.util.find_spec("sklearn"):
        found[f"scikit-learn MiniBatchKMeans ({keep})"] = by_sklearn
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("rows", 50_000), ("keep", 1000), ("dimension", 512), ("turns", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    vectors = rows_in_clusters(given.rows, given.dimension)
    took: dict[str, list[float]] = {}
    chosen: dict[str, list[int]] = {}
    with threadpool_limits(1):
        for _ in range(given.turns):
            for name, way in ways(given.rows, given.keep).items():
                began = time.process_time()
                chosen[name] = way(vectors, given.keep)
                took.setdefault(name, []).append(time.process_time() - began)
    say = sys.stdout.write
    say(f"{given.keep} of {given.rows} rows of {given.dimension} numbers\n\n")
    say("| way | CPU s | rows | coverage | NovelSum |\n|---|---:|---:|---:|---:|\n")
    for name, kept in chosen.items():
        some = vectors[kept[:2000]]
        spread = novelsum(some, densities(some, vectors))
        say(f"| {name} | {statistics.median(took[name]):.1f} | {len(kept)} | {coverage(vectors, vectors[kept]):.2f} | {spread:.3f} |\n")
    return 0 if chosen[AHEAD] == chosen[PLAIN] else 1


if __name__ == "__main__":
    sys.exit(main())
