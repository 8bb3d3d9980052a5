"""Candidates whose answer takes tools, end to end on the scripted server: each class of task, the loop, and what is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from conftest import SEED, Case, Cast, Told, go, recipe, taxonomy, told
from rich.console import Console

from agents.scripted import Reply, Request, ScriptedServer
from graphs.estimate import estimate
from graphs.prepare import prepare
from leafmill import export, screens, trace
from leafmill.dataset.formats import parse
from leafmill.errors import InputError, RecipeError, TaxonomyError
from leafmill.ledger import Ledger
from leafmill.records import Row
from leafmill.runfolder import RunFolder
from taxonomy import mock_tools
from taxonomy.tools import Tool, in_language

WEATHER = {
    "name": "get_weather",
    "description": {"en": "Weather of a city.", "zh": "查询某个城市的天气。"},
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string", "description": {"en": "the city", "zh": "城市名"}}},
        "required": ["city"],
    },
    "returns": {"type": "object", "properties": {"city": {"type": "string"}, "high": {"type": "integer", "minimum": 11, "maximum": 38}}},
    "mock": [{"when": {"city": "Atlantis"}, "error": {"en": "no such city", "zh": "没有这个城市"}}],
}
FIND = {
    "name": "find_order",
    "description": {"en": "The last order of a customer.", "zh": "查询顾客最近的订单。"},
    "parameters": {"type": "object", "properties": {"phone": {"type": "string"}}, "required": ["phone"]},
    "returns": {"type": "object", "properties": {"order_id": {"type": "string"}}},
}
TRACK = {
    "name": "track_order",
    "description": {"en": "Where an order is.", "zh": "查询订单到了哪里。"},
    "parameters": {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]},
    "returns": {
        "type": "object",
        "properties": {"order_id": {"type": "string"}, "days_left": {"type": "integer", "minimum": 41, "maximum": 90}},
    },
}
TOOLS = [WEATHER, FIND, TRACK]
PLAIN = {"flow": {"evolve_rounds": 0}, "target": 1, "limits": {"candidates_per_leaf": 1}}


def calls(*named: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    return {"calls": [{"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)} for name, arguments in named], "answer": ""}


def answer(text: str) -> dict[str, Any]:
    return {"calls": [], "answer": text}


def results(request: Request) -> list[dict[str, Any]]:
    """What the tools gave so far, as the prompt shows it."""
    return [json.loads(line.partition(" -> ")[2]) for line in request.task.split("\n") if line.startswith("call_") and " -> " in line]


def user(*steps: Any) -> Any:
    """A tool-user who says one thing after another; a function is given the results so far."""

    def line(request: Request, case: Case) -> Any:
        given, seen = results(request), 0
        for step in steps:
            said = step(given) if callable(step) else step
            if not said["calls"] or seen >= len(given):
                return said
            seen += len(said["calls"])
        return None

    return line


async def end_of(folder: Path, server: ScriptedServer, kind: str, tools: list[dict[str, Any]] | None = TOOLS, **overrides: Any) -> Told:
    taxonomy(folder, settings={"a": {"mode": {"tools": kind}, **({"tools": tools} if tools else {})}})
    await go(recipe(folder, server, **{**PLAIN, **overrides}), folder)
    return told(folder)


ONE_CITY = calls(("get_weather", {"city": "Oslo"}))
TWO_CITIES = calls(("get_weather", {"city": "Oslo"}), ("get_weather", {"city": "Bergen"}))
FIRST, SECOND = calls(("find_order", {"phone": "555-0100"})), lambda given: calls(("track_order", {"order_id": given[0]["order_id"]}))


def highs(given: list[dict[str, Any]]) -> dict[str, Any]:
    return answer("For the filing trip: " + ", ".join(f"in {one['city']} it reaches {one['high']} degrees" for one in given) + ".")


GOOD: dict[str, Any] = {
    "single": user(ONE_CITY, highs),
    "parallel": user(TWO_CITIES, highs),
    "multi_step": user(FIRST, SECOND, lambda given: answer(f"It will be there in {given[1]['days_left']} days.")),
    "missing_tool": user(answer("I cannot look that up, since none of my tools covers it; the office can.")),
    "missing_parameter": user(answer("Which city, order or phone number do you mean?")),
}
BAD: dict[str, tuple[str, Any]] = {
    "tools.missing_call": ("single", user(answer("It is most likely somewhere around 20 degrees today."))),
    "tools.too_many": ("single", user(TWO_CITIES, highs)),
    "tools.not_parallel": ("parallel", user(ONE_CITY, calls(("get_weather", {"city": "Bergen"})), highs)),
    "tools.too_few": ("multi_step", user(FIRST, lambda given: answer(f"The number of the order is {given[0]['order_id']}, that is all."))),
    "tools.not_dependent": (
        "multi_step",
        user(FIRST, ONE_CITY, lambda given: answer(f"It reaches {given[1]['high']} degrees there today.")),
    ),
    "tools.called_although_missing": ("missing_parameter", user(ONE_CITY, highs)),
    "tools.did_not_decline": ("missing_tool", user(answer("The invoice will be filed by tomorrow noon, for sure."))),
    "tools.did_not_ask": ("missing_parameter", user(answer("Would you rather have the invoice filed on paper, perhaps?"))),
    "tools.result_unused": ("single", user(ONE_CITY, answer("It is going to be a fine day to file an invoice."))),
    "tools.contradicted": ("single", user(ONE_CITY, answer("It is going to be 99 degrees, so file the invoice."))),
}


@pytest.mark.parametrize("kind", GOOD)
async def test_a_task_of_each_class_is_accepted_when_it_is_done_as_it_should_be(tmp_path: Path, server: ScriptedServer, kind: str) -> None:
    server.script = Cast(tool_user=GOOD[kind])
    said = await end_of(tmp_path, server, kind)
    assert said.states == {"accepted": 1}, said.of(0)["detail"]
    row = Row.model_validate(said.rows[0])
    if kind == "single":
        mocked = mock_tools.call(Tool.model_validate(in_language(WEATHER, "en")), {"city": "Oslo"}, SEED)
        assert row.steps[1].content == mocked.text
    made = {"single": [1], "parallel": [2], "multi_step": [1, 1]}.get(kind, [])
    assert [len(turn.calls) for turn in row.steps if turn.role == "assistant"] == made
    assert [call.id for turn in row.steps for call in turn.calls] == [turn.answers for turn in row.steps if turn.role == "tool"]
    assert all(tool.keys() == {"name", "description", "parameters"} for tool in row.tools)
    assert len(row.tools) == (2 if kind == "missing_tool" else 3)


@pytest.mark.parametrize("code", BAD)
async def test_what_a_class_does_not_take_is_refused_before_the_panel_sees_it(tmp_path: Path, server: ScriptedServer, code: str) -> None:
    kind, script = BAD[code]
    server.script = Cast(tool_user=script)
    said = await end_of(tmp_path, server, kind)
    assert (said.of(0)["state"], said.of(0)["stage"], said.of(0)["code"]) == ("rejected", "check", code)
    assert not said.votes


async def test_tools_answer_in_the_language_of_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    asked = "请帮新同事查一下去奥斯陆归档发票那天的天气，看看要不要带厚外套。"
    server.script = Cast(
        tool_task_writer={"instruction": asked},
        tool_user=user(calls(("get_weather", {"city": "亚特兰蒂斯"})), answer("抱歉，系统里没有这个城市，请您核对一下城市名。")),
        annotator={"rationale": "照要求做了。", "score": 5},
    )
    sunken = {**WEATHER, "mock": [{"when": {"city": "亚特兰蒂斯"}, "error": {"en": "no such city", "zh": "没有这个城市"}}]}
    said = await end_of(tmp_path, server, "single", [sunken], languages=["zh"])
    assert said.states == {"accepted": 1}, said.of(0)["detail"]
    assert said.rows[0]["steps"][1]["content"] == '{"error": "没有这个城市"}'
    assert said.rows[0]["tools"][0]["description"] == "查询某个城市的天气。"


# -- who is told what ------------------------------------------------------------------------------------------------------


async def test_the_writer_sees_the_needed_tool_and_the_assistant_of_a_missing_one_does_not(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=GOOD["missing_tool"])
    said = await end_of(tmp_path, server, "missing_tool")
    prompts = {call["role"]: call["messages"][-1]["content"] for call in said.calls}
    needed = said.of(0)["lineage"]["made"][0]["needed"]
    assert all(f'"name": "{name}"' in prompts["tool-task-writer"] and f'"name": "{name}"' not in prompts["tool-user"] for name in needed)
    assert needed[0] not in [tool["name"] for tool in said.rows[0]["tools"]]


async def test_the_writer_is_told_what_to_leave_out_and_the_lineage_keeps_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=GOOD["missing_parameter"])
    said = await end_of(tmp_path, server, "missing_parameter")
    left_out = said.of(0)["lineage"]["made"][0]["left_out"]
    assert f'forgets to say "{left_out}"' in said.calls[0]["messages"][-1]["content"]


async def test_judges_see_tools_calls_and_results_inside_tags(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=GOOD["single"])
    said = await end_of(tmp_path, server, "single")
    judged = [call["messages"][-1]["content"] for call in said.calls if call["role"].startswith("annotator") or call["role"] == "critic"]
    result = said.rows[0]["steps"][1]["content"]
    assert len(judged) == 4
    assert all(f'<steps>\ncall_1: get_weather {{"city": "Oslo"}}\ncall_1 -> {result}\n</steps>' in prompt for prompt in judged)
    assert all('<tools>\n{"name": ' in prompt for prompt in judged)


# -- the loop --------------------------------------------------------------------------------------------------------------

WRONG = calls(("get_weather", {"town": "Oslo"}))


async def test_a_call_that_cannot_be_made_is_told_once_and_does_not_enter_the_row(tmp_path: Path, server: ScriptedServer) -> None:
    script = user(ONE_CITY, highs)
    server.script = Cast(tool_user=lambda r, c: script(r, c) if "could not be made" in r.task or results(r) else WRONG)
    said = await end_of(tmp_path, server, "single")
    assert said.states == {"accepted": 1}, said.of(0)["detail"]
    asked = [call["messages"][-1]["content"] for call in said.calls if call["role"] == "tool-user"]
    assert ["Your last call could not be made:\n<problem>\nget_weather: 'city' is a required" in prompt for prompt in asked] == [
        False,
        True,
        False,
    ]
    assert [call["arguments"] for turn in said.rows[0]["steps"] for call in turn["calls"]] == [{"city": "Oslo"}]
    assert [one["code"] for one in said.verdicts if one["gate"] == "tools"] == ["tools.invalid_call", "ok"]


@pytest.mark.parametrize(
    ("said_twice", "code"),
    [
        (WRONG, "tools.invalid_call"),
        (calls(("get_wether", {"city": "Oslo"})), "tools.unknown"),
        ({"calls": [{"name": "get_weather", "arguments": "Oslo"}], "answer": ""}, "tools.invalid_call"),
        (answer(""), "tools.invalid_call"),
    ],
)
async def test_two_calls_in_a_row_that_cannot_be_made_are_too_many(
    tmp_path: Path, server: ScriptedServer, said_twice: dict[str, Any], code: str
) -> None:
    server.script = Cast(tool_user=said_twice)
    said = await end_of(tmp_path, server, "single")
    assert (said.of(0)["state"], said.of(0)["stage"], said.of(0)["code"]) == ("rejected", "use_tools", code)
    assert server.count("tool-user") == 2
    assert said.of(0)["row"]["steps"] == []


async def test_calls_without_end_are_stopped_by_a_bound_of_the_recipe_or_the_leaf(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=ONE_CITY)
    said = await end_of(tmp_path, server, "single", flow={"evolve_rounds": 0, "tool_rounds": 3})
    assert (said.of(0)["stage"], said.of(0)["code"]) == ("use_tools", "tools.no_answer")
    assert server.count("tool-user") == 3


async def test_a_revision_makes_its_own_calls_and_is_told_what_was_wrong(tmp_path: Path, server: ScriptedServer) -> None:
    script = user(ONE_CITY, lambda given: answer(f"{given[0]['high']} degrees in Oslo, take a coat along."))
    server.script = Cast(
        tool_user=script,
        critic=lambda r, c: {"reason": "It names no unit.", "where": "", "score": 2 if server.count("critic") == 1 else 5},
        annotator=lambda r, c: {"rationale": "Fine.", "score": 3 if server.count("critic") == 0 else 5},
    )
    said = await end_of(tmp_path, server, "single", flow={"evolve_rounds": 0, "revise_rounds": 1})
    asked = [call["messages"][-1]["content"] for call in said.calls if call["role"] == "tool-user"]
    assert ["It names no unit." in prompt for prompt in asked] == [False, False, True, True]
    assert "<steps>" not in asked[2]
    assert len(said.of(0)["row"]["steps"]) == 2


async def test_a_revision_without_an_answer_leaves_the_earlier_one_as_it_was(tmp_path: Path, server: ScriptedServer) -> None:
    script = user(ONE_CITY, highs)
    server.script = Cast(
        tool_user=lambda r, c: ONE_CITY if "It names no unit." in r.task else script(r, c),
        critic={"reason": "It names no unit.", "where": "", "score": 2},
    )
    said = await end_of(tmp_path, server, "single", flow={"evolve_rounds": 0, "revise_rounds": 1})
    end = said.of(0)
    assert (end["state"], end["code"]) == ("rejected", "critic.low")
    assert "degrees" in end["row"]["answer"]
    assert len(end["row"]["steps"]) == 2
    assert end["lineage"]["revisions"][0]["refused"] == "tools.no_answer"


async def test_a_task_for_tools_is_not_evolved(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=GOOD["single"])
    said = await end_of(tmp_path, server, "single", flow={"evolve_rounds": 3})
    assert (said.states, server.count("evolver")) == ({"accepted": 1}, 0)


async def test_a_run_goes_on_in_the_midst_of_its_calls_without_paying_twice(tmp_path: Path, server: ScriptedServer) -> None:
    script = GOOD["multi_step"]
    server.script = Cast(tool_user=lambda r, c: Reply("down", status=400) if len(results(r)) == 2 else script(r, c))
    assert (await end_of(tmp_path, server, "multi_step")).states == {"errored": 1}
    before = server.count()
    server.script = Cast(tool_user=script)
    await go(recipe(tmp_path, server, **PLAIN), tmp_path)
    said = told(tmp_path)
    assert said.states == {"accepted": 1}, said.of(0)["detail"]
    roles = [record.role for record in server.requests[before:]]
    assert roles[0] == "tool-user"
    assert (roles.count("tool-user"), roles.count("tool-task-writer"), server.paid_twice) == (1, 0, 0)


async def test_a_leaf_may_mix_tasks_of_every_class_in_both_languages(tmp_path: Path, server: ScriptedServer) -> None:
    """The taxonomy of docs/tools.md. Each candidate goes its own way through one graph, by the axis value that it was dealt."""
    guide = (Path(__file__).parent.parent / "docs" / "tools.md").read_text(encoding="utf-8")
    (tmp_path / "shop.yaml").write_text(guide.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    server.script = None
    settings = {"taxonomies": ["shop.yaml"], "languages": ["en", "zh"], "target": 24, "limits": {"candidates_per_leaf": 90}}
    await go(recipe(tmp_path, server, **settings, gates={"semantic": False, "ifd": False, "safety": False}), tmp_path)
    said = told(tmp_path)
    accepted = {(one["brief"]["mode"]["tools"], one["language"]) for one in said.candidates if one["state"] == "accepted"}
    assert accepted == {(kind, language) for kind in GOOD for language in ("en", "zh")}
    assert {one["code"] for one in said.candidates if one["code"].startswith("tools.")} <= {"tools.not_dependent"}


async def test_a_conversation_may_go_on_with_the_same_tools(tmp_path: Path, server: ScriptedServer) -> None:
    """The first exchange is the task; of a later one the class asks nothing, but its answer must go by what came back."""
    again = "And how warm does it get in Bergen on the day after, when the second invoice gets filed?"

    def line(request: Request, case: Case) -> Any:
        later = again in request.task
        if later:
            both = calls(("get_weather", {"city": "Bergen"}), ("get_weather", {"city": "Lima"}))
            script = user(
                both, lambda given: answer(f"Bergen gets up to {given[0]['high']} and Lima to {given[1]['high']}, so pack light.")
            )
        else:
            script = user(ONE_CITY, highs)
        return script(request, case)

    server.script = Cast(tool_user=line, simulated_user={"message": again})
    taxonomy(tmp_path, settings={"a": {"mode": {"tools": "single", "turns": 2}, "tools": TOOLS}})
    await go(recipe(tmp_path, server, **PLAIN), tmp_path)
    said = told(tmp_path)
    assert said.states == {"accepted": 1}, said.of(0)["detail"]
    row = Row.model_validate(said.rows[0])
    assert [call.id for turn in row.asked for call in turn.calls] == ["call_1", "call_2", "call_3"]
    assert [turn.role for turn in row.asked] == ["user", "assistant", "tool", "assistant", "user", "assistant", "tool", "tool"]


# -- tools that a role writes ----------------------------------------------------------------------------------------------


def written(tool: dict[str, Any], **changes: Any) -> dict[str, Any]:
    one = {"name": tool["name"], "description": tool["description"]["en"], "parameters": in_language(tool["parameters"], "en")}
    one |= {"returns": tool["returns"], **changes}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in one.items()}


async def test_a_leaf_without_tools_has_them_written_once_and_a_bad_one_is_dropped(tmp_path: Path, server: ScriptedServer) -> None:
    bad = [written(WEATHER, name="no schema", parameters="{"), written(WEATHER, name="odd", returns={"type": "string", "pattern": "x"})]
    server.script = Cast(tool_writer={"tools": [*bad, written(WEATHER)]}, tool_user=GOOD["single"])
    said = await end_of(tmp_path, server, "single", None, target=3, limits={"candidates_per_leaf": 3})
    assert said.states == {"accepted": 3}
    assert server.count("tool-writer") == 1
    (call,) = (call for call in said.calls if call["role"] == "tool-writer")
    assert (call["candidate"], call["step"]) == ("leaf:t/a", "tools.en")
    made = said.of(0)["lineage"]["made"][0]
    assert (made["part"], made["role"], sorted(made["dropped"])) == ("tools", "tool-writer", ["no schema", "odd"])
    assert "'pattern' is not heeded" in made["dropped"]["odd"]
    await go(recipe(tmp_path, server, **{**PLAIN, "target": 5, "limits": {"candidates_per_leaf": 5}}), tmp_path)
    assert (told(tmp_path).states, server.count("tool-writer")) == ({"accepted": 5}, 1)


async def test_tools_that_do_not_suit_are_asked_for_again_and_then_a_candidate_cannot_be_made(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = Cast(tool_writer={"tools": [written(WEATHER), written(FIND, name="find phone")]})
    said = await end_of(tmp_path, server, "multi_step", None)
    assert (said.of(0)["state"], said.of(0)["stage"], said.of(0)["code"]) == ("rejected", "write", "tools.unfit")
    assert "that another one returns" in said.of(0)["detail"]
    assert "find phone" in said.of(0)["detail"]
    assert server.count("tool-writer") == 2


@pytest.mark.parametrize(
    ("kind", "tools", "settings", "why"),
    [
        ("single", None, {"roles": {"tool-writer": {"off": True}}}, "no tools, and no role that writes them in 'en'"),
        ("single", TOOLS, {"roles": {"tool-user": {"off": True}}}, "no role of stage 'use_tools'"),
        ("multi_step", [WEATHER, FIND], {}, "do not allow `tools: multi_step`"),
    ],
)
def test_what_a_leaf_lacks_for_its_tools_is_said_before_a_token_is_spent(
    tmp_path: Path, kind: str, tools: list[dict[str, Any]] | None, settings: dict[str, Any], why: str
) -> None:
    taxonomy(tmp_path, settings={"a": {"mode": {"tools": kind}, **({"tools": tools} if tools else {})}})
    with pytest.raises((RecipeError, TaxonomyError), match=why):
        prepare(recipe(tmp_path, "http://127.0.0.1:9/v1", **settings))


# -- what comes of it ------------------------------------------------------------------------------------------------------


async def test_rows_are_exported_with_their_calls_and_alpaca_names_the_row_that_it_cannot_hold(
    tmp_path: Path, server: ScriptedServer
) -> None:
    server.script = Cast(tool_user=GOOD["parallel"])
    said = await end_of(tmp_path, server, "parallel")
    row = Row.model_validate(said.rows[0])
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        for format_ in ("messages", "sharegpt"):
            (line,) = export.rows(ledger, format_, lineage=False)
            assert parse(line, format_).row == row
        with pytest.raises(InputError, match=f"row {said.of(0)['id']}: no Alpaca row"):
            list(export.rows(ledger, "alpaca"))


async def test_trace_and_rows_show_calls_and_results(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = Cast(tool_user=GOOD["single"])
    await end_of(tmp_path, server, "single")
    console = Console(file=io.StringIO(), width=200)
    with Ledger(tmp_path / "run" / "ledger.db", read_only=True) as ledger:
        screens.trace(trace.read(ledger, "t/a#0"), console, prompts=False)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "get_weather(city='Oslo')" in shown
    assert '-> {"city": "Oslo", "high":' in shown
    assert "track_order" in shown  # it could have called that, too


async def test_plan_cost_counts_the_replies_that_each_class_takes(tmp_path: Path, server: ScriptedServer) -> None:
    calls_of = {}
    for kind in ("single", "multi_step"):
        (tmp_path / kind).mkdir()
        taxonomy(tmp_path / kind, settings={"a": {"mode": {"tools": kind}}})
        asked = recipe(tmp_path / kind, server, **{**PLAIN, "flow": {"evolve_rounds": 2, "revise_rounds": 0}, "target": 10, "limits": {}})
        found = estimate(prepare(asked), RunFolder(tmp_path / kind / "run"), acceptance=1)
        calls_of[kind] = {role.role: role.calls for role in found.roles if role.calls}
    assert calls_of["single"]["tool-user"] == pytest.approx(20 * 1.02, abs=0.6)
    assert calls_of["multi_step"]["tool-user"] == pytest.approx(30 * 1.02, abs=0.6)
    assert calls_of["single"]["tool-task-writer"] == 10
    assert calls_of["single"]["tool-writer"] == 1
    assert not calls_of["single"].keys() & {"writer", "answerer", "evolver"}
