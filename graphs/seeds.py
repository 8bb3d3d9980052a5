"""Seeds are shown to the writer: one that holds an item of a test set would have it written again, so it is left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from filters import catalogue
from filters.contamination.gate import Contamination
from graphs.prepare import Prepared
from leafmill.ledger import Ledger
from leafmill.log import RUN, WARNING, event
from leafmill.records import Row, Seed, Verdict
from taxonomy import Leaf

META = "seeds_left_out"
"""what the ledger calls them: leaf, seed and verdict of each"""
SHOWN = 3


async def leave_out_test_items(prepared: Prepared, ledger: Ledger, say: Callable[[str], None]) -> Prepared:
    """The same, with no seed of a leaf that holds an item of a test set. Says which are left out, and records it."""
    if not prepared.tests.sets:
        return prepared
    leaves: list[Leaf] = []
    found: list[dict[str, Any]] = []
    for leaf in prepared.leaves:
        verdicts = _judge(prepared, leaf)
        left_out = [(seed, verdict) for seed, verdict in zip(leaf.seeds, verdicts, strict=True) if verdict.decision != "accept"]
        kept = tuple(seed for seed, verdict in zip(leaf.seeds, verdicts, strict=True) if verdict.decision == "accept")
        leaves.append(leaf.model_copy(update={"seeds": kept}) if left_out else leaf)
        found += [{"leaf": leaf.path, "seed": seed.model_dump(), "verdict": verdict.model_dump()} for seed, verdict in left_out]
    await ledger.set_meta(META, found)
    if found:
        items = dict.fromkeys(f"{one['verdict']['evidence']['set']}/{one['verdict']['evidence']['item']}" for one in found)
        shown = ", ".join([*list(items)[:SHOWN], *(["..."] if len(items) > SHOWN else [])])
        say(f"seeds that hold items of test sets are left out: {len(found)} ({shown})")
        event(RUN, WARNING, "seeds left out", seeds=len(found), items=len(items))
    return replace(prepared, leaves=tuple(leaves))


def _judge(prepared: Prepared, leaf: Leaf) -> Sequence[Verdict]:
    """What the gate says of each seed of a leaf, by the leaf's own settings."""
    settings, own = prepared.recipe.gates.get(Contamination.name) or {}, leaf.settings.get("gates", {}).get(Contamination.name, {})
    if own is False:
        return [Verdict(gate=Contamination.name, decision="accept", code="ok")] * len(leaf.seeds)
    gate = catalogue.make(Contamination.name, {**settings, **own}, tests=prepared.tests)
    assert isinstance(gate, Contamination)
    return gate.read([_row(seed) for seed in leaf.seeds])


def _row(seed: Seed) -> Row:
    return Row(language=seed.language or "en", instruction=seed.instruction, input=seed.input, answer=seed.output)
