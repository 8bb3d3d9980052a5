"""What merging nodes of a taxonomy finds, and what it merges wrongly, by threshold.

    python -m bench.nodes

The leaves of the built-in taxonomies, each by its title and the first sentence of its description, and the same leaves in other words
(`nodes.yaml`). Found: leaves whose other wording is taken for the same. Wrong: of the pairs of two different leaves of one taxonomy, in
either wording, those that are taken for the same; at the threshold in use they are listed. The table goes to stdout.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Sequence
from itertools import combinations, product
from pathlib import Path

import numpy as np
import yaml

from filters.dedup.nodes import THRESHOLD, Named, Nodes
from filters.embedder import Use3
from leafmill.records import Language
from taxonomy import BUILT_IN, load

THRESHOLDS = (0.64, 0.68, THRESHOLD, 0.76, 0.8, 0.84)
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def wordings(taxonomy: str, language: Language) -> list[tuple[Named, Named]]:
    """Each leaf that has other words, in its own and in those."""
    others = yaml.safe_load(Path(__file__).with_name("nodes.yaml").read_text("utf-8"))
    pairs = []
    for number, leaf in enumerate(load(taxonomy).leaves()):
        if given := others.get(leaf.path, {}).get(language):
            own = Named(f"own/{number}", leaf.title_in(language), re.split(r"(?<=[.。])", leaf.description_in(language))[0])
            pairs.append((own, Named(f"other/{number}", *given)))
    return pairs


class Remembering(Use3):
    """An embedder that works out each text once."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, np.ndarray] = {}

    async def encode(self, texts: Sequence[str]) -> np.ndarray:
        new = [text for text in dict.fromkeys(texts) if text not in self._seen]
        self._seen.update(zip(new, await super().encode(new), strict=True))
        return np.stack([self._seen[text] for text in texts])


async def same(nodes: Nodes, a: Named, b: Named) -> bool:
    await nodes.know([a])
    return (await nodes.meet([b]))[0] is not None


async def main() -> None:
    embedder = Remembering()
    sys.stdout.write(f"language  threshold  {'found':>12}  {'wrong':>14}" + "\n")
    for language in LANGUAGES:
        pairs = {name: wordings(name, language) for name in BUILT_IN}
        alike = [pair for of_one in pairs.values() for pair in of_one]
        unlike = [two for of_one in pairs.values() for one, other in combinations(of_one, 2) for two in product(one, other)]
        for threshold in THRESHOLDS:
            found = [await same(Nodes(embedder, threshold), a, b) for a, b in alike]
            wrong = [(a, b) for a, b in unlike if await same(Nodes(embedder, threshold), a, b._replace(path=f"x{b.path}"))]
            sys.stdout.write(f"{language:8}  {threshold:9.2f}  {sum(found):4} of {len(alike):4}  {len(wrong):4} of {len(unlike):6}" + "\n")
            if threshold == THRESHOLD:
                for a, b in wrong:
                    sys.stdout.write(f"          {a.title} / {b.title}" + "\n")
    await embedder.aclose()


if __name__ == "__main__":
    asyncio.run(main())
