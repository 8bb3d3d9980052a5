"""A brief depends on (run seed, leaf, number) and on its cell alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leafmill.errors import TaxonomyError
from leafmill.records import AGAIN, Brief, Seed, digest
from taxonomy import Axis, AxisValue, Leaf, again, draw, load, plan_of

LEAF = Leaf(
    path="craft/saw",
    title={"en": "Sawing", "zh": "锯木"},
    description={"en": "Cut it.", "zh": "锯开。"},
    weight=1.0,
    languages=("en", "zh"),
    axes=(
        Axis(name="tone", values=(AxisValue(name="calm", weight=3), AxisValue(name="loud"))),
        Axis(name="turns", values=(AxisValue(name="one"), AxisValue(name="three", sets={"turns": 3}))),
    ),
    seeds=(
        *(Seed(instruction=f"Saw board number {i}.", language="en") for i in range(5)),
        Seed(instruction="锯开这块木板。", language="zh"),
    ),
)

run_seeds = st.integers(0, 2**63)
numbers = st.integers(0, 200)


def brief(number: int, leaf: Leaf = LEAF, seed: int = 1) -> Brief:
    return draw(leaf, seed, number, plan_of(leaf, seed, ["en", "zh"]).cell(number))


@given(run_seeds, numbers)
@settings(max_examples=30, deadline=None)
def test_a_brief_depends_only_on_seed_leaf_and_number(seed: int, number: int) -> None:
    first = brief(number, seed=seed)
    brief(number + 1, seed=seed)
    assert brief(number, seed=seed) == first
    assert first.id == digest(seed, "craft/saw", number)


def test_briefs_are_equal_in_another_process_with_another_hash_seed() -> None:
    code = (
        "from taxonomy import draw, load, plan_of\n"
        "leaf = load('programming').leaf('programming/debugging/locate-error')\n"
        "plan = plan_of(leaf, 7, ['en', 'zh'])\n"
        "for n in range(20): print(draw(leaf, 7, n, plan.cell(n)).model_dump_json())"
    )
    leaf = load("programming").leaf("programming/debugging/locate-error")
    here = "".join(brief(n, leaf, 7).model_dump_json() + "\n" for n in range(20))
    env = {**os.environ, "PYTHONHASHSEED": "123", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=env, cwd=Path(__file__).parent.parent)
    assert done.stdout.decode() == here


def test_what_a_value_sets_is_how_its_candidates_are_made() -> None:
    found = [brief(number) for number in range(20)]
    assert {(one.axes["turns"], one.mode.turns) for one in found} == {("one", 1), ("three", 3)}


def test_only_languages_that_the_run_wants_are_planned() -> None:
    plan = plan_of(LEAF, 1, ["zh"])
    assert {plan.cell(n).language for n in range(10)} == {"zh"}


def test_a_leaf_without_a_wanted_language_names_both_sets() -> None:
    leaf = LEAF.model_copy(update={"languages": ("zh",)})
    with pytest.raises(TaxonomyError, match=r"'craft/saw' .* it is in zh, the run wants en"):
        plan_of(leaf, 1, ["en"])


@given(numbers)
@settings(max_examples=30, deadline=None)
def test_up_to_three_different_seeds_are_shown_and_only_in_the_language_of_the_brief(number: int) -> None:
    one = brief(number)
    assert {seed.language for seed in one.seeds} == {one.language}
    assert len({seed.instruction for seed in one.seeds}) == len(one.seeds) == (3 if one.language == "en" else 1)


def test_a_seed_of_no_language_fits_any() -> None:
    leaf = LEAF.model_copy(update={"seeds": (Seed(instruction="3 + 4 = ?"),)})
    assert brief(0, leaf).seeds == leaf.seeds


def test_who_takes_a_cell_again_is_another_candidate_in_the_same_cell() -> None:
    first = next(one for one in map(brief, range(9)) if one.language == "en").model_copy(update={"concepts": ("the set of a tooth",)})
    other = again(first, LEAF, 1, 2)
    assert (other.cell, other.attempt, other.refills, other.place) == (first.number, 2, first.number + AGAIN, (first.number, 2))
    assert (first.refills, first.place) == (None, (first.number, 0))
    assert other.id == digest(1, LEAF.path, other.number) != first.id
    assert (other.axes, other.language, other.concepts, other.mode) == (first.axes, first.language, first.concepts, first.mode)
    assert any(again(first, LEAF, 1, attempt).seeds != first.seeds for attempt in (1, 2, 3)), "it is shown other seeds"
