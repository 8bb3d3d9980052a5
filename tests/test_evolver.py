"""Which operator an evolution is by: the law of the draw."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.evolver import BREADTH, EXPLORED, IN_DEPTH, OPERATORS, operator, weights
from leafmill.records import Brief, Evolution, Mode, Source


def settled(*evolutions: tuple[str, str], state: str = "accepted", code: str = "") -> Any:
    return SimpleNamespace(state=state, code=code, evolutions=tuple(Evolution(operator=name, refused=why) for name, why in evolutions))


def past(**seen: tuple[int, int]) -> list[Any]:
    """A past in which operators had so many successes and failures."""
    return [
        settled((name, ""), state=state)
        for name, (good, bad) in seen.items()
        for state in ["accepted"] * good + ["rejected"] * bad
    ]  # fmt: skip


def brief(number: int, **given: Any) -> Brief:
    return Brief(id=f"b{number}", leaf="t/a", number=number, language="en", **given)


COUNTS = st.tuples(st.integers(0, 40), st.integers(0, 40))


# -- weights -----------------------------------------------------------------------------------------------------------


def test_without_a_past_all_six_weigh_the_same() -> None:
    assert weights([]) == pytest.approx(dict.fromkeys(OPERATORS, 1 / 6))


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(IN_DEPTH, COUNTS)), st.floats(0, 1))
def test_the_weights_add_up_to_one_and_none_is_given_up(seen: dict[str, tuple[int, int]], breadth: float) -> None:
    found = weights(past(**seen), breadth)
    assert sum(found.values()) == pytest.approx(1)
    assert found[BREADTH] == breadth
    assert all(found[name] >= (1 - breadth) * EXPLORED / len(IN_DEPTH) - 1e-12 for name in IN_DEPTH)


@settings(max_examples=25, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(IN_DEPTH, COUNTS)), st.sampled_from(IN_DEPTH))
def test_a_success_never_makes_an_operator_rarer_and_a_failure_never_more_frequent(seen: dict[str, tuple[int, int]], name: str) -> None:
    before, (good, bad) = weights(past(**seen))[name], seen[name]
    assert weights(past(**{**seen, name: (good + 1, bad)}))[name] >= before - 1e-9
    assert weights(past(**{**seen, name: (good, bad + 1)}))[name] <= before + 1e-9


@settings(max_examples=15, deadline=None)
@given(st.lists(COUNTS, min_size=5, max_size=5), st.permutations(range(5)))
def test_the_weights_depend_on_what_happened_and_not_on_the_names_or_the_order(counts: list[tuple[int, int]], order: list[int]) -> None:
    straight = weights(past(**dict(zip(IN_DEPTH, counts, strict=True))))
    dealt = dict(zip(IN_DEPTH, (counts[at] for at in order), strict=True))
    assert [weights(past(**dealt)[::-1])[name] for name in IN_DEPTH] == pytest.approx([straight[IN_DEPTH[at]] for at in order])


def test_of_two_operators_the_chance_that_one_is_better_is_that_of_two_beta_distributions() -> None:
    """Against the closed form: with 3 of 3 successes a rate is Beta(4, 1), and it is above four uniform ones with chance 4/8 = 1/2."""
    best = (weights(past(deepen=(3, 0)), 0)["deepen"] - EXPLORED / 5) / (1 - EXPLORED)
    assert best == pytest.approx(0.5, abs=1e-3)


def test_a_child_that_is_refused_is_a_failure_even_where_its_parent_is_accepted() -> None:
    refused = [settled(("deepen", "evolution.equal"), ("reasoning", "")) for _ in range(9)]
    found = weights(refused)
    assert found["deepen"] < found["constraints"] < found["reasoning"]


@pytest.mark.parametrize("undecided", [{"state": "waiting"}, {"state": "rejected", "code": "quota_met"}, {"state": "errored"}])
def test_what_was_not_judged_says_nothing(undecided: dict[str, str]) -> None:
    assert weights([settled(("deepen", ""), **undecided)] * 9) == weights([])


def test_breadth_has_its_share_whatever_becomes_of_it() -> None:
    assert weights(past(breadth=(0, 30)), 0.25)[BREADTH] == 0.25


# -- the draw ----------------------------------------------------------------------------------------------------------


def test_where_all_weigh_the_same_they_are_dealt_in_turn() -> None:
    dealt = [operator(brief(number), 0) for number in range(12)]
    assert Counter(dealt) == dict.fromkeys(OPERATORS, 2)
    assert dealt == [operator(brief(number, operators=weights([])), 0) for number in range(12)]


def test_operators_are_drawn_by_their_weights() -> None:
    given = weights(past(deepen=(40, 1), constraints=(1, 40)))
    drawn = Counter(operator(brief(number, operators=given), 0) for number in range(3000))
    for name in OPERATORS:
        assert drawn[name] / 3000 == pytest.approx(given[name], abs=0.03)  # three standard deviations


@pytest.mark.parametrize("given", [{}, weights(past(deepen=(40, 1)))])
def test_no_operator_comes_twice_in_a_candidate_before_all_have_come(given: dict[str, float]) -> None:
    for number in range(20):
        rounds = [operator(brief(number, operators=given), round_) for round_ in range(8)]
        assert sorted(rounds[:6]) == sorted(OPERATORS)
        assert rounds[6:] == rounds[:2]


@pytest.mark.parametrize("given", [{}, weights([], 0.9), weights([], 1.0)])
@pytest.mark.parametrize(
    ("bound", "in_depth"),
    [
        ({}, True),
        ({"source": Source(name="n", place="p", text="t")}, False),
        ({"mode": Mode(tools="single")}, False),
    ],
)
def test_what_shall_become_harder_or_belongs_to_something_is_not_replaced(
    given: dict[str, float], bound: dict[str, Any], in_depth: bool
) -> None:
    drawn = {operator(brief(number, operators=given, **bound), 0, in_depth) for number in range(60)}
    assert drawn == set(IN_DEPTH)


def test_without_a_share_there_is_no_breadth() -> None:
    assert {operator(brief(number, operators=weights([], 0)), 0) for number in range(60)} == set(IN_DEPTH)
