"""What to cover: a taxonomy is a tree of skills whose leaves each get a quota of rows.

`load("programming")` reads a built-in taxonomy and `load("mine.yaml")` your own; `plan_of` gives the plan of a leaf, whose cells cover its
axes and languages, and `draw` the brief of one candidate, before a token is spent and the same in every process; `clean` says which seeds
are fit to be shown and why the others are not. Nothing here calls a model.
"""

from taxonomy.axes import Axis, AxisValue
from taxonomy.briefs import again, draw, plan_of
from taxonomy.covering import Cell, Plan
from taxonomy.seeds import CleanSeeds, DroppedSeed, clean, read_seeds
from taxonomy.tree import BUILT_IN, Leaf, Node, Taxonomy, library, load

__all__ = [
    "BUILT_IN",
    "Axis",
    "AxisValue",
    "Cell",
    "CleanSeeds",
    "DroppedSeed",
    "Leaf",
    "Node",
    "Plan",
    "Taxonomy",
    "again",
    "clean",
    "draw",
    "library",
    "load",
    "plan_of",
    "read_seeds",
]
