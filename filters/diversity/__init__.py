"""How varied rows are, and which of them to keep so that they stay varied.

    quota.py      a number shared out among groups, exactly
    kmeans.py     groups of rows that lie together; a share of each
    spread.py     rows that lie far apart, or not too near: farthest-first, DEITA's filter, InsTag's sampler
    metrics.py    what can be said of a set: NovelSum, Gini, entropy, coverage, openings, distinct-n

Vectors are unit vectors, (n, dimension) float32, as an embedder gives them.
"""
