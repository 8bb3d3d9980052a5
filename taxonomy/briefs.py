"""A brief is the plan of one candidate: a cell of its leaf's plan, and what else it is told."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from leafmill.errors import TaxonomyError
from leafmill.records import AGAIN, Brief, Language, Seed, digest
from taxonomy.covering import Cell, Plan
from taxonomy.tree import Leaf

SEEDS_SHOWN = 3


def plan_of(leaf: Leaf, run_seed: int, languages: Sequence[Language]) -> Plan:
    """The plan of a leaf, in those of its languages that the run wants too."""
    wanted = [language for language in leaf.languages if language in languages]
    if not wanted:
        raise TaxonomyError(
            f"leaf {leaf.path!r} has none of the run's languages: it is in {', '.join(leaf.languages)}, "
            f"the run wants {', '.join(languages) or '(none)'}"
        )
    return Plan(leaf.axes, wanted, run_seed, leaf.path)


def draw(leaf: Leaf, run_seed: int, number: int, cell: Cell) -> Brief:
    """The brief of candidate `number`, which takes this cell; concepts and scenario are found later."""
    return Brief(
        id=digest(run_seed, leaf.path, number),
        leaf=leaf.path,
        number=number,
        language=cell.language,
        axes=dict(cell.axes),
        seeds=_choose(leaf, run_seed, number, cell.language),
        mode=leaf.mode(cell.axes),
    )


def again(brief: Brief, leaf: Leaf, run_seed: int, attempt: int) -> Brief:
    """The brief of the candidate that takes the cell of another once more: all is the same but the seeds that it is shown."""
    number = brief.cell + attempt * AGAIN
    seeds = _choose(leaf, run_seed, number, brief.language)
    return brief.model_copy(update={"id": digest(run_seed, leaf.path, number), "number": number, "seeds": seeds})


def _choose(leaf: Leaf, run_seed: int, number: int, language: Language) -> tuple[Seed, ...]:
    fitting = [seed for seed in leaf.seeds if seed.language in (language, None)]
    return tuple(Random(digest(run_seed, leaf.path, number, "seeds")).sample(fitting, min(SEEDS_SHOWN, len(fitting))))
