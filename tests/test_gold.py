"""Judges are tried on rows known to be good or bad before a run spends anything, and a judge that fails stops it."""

from __future__ import annotations

import json
import re
from collections import Counter
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, go, recipe, told
from rich.console import Console
from terminal import KEYLESS, leafmill, write_recipe

from agents import gold
from agents.role import BUILT_IN, Roles
from agents.scripted import Fault, Request, ScriptedServer
from graphs.estimate import estimate
from graphs.prepare import prepare
from leafmill import report, screens
from leafmill.errors import JudgeError, RecipeError
from leafmill.judges import try_out
from leafmill.ledger import Ledger
from leafmill.runfolder import RunFolder

ROWS = gold.read(gold.BUILT_IN)
ONE: dict[str, Any] = {"target": 1, "limits": {"candidates_per_leaf": 1}, "flow": {"evolve_rounds": 0}}
ON = {**ONE, "judges": {"gold": "built-in"}}
PANEL = ["annotator-clarity", "annotator-correctness", "annotator-helpfulness"]


def row_of(request: Request) -> gold.Gold | None:
    """The gold row that a judge is asked about."""
    return next((row for row in ROWS if f"<answer>\n{row.answer}\n</answer>" in request.task and row.instruction in request.task), None)


def knowing(*blind: str, score: int = 5, **fields: Any) -> Cast:
    """Judges that know the gold rows, but those that are `blind` and give everything the same."""

    def judge(request: Request, case: Any) -> Any:
        row = row_of(request)
        sees = row is None or row.good or (request.role in blind and request.model != "scripted-mistral")
        return {"rationale": "x", "reason": "x", "score": score if sees else 1} | fields

    def critic(request: Request, case: Any) -> Any:
        said = judge(request, case)
        return {"reason": "x", "where": "", "score": said["score"]}

    return Cast(annotator=lambda r, c: {k: v for k, v in judge(r, c).items() if k != "reason"}, critic=critic)


def asked_of_gold(server: ScriptedServer) -> Counter[str | None]:
    return Counter(record.role for record in server.requests if row_of(record.request) is not None)


# -- the rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("judge", [*PANEL, "critic"])
def test_every_built_in_judge_has_good_and_bad_rows_in_each_language_and_liking_all_of_them_fails(language: str, judge: str) -> None:
    asked = [row for row in ROWS if row.language == language and row.concerns(judge)]
    good = sum(row.good for row in asked)
    assert min(good, len(asked) - good) >= 4
    assert max(good, len(asked) - good) / len(asked) < 0.8, "one who gives everything the same must not pass"
    assert judge in Roles.load(BUILT_IN).names


def test_the_languages_have_the_same_rows_and_a_bad_one_says_what_is_wrong() -> None:
    en, zh = ([row for row in ROWS if row.language == language] for language in ("en", "zh"))
    assert [(row.good, row.fault, row.judges) for row in en] == [(row.good, row.fault, row.judges) for row in zh]
    assert {row.fault for row in ROWS if not row.good} == {"wrong", "off topic", "cut off", "vague", "padded"}
    assert all(bool(row.fault) != row.good for row in ROWS)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "gold.jsonl:2: not a JSON object"),
        ('{"id": "a"}', "gold.jsonl:2: language: Field required"),
        ('{"id": "x", "language": "en", "good": true, "instruction": "i", "answer": "a"}', "gold.jsonl:2: the id 'x' is there twice"),
        ('{"id": "y", "language": "en", "good": true, "instruction": "i", "answer": "a", "judges": ["critc"]}', "did you mean 'critic'"),
    ],
)
def test_a_row_of_ones_own_that_is_none_is_said_with_its_line(tmp_path: Path, server: ScriptedServer, line: str, said: str) -> None:
    first = {"id": "x", "language": "en", "good": True, "instruction": "i", "answer": "a"}
    (tmp_path / "gold.jsonl").write_text(json.dumps(first) + "\n" + line)
    with pytest.raises(RecipeError, match=said.replace("(", r"\(")):
        prepare(recipe(tmp_path, server, judges={"gold": "gold.jsonl"}))


def test_rows_of_ones_own_must_be_good_and_bad_in_every_language_and_the_file_must_be_there(tmp_path: Path, server: ScriptedServer) -> None:
    with pytest.raises(RecipeError, match=r"recipe.yaml:.*cannot be read"):
        prepare(recipe(tmp_path, server, judges={"gold": "gold.jsonl"}))
    (tmp_path / "gold.jsonl").write_text('{"id": "x", "language": "en", "good": true, "instruction": "i", "answer": "a"}')
    with pytest.raises(RecipeError, match="needs both good and bad rows in 'en'"):
        prepare(recipe(tmp_path, server, judges={"gold": "gold.jsonl"}))


# -- a run -------------------------------------------------------------------------------------------------------------


async def test_judges_that_tell_good_from_bad_let_the_run_begin_and_are_asked_their_own_questions(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = knowing()
    run = await go(recipe(tmp_path, server, **ON), tmp_path)
    assert run.exit_code == 0
    wanted = {judge: sum(row.language == "en" and row.concerns(judge) for row in ROWS) for judge in (*PANEL, "critic")}
    assert asked_of_gold(server) == wanted
    first = min(n for n, record in enumerate(server.requests) if record.role == "writer")
    assert first == sum(wanted.values()), "nothing is spent on candidates before"


@pytest.mark.parametrize("blind", ["annotator-correctness", "critic"])
async def test_a_judge_that_likes_everything_stops_the_run_and_is_named_with_what_it_got_wrong(
    tmp_path: Path, server: ScriptedServer, blind: str
) -> None:
    server.script = knowing(blind)
    with pytest.raises(JudgeError) as caught:
        await go(recipe(tmp_path, server, **ON), tmp_path)
    assert blind in str(caught.value)
    assert "en-sum-wrong (wrong: 5)" in str(caught.value)
    assert all(name not in str(caught.value) for name in {*PANEL, "critic"} - {blind})
    assert (server.count("writer"), caught.value.exit_code) == (0, 5)


async def test_of_two_models_in_one_seat_the_one_that_fails_is_named(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing(*PANEL)
    models = {
        name: {"base_url": server.base_url, "model": f"scripted-{kin}"}
        for name, kin in (("generator", "qwen"), ("judge", "mistral"), ("other", "llama"))
    }
    with pytest.raises(JudgeError) as caught:
        await go(recipe(tmp_path, server, **ON, models=models, panel={"models": ["judge", "other"]}), tmp_path)
    assert str(caught.value).count("(other)") == 3
    assert "(judge)" not in str(caught.value)


async def test_the_trial_is_recorded_and_a_resumed_run_does_not_pay_it_again(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing()
    await go(recipe(tmp_path, server, **ON), tmp_path)
    asked = asked_of_gold(server)
    await go(recipe(tmp_path, server, **{**ON, "target": 2, "limits": {"candidates_per_leaf": 4}}), tmp_path)
    assert asked_of_gold(server) == asked
    assert told(tmp_path).states["accepted"] == 2


async def test_a_run_that_has_all_its_rows_tries_nobody(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, **ONE), tmp_path)
    await go(recipe(tmp_path, server, **ON), tmp_path)
    assert not asked_of_gold(server)


async def test_a_call_that_fails_is_neither_right_nor_wrong_but_a_judge_must_be_heard_on_half(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script, server.faults = knowing(), [Fault("500", role="annotator-clarity", after=8)]
    await go(recipe(tmp_path, server, **ON, gates={"semantic": False, "ifd": False, "agreement": {"min_votes": 1}}), tmp_path)
    server.faults = [Fault("500", role="annotator-clarity")]
    (tmp_path / "b").mkdir()
    with pytest.raises(JudgeError, match=r"annotator-clarity \(judge\) could be heard on 0 of 11 gold rows only"):
        await go(recipe(tmp_path / "b", server, **ON), tmp_path / "b")


async def test_the_threshold_is_that_of_the_runs_own_gate(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing(score=3)
    gates = {"semantic": False, "ifd": False, "agreement": {"min_median": 4}}
    with pytest.raises(JudgeError, match="good: 3"):
        await go(recipe(tmp_path, server, **ON, gates=gates), tmp_path)


async def test_rows_of_ones_own_are_asked_of_everyone_they_do_not_keep_from(tmp_path: Path, server: ScriptedServer) -> None:
    rows = [{"id": str(n), "language": "en", "good": n < 2, "instruction": f"Say {n}", "answer": f"It is {n}"} for n in range(4)]
    rows[3]["judges"] = ["critic"]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, rows)))

    def judge(request: Request, case: Any) -> Any:
        score = 1 if any(f"It is {n}" in request.task for n in (2, 3)) else 5
        return {"reason" if request.role == "critic" else "rationale": "x", "score": score}

    server.script = Cast(annotator=judge, critic=judge)
    await go(recipe(tmp_path, server, **ONE, judges={"gold": "mine.jsonl"}), tmp_path)
    assert Counter(record.role for record in server.requests if "Say " in record.request.task) == {**dict.fromkeys(PANEL, 3), "critic": 4}


async def test_a_budget_that_cannot_hold_the_trial_does_not_let_the_run_go_on_without(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing()
    with pytest.raises(JudgeError, match="cannot be tried"):
        await go(recipe(tmp_path, server, **{**ON, "limits": {"leaf_tokens": 3000}}), tmp_path)
    assert server.count("writer") == 0


async def test_the_report_says_how_the_judges_did_and_gold_is_no_leaf_of_the_run(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing()
    await go(recipe(tmp_path, server, **ON), tmp_path)
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        found = report.read(ledger)
    assert {one["judge"]: one["accuracy"] for one in found.judging.gold} == {**{f"{name} (judge)": 1.0 for name in PANEL}, "critic": 1.0}
    assert found.total.outcome == "1 of 1 met"
    assert found.total.calls == len(told(tmp_path).calls)
    assert [leaf.outcome for leaf in found.leaves if leaf.leaf == gold.LEAF] == ["judges tried"]


# -- what it will take, and alone --------------------------------------------------------------------------------------


async def test_plan_cost_knows_the_trial_until_it_is_done(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = knowing()
    prepared, folder = prepare(recipe(tmp_path, server, **ON)), RunFolder(tmp_path / "run")
    before = estimate(prepared, folder)
    asked = sum(row.language == "en" and row.concerns(judge) for row in ROWS for judge in (*PANEL, "critic"))
    assert before.gold.least.calls == asked
    assert before.total["least"].calls == before.leaves[0].least.calls + asked
    await go(recipe(tmp_path, server, **ON), tmp_path)
    after = estimate(prepare(recipe(tmp_path, server, **{**ON, "target": 2})), folder)
    assert after.gold.least.calls == 0
    assert after.leaves[0].missing == 1


def test_a_dry_run_and_a_preview_try_nobody(tmp_path: Path) -> None:
    assert recipe(tmp_path, "http://127.0.0.1:9/v1", **ON).at("http://127.0.0.1:9/v1").judges.gold is False


def test_the_command_tries_the_judges_alone_and_says_who_fails(tmp_path: Path) -> None:
    said = leafmill(tmp_path, "judges", write_recipe(tmp_path, KEYLESS))
    assert (said.code, "is the server running" in said.err.lower()) == (31, True), "it asks the real judge"


async def test_tried_alone_only_the_judges_models_are_asked_even_where_the_recipe_wants_no_trial(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = knowing("critic")
    found = await try_out(recipe(tmp_path, server, **ONE), tmp_path, print)
    assert {one.judge: one.passes for one in found} == {**{f"{name} (judge)": True for name in PANEL}, "critic": False}
    assert {record.model for record in server.requests} == {"scripted-llama"}
    out = StringIO()
    screens.gold([one.line for one in found], Console(file=out, width=100))
    assert re.search(r"critic +6/6 +0/7 +0 +46%", out.getvalue())
    assert "critic got wrong: en-sum-wrong (wrong: 5)" in out.getvalue()
