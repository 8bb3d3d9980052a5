"""The examples that Self-Instruct shows: six seeds and two that models wrote, in a random order (arXiv 2212.10560).

The original draws from a set, whose order changes from run to run. Here the draw is seeded and depends on nothing but the leaf's seeds and
on what is settled, so equal runs show equal examples.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from leafmill.records import Language, Seed, Settled, digest

SHOWN = 8
MACHINE_MADE = 2
"""of those shown at most; fewer while fewer are accepted, and then more seeds"""


def choose(
    seeds: Sequence[Seed], settled: Sequence[Settled], run_seed: int, leaf: str, number: int, language: Language
) -> tuple[Seed, ...]:
    """The examples for a candidate. No seed comes twice, and none in another language."""
    fitting = [seed for seed in seeds if seed.language in (language, None)]
    made = [one for candidate in settled if (one := _as_seed(candidate, language))]
    rng = Random(digest(run_seed, leaf, number, "demonstrations"))
    shown = rng.sample(made, min(MACHINE_MADE, len(made)))
    shown += rng.sample(fitting, min(SHOWN - len(shown), len(fitting)))
    rng.shuffle(shown)
    return tuple(shown)


def _as_seed(candidate: Settled, language: Language) -> Seed | None:
    """An accepted row as an example, if it is one in this language."""
    row = candidate.row if candidate.state == "accepted" else None
    if row is None or row.language != language or row.history:
        return None
    return Seed(instruction=row.instruction, input=row.input, output=row.answer, language=language, made=True)
