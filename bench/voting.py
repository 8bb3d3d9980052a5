"""How often the vote is right: each answer one voice, or each model family one voice.

    python -m bench.voting [--questions 20000] [--seed 7]

Made-up answers to questions that each have one right answer and three wrong ones, of which one attracts half of all errors. A model is
right with a known rate. On some questions all its samples say the same, right or wrong: samples of one model repeat its errors, while
families make their own. Whether an answer is right is known, so what a vote decides can be held against it.

    decided     of all questions, those on which there is a winner
    right       of the decided ones, those whose winner is right
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from filters.voting.vote import Ballot, count

RIGHT, WRONG, ODDS = "right", ("near", "far", "odd"), (0.5, 0.3, 0.2)


class Model(NamedTuple):
    """`right`: how often; `alike`: on what share of the questions all its samples say the same."""

    family: str
    samples: int
    right: float
    alike: float


PANELS: dict[str, tuple[Model, ...]] = {
    "one model, 9 samples": (Model("a", 9, 0.6, 0.6),),
    "three families, 3 samples each": (Model("a", 3, 0.6, 0.6), Model("b", 3, 0.7, 0.6), Model("c", 3, 0.7, 0.6)),
    "a weak one, 10 samples; two others, 1 each": (Model("a", 10, 0.5, 0.6), Model("b", 1, 0.75, 0.6), Model("c", 1, 0.75, 0.6)),
    "a strong one, 10 samples; two weak, 1 each": (Model("a", 10, 0.8, 0.6), Model("b", 1, 0.55, 0.6), Model("c", 1, 0.55, 0.6)),
}


def answers(model: Model, rng: Random) -> list[str]:
    """What the samples of a model say to one question."""

    def one() -> str:
        return RIGHT if rng.random() < model.right else rng.choices(WRONG, ODDS)[0]

    return [one()] * model.samples if rng.random() < model.alike else [one() for _ in range(model.samples)]


def most_frequent(ballots: Sequence[Ballot]) -> str | None:
    """Plain self-consistency: each answer one voice, no threshold; a tie has no winner."""
    first, *others = Counter(ballot.key for ballot in ballots).most_common()
    return None if others and others[0][1] == first[1] else first[0]


def by_answer(ballots: Sequence[Ballot]) -> str | None:
    """With the thresholds, each answer one voice."""
    return count(ballot._replace(family=str(place)) for place, ballot in enumerate(ballots)).winner


def by_family(ballots: Sequence[Ballot]) -> str | None:
    return count(ballots).winner


WAYS: dict[str, Callable[[Sequence[Ballot]], str | None]] = {
    "most frequent answer": most_frequent,
    "thresholds, by answer": by_answer,
    "thresholds, by family": by_family,
}


class Found(NamedTuple):
    decided: float
    right: float


def play(panel: Sequence[Model], way: Callable[[Sequence[Ballot]], str | None], questions: int, seed: int) -> Found:
    """The same questions and answers for every way."""
    rng, winners = Random(seed), Counter[str | None]()
    for _ in range(questions):
        winners[way([Ballot(model.family, said) for model in panel for said in answers(model, rng)])] += 1
    decided = questions - winners[None]
    return Found(decided / questions, winners[RIGHT] / decided if decided else 0.0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=7)
    given = parser.parse_args()
    say = sys.stdout.write
    say(f"{given.questions} questions\n\n| answers | way | decided | right |\n|---|---|---:|---:|\n")
    for name, panel in PANELS.items():
        for way, decide in WAYS.items():
            found = play(panel, decide, given.questions, given.seed)
            say(f"| {name} | {way} | {found.decided:.1%} | {found.right:.1%} |\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
