"""The stages of the work: who plays each, what it is offered, and what it must reply. A role file says where it stands by `stage:`.

A stage with a player is played by the one role of that name (and its variants); at one without, every role that says so stands.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

LEAF = frozenset({"language", "trail", "description", "axes"})
ROW = LEAF | {"instruction", "input"}
ASKED = ROW | {"history", "tools", "steps", "passage"}
ANSWERED = ASKED | {"answer"}
"""what a role with `after:` is offered, too"""


BRANCH = frozenset({"language", "trail", "description", "guide", "count"})
"""what the roles of a plan are told of the node that they work at; the words of its nodes are its taxonomy's, as in a run"""
CHILD = ("slug", "title", "description", "weight")


class Stage(NamedTuple):
    """`offers` are the variables of its templates, `must_say` the reply fields that are read from it, `list.field` those of its items."""

    player: str
    """the role that plays it; "": any, each of them"""
    offers: frozenset[str]
    must_say: frozenset[str] = frozenset()
    by: Literal["generator", "judge"] = "generator"
    """the model that plays it, where neither the role's file nor the recipe says"""


def _items(name: str, *of: str) -> frozenset[str]:
    """A list of objects with these fields."""
    return frozenset({name, *(f"{name}.{one}" for one in of)})


STAGES: Mapping[str, Stage] = {
    "outline": Stage("outliner", BRANCH | {"beside"}),
    "structure": Stage("structurer", BRANCH | {"outline"}, _items("children", *CHILD)),
    "survey": Stage("surveyor", BRANCH | {"children"}, _items("missing", *CHILD) | _items("overlapping", "drop", "keep"), "judge"),
    "describe": Stage("describer", BRANCH | {"nodes"}, _items("nodes", "name", "title", "description")),
    "axes": Stage(
        "axis-planner",
        BRANCH | {"children", "library"},
        _items("axes", "name", "title", "values", "values.label", "values.weight") | {"library"},
    ),
    "plan": Stage("planner", LEAF | {"seeds", "count", "known"}, frozenset({"scenarios"})),
    "syllabus": Stage("syllabus-planner", LEAF | {"count", "known"}, _items("sessions", "title", "concepts")),
    "write": Stage("writer", LEAF | {"seeds", "concepts", "scenario", "persona"}, frozenset({"instruction"})),
    "self_instruct": Stage("self-instructor", LEAF | {"concepts", "scenario", "example"}, frozenset({"instruction"})),
    "classify": Stage("task-classifier", frozenset({"language", "instruction"}), frozenset({"classification", "labels"})),
    "instances": Stage("instance-writer", frozenset({"language", "instruction", "label"}), _items("instances", "input", "output")),
    "rewrite": Stage("rewriter", ROW | {"operation"}, frozenset({"instruction"})),
    "document": Stage("document-writer", LEAF | {"scenario", "passage", "heading", "closed_book"}, frozenset({"instruction"})),
    "localise": Stage("localiser", ROW, frozenset({"instruction"})),
    "evolve": Stage("evolver", ROW | {"operator", "passage"}, frozenset({"instruction"})),
    "compare": Stage("comparer", ROW | {"parent"}, frozenset({"demands", "depth"}), "judge"),
    "answer": Stage("answerer", ANSWERED | {"feedback"}),
    "reason": Stage("reasoner", ANSWERED | {"feedback"}, frozenset({"reasoning", "answer"})),
    "think": Stage("thinker", ANSWERED | {"feedback"}),
    "follow_up": Stage("simulated-user", LEAF | {"history", "scenario", "persona", "goal", "topic"}, frozenset({"message"})),
    "tools": Stage("tool-writer", LEAF | {"seeds", "count"}, _items("tools", "name", "description", "parameters", "returns")),
    "tool_task": Stage("tool-task-writer", LEAF | {"seeds", "scenario", "tools", "tool_use", "left_out"}, frozenset({"instruction"})),
    "use_tools": Stage("tool-user", ANSWERED | {"feedback", "problem"}, _items("calls", "name", "arguments")),
    "jury": Stage("juror", ASKED | {"answer_a", "answer_b"}, frozenset({"verdict"}), "judge"),
    "grade": Stage("grader", ANSWERED, by="judge"),
    "ground": Stage(
        "grounding-judge",
        frozenset({"language", "instruction", "passage", "answer"}),
        frozenset({"unsupported", "grounded"}),
        "judge",
    ),
    "annotate": Stage("", ANSWERED, frozenset({"score"}), "judge"),
    "gate": Stage("", ANSWERED, frozenset({"score"}), "judge"),
    "axis": Stage("", LEAF | {"count"}, frozenset({"values"})),
    "criticise": Stage("critic", ANSWERED | {"finding"}, frozenset({"score"}), "judge"),
    "arbitrate": Stage("arbiter", ANSWERED | {"votes"}, frozenset({"score"}), "judge"),
}
"""By name. Who writes the answer replies in plain text, or in a contract with a field `answer`; a grader, in one with a field `grade`."""

BY_DEPTH: Mapping[Literal["direct", "cot", "deep"], str] = {"direct": "answer", "cot": "reason", "deep": "think"}
"""The stage that answers, by the depth of thinking that a candidate's mode asks for."""

ANSWERING = frozenset({*BY_DEPTH.values(), "use_tools"})
"""The stages whose players write the answer."""

WRITING: Mapping[str, tuple[str, ...]] = {
    "brief": ("write",),
    "self_instruct": ("self_instruct", "classify", "instances"),
    "rewrite": ("rewrite",),
    "document": ("document",),
}
"""The stages that write an instruction, by the way in which it is written; they speak the language in which that is."""

PLANNING = ("outline", "structure", "survey", "describe", "axes")
"""The stages of `leafmill plan`; a run asks none of them."""

FOREIGN = frozenset(
    {
        "outline",
        "children",
        "nodes",
        "instruction",
        "parent",
        "input",
        "answer",
        "answer_a",
        "answer_b",
        "history",
        "feedback",
        "votes",
        "scenario",
        "concepts",
        "known",
    }
    | {"tools", "steps", "problem", "example", "passage", "heading", "label"}
)
"""Variables whose text a model wrote; `history` is a list of turns, each in tags of its speaker."""
