"""A brief is the plan of one candidate. It depends on (run seed, leaf, number) and on nothing drawn before."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from leafmill.errors import TaxonomyError
from leafmill.records import Brief, Language, Seed, digest
from taxonomy.axes import deal
from taxonomy.tree import Leaf

SEEDS_SHOWN = 3


def draw(leaf: Leaf, run_seed: int, number: int, languages: Sequence[Language], scenario: str = "") -> Brief:
    """Plan candidate `number` of the leaf, in one of its languages that the run wants too."""
    wanted = [language for language in leaf.languages if language in languages]
    if not wanted:
        raise TaxonomyError(
            f"leaf {leaf.path!r} has none of the run's languages: it is in {', '.join(leaf.languages)}, "
            f"the run wants {', '.join(languages) or '(none)'}"
        )
    language = deal(wanted, number, run_seed, leaf.path, "language")
    axes = {axis.name: axis.deal(run_seed, leaf.path, number) for axis in leaf.axes}
    return Brief(
        id=digest(run_seed, leaf.path, number),
        leaf=leaf.path,
        number=number,
        language=language,
        axes=axes,
        scenario=scenario,
        seeds=_choose(leaf, run_seed, number, language),
        mode=leaf.mode(axes),
    )


def _choose(leaf: Leaf, run_seed: int, number: int, language: Language) -> tuple[Seed, ...]:
    fitting = [seed for seed in leaf.seeds if seed.language in (language, None)]
    return tuple(Random(digest(run_seed, leaf.path, number, "seeds")).sample(fitting, min(SEEDS_SHOWN, len(fitting))))
