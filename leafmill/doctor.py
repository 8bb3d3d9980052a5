"""`leafmill doctor`: is everything there that a run needs, and what to do about each thing that is not."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from leafmill.errors import LeafmillError
from leafmill.recipe import Address, Model, Recipe

if TYPE_CHECKING:
    from agents.models.endpoint import Completion, Endpoint

Mark = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and what to do if it is not well."""

    what: str
    mark: Mark
    found: str
    todo: str = ""


async def examine(path: Path) -> AsyncIterator[Finding]:
    """Look at recipe, models, scorer, embedder, GPU and disk, in this order; each finding as soon as it is known."""
    try:
        recipe = Recipe.read(path)
        from agents.stages import BY_DEPTH
        from graphs.players import alias_of
        from graphs.prepare import prepare

        prepared = prepare(recipe)
    except LeafmillError as fault:
        yield Finding("recipe", "fail", str(fault), "mend what the message names" if path.is_file() else "leafmill init writes a recipe")
        return
    yield Finding("recipe", "ok", f"{len(prepared.leaves)} leaves, {len(prepared.roles.names)} roles, {recipe.target} rows wanted per leaf")
    for alias, model in recipe.models.items():
        for address in model.addresses():
            what = f"model {alias} at {address.base_url}" if model.endpoints else f"model {alias}"
            yield await _attempt(what, partial(_model, what, alias, model, address))
    for name in sorted({alias_of(recipe, role) for role in prepared.roles.files if role.head.stage == BY_DEPTH["deep"]}):
        for address in recipe.models[name].addresses() if recipe.models[name].embedded is None else ():
            what = f"reasoning of {name} at {address.base_url}" if recipe.models[name].endpoints else f"reasoning of {name}"
            yield await _attempt(what, partial(_thinker, what, name, recipe.models[name], address))
    if recipe.gates.get("semantic") is not False:
        yield await _attempt("embedder", lambda: _embedder(recipe))
    if recipe.gates.get("ifd") is not False:
        yield await _attempt("scorer", lambda: _scorer(recipe))
    yield await asyncio.to_thread(_gpu)
    yield _disk(Path.cwd())


async def _attempt(what: str, look: Callable[[], Awaitable[Finding]]) -> Finding:
    try:
        return await look()
    except LeafmillError as fault:
        return Finding(what, "fail", str(fault))


async def _model(what: str, alias: str, model: Model, address: Address) -> Finding:
    if model.embedded is not None:
        return await asyncio.to_thread(_embedded, what, model.embedded)
    schema = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"], "additionalProperties": False}
    done, endpoint = await _ask(alias, model, address, 'Reply with {"score": 3} and nothing else.', 64, "doctor", schema)
    tokens = "" if done.usage.total else "; it does not count tokens, so a budget takes each call to be as long as it may be"
    found = f"{endpoint.served_name} answers; structured output by {endpoint.format}{tokens}"
    if endpoint.format == "text":
        return Finding(what, "warn", found, "replies are asked for in words and searched for JSON: expect more unreadable ones")
    return Finding(what, "warn" if tokens else "ok", found)


async def _thinker(what: str, alias: str, model: Model, address: Address) -> Finding:
    """Whether a model that is to think before it answers does, and its server shows it."""
    done, endpoint = await _ask(alias, model, address, "What is 17 times 23? Reply with the number.", 2000, "doctor-depth")
    if done.reasoning:
        return Finding(what, "ok", f"{endpoint.served_name} thinks before it answers")
    todo = "name a reasoning model under `roles.thinker.model`, or have the server return what it thinks (`reasoning_content` or <think>)"
    return Finding(what, "fail", f"{endpoint.served_name} answers without reasoning, and candidates of depth deep need it", todo)


async def _ask(
    alias: str, model: Model, address: Address, text: str, max_tokens: int, role: str, schema: Mapping[str, Any] | None = None
) -> tuple[Completion, Endpoint]:
    """Ask one address one question, with little patience."""
    from agents.models.alias import Alias
    from agents.models.endpoint import Asked, Endpoint
    from agents.models.governor import Governor

    patient = model.model_copy(update={"attempts": 2, "patience": 5.0})
    endpoint = Endpoint(alias, patient, address, Governor(1))
    params = {"max_tokens": max_tokens, "temperature": 0.0}
    contract = None if schema is None else (role, schema)
    asked = Asked([{"role": "user", "content": text}], params, contract, role, model.timeout, tokens=max_tokens + 40)
    try:
        return await Alias(alias, patient, [endpoint]).complete(asked), endpoint
    finally:
        await endpoint.aclose()


def _embedded(what: str, name: str) -> Finding:
    try:
        import xllamacpp  # noqa: F401
    except ImportError:
        return Finding(what, "fail", "xllamacpp is not installed", "pip install 'leafmill[local]'")
    if _cached(name):
        return Finding(what, "ok", f"{name} is in the cache")
    return Finding(what, "warn", f"{name} is not in the cache yet", f"leafmill models get {name} (or let `run` fetch it)")


def _cached(name: str) -> bool:
    """Whether a model of the registry is in the cache; a path is as good as cached."""
    from agents.models import weights

    return name not in weights.KNOWN or weights.place(weights.KNOWN[name]).is_file()


async def _embedder(recipe: Recipe) -> Finding:
    from filters.embedder import open_embedder
    from graphs.run import embedder_spec

    embedder = await asyncio.to_thread(open_embedder, embedder_spec(recipe))
    try:
        await embedder.encode(["hello"])
    finally:
        await embedder.aclose()
    return Finding("embedder", "ok", f"{embedder.id}, {embedder.dimension} dimensions")


async def _scorer(recipe: Recipe) -> Finding:
    from agents.models import weights

    name = recipe.scorer.model
    if name in weights.KNOWN and not _cached(name):
        return Finding("scorer", "warn", f"{name} is not in the cache yet", f"leafmill models get {name} (or let `run` fetch it)")
    return Finding("scorer", "ok", f"{name}, device {recipe.scorer.device}")


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        return Finding("gpu", "ok", f"{torch.cuda.get_device_name(0)}: the scorer runs there, in bf16")
    return Finding("gpu", "warn", "no CUDA device: the scorer runs on the CPU, in fp32", "fine for small runs; a GPU scores far faster")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    if not os.access(folder, os.W_OK):
        return Finding("disk", "fail", f"{folder} cannot be written to", "run in a folder that you may write to")
    mark: Mark = "ok" if free > 2 else "warn"
    return Finding(
        "disk", mark, f"{free:.0f} GB free in {folder}", "" if free > 2 else "free some space: a ledger of 100k candidates takes about 2 GB"
    )
