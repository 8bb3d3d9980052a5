"""The plan of a leaf: all pairs of values early, weights in the large, and the same in every process."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill.records import Language
from taxonomy import Axis, AxisValue, Cell, Plan

BOTH: tuple[Language, ...] = ("en", "zh")


def axis(weights: Sequence[float], name: str = "tone") -> Axis:
    return Axis(name=name, values=tuple(AxisValue(name=f"v{i}", weight=weight) for i, weight in enumerate(weights)))


def axes(*weights: Sequence[float]) -> list[Axis]:
    return [axis(one, f"axis{i}") for i, one in enumerate(weights)]


def pairs(cells: Sequence[Cell]) -> set[Any]:
    """Pairs of values of two factors that come together."""
    return {pair for cell in cells for pair in combinations([("language", cell.language), *cell.axes.items()], 2)}


def possible(of: Sequence[Axis], languages: Sequence[Language]) -> int:
    sizes = [len(languages), *(len(one.values) for one in of)]
    return sum(one * other for one, other in combinations(sizes, 2))


def cells(plan: Plan, count: int) -> list[Cell]:
    return [plan.cell(number) for number in range(count)]


some_weights = st.lists(st.sampled_from([1.0, 1.0, 2.0, 3.0, 9.0]), min_size=2, max_size=8)
some_axes = st.lists(some_weights, max_size=6).map(lambda weights: axes(*weights))
some_languages = st.sampled_from([("en",), ("zh",), BOTH])
keys = st.integers(0, 2**63)


@given(some_axes, some_languages, keys, st.integers(0, 9))
@settings(max_examples=80, deadline=None)
def test_from_the_bound_on_every_pair_of_values_is_covered(of: list[Axis], languages: tuple[Language, ...], key: int, more: int) -> None:
    plan = Plan(of, languages, key)
    assert len(pairs(cells(plan, plan.bound + more))) == possible(of, languages)
    assert not plan.bound or len(pairs(cells(plan, plan.bound - 1))) < possible(of, languages)


@given(some_axes, some_languages, keys)
@settings(max_examples=80, deadline=None)
def test_the_bound_is_near_the_product_of_the_two_largest_factors(of: list[Axis], languages: tuple[Language, ...], key: int) -> None:
    """No plan can do with fewer cells than that product; twice as many and a few are never needed."""
    sizes = sorted([len(languages), *(len(one.values) for one in of)])[-2:]
    least = sizes[0] * sizes[1] if of else 0
    assert least <= Plan(of, languages, key).bound <= 2 * least + 6


@pytest.mark.parametrize(
    ("sizes", "languages", "most"),
    [([8, 6, 3, 3, 2], BOTH, 50), ([4] * 5, ("en",), 23), ([3] * 13, ("en",), 21), ([2] * 10, ("en",), 9), ([12, 5, 4, 3, 2], ("zh",), 60)],
)
def test_the_bound_of_usual_axes_is_small(sizes: list[int], languages: tuple[Language, ...], most: int) -> None:
    bounds = [Plan(axes(*([1.0] * size for size in sizes)), languages, key).bound for key in range(5)]
    assert sorted(bounds)[2] <= most, bounds


def test_the_first_cells_bring_most_new_pairs() -> None:
    plan = Plan(axes([1] * 6, [1] * 4, [1] * 3), BOTH, 7)
    seen = [len(pairs(cells(plan, count))) for count in range(plan.bound + 1)]
    half = plan.bound // 2
    assert seen[1] == 6, "six pairs of four factors"
    assert seen[6] >= 33, "of the first six cells next to none repeats a pair"
    assert seen[half] > 0.7 * seen[-1]


@given(some_axes, some_languages, keys)
@settings(max_examples=40, deadline=None)
def test_weights_hold_in_the_large(of: list[Axis], languages: tuple[Language, ...], key: int) -> None:
    drawn = cells(Plan(of, languages, key), 3000)
    for one in of:
        counts, whole = Counter(cell.axes[one.name] for cell in drawn), sum(value.weight for value in one.values)
        assert all(abs(counts[value.name] - 3000 * value.weight / whole) <= 4 for value in one.values), (one, counts)
    counts = Counter(cell.language for cell in drawn)
    assert all(abs(counts[language] - 3000 / len(languages)) <= 4 for language in languages)


def test_values_of_two_axes_are_independent_in_the_large() -> None:
    """Were each taken in turn, two axes of two values would go in step, and half of the pairs be rare."""
    drawn = Counter(tuple(cell.axes.values()) for cell in cells(Plan(axes([1, 1], [1, 1]), ("en",), 3), 2000))
    assert all(400 < count < 600 for count in drawn.values()), drawn


@given(keys, st.integers(0, 200))
@settings(max_examples=20, deadline=None)
def test_a_plan_depends_on_its_key_and_on_nothing_else(key: int, number: int) -> None:
    of = axes([3, 2, 1], [1, 1])
    one = Plan(of, BOTH, key, "leaf").cell(number)
    other = Plan(of, ("zh", "en"), key, "leaf")
    assert other.bound
    assert other.cell(number) == one, "neither the order of languages matters, nor what was asked before"


def test_leaves_and_seeds_of_the_run_are_planned_differently() -> None:
    of = axes([3, 2, 1], [1, 1, 1])
    rows = [tuple(cell.axes["axis0"] for cell in cells(Plan(of, BOTH, *key), 30)) for key in ((1, "a"), (2, "a"), (1, "b"))]
    assert len(set(rows)) == 3


def test_a_leaf_without_axes_goes_by_its_languages() -> None:
    plan = Plan([], BOTH, 1)
    assert plan.bound == 0
    assert Counter(cell.language for cell in cells(plan, 10)) == {"en": 5, "zh": 5}
    assert plan.factors == {"language": ("en", "zh")}


def test_a_large_plan_takes_no_time_to_speak_of() -> None:
    """8 axes of 24 values, two languages, 10,000 cells: about half a second on one core; the bound is that of a busy machine."""
    plan = Plan(axes(*([1.0] * 24 for _ in range(8))), BOTH, 1)
    began = time.process_time()
    assert plan.bound < 1.5 * 24 * 24
    plan.cell(9_999)
    assert time.process_time() - began < 10
