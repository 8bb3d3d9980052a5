"""How many pairs of values n briefs cover: by the plan of a leaf, and by independent draws with the same weights.

python -m bench.coverage
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from itertools import combinations
from random import Random
from statistics import mean
from time import perf_counter

from agents.syllabus import CONCEPTS, PAGES, SESSIONS
from leafmill.records import Language
from taxonomy import Axis, AxisValue, Plan, library, load
from taxonomy.syllabus import one_session, two_sessions

BRIEFS = (10, 25, 50, 100, 200)
SEEDS = range(10)
Draw = Callable[[int], Mapping[str, str]]


def main() -> None:
    say, both = sys.stdout.write, ("en", "zh")
    taken = [library()[name] for name in ("difficulty", "depth", "turns", "reasoning", "task", "tone", "persona")]
    large = [Axis(name=f"axis {one}", values=tuple(AxisValue(name=f"v{n}") for n in range(24))) for one in range(8)]
    leaf = load("programming").leaf("programming/debugging/locate-error")
    cases: list[tuple[str, list[Axis], tuple[Language, ...]]] = [
        ("programming/debugging/locate-error", list(leaf.axes), both),
        ("seven axes of the library", taken, both),
        ("8 axes of 24 values", large, both),
    ]
    say(f"| axes | pairs | all covered after | {' | '.join(f'{count} briefs' for count in BRIEFS)} | drawn independently |\n")
    say("|---|---|---|" + "---|" * (len(BRIEFS) + 1) + "\n")
    for name, axes, languages in cases:
        plans = [Plan(axes, languages, seed) for seed in SEEDS]
        sizes = [len(languages), *(len(axis.values) for axis in axes)]
        possible = sum(one * other for one, other in combinations(sizes, 2))
        planned = [mean(covered(lambda n, plan=plan: whole(plan, n), count) for plan in plans) / possible for count in BRIEFS]
        drawn = [mean(covered(independent(axes, languages, seed), count) for seed in SEEDS) / possible for count in BRIEFS]
        cells, others = " | ".join(f"{one:.0%}" for one in planned), " ".join(f"{one:.0%}" for one in drawn)
        say(f"| {name} | {possible} | {mean(plan.bound for plan in plans):.0f} | {cells} | {others} |\n")
    began = perf_counter()
    Plan(large, both, 1).cell(9_999)
    say(f"\n10,000 cells of the last: {perf_counter() - began:.1f} s\n")
    count = PAGES * SESSIONS
    whole_course = count * one_session(CONCEPTS) + count * (count - 1) // 2 * two_sessions(CONCEPTS, CONCEPTS)
    say(
        f"\na syllabus of {PAGES} pages: {count} sessions, {count * CONCEPTS} concepts, {whole_course:,} combinations as GLAN counts them\n"
    )


def covered(draw: Draw, count: int) -> int:
    """How many pairs of values the first briefs have."""
    return len({pair for number in range(count) for pair in combinations(draw(number).items(), 2)})


def whole(plan: Plan, number: int) -> dict[str, str]:
    cell = plan.cell(number)
    return {"language": cell.language, **cell.axes}


def independent(axes: list[Axis], languages: tuple[Language, ...], seed: int) -> Draw:
    """Each value drawn for itself, by the weights."""

    def draw(number: int) -> dict[str, str]:
        rng = Random(f"{seed} {number}")
        values = {axis.name: rng.choices(axis.values, [value.weight for value in axis.values])[0].name for axis in axes}
        return {"language": rng.choice(languages), **values}

    return draw


if __name__ == "__main__":
    main()
