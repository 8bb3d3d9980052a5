"""What to cover: a taxonomy is a tree of skills whose leaves each get a quota of rows.

`load("programming")` reads a built-in taxonomy and `load("mine.yaml")` your own; `draw` plans one candidate of a leaf (language, one
value per axis, seeds to show) before a token is spent, the same in every process; `clean` says which seeds are fit to be shown and why
the others are not. Nothing here calls a model.
"""

from taxonomy.axes import Axis, AxisValue, Count, PairCoverage, coverage, pair_coverage
from taxonomy.briefs import draw
from taxonomy.seeds import CleanSeeds, DroppedSeed, clean, read_seeds
from taxonomy.tree import BUILT_IN, Leaf, Node, Taxonomy, load

__all__ = [
    "BUILT_IN",
    "Axis",
    "AxisValue",
    "CleanSeeds",
    "Count",
    "DroppedSeed",
    "Leaf",
    "Node",
    "PairCoverage",
    "Taxonomy",
    "clean",
    "coverage",
    "draw",
    "load",
    "pair_coverage",
    "read_seeds",
]
