"""One call of a run asked again: the same messages with the same parameters, and both replies side by side. Nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from agents import role as roles
from agents.models.endpoint import Asked
from leafmill import trace
from leafmill.errors import InputError, RunFolderError, unknown
from leafmill.ledger import Ledger
from leafmill.recipe import Model, Recipe
from leafmill.records import Usage
from leafmill.runfolder import RunFolder
from leafmill.tokens import count_prompt

SHOWN = 20
"""calls that are named where one is not known"""
PATIENCE = {"attempts": 2, "patience": 5.0}
"""of somebody who waits for the reply"""


class Replayed(BaseModel):
    """A call and its repetition."""

    candidate: str
    call: int
    role: str
    alias: str
    model: str
    params: dict[str, Any]
    messages: list[dict[str, Any]]
    status: str
    """of the call on record: ok, or why its reply could not be used"""
    before: str
    """the reply on record"""
    after: str
    reasoning: str
    finish_reason: str
    prompt_tokens: int | None
    completion_tokens: int | None


async def replay(
    folder: RunFolder, candidate: str, call: int, say: Callable[[str], None], recipe: Path | None = None, model: str | None = None
) -> Replayed:
    """Ask a call of a candidate again. `recipe`: whose models are asked, instead of those of the run's own; `model`: the alias that is,
    instead of the one on record. Raises RunFolderError for a call that there is not, RecipeError for an alias, and what a call raises."""
    with Ledger(folder.ledger, read_only=True) as ledger:
        calls = {event["id"]: event for event in trace.read(ledger, candidate).events if event["kind"] == "call"}
    if call not in calls:
        shown = ", ".join(f"{id_} ({one['role']})" for id_, one in list(calls.items())[:SHOWN]) + (", ..." if len(calls) > SHOWN else "")
        raise RunFolderError(f"{folder.ledger}: candidate {candidate!r} has no call {call}; it has {shown or 'none'}")
    old = calls[call]
    if not old["messages"]:
        raise RunFolderError(f"{folder.ledger}: call {call} was never sent ({old['status']}: {old['error']}): there is nothing to repeat")
    wanted = Recipe.read(recipe or folder.recipe)
    name = model or old["alias"]
    if name not in wanted.models:
        raise InputError(unknown("alias of a model", name, wanted.models))
    asked = wanted.models[name].model_copy(update=PATIENCE)
    schema = _schema(folder, old["role"], old["prompt_hash"], say)
    async with AsyncExitStack() as stack:
        from graphs.run import open_aliases  # the graph's libraries are loaded only by those who ask

        player = (await open_aliases(wanted.model_copy(update={"models": {name: asked}}), stack, say))[name]
        done = await player.complete(_asked(old, schema, player.model))
    return Replayed(
        candidate=old["candidate"],
        call=call,
        role=old["role"],
        alias=name,
        model=player.model.served_name,
        params=old["params"],
        messages=old["messages"],
        status=old["status"],
        before=old["reply"],
        after=done.text,
        reasoning=done.reasoning,
        finish_reason=done.finish_reason,
        prompt_tokens=done.usage.prompt,
        completion_tokens=done.usage.completion,
    )


def _asked(old: dict[str, Any], schema: tuple[str, dict[str, Any]] | None, model: Model) -> Asked:
    most = Usage(prompt=count_prompt(old["messages"]), completion=old["params"].get("max_tokens") or 0)
    return Asked(old["messages"], old["params"], schema, old["role"], model.timeout, most.total)


def _schema(folder: RunFolder, role: str, hash_: str, say: Callable[[str], None]) -> tuple[str, dict[str, Any]] | None:
    """The form that the reply shall have, as the run's prompt file has it; None where it is plain text."""
    files = [roles.read(path) for path in sorted((folder.path / "prompts").glob("*.md")) if path.name.split(".")[0] == role]
    file = next((one for one in files if one.hash == hash_), files[0] if files else None)
    if file is None:
        say(f"the run has no prompt file of {role!r} any more: the reply is asked for as plain text")
    elif file.hash != hash_:
        say(f"the prompt file of {role!r} has changed since: the reply is asked for in the form of {file.path}")
    return None if file is None or file.schema is None else (file.name, file.schema)
