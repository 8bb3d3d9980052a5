"""The judges of a recipe, tried on gold rows without a run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

from agents.chat import Chat
from graphs import gold
from graphs.players import aliases_of
from graphs.prepare import prepare
from graphs.run import open_aliases
from leafmill.ledger import Ledger
from leafmill.recipe import Recipe


async def try_out(recipe: Recipe, folder: Path, say: Callable[[str], None]) -> list[gold.Accuracy]:
    """How each judge does on the recipe's gold rows (ours, where it switches them off); the calls are recorded in `folder`."""
    if recipe.judges.gold is False:
        recipe = recipe.with_gold()
    prepared = prepare(recipe)
    names = {judge.role for judge in gold.judges_of(prepared)}
    judging = {alias for role in prepared.roles.files if role.name in names for alias in aliases_of(recipe, role)}
    models = {alias: model for alias, model in recipe.models.items() if alias in judging}
    async with AsyncExitStack() as stack:
        ledger = stack.enter_context(Ledger(folder / "ledger.db"))
        aliases = await open_aliases(recipe.model_copy(update={"models": models}), stack, say)
        chat = Chat(ledger, prepared.roles, aliases, recipe.roles, recipe.seed, logprobs=recipe.judges.logprobs)
        return await gold.check(chat, prepared)
