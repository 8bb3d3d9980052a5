"""How an answer is thought out: at once, in steps that are kept apart, in a reasoning model's own way; and the gate on what was thought."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, go, recipe, taxonomy, told

from agents.scripted import Reply, Request, ScriptedServer
from filters.gate import Subject
from filters.reasoning import Reasoning
from graphs.prepare import prepare
from leafmill import export
from leafmill.errors import RecipeError
from leafmill.ledger import Ledger
from leafmill.records import Brief, Mode, Row, Verdict

ONE = {"target": 1, "limits": {"candidates_per_leaf": 1, "error_share": 1}, "flow": {"evolve_rounds": 0}}
ANSWERING = {"answerer", "reasoner", "thinker"}


async def answered(folder: Path, server: ScriptedServer, depth: str, **overrides: Any) -> dict[str, Any]:
    """Run one candidate of this depth; what the ledger says of it."""
    taxonomy(folder, "a", {"a": {"mode": {"depth": depth}}})
    await go(recipe(folder, server, **{**ONE, **overrides}), folder)
    return told(folder).of(0)


@pytest.mark.parametrize(
    ("depth", "role", "reasoning"),
    [("direct", "answerer", ""), ("cot", "reasoner", "1. Find the number."), ("deep", "thinker", "The number first.")],
)
async def test_each_depth_has_a_role_of_its_own_and_reasoning_is_kept_apart(
    tmp_path: Path, server: ScriptedServer, depth: str, role: str, reasoning: str
) -> None:
    end = await answered(tmp_path, server, depth)
    assert end["state"] == "accepted"
    assert {one.role for one in server.requests} & ANSWERING == {role}
    assert end["row"]["answer"].startswith("Look up the number a-0 first")
    assert end["row"]["reasoning"].startswith(reasoning)
    assert bool(end["row"]["reasoning"]) == bool(reasoning)


async def test_a_thinker_has_more_room_and_is_asked_plainly(tmp_path: Path, server: ScriptedServer) -> None:
    await answered(tmp_path, server, "deep")
    (asked,) = (one.request for one in server.requests if one.role == "thinker")
    assert asked.body["max_tokens"] >= 4000
    assert asked.schema is None
    assert "step" not in str(asked.messages)


@pytest.mark.parametrize("depth", ["cot", "deep"])
async def test_judges_see_the_answer_and_not_what_was_thought(tmp_path: Path, server: ScriptedServer, depth: str) -> None:
    await answered(tmp_path, server, depth)
    judges = [str(one.request.messages) for one in server.requests if one.role not in ANSWERING]
    assert any("Look up the number" in one for one in judges)
    assert not any("The sheet goes last" in one or "sheet goes last" in one for one in judges)


@pytest.mark.parametrize("depth", ["cot", "deep"])
@pytest.mark.parametrize("reasoning", [True, False])
async def test_exported_reasoning_stands_before_its_answer_or_not_at_all(
    tmp_path: Path, server: ScriptedServer, depth: str, reasoning: bool
) -> None:
    await answered(tmp_path, server, depth)
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        (line,) = export.rows(ledger, "alpaca", reasoning=reasoning)
    output = line["output"]
    assert output.endswith("put the sheet behind the last.")
    assert output.startswith("<think>\n") == reasoning
    if reasoning:
        assert output.index("goes last") < output.index("\n</think>\n\nLook up")


# -- a model that does not think ---------------------------------------------------------------------------------------


async def test_a_model_that_does_not_think_when_it_should_is_an_error_with_its_own_code(tmp_path: Path, server: ScriptedServer) -> None:
    """It is asked once more; then it is the model's fault, not the row's, so a run of such errors stops itself."""
    server.script = Cast(thinker="Look up the number, walk to the shelf.")
    end = await answered(tmp_path, server, "deep")
    assert (end["state"], end["stage"], end["code"]) == ("errored", "answer", "no_reasoning")
    assert "roles.thinker.model" in end["detail"]
    seeds = [one.request.seed for one in server.requests if one.role == "thinker"]
    assert len(set(seeds)) == 2


async def test_a_model_that_thinks_at_the_second_go_is_heard(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(thinker=lambda request, case: "Look it up." if server.count("thinker") == 1 else None)
    end = await answered(tmp_path, server, "deep")
    assert end["state"] == "accepted"
    assert end["row"]["reasoning"].startswith("The number first.")


async def test_thoughts_in_tags_count_too(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(thinker="<think>\nThe number, then the shelf.\n</think>\n\nLook up the number, then walk to the shelf.")
    end = await answered(tmp_path, server, "deep")
    assert (end["row"]["reasoning"], end["row"]["answer"]) == (
        "The number, then the shelf.",
        "Look up the number, then walk to the shelf.",
    )


@pytest.mark.parametrize(("thinks", "mark"), [(True, "ok"), (False, "fail")])
async def test_doctor_says_early_whether_the_thinker_s_model_thinks(
    tmp_path: Path, server: ScriptedServer, thinks: bool, mark: str
) -> None:
    from leafmill import doctor

    server.script = lambda request: Reply("4", reasoning="2 and 2" if thinks else None) if request.role == "doctor-depth" else {"score": 3}
    taxonomy(tmp_path, "a", {"a": {"mode": {"depth": "deep"}}})
    recipe(tmp_path, server)
    found = [one async for one in doctor.examine(tmp_path / "recipe.yaml")]
    (depth,) = (one for one in found if one.what == "reasoning of generator")
    assert depth.mark == mark
    assert ("roles.thinker.model" in depth.todo) != thinks


async def test_doctor_does_not_ask_for_reasoning_where_nobody_needs_it(tmp_path: Path, server: ScriptedServer) -> None:
    from leafmill import doctor

    taxonomy(tmp_path)
    recipe(tmp_path, server)
    assert not [one async for one in doctor.examine(tmp_path / "recipe.yaml") if one.what.startswith("reasoning")]


@pytest.mark.parametrize(
    ("mode", "role", "stage"), [({"depth": "cot"}, "reasoner", "reason"), ({"turns": 3}, "simulated-user", "follow_up")]
)
def test_a_mode_whose_role_is_off_is_found_before_a_token_is_spent(tmp_path: Path, mode: dict[str, Any], role: str, stage: str) -> None:
    taxonomy(tmp_path, "a", {"a": {"mode": mode}})
    off = {"planner": {"off": True}, "comparer": {"off": True}, role: {"off": True}}
    with pytest.raises(RecipeError, match=f"leaf t/a .* needs a role of stage '{stage}'"):
        prepare(recipe(tmp_path, "http://127.0.0.1:1/v1", roles=off))


def test_a_run_that_needs_no_depth_and_no_conversation_has_no_roles_for_them(tmp_path: Path) -> None:
    taxonomy(tmp_path)
    names = prepare(recipe(tmp_path, "http://127.0.0.1:1/v1")).roles.names
    assert not {"reasoner", "thinker", "simulated-user"} & {*names}


# -- the gate ----------------------------------------------------------------------------------------------------------


def judged(answer: str, reasoning: str, *, language: Any = "en", depth: Any = "cot") -> Verdict:
    brief = Brief(id="b", leaf="l", number=0, language=language, mode=Mode(depth=depth))
    row = Row(language=language, instruction="How many?", answer=answer, reasoning=reasoning)
    return asyncio.run(Reasoning()(Subject(id="b", row=row, brief=brief)))


LONG = "The whole order comes to {} bottles, which the driver should load before noon so that the shop has them in time."


@pytest.mark.parametrize(
    ("reasoning", "answer"),
    [
        ("1. 12 bottles in a box.\n2. 3 boxes.\n3. 3 x 12 = 36", "36"),
        ("1. 12 bottles in a box.\n2. 3 boxes.\n3. 3 x 12 = 36", LONG.format("36")),
        ("1. 12 bottles in a box.\n2. 3 boxes.\n3. So it is 36 bottles.", LONG.format("thirty-six")),
        ("Three of eight did.\nResult: 0.375", "37.5%"),
        ("100 / 3 = 33.333", "About 33 of them."),
        ("1. A is too small.\n2. C is too large.\n3. The answer is B.", "(B)"),
        ("Half an hour each way, so 1 hour", "60 minutes"),
        ("It depends on taste and season.", "Take the lighter one in summer, since it dries faster."),
        ("每箱 12 瓶，共 3 箱，所以 12×3=36", "一共 36 瓶，请在中午之前装车，好让店里及时上架。"),
        ("每箱 12 瓶，共 3 箱，所以一共三十六瓶", "36"),
    ],
)
def test_reasoning_that_comes_to_its_answer_passes(reasoning: str, answer: str) -> None:
    language = "zh" if "瓶" in reasoning else "en"
    assert judged(answer, reasoning, language=language).decision == "accept"


@pytest.mark.parametrize(
    ("reasoning", "answer"),
    [
        ("1. 12 bottles in a box.\n2. 3 boxes.\n3. 3 x 12 = 36", "38"),
        ("1. 12 bottles in a box.\n2. 3 boxes.\n3. 3 x 12 = 36", LONG.format("38")),
        ("12 bottles, 3 boxes: many.", "The answer is 36."),
        ("1. A is too small.\n2. The answer is B.", "(C)"),
        ("17 has no divisor but itself and 1.\nSo yes", "No."),
        ("每箱 12 瓶，共 3 箱，所以 12×3=36", "一共 38 瓶，请在中午之前装车，好让店里及时上架。"),
    ],
)
def test_reasoning_that_comes_to_something_else_is_rejected(reasoning: str, answer: str) -> None:
    language = "zh" if "瓶" in reasoning else "en"
    assert judged(answer, reasoning, language=language).code == "reasoning.contradicts"


@pytest.mark.parametrize(
    "answer",
    [
        "As my reasoning shows, you should load 36 bottles before noon.",
        "Based on the above reasoning, load 36 bottles.",
        "根据以上推理，应当装 36 瓶。",
        "如我的思考过程所示，应当装 36 瓶。",
    ],
)
def test_an_answer_that_points_at_its_reasoning_cannot_stand_alone(answer: str) -> None:
    assert judged(answer, "Three boxes of twelve.", language="zh" if "装" in answer else "en").code == "reasoning.leaks"


@pytest.mark.parametrize(
    "answer", ["The reasoning of the court was another: it held that the sale was void.", "法院的推理不同：它认为买卖无效。"]
)
def test_an_answer_about_somebody_s_reasoning_passes(answer: str) -> None:
    assert (
        judged(
            answer, "Two things are asked: what the judges said, and on what ground.", language="zh" if "法院" in answer else "en"
        ).decision
        == "accept"
    )


def test_reasoning_that_only_says_the_answer_is_none() -> None:
    answer = "Look up the number first, then walk to the shelf and put the sheet behind the last."
    assert judged(answer, answer.upper()).code == "reasoning.repeats"
    assert judged(answer, "Look up the number first, then walk to the shelf.").code == "reasoning.repeats"


@pytest.mark.parametrize(("depth", "code"), [("cot", "reasoning.missing"), ("deep", "reasoning.missing"), ("direct", "ok")])
def test_reasoning_is_missed_only_where_the_brief_asks_for_it(depth: str, code: str) -> None:
    assert judged("36", "", depth=depth).code == code


async def test_the_gate_stands_at_the_door_of_the_answer(tmp_path: Path, server: ScriptedServer) -> None:
    def think(request: Request, case: Case) -> Any:
        return {"reasoning": "1. Shelf and a half.\n2. 3 x 12 = 36", "answer": "Put it on shelf 38 behind the last sheet."}

    server.script = Cast(reasoner=think)
    end = await answered(tmp_path, server, "cot")
    assert (end["state"], end["stage"], end["code"]) == ("rejected", "check", "reasoning.contradicts")


async def test_leaves_without_depth_are_not_asked_about_reasoning(tmp_path: Path, server: ScriptedServer) -> None:
    await answered(tmp_path, server, "direct")
    assert not {"reasoning", "turns"} & {one["gate"] for one in told(tmp_path).verdicts}


async def test_a_dry_run_has_depth_too(tmp_path: Path) -> None:
    """The scripted server makes its replies up: with reasoning for whom it should."""
    for depth in ("cot", "deep"):
        folder = tmp_path / depth
        folder.mkdir()
        async with ScriptedServer(seed=3) as improvising:
            taxonomy(folder, "a", {"a": {"mode": {"depth": depth}}})
            await go(recipe(folder, improvising, target=2, flow={"evolve_rounds": 0}), folder)
        rows = told(folder).rows
        assert len(rows) == 2
        assert all(row["reasoning"] for row in rows)
