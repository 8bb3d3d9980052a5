"""What holds for every gate: its contract, its making from a recipe, and what becomes of a crash."""

import dataclasses
import inspect
from typing import get_args

import pytest

from filters.catalogue import GATES, describe, make
from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash
from filters.gate import Stage, Subject, judge, version
from filters.length import Length
from filters.memory import admit
from leafmill.errors import DiskError, EndpointDownError, RecipeError
from leafmill.records import Row

SUBJECT = Subject("s", Row(language="en", instruction="Write a poem about the sea", answer="The sea is wide."))
PLAIN = (
    "length",
    "language",
    "form",
    "leak",
    "refusal",
    "repetition",
    "evolution",
    "exact",
    "minhash",
    "pii",
    "safety",
    "agreement",
    "critic",
)


@pytest.mark.parametrize("name", GATES)
def test_a_gate_is_a_frozen_dataclass_that_says_what_it_does(name):
    gate = GATES[name]
    assert gate.name == name
    assert dataclasses.is_dataclass(gate)
    assert gate.__dataclass_params__.frozen
    assert gate.says
    assert "\n" not in gate.says
    assert set(gate.stage) <= set(get_args(Stage))
    assert inspect.iscoroutinefunction(gate.__call__)


@pytest.mark.parametrize("name", PLAIN)
async def test_a_verdict_names_its_gate_and_its_version(name):
    gate = make(name)
    verdict = await judge(gate, SUBJECT)
    assert (verdict.gate, verdict.version) == (name, version(gate))
    assert verdict.decision in ("accept", "unscorable")
    assert verdict.model_validate_json(verdict.model_dump_json()) == verdict


async def test_T36_a_gate_that_raises_gives_an_error_not_a_reject_and_not_an_accept():
    def broken(text: str) -> int:
        raise RuntimeError("no tokenizer")

    verdict = await judge(Length(count=broken), SUBJECT)
    assert (verdict.decision, verdict.code, verdict.evidence["exception"]) == ("error", "length_crashed", "RuntimeError")


async def test_T36_of_twins_exactly_one_is_admitted_and_always_the_same():
    twins = [Subject(id, SUBJECT.row) for id in ("b", "a")]
    for _ in range(20):
        first, second = await admit([Exact(), Minhash()], twins)
        assert [verdict.decision for verdict in first] == ["accept", "accept"]
        assert (second[-1].code, second[-1].evidence) == ("exact.duplicate", {"view": "instruction", "kept": "b"})


async def test_a_row_that_a_later_gate_rejects_is_remembered_by_none():
    exact, minhash = Exact(), Minhash()
    await minhash.add(Subject("old", SUBJECT.row))
    ((_, rejected),) = await admit([exact, minhash], [SUBJECT])
    assert rejected.code == "minhash.duplicate"
    assert not exact.kept


def test_the_version_of_a_gate_is_worked_out_once_and_not_for_a_changed_copy():
    gate = Length()
    assert version(gate) is version(gate)
    assert version(dataclasses.replace(gate, min_answer=2)) != version(gate)


def test_a_setting_changes_the_version_and_a_resource_does_not():
    assert version(make("minhash", {"threshold": 0.7})) != version(make("minhash"))
    assert version(make("length", count=len)) == version(make("length"))


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("minhsh", {}, "did you mean 'minhash'"),
        ("minhash", {"treshold": 0.7}, "did you mean 'threshold'"),
        ("minhash", {"index": 1}, "unknown setting of gate 'minhash' 'index'"),
        ("minhash", {"threshold": "high"}, "gate 'minhash': threshold must be float, got 'high'"),
        ("length", {"min_answer": True}, "min_answer must be int, got True"),
        ("length", {"min_answer": "3"}, "min_answer must be int, got '3'"),
        ("critic", {"min_score": 9}, "gate 'critic': min_score must be from 1 to 5, got 9"),
        ("agreement", {"min_median": float("nan")}, "min_median must be float, got nan"),
    ],
)
def test_a_mistake_in_a_recipe_is_told_before_the_run(name, settings, says):
    with pytest.raises(RecipeError, match=says):
        make(name, settings)


def test_a_whole_number_may_stand_for_a_float():
    assert make("minhash", {"threshold": 1}) == Minhash(threshold=1.0)


def test_every_gate_is_described_with_its_settings_and_what_it_needs():
    rows = {row.name: row for row in describe()}
    assert set(rows) == set(GATES)
    assert rows["minhash"].settings["threshold"] == 0.6
    assert rows["semantic"].needs == ("embedder", "index")
    assert all(type(value) in (str, int, float, bool, tuple, type(None)) for row in rows.values() for value in row.settings.values())


@pytest.mark.parametrize("fault", [EndpointDownError("the embedder is down"), DiskError("the index is full")])
async def test_what_stops_a_run_goes_through_a_gate(fault):
    class Stopped:
        name, stage, says = "stopped", ("screen",), "raises"

        async def __call__(self, subject):
            raise fault

    with pytest.raises(type(fault)):
        await judge(Stopped(), SUBJECT)
