"""What other installed packages bring along: gates and roles in Python, found by their entry points.

    [project.entry-points."leafmill.gates"]
    profanity = "my_package.gates:Profanity"

Nothing of a package is imported before a recipe names it.
"""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Any

from leafmill.errors import RecipeError

GATES, ROLES = "leafmill.gates", "leafmill.roles"


@cache
def names(group: str) -> tuple[str, ...]:
    """The names in a group, sorted."""
    return tuple(sorted({one.name for one in metadata.entry_points(group=group)}))


@cache
def load(group: str, name: str) -> Any:
    """The object behind a name. Raises RecipeError when two packages have that name, or it cannot be imported."""
    found = list(metadata.entry_points(group=group, name=name))
    if len(found) != 1:
        whose = ", ".join(sorted(one.value for one in found)) or "no package"
        raise RecipeError(f"entry point {name!r} of {group}: expected of one installed package, got {whose}")
    try:
        return found[0].load()
    except Exception as fault:  # whatever importing somebody's package raises
        raise RecipeError(f"entry point {name!r} of {group} ({found[0].value}) cannot be imported: {fault!r}") from fault


@cache
def origin(group: str, name: str) -> str:
    """Where it comes from, for the lineage: "my-package 1.2 my_package.gates:Profanity"."""
    (found,) = metadata.entry_points(group=group, name=name)
    whose = f"{found.dist.name} {found.dist.version} " if found.dist else ""
    return f"{whose}{found.value}"
