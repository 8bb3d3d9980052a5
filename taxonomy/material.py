"""Which piece of its leaf's material a candidate is given: a row of a data set, a passage, a persona, the examples of Self-Instruct."""

from __future__ import annotations

from collections.abc import Sequence

from leafmill.records import OTHER, Brief, Language, Settled
from taxonomy.axes import deal
from taxonomy.demonstrations import choose
from taxonomy.sources import WAYS, SourceSpec, Way
from taxonomy.tree import Leaf


def of_leaf(leaf: Leaf, way: Way) -> SourceSpec | None:
    """What the taxonomy says of a leaf's material."""
    given = leaf.settings.get("source", {}).get(way)
    return None if given is None else SourceSpec.model_validate(given)


def needed(leaf: Leaf) -> tuple[Way, ...]:
    """The ways of writing for which a leaf's candidates need material, or may have some."""
    written = {mode.write for mode in leaf.modes}
    return tuple(way for way in WAYS if way in written or (way == "persona" and "brief" in written and of_leaf(leaf, way)))


def languages(leaf: Leaf, way: Way, wanted: Sequence[Language]) -> set[Language]:
    """The languages that material of a way is needed in, where rows are wanted in these."""
    modes = [mode for mode in leaf.modes if mode.write == ("brief" if way == "persona" else way)]
    return {OTHER[language] if mode.localised else language for mode in modes for language in wanted}


def furnish(brief: Brief, leaf: Leaf, run_seed: int, turn: int, past: Sequence[Settled] = ()) -> Brief:
    """The brief with what its candidate is written from.

    `turn` counts the candidates of the leaf that were planned before it in the same language and way: so each piece of material is used
    once before any is used twice, and which one it is depends on nothing that models said. `past` is what became of earlier ones.
    """
    way, language = brief.mode.write, brief.written_in
    if way == "self_instruct":
        return brief.model_copy(update={"seeds": choose(leaf.seeds, past, run_seed, leaf.path, brief.number, language)})
    kind: Way = "persona" if way == "brief" else way
    fitting = [one for one in leaf.sources.get(kind, ()) if one.language in (language, None)]
    if not fitting:
        return brief
    source = fitting[deal(range(len(fitting)), turn, run_seed, leaf.path, kind, language)]
    return brief.model_copy(update={"persona": source.text} if kind == "persona" else {"source": source})
