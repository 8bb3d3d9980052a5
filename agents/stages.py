"""The stages of the work: who plays each, what it is offered, and what it must reply. A role file says where it stands by `stage:`.

A stage with a player is played by the one role of that name (and its variants); at one without, every role that says so stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

LEAF = frozenset({"language", "trail", "description", "axes"})
ROW = LEAF | {"instruction", "input"}
ANSWERED = ROW | {"answer"}
"""what a role with `after:` is offered, too"""


class Stage(NamedTuple):
    """`offers` are the variables of its templates, `must_say` the reply fields that are read from it."""

    player: str
    """the role that plays it; "": any, each of them"""
    offers: frozenset[str]
    must_say: frozenset[str] = frozenset()
    by: Literal["generator", "judge"] = "generator"
    """the model that plays it, where neither the role's file nor the recipe says"""


STAGES: Mapping[str, Stage] = {
    "plan": Stage("planner", LEAF | {"seeds", "count", "known"}, frozenset({"scenarios"})),
    "write": Stage("writer", LEAF | {"seeds", "scenario"}, frozenset({"instruction"})),
    "evolve": Stage("evolver", ROW | {"operator"}, frozenset({"instruction"})),
    "answer": Stage("answerer", ANSWERED | {"feedback"}),
    "annotate": Stage("", ANSWERED, frozenset({"score"}), "judge"),
    "criticise": Stage("critic", ANSWERED | {"finding"}, frozenset({"score"}), "judge"),
}
"""By name. The answer stage takes plain text, or a field `answer`."""

FOREIGN = frozenset({"instruction", "input", "answer", "feedback", "scenario", "known"})
"""Variables whose text a model wrote."""
