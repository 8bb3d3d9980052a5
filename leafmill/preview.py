"""A recipe made ready for a command, and one candidate of it carried through its graph."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from graphs.prepare import Prepared, prepare
from graphs.run import Run
from leafmill import trace
from leafmill.errors import RoleFileError, unknown
from leafmill.recipe import Recipe
from leafmill.runfolder import RunFolder


@asynccontextmanager
async def ready(recipe: Recipe, scripted: bool) -> AsyncIterator[Prepared]:
    """The recipe, checked; with `scripted`, every model of it replaced by the scripted server."""
    if not scripted:
        yield prepare(recipe)
        return
    from agents.scripted import ScriptedServer

    async with ScriptedServer(seed=recipe.seed) as server:
        yield prepare(recipe.at(server.base_url))


async def preview(recipe: Recipe, folder: Path, scripted: bool, say: Callable[[str], None], role: str | None = None) -> trace.Trace:
    """Carry one candidate through its graph; its trace, or of one role alone: its calls, and the verdicts that they led to."""
    async with ready(recipe, scripted) as prepared:
        if role is not None and role not in prepared.roles.names:
            raise RoleFileError(unknown("role", role, prepared.roles.names))
        async with Run.open(prepared, RunFolder(folder / "run"), say) as run:
            await run.go(try_judges=False)
            leaf = prepared.leaves[0].path
            found = trace.read(run.ledger, f"{leaf}#0")
            if role is not None:
                asked = trace.calls_of(run.ledger, f"leaf:{leaf}") + found.events
                found.events = [event for event in asked if role in (event.get("role"), event.get("gate"))]
    return found
