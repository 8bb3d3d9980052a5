"""A role in Python, for what a prompt cannot do: an object behind an entry point of `leafmill.roles`, named under the recipe's `roles`.

    class Plain:
        after, writes = "answer", "answer"
        async def __call__(self, row: Row, brief: Brief) -> str:
            return row.answer.replace("utilise", "use")

It gets a node of its own, as a prompt file with `after:` does, and what it writes passes the same gates.
"""

from __future__ import annotations

from typing import Any, Protocol, get_args

from agents.role import After, Writes, writes_there
from leafmill import entrypoints
from leafmill.errors import CallError, RecipeError
from leafmill.records import Brief, Row


class PythonRole(Protocol):
    """What an entry point must be, or make when it is called without arguments (a class)."""

    after: After
    writes: Writes

    async def __call__(self, row: Row, brief: Brief) -> str: ...


def load(name: str) -> PythonRole:
    """The role of an entry point. Raises RecipeError."""
    found: Any = entrypoints.load(entrypoints.ROLES, name)
    made = found() if isinstance(found, type) else found
    after: Any = getattr(made, "after", None)
    writes: Any = getattr(made, "writes", None)
    if after not in get_args(After) or writes not in get_args(Writes) or not callable(made) or not writes_there(after, writes):
        wanted = (
            "`after` (write, evolve or answer), `writes` (instruction or input; after answer: answer) and an async __call__(row, brief)"
        )
        raise RecipeError(f"entry point {name!r} of {entrypoints.ROLES}: needs {wanted}, got after={after!r}, writes={writes!r}")
    return made  # type: ignore[no-any-return]


async def amend(role: PythonRole, name: str, row: Row, brief: Brief) -> Row:
    """The row with the role's part replaced. What goes wrong in it is a call that failed: a CallError with the code `<name>_crashed`."""
    try:
        text = await role(row, brief)
    except Exception as fault:  # the boundary at which somebody else's bug becomes data
        raise _failed(name, f"{type(fault).__name__}: {fault}") from fault
    if not isinstance(text, str) or not text.strip():
        raise _failed(name, f"expected the new {role.writes}, a text, got {text!r:.80}")
    return row.model_copy(update={role.writes: text})


def _failed(name: str, what: str) -> CallError:
    fault = CallError(f"role {name!r}: {what}")
    fault.code = f"{name}_crashed"
    return fault
