"""What the ledger is told of a run beside its candidates, for those who look: its leaves, roles and graphs, and whose process it is."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping
from typing import Any

from agents.role import Role
from agents.stages import ANSWERING, STAGES, WRITING
from graphs.candidate import Shape, build
from graphs.players import aliases_of
from graphs.prepare import Prepared
from leafmill.recipe import Recipe

NODES: Mapping[str, str] = {
    **dict.fromkeys((stage for stages in WRITING.values() for stage in stages), "write"),
    **dict.fromkeys(("localise", "tool_task", "tools"), "write"),
    **dict.fromkeys(("reason", "think"), "answer"),
    **dict.fromkeys(("jury", "grade"), "vote"),
    "ground": "check",
}
"""the node of the graph whose work a stage is part of, where it is no node itself; what a leaf asks before has none"""


def process(command: str) -> dict[str, Any]:
    """Whose process a run is, as long as it goes."""
    return {"pid": os.getpid(), "host": platform.node(), "began_at": time.time(), "ended_at": None, "exit_code": None, "command": command}


def leaves(prepared: Prepared) -> dict[str, Any]:
    """Title and quota of each leaf."""
    return {one.path: {"title": dict(one.title), "target": prepared.recipe.target} for one in prepared.leaves}


def graphs(shapes: Mapping[str, Shape]) -> dict[str, Any]:
    """The graphs as LangGraph has them: nodes and edges of each shape, and which leaf has which."""
    known = list(dict.fromkeys(shapes.values()))
    drawn = [build(shape).get_graph() for shape in known]
    return {
        "shapes": [{"nodes": list(one.nodes), "edges": [edge._asdict() for edge in one.edges]} for one in drawn],
        "leaves": {path: known.index(shape) for path, shape in shapes.items()},
    }


def roles(prepared: Prepared) -> list[dict[str, Any]]:
    """Every prompt file of the run: what it is for, what it reads and returns, and where it stands."""
    return [_role(role, prepared.recipe) for role in prepared.roles.files]


def _role(role: Role, recipe: Recipe) -> dict[str, Any]:
    head = role.head
    returns = {} if head.reply == "text" else {name: spec.model_dump(exclude_defaults=True) for name, spec in head.reply.items()}
    return {
        "name": role.name,
        "variant": role.variant,
        "stage": head.stage or "",
        "after": head.after or "",
        "language": list(head.language),
        "alias": ", ".join(aliases_of(recipe, role)),
        "file": os.path.basename(role.path),
        "hash": role.hash,
        "says": head.says,
        "reads": sorted(STAGES[head.stage].offers if head.stage else STAGES["answer"].offers - {"feedback"}),
        "returns": returns,
        "node": role.name if head.after else _node(head.stage or "", head.at or "check"),
    }


def _node(stage: str, at: str) -> str:
    if stage == "gate":
        return {"screen": "write", "check": "answer"}[at]
    return NODES.get(stage, stage if stage in _NODES else "")


_NODES = frozenset({"write", "evolve", "compare", "answer", "follow_up", "use_tools", "annotate", "criticise", "arbitrate"}) | ANSWERING
