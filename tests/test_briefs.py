"""Axes are dealt like cards, and a brief depends on (run seed, leaf, number) alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill.errors import TaxonomyError
from leafmill.records import Seed, digest
from taxonomy import Axis, AxisValue, Leaf, PairCoverage, coverage, draw, load, pair_coverage


def axis(weights: list[float], name: str = "tone") -> Axis:
    return Axis(name=name, values=tuple(AxisValue(name=f"v{i}", weight=weight) for i, weight in enumerate(weights)))


LEAF = Leaf(
    path="craft/saw",
    title={"en": "Sawing", "zh": "锯木"},
    description={"en": "Cut it.", "zh": "锯开。"},
    weight=1.0,
    languages=("en", "zh"),
    axes=(axis([3, 2, 1], "tone"), axis([1, 1], "tool")),
    seeds=(
        *(Seed(instruction=f"Saw board number {i}.", language="en") for i in range(5)),
        Seed(instruction="锯开这块木板。", language="zh"),
    ),
)

weights = st.lists(st.integers(1, 9).map(float), min_size=2, max_size=6)
run_seeds = st.integers(0, 2**63)
numbers = st.integers(0, 10_000)


@given(weights, run_seeds, st.integers(1, 3))
def test_after_whole_decks_every_count_is_exactly_proportional(weights: list[float], seed: int, decks: int) -> None:
    dimension = axis(weights)
    drawn = Counter(dimension.deal(seed, "leaf", number) for number in range(decks * len(dimension.deck)))
    assert drawn == {value: decks * count for value, count in Counter(dimension.deck).items()}


@given(weights)
def test_small_whole_weights_are_dealt_exactly(weights: list[float]) -> None:
    dimension = axis(weights)
    share = len(dimension.deck) / sum(weights)
    assert [Counter(dimension.deck)[value.name] for value in dimension.values] == pytest.approx([weight * share for weight in weights])


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=8))
def test_a_deck_is_small_holds_every_value_and_keeps_proportions_unless_a_value_is_too_rare(weights: list[float]) -> None:
    deck = axis(weights).deck
    shares = Counter(deck)
    assert len(shares) == len(weights)
    assert len(deck) <= 60
    worst = max(abs(shares[f"v{i}"] / len(deck) - weight / sum(weights)) for i, weight in enumerate(weights))
    # a value rarer than one card in sixty still gets its card, which the others pay for
    assert worst <= 0.02 + sum(max(0.0, 1 / 60 - weight / sum(weights)) for weight in weights)


@pytest.mark.parametrize(("weights", "size"), [([3, 2, 1], 6), ([0.5, 0.3, 0.2], 10), ([1, 1], 2), ([4, 2, 2], 4)])
def test_the_deck_is_the_smallest_that_fits(weights: list[float], size: int) -> None:
    assert len(axis(weights).deck) == size


@given(run_seeds, numbers)
@settings(max_examples=50)
def test_a_draw_depends_only_on_seed_leaf_and_number(seed: int, number: int) -> None:
    first = draw(LEAF, seed, number, ["en", "zh"])
    draw(LEAF, seed, number + 1, ["zh"])
    assert draw(LEAF, seed, number, ["zh", "en"]) == first
    assert first.id == digest(seed, "craft/saw", number)


def test_draws_are_equal_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from taxonomy import draw, load\n"
        "leaf = load('programming').leaf('programming/debugging/locate-error')\n"
        "for n in range(20): print(draw(leaf, 7, n, ['en', 'zh']).model_dump_json())"
    )
    leaf = load("programming").leaf("programming/debugging/locate-error")
    here = "".join(draw(leaf, 7, n, ["en", "zh"]).model_dump_json() + "\n" for n in range(20))
    env = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env, cwd=Path(__file__).parent.parent)
    assert done.stdout.decode() == here


def test_leaves_and_seeds_of_the_run_are_dealt_differently() -> None:
    other = LEAF.model_copy(update={"path": "craft/plane"})
    rows = [[draw(leaf, seed, n, ["en"]).axes["tone"] for n in range(30)] for leaf, seed in ((LEAF, 1), (LEAF, 2), (other, 1))]
    assert rows[0] not in rows[1:]


def test_languages_are_dealt_evenly() -> None:
    assert Counter(draw(LEAF, 1, n, ["en", "zh"]).language for n in range(40)) == {"en": 20, "zh": 20}


def test_only_languages_that_the_run_wants_are_drawn() -> None:
    assert {draw(LEAF, 1, n, ["zh"]).language for n in range(10)} == {"zh"}


def test_a_leaf_without_a_wanted_language_names_both_sets() -> None:
    leaf = LEAF.model_copy(update={"languages": ("zh",)})
    with pytest.raises(TaxonomyError, match=r"'craft/saw' .* it is in zh, the run wants en"):
        draw(leaf, 1, 0, ["en"])


@given(numbers)
@settings(max_examples=50)
def test_up_to_three_different_seeds_are_shown_and_only_in_the_language_of_the_brief(number: int) -> None:
    brief = draw(LEAF, 1, number, ["en", "zh"])
    assert {seed.language for seed in brief.seeds} == {brief.language}
    assert len({seed.instruction for seed in brief.seeds}) == len(brief.seeds) == (3 if brief.language == "en" else 1)


def test_a_seed_of_no_language_fits_any() -> None:
    leaf = LEAF.model_copy(update={"seeds": (Seed(instruction="3 + 4 = ?"),)})
    assert draw(leaf, 1, 0, ["zh"]).seeds == leaf.seeds


def test_the_scenario_is_carried() -> None:
    assert draw(LEAF, 1, 0, ["en"], scenario="a rainy workshop").scenario == "a rainy workshop"


def test_coverage_sets_drawn_beside_expected_counts() -> None:
    assert coverage(axis([3, 1]), ["v0", "v0", "v1", "v0"]) == (("v0", 3, 3.0), ("v1", 1, 1.0))
    with pytest.raises(TaxonomyError, match="unknown value of axis 'tone' 'v7'"):
        coverage(axis([3, 1]), ["v7"])


def test_pair_coverage_counts_pairs_of_different_axes() -> None:
    assert pair_coverage(LEAF.axes, []) == PairCoverage(0, 6)
    assert pair_coverage(LEAF.axes, [draw(LEAF, 1, 0, ["en"])]) == PairCoverage(1, 6)
    assert pair_coverage(LEAF.axes, [draw(LEAF, 1, n, ["en"]) for n in range(200)]) == PairCoverage(6, 6)
