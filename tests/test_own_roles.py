"""What users add: gates, axes and nodes by a prompt file, gates and roles by an entry point; and what is said of those that are wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from agents.role import read
from agents.scripted import Reply, Request, ScriptedServer
from filters import catalogue
from filters.gate import Subject, verdict
from graphs.prepare import prepare
from leafmill import entrypoints, scaffold
from leafmill.errors import InputError, RecipeError, RoleFileError
from leafmill.records import Brief, Row, Verdict
from tests.conftest import Case, Cast, go, recipe, told

GATE = """---
name: tidy
stage: gate
threshold: 3
reply: {rationale: str, score: {type: int, min: 1, max: 5}}
---
{{ instruction }}
{{ answer }}
"""
AXIS = """---
name: mood
stage: axis
title: {en: mood, zh: 心情}
reply: {values: {type: "list[dict]", min: 2, of: {name: str, en: str, zh: str}}}
---
{{ trail }} {{ count }}
"""
QUIET = {name: {"off": True} for name in ("planner", "syllabus-planner", "comparer")}
MOODS = {"values": [{"name": "Calm", "en": "at ease", "zh": "平静"}, {"name": "in haste", "en": "in a hurry", "zh": "着急"}]}


def prompts(folder: Path, **files: str) -> str:
    own = folder / "own"
    own.mkdir(exist_ok=True)
    for name, text in files.items():
        (own / f"{name}.md").write_text(text, encoding="utf-8")
    return "own"


# -- gates by a prompt -------------------------------------------------------------------------------------------------


async def test_a_role_gate_refuses_what_scores_below_its_threshold_before_the_panel_is_asked(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = Cast(tidy=lambda request, case: {"rationale": "so", "score": 2 if case.number == 0 else 3})
    await go(recipe(tmp_path, server, prompts=prompts(tmp_path, tidy=GATE)), tmp_path)
    found = told(tmp_path)
    assert (found.of(0)["state"], found.of(0)["stage"], found.of(0)["code"]) == ("rejected", "check", "tidy.low")
    assert not [step for step in found.steps(0) if step.startswith("annotator")]
    (refused,) = [one for one in found.verdicts if one["code"] == "tidy.low"]
    assert (refused["value"], refused["threshold"], refused["evidence"]["rationale"]) == (2, 3, "so")
    assert len(found.accepted) == 3


async def test_the_recipe_s_threshold_stands_over_the_file_s_and_false_leaves_the_gate_out(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tidy={"rationale": "so", "score": 3})
    own, gates = prompts(tmp_path, tidy=GATE), {"semantic": False, "ifd": False}
    (tmp_path / "a").mkdir()
    await go(recipe(tmp_path, server, prompts=own, gates={**gates, "tidy": {"threshold": 4}}, target=1), tmp_path / "a")
    assert {one["code"] for one in told(tmp_path / "a").candidates} == {"tidy.low"}
    (tmp_path / "b").mkdir()
    await go(recipe(tmp_path, server, prompts=own, gates={**gates, "tidy": False}, target=1), tmp_path / "b")
    assert not [one for one in told(tmp_path / "b").calls if one["role"] == "tidy"]


async def test_a_gate_at_screen_sees_the_instruction_before_it_is_answered(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tidy=lambda request, case: {"rationale": "so", "score": 1 if case.number == 0 else 5})
    text = GATE.replace("threshold", "at: screen\nthreshold").replace("{{ answer }}\n", "")
    await go(recipe(tmp_path, server, prompts=prompts(tmp_path, tidy=text)), tmp_path)
    assert told(tmp_path).of(0)["code"] == "tidy.low"
    assert "answerer" not in told(tmp_path).steps(0)


async def test_a_role_gate_that_cannot_be_heard_is_an_error_and_no_score(tmp_path: Path, server: ScriptedServer) -> None:
    def tidy(request: Request, case: Case) -> Any:
        return Reply("no", status=400) if case.number == 0 else {"rationale": "so", "score": 5}

    server.script = Cast(tidy=tidy)
    await go(recipe(tmp_path, server, prompts=prompts(tmp_path, tidy=GATE)), tmp_path)
    found = told(tmp_path).of(0)
    assert (found["state"], found["code"]) == ("errored", "call_failed")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("threshold: 3\n", ""), "a role with `stage: gate` needs `threshold`"),
        (("threshold: 3", "threshold: 9"), "own/tidy.md:4: threshold: Input should be less than or equal to 5, got 9"),
        (("threshold: 3", "threshold: 3\nat: admit"), "own/tidy.md:5: at: Input should be 'screen' or 'check'"),
        (("threshold: 3", "threshold: 3\nat: screen"), "unknown variable 'answer'"),
        (("score: {type: int, min: 1, max: 5}", "verdict: str"), "stage 'gate' reads ['score'] from the reply"),
        (("stage: gate", "stage: annotate"), "`at` and `threshold` are a gate's"),
    ],
)
def test_a_gate_s_file_that_is_wrong_is_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: tuple[str, str], expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    prompts(tmp_path, tidy=GATE.replace(*change, 1))
    with pytest.raises(RoleFileError) as fault:
        read(Path("own/tidy.md"))
    assert expected in str(fault.value)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"limit": 3}, "unknown setting of gate 'tidy' 'limit'"),
        ({"threshold": "high"}, "gate 'tidy': threshold must be a number from 1 to 5, got 'high'"),
    ],
)
def test_settings_that_a_role_gate_does_not_have_are_refused(tmp_path: Path, settings: dict[str, Any], expected: str) -> None:
    own = prompts(tmp_path, tidy=GATE)
    with pytest.raises(InputError) as fault:
        prepare(recipe(tmp_path, "http://nobody", prompts=own, gates={"tidy": settings}))
    assert expected in str(fault.value)
    assert "recipe.yaml:" in str(fault.value)


def test_a_role_gate_may_not_take_the_name_of_a_gate(tmp_path: Path) -> None:
    own = prompts(tmp_path, length=GATE.replace("tidy", "length"))
    with pytest.raises(InputError, match="there is a gate of that name already"):
        prepare(recipe(tmp_path, "http://nobody", prompts=own))


# -- axes --------------------------------------------------------------------------------------------------------------


async def test_an_axis_of_a_role_is_written_once_and_planned_over(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(mood=MOODS)
    wanted = recipe(tmp_path, server, prompts=prompts(tmp_path, mood=AXIS))
    await go(wanted, tmp_path)
    await go(recipe(tmp_path, server, prompts="own", target=5), tmp_path)
    found = told(tmp_path)
    assert {one["brief"]["axes"]["mood"] for one in found.candidates} == {"calm", "in-haste"}
    assert len([one for one in found.calls if one["role"] == "mood"]) == 1
    shown = next(one["messages"][-1]["content"] for one in found.calls if one["role"] == "writer")
    assert "mood: at ease" in shown or "mood: in a hurry" in shown


async def test_a_leaf_whose_axis_cannot_be_written_goes_without_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(mood={"values": [MOODS["values"][0]] * 2})
    await go(recipe(tmp_path, server, prompts=prompts(tmp_path, mood=AXIS)), tmp_path)
    found = told(tmp_path)
    assert len(found.accepted) == 3
    assert all("mood" not in one["brief"]["axes"] for one in found.candidates)


def test_an_axis_file_must_label_its_values_in_its_languages(tmp_path: Path) -> None:
    prompts(tmp_path, mood=AXIS.replace(", zh: str", ""))
    with pytest.raises(RoleFileError, match=r"each of `values` must have the fields \['en', 'name', 'zh'\], got \['en', 'name'\]"):
        read(tmp_path / "own" / "mood.md")


def test_an_axis_may_not_take_the_name_of_one_that_a_leaf_has(tmp_path: Path) -> None:
    own = prompts(tmp_path, card=AXIS.replace("name: mood", "name: card"))
    with pytest.raises(InputError, match="leaf t/a has an axis of that name already"):
        prepare(recipe(tmp_path, "http://nobody", prompts=own))


# -- files to begin with -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", ["annotate", "gate", "axis"])
def test_what_roles_new_writes_is_a_sound_role_file(tmp_path: Path, stage: str) -> None:
    (path,) = scaffold.role(tmp_path, "fact_checker", stage)
    assert read(path).head.stage == stage


@pytest.mark.parametrize(("after", "writes"), [("answer", "answer"), ("write", "instruction"), ("evolve", "input")])
def test_what_roles_new_writes_for_a_node_is_sound(tmp_path: Path, after: str, writes: str) -> None:
    (path,) = scaffold.role(tmp_path, "shortener", after=after, writes=writes)
    head = read(path).head
    assert (head.after, head.writes) == (after, writes)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("Fact Checker", {}, "'Fact Checker' is no name for a role"),
        ("mine", {"stage": "judge"}, "unknown stage 'judge'"),
        ("mine", {"stage": "evolve"}, "stage 'evolve' is played by one role: vary it with `leafmill roles new evolver.mine`"),
        ("mine", {"after": "admit"}, "unknown stage that a role may come after 'admit'"),
        ("mine", {"after": "write", "writes": "title"}, "unknown part of a row 'title'"),
        ("wirter.mine", {}, "unknown role to vary 'wirter': did you mean 'writer'?"),
        ("writer.My One", {}, "'My One' is no name for a variant"),
    ],
)
def test_a_file_that_cannot_be_begun_is_said_so(tmp_path: Path, name: str, options: dict[str, str], expected: str) -> None:
    with pytest.raises(RoleFileError) as fault:
        scaffold.role(tmp_path, name, **options)
    assert expected in str(fault.value)
    assert not list(tmp_path.iterdir())


# -- entry points ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class NoRust:
    name: ClassVar[str] = "no-rust"
    stage: ClassVar[tuple[str, ...]] = ("check",)
    says: ClassVar[str] = "nothing rusts"

    async def __call__(self, subject: Subject) -> Verdict:
        return verdict(self, "accept")


class Shout:
    after, writes = "answer", "answer"

    async def __call__(self, row: Row, brief: Brief) -> str:
        return row.answer + " Really."


class Broken(Shout):
    async def __call__(self, row: Row, brief: Brief) -> str:
        raise KeyError("nothing there")


class Misplaced(Shout):
    writes = "instruction"


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This module's classes, as a package that was installed."""
    info = tmp_path / "site" / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[leafmill.gates]\nno-rust = {__name__}:NoRust\nwrong = {__name__}:NoRust\nmissing = {__name__}:Nobody\n"
        f"[leafmill.roles]\nshout = {__name__}:Shout\nbroken = {__name__}:Broken\nmisplaced = {__name__}:Misplaced\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    for one in (entrypoints.names, entrypoints.load):
        one.cache_clear()
    yield
    for one in (entrypoints.names, entrypoints.load):
        one.cache_clear()


@pytest.mark.usefixtures("installed")
async def test_a_python_role_is_a_node_whose_text_passes_the_gates(tmp_path: Path, server: ScriptedServer) -> None:
    wanted = recipe(tmp_path, server, roles={**QUIET, "shout": {}}, prompts=prompts(tmp_path))
    await go(wanted, tmp_path)
    assert all(row["answer"].endswith("Really.") for row in told(tmp_path).rows)


@pytest.mark.usefixtures("installed")
async def test_a_python_role_that_raises_is_an_error_of_its_candidate(tmp_path: Path, server: ScriptedServer) -> None:
    few: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1}}
    wanted = recipe(tmp_path, server, roles={**QUIET, "broken": {}}, prompts=prompts(tmp_path), **few)
    await go(wanted, tmp_path)
    (one,) = told(tmp_path).candidates
    assert (one["state"], one["code"]) == ("errored", "broken_crashed")
    assert "nothing there" in one["detail"]


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "expected"),
    [("misplaced", "after='answer', writes='instruction'"), ("shuot", "unknown role 'shuot': did you mean 'shout'?")],
)
def test_a_python_role_that_cannot_stand_there_is_refused(tmp_path: Path, name: str, expected: str) -> None:
    with pytest.raises(InputError) as fault:
        prepare(recipe(tmp_path, "http://nobody", roles={name: {}}, prompts=prompts(tmp_path)))
    assert expected in str(fault.value)


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("wrong", "expected a frozen dataclass with the class variables name = 'wrong'"),
        ("missing", "cannot be imported"),
    ],
)
def test_a_python_gate_that_is_none_is_refused_when_it_is_named(tmp_path: Path, name: str, expected: str) -> None:
    assert name in catalogue.names()
    with pytest.raises(RecipeError, match=expected):
        catalogue.check(name, {})
