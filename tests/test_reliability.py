"""Agreement beyond chance: Krippendorff's and Fleiss's published numbers, and what is undefined."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.reliability import Level, alpha, fleiss, interval

Ratings = list[tuple[int | None, ...]]


def rated(*raters: str) -> Ratings:
    """Units of raters' lines; `*` is a rating that is missing."""
    return list(zip(*([None if one == "*" else int(one) for one in line.split()] for line in raters), strict=True))


FOUR_RATERS = rated(
    "1 2 3 3 2 1 4 1 2 * * *",
    "1 2 3 3 2 2 4 1 2 5 * 3",
    "* 3 3 3 2 3 4 2 2 5 1 *",
    "1 2 3 3 2 4 4 1 2 5 1 *",
)
THREE_RATERS = rated(
    "* * * * * 3 4 1 2 1 1 3 3 * 3",
    "1 * 2 1 3 3 4 3 * * * * * * *",
    "* * 2 1 3 4 4 * 2 1 1 3 3 * 4",
)
FLEISS = """0 0 0 0 14 / 0 2 6 4 2 / 0 0 3 5 6 / 0 3 9 2 0 / 2 2 8 1 1 / 7 7 0 0 0 / 3 2 6 3 0 / 2 5 3 2 2 / 6 5 2 1 0 / 0 2 2 3 7"""


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743421), ("ordinal", 0.815388), ("interval", 0.849107), ("ratio", 0.797403)])
def test_T22_krippendorffs_four_raters_of_twelve_units(level: Level, value: float) -> None:
    found = alpha(FOUR_RATERS, level)
    assert found.ratings == 40
    assert found.value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.691358), ("interval", 0.810845)])
def test_T22_three_raters_of_fifteen_units(level: Level, value: float) -> None:
    found = alpha(THREE_RATERS, level)
    assert found.ratings == 26
    assert found.value == pytest.approx(value, abs=1e-6)


def test_T22_two_raters_of_four_units() -> None:
    found = alpha(rated("1 1 2 2", "1 2 2 2"), "nominal")
    assert (found.value, found.agreement) == (pytest.approx(0.533333, abs=1e-6), 0.75)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval", "ratio"])
def test_T22_ratings_that_are_all_the_same_have_no_alpha_and_a_reason(level: Level) -> None:
    found = alpha(rated("4 4 4", "4 4 4"), level)
    assert (found.value, found.agreement) == (None, 1.0)
    assert "all ratings are the same" in found.why
    assert interval(rated("4 4 4", "4 4 4"), level) is None


def test_rows_with_one_rating_count_for_nothing_and_alone_have_no_alpha() -> None:
    assert alpha([(1, None), (None, 2), ()], "ordinal") == (None, "no row has two ratings", 0, 0, None)
    assert alpha([*FOUR_RATERS, (5, None, None, None)], "ordinal") == alpha(FOUR_RATERS, "ordinal")


def test_T22_skewed_labels_have_a_kappa_below_zero_though_raters_agree() -> None:
    found = fleiss([[6.99, 0.01], [6.99, 0.01]])
    assert found.value == pytest.approx(-0.166667, abs=1e-6)
    assert found.randolph == pytest.approx(0.993343, abs=1e-6)
    assert found.agreement > 0.99


@given(st.lists(st.lists(st.one_of(st.none(), st.integers(1, 5)), max_size=5), max_size=15), st.randoms())
def test_alpha_does_not_depend_on_the_order_of_rows_nor_of_raters(units: list[list[int | None]], shuffler: random.Random) -> None:
    before = alpha(units, "ordinal")
    other = [shuffler.sample(unit, len(unit)) for unit in shuffler.sample(units, len(units))]
    after = alpha(other, "ordinal")
    assert before._replace(value=None) == after._replace(value=None)
    assert after.value == (None if before.value is None else pytest.approx(before.value))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=2))
def test_perfect_agreement_is_one_and_no_alpha_is_above_it(pairs: list[tuple[int, int]]) -> None:
    same = alpha([(a, a) for a, _ in pairs], "interval")
    assert same.value in (None, pytest.approx(1.0))
    found = alpha(pairs, "interval")
    assert found.value is None or found.value <= 1 + 1e-9


@pytest.mark.parametrize("seed", [0, 1])
def test_an_interval_holds_its_alpha_is_the_same_for_a_seed_and_narrows_with_rows(seed: int) -> None:
    few, many = interval(FOUR_RATERS, "ordinal", seed=seed), interval(FOUR_RATERS * 20, "ordinal", seed=seed)
    value = alpha(FOUR_RATERS, "ordinal").value
    assert few is not None
    assert many is not None
    assert value is not None
    assert few.low < many.low < value < many.high < few.high
    assert few == interval(FOUR_RATERS, "ordinal", seed=seed)


def test_draws_without_an_alpha_are_counted_and_left_out() -> None:
    found = interval([(1, 1), (1, 1), (2, 1)], "nominal", draws=200)
    assert found is not None
    assert 0 < found.undefined < 200


def test_T23_fleiss_ten_items_and_fourteen_raters() -> None:
    found = fleiss([[int(count) for count in row.split()] for row in FLEISS.split("/")])
    assert found.agreement == pytest.approx(0.378022, abs=1e-6)
    assert found.chance == pytest.approx(0.212755, abs=1e-6)
    assert found.value == pytest.approx(0.209931, abs=1e-6)


@pytest.mark.parametrize(("table", "value"), [([[7, 1], [3, 5]], 0.161905), ([[6, 1, 0], [0, 7, 0]], 0.708333)])
def test_T23_small_tables(table: list[list[int]], value: float) -> None:
    assert fleiss(table).value == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize("table", [[[2, 1], [1, 1]], [[1, 0], [0, 1]], [], [[3, -1], [1, 1]]])
def test_T23_unequal_numbers_of_raters_are_an_error(table: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="rater"):
        fleiss(table)


def test_one_category_only_has_no_kappa() -> None:
    assert fleiss([[3, 0], [3, 0]]).value is None
    assert fleiss([[3], [3]]) == (None, 1.0, 1.0, None)
