"""A jury compares pairs in both orders; who wins does not depend on the order in which answers came."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.voting.jury import Match, Outcome, Said, knockout, majority, swapped

ONE, OTHER = "one", "other"


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [  # what is said of `one` as A and `other` as B, and of `other` as A and `one` as B
        ("A", "B", "one"),
        ("B", "A", "other"),
        ("A", "A", "tie"),  # whatever stands first
        ("B", "B", "tie"),
        ("A", "tie", "tie"),
        ("tie", "A", "tie"),
        ("B", "tie", "tie"),
        ("tie", "B", "tie"),
        ("tie", "tie", "tie"),
        (None, "B", "unscored"),
        ("A", None, "unscored"),
        ("tie", None, "unscored"),
        (None, None, "unscored"),
    ],
)
def test_T24_a_preference_holds_only_in_both_orders_and_a_failure_is_no_tie(first: Said | None, second: Said | None, outcome: str) -> None:
    assert swapped(first, second) == outcome


@pytest.mark.parametrize(
    ("outcomes", "together"),
    [
        (["one", "one", "other"], "one"),
        (["one", "other"], "tie"),
        (["one", "tie", "tie"], "one"),
        (["other", "unscored", "unscored"], "other"),
        (["unscored", "unscored"], "unscored"),
        (["tie", "unscored"], "tie"),
        ([], "unscored"),
    ],
)
def test_several_jurors_together(outcomes: list[Outcome], together: Outcome) -> None:
    assert majority(outcomes) == together


def by_length(texts: Sequence[str], rounds: list[Sequence[Match]] | None = None):  # type: ignore[no-untyped-def]
    """A jury that prefers the longer text."""

    async def play(matches: Sequence[Match]) -> list[Outcome]:
        if rounds is not None:
            rounds.append(matches)
        found: list[Outcome] = []
        for one, other in matches:
            longer = len(texts[one]) - len(texts[other])
            found.append("one" if longer > 0 else "other" if longer < 0 else "tie")
        return found

    return play


@given(st.lists(st.integers(1, 40), min_size=1, max_size=9, unique=True), st.randoms(use_true_random=False))
async def test_the_one_that_is_always_preferred_wins_in_k_minus_one_matches(lengths: list[int], rng: random.Random) -> None:
    rng.shuffle(lengths)
    texts = ["x" * length for length in lengths]
    result = await knockout(texts, by_length(texts))
    assert result.winner == lengths.index(max(lengths))
    assert len(result.played) == len(texts) - 1


async def test_the_same_answers_meet_whatever_order_they_came_in() -> None:
    texts = ["one", "three", "fifteen", "two of them", "seventy-seven"]
    seen: set[str] = set()
    for seed in range(6):
        random.Random(seed).shuffle(texts)
        rounds: list[Sequence[Match]] = []
        result = await knockout(texts, by_length(texts, rounds))
        assert result.winner is not None
        seen.add(str([[(texts[one], texts[other]) for one, other in matches] for matches in rounds]) + texts[result.winner])
    assert len(seen) == 1


async def test_the_matches_of_a_round_are_played_at_once() -> None:
    rounds: list[Sequence[Match]] = []
    texts = ["a", "bb", "ccc", "dddd", "eeeee"]
    await knockout(texts, by_length(texts, rounds))
    assert [len(matches) for matches in rounds] == [2, 1, 1]


@pytest.mark.parametrize("outcome", ["tie", "unscored"])
async def test_who_was_never_preferred_has_not_won(outcome: Outcome) -> None:
    async def play(matches: Sequence[Match]) -> list[Outcome]:
        return [outcome for _ in matches]

    assert (await knockout(["a", "b", "c"], play)).winner is None


async def test_of_a_match_without_a_winner_the_one_with_more_wins_goes_on() -> None:
    """The one that beat another meets one that beat nobody, and the jury cannot tell them apart."""
    texts = ["good", "poor", "late"]
    met: list[Match] = []

    async def play(matches: Sequence[Match]) -> list[Outcome]:
        met.extend(matches)
        return ["one" if len(met) == 1 else "tie" for _ in matches]

    result = await knockout(texts, play)
    assert result.winner == met[0].one


async def test_equal_answers_take_part_once_and_alone_one_wins_unplayed() -> None:
    async def play(matches: Sequence[Match]) -> list[Outcome]:
        raise AssertionError("there is nobody to meet")

    result = await knockout(["same", "same"], play)
    assert (result.winner, result.played) == (0, ())
