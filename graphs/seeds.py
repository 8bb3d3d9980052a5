"""Seeds are shown to those who write, rows and passages are what they write from: what holds an item of a test set would have it written
again, so it is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from filters import catalogue
from filters.contamination.gate import Contamination
from filters.novelty import NoveltyIndex
from graphs.prepare import Prepared
from graphs.sources import require
from leafmill.ledger import Ledger
from leafmill.log import RUN, WARNING, event
from leafmill.records import Row, Seed, Source, Verdict
from taxonomy import Leaf

META = "seeds_left_out"
"""what the ledger calls them: leaf, seed (or the name and place of a source) and verdict of each"""
SHOWN = 3


async def leave_out_test_items(prepared: Prepared, ledger: Ledger, say: Callable[[str], None]) -> Prepared:
    """The same, with no material of a leaf that holds an item of a test set. Says which is left out, and records it."""
    if not prepared.tests.sets:
        return prepared
    leaves: list[Leaf] = []
    found: list[dict[str, Any]] = []
    for leaf in prepared.leaves:
        seeds, left_out = _parted(prepared, leaf, leaf.seeds)
        found += [{"leaf": leaf.path, "seed": seed.model_dump(), "verdict": verdict.model_dump()} for seed, verdict in left_out]
        sources = dict[str, tuple[Source, ...]]()
        for way, given in leaf.sources.items():
            sources[way], dropped = _parted(prepared, leaf, given)
            places = [({"name": one.name, "place": one.place}, verdict.model_dump()) for one, verdict in dropped]
            found += [{"leaf": leaf.path, "source": place, "verdict": verdict} for place, verdict in places]
        leaves.append(leaf.model_copy(update={"seeds": seeds, "sources": sources}))
        require(leaves[-1], prepared.languages(leaf))
    await ledger.set_meta(META, found)
    if found:
        items = dict.fromkeys(f"{one['verdict']['evidence']['set']}/{one['verdict']['evidence']['item']}" for one in found)
        shown = ", ".join([*list(items)[:SHOWN], *(["..."] if len(items) > SHOWN else [])])
        what = "seeds, rows and passages" if any("source" in one for one in found) else "seeds"
        say(f"{what} that hold items of test sets are left out: {len(found)} ({shown})")
        event(RUN, WARNING, "seeds left out", seeds=len(found), items=len(items))
    return replace(prepared, leaves=tuple(leaves))


def known(leaves: Iterable[Leaf]) -> NoveltyIndex:
    """The seeds of the leaves whose candidates are written by Self-Instruct: what is new must not be nearly one of them."""
    index = NoveltyIndex()
    for leaf in leaves:
        if any(mode.write == "self_instruct" for mode in leaf.modes):
            for number, seed in enumerate(leaf.seeds):
                index.add(f"seed {number} of {leaf.path}", seed.instruction)
    return index


Material = TypeVar("Material", Seed, Source)


def _parted(prepared: Prepared, leaf: Leaf, given: Sequence[Material]) -> tuple[tuple[Material, ...], list[tuple[Material, Verdict]]]:
    """What may be used, and what may not with the gate's verdict, by the leaf's own settings."""
    settings, own = prepared.recipe.gates.get(Contamination.name) or {}, leaf.settings.get("gates", {}).get(Contamination.name, {})
    if own is False or not given:
        return tuple(given), []
    gate = catalogue.make(Contamination.name, {**settings, **own}, tests=prepared.tests)
    assert isinstance(gate, Contamination)
    judged = list(zip(given, gate.read([_row(one) for one in given]), strict=True))
    return tuple(one for one, verdict in judged if verdict.decision == "accept"), [pair for pair in judged if pair[1].decision != "accept"]


def _row(one: Seed | Source) -> Row:
    text = one.instruction if isinstance(one, Seed) else one.text
    return Row(language=one.language or "en", instruction=text, input=one.input, answer=one.output)
