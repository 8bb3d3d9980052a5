"""How the evolver's choice of operators moves with what becomes of their children, on operators whose true rates are known.

    python -m bench.evolution

A leaf of 1024 candidates with one evolution each is played 40 times (seeds 0 to 39); a candidate looks back as far as it does in a run.
Each operator's child is accepted by chance, at the rate given here. Told is each in-depth operator's share of the draws in depth, stretch
by stretch, as a mean; and the share of all children that were accepted, beside dealing the six operators in turn.
"""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

from agents.evolver import BREADTH, IN_DEPTH, OPERATORS, operator, weights
from graphs.briefs import FIRST_EVOLVED
from graphs.cells import seen_by
from leafmill.records import Brief, Evolution, Settled

CANDIDATES, SEEDS = 1024, 40
STRETCHES = (0, 128, 256, 512, 1024)
"""what is told, from one of these to the next"""
CASES: Mapping[str, Mapping[str, float]] = {
    "one is poor": {"constraints": 0.8, "deepen": 0.8, "concretise": 0.8, "reasoning": 0.8, "complicate_input": 0.2, BREADTH: 0.7},
    "one is best": {"constraints": 0.5, "deepen": 0.8, "concretise": 0.5, "reasoning": 0.5, "complicate_input": 0.5, BREADTH: 0.5},
    "all alike": dict.fromkeys(OPERATORS, 0.6),
}


class Played(NamedTuple):
    """The operators drawn, in order, and whether each child was accepted."""

    drawn: list[str]
    accepted: list[bool]


def play(rates: Mapping[str, float], seed: int, learns: bool) -> Played:
    chance, past, played = random.Random(seed), list[Settled](), Played([], [])
    seen, shares = 0, dict[str, float]()
    for number in range(CANDIDATES):
        if learns and seen_by(number, FIRST_EVOLVED) > seen:
            seen = seen_by(number, FIRST_EVOLVED)
            shares = weights(past[:seen])
        name = operator(Brief(id=f"{seed}.{number}", leaf=f"leaf{seed}", number=number, language="en", operators=shares), 0)
        accepted = chance.random() < rates[name]
        state = "accepted" if accepted else "rejected"
        past.append(Settled(number=number, state=state, code="", evolutions=(Evolution(operator=name),)))
        played.drawn.append(name)
        played.accepted.append(accepted)
    return played


def main() -> None:
    for title, rates in CASES.items():
        sys.stdout.write(f"\n{title}: " + ", ".join(f"{name} {rate:g}" for name, rate in rates.items()) + "\n")
        learnt, dealt = ([play(rates, seed, learns) for seed in range(SEEDS)] for learns in (True, False))
        sys.stdout.write(f"{'candidates':>12}" + "".join(f"{name:>18}" for name in IN_DEPTH) + "\n")
        for first, until in pairwise(STRETCHES):
            counts = Counter(name for one in learnt for name in one.drawn[first:until] if name != BREADTH)
            sys.stdout.write(
                f"{f'{first}-{until - 1}':>12}" + "".join(f"{counts[name] / counts.total():>18.0%}" for name in IN_DEPTH) + "\n"
            )
        shares = [sum(sum(one.accepted) for one in played) / (SEEDS * CANDIDATES) for played in (learnt, dealt)]
        sys.stdout.write("children accepted: {:.1%}; dealt in turn: {:.1%}\n".format(*shares))


if __name__ == "__main__":
    main()
