"""Tools in a taxonomy, the mock tools that answer for them, what a candidate is about, and the gate that looks at calls and answers."""

import json
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from filters.gate import Subject
from filters.refusal import Refusal
from filters.tools import Tools
from leafmill.errors import TaxonomyError
from leafmill.records import Brief, Mode, Row, ToolCall, Turn, digest
from taxonomy import Leaf, load, mock_tools
from taxonomy.tools import Tool, chains, fault_of, first_error, in_language, task_of, unfit, wrong_call

WEATHER: dict[str, Any] = {
    "name": "get_weather",
    "description": {"en": "Weather of a city on a day.", "zh": "查询某城市某天的天气。"},
    "parameters": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": {"en": "the city", "zh": "城市名"}},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["city"],
    },
    "returns": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "sky": {"enum": {"en": ["sunny", "rainy"], "zh": ["晴", "雨"]}},
            "high": {"type": "integer", "minimum": -10, "maximum": 40},
            "station": {"type": "string"},
        },
    },
    "mock": [
        {"when": {"city": "Oslo"}, "gives": {"city": "Oslo", "high": 3}},
        {"when": {"city": "Atlantis"}, "error": {"en": "no such city", "zh": "没有这个城市"}},
    ],
}


def tool(language: Any = "en", **changes: Any) -> Tool:
    return Tool.model_validate({**in_language(WEATHER, language), **changes})


def schema(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


TEXT = {"type": "string"}
FIND = tool(name="find_order", parameters=schema(phone=TEXT), returns=schema(order_id=TEXT), mock=())
TRACK = tool(name="track_order", parameters=schema(order_id=TEXT), returns=schema(place=TEXT), mock=())
OPEN = tool(name="list_shops", parameters={"type": "object", "properties": {}}, returns=schema(shop=TEXT), mock=())


# -- in a taxonomy ---------------------------------------------------------------------------------------------------------


def leaf(folder: Path, tools: Any, **node: Any) -> Leaf:
    child = {"title": {"en": "A", "zh": "甲"}, "description": {"en": "a", "zh": "甲"}}
    tree = {"name": "t", "languages": ["en", "zh"], "title": {"en": "T", "zh": "题"}, "settings": {"tools": tools}}
    path = folder / "t.yaml"
    path.write_text(yaml.safe_dump({**tree, "children": {"a": {**child, **node}}}, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return load(path).leaves()[0]


def test_a_leaf_has_its_tools_in_each_language(tmp_path: Path) -> None:
    found = leaf(tmp_path, [WEATHER])
    english, chinese = found.tools("en")[0], found.tools("zh")[0]
    assert english == tool("en")
    assert chinese.shown["description"] == "查询某城市某天的天气。"
    assert chinese.returns["properties"]["sky"] == {"enum": ["晴", "雨"]}
    assert chinese.mock[1].error == "没有这个城市"


def test_tools_may_stand_in_a_file_of_their_own_and_a_node_may_have_others(tmp_path: Path) -> None:
    (tmp_path / "tools.yaml").write_text(yaml.safe_dump([WEATHER], allow_unicode=True), encoding="utf-8")
    assert leaf(tmp_path, "tools.yaml").tools("en") == (tool(),)
    assert leaf(tmp_path, "tools.yaml", settings={"tools": []}).tools("en") == ()
    (tmp_path / "tools.yaml").write_text("- name: x\n  description: a tool\n  parameters: {type: object}\n  returns: {type: objekt}\n")
    with pytest.raises(TaxonomyError, match=r"tools\.yaml:4: tool 'x': returns is no JSON Schema that can be used: type: 'objekt' is not"):
        leaf(tmp_path, "tools.yaml")


def test_a_day_in_yaml_is_a_text(tmp_path: Path) -> None:
    import datetime

    found = leaf(tmp_path, [{**WEATHER, "mock": [{"when": {"day": datetime.date(2025, 3, 1)}, "gives": {"high": 3}}]}])
    assert found.tools("en")[0].mock[0].when == {"day": "2025-03-01"}


BAD: list[tuple[dict[str, Any], str]] = [
    ({"name": "get weather"}, "tools.0.name"),
    ({"descriptoin": "x"}, "unknown key 'descriptoin': did you mean 'description'"),
    ({"description": {"en": "Weather."}}, "a text that is not given in zh"),
    ({"parameters": {"type": "string"}}, "parameters must be a schema of type object"),
    ({"parameters": {"type": "object", "required": ["cty"]}}, "unknown parameter in `required` 'cty'"),
    ({"parameters": {"type": "object", "properties": {"a": {"$ref": "#/x"}}}}, r"stand on its own, got \$ref"),
    ({"returns": {"type": "string", "pattern": "^a"}}, "'pattern' is not heeded"),
    ({"returns": {"type": "integer", "minimum": 5, "maximum": 4}}, "there is no number from 5 to 4"),
    ({"returns": {"type": "string", "pattern": "^a", "examples": ["ab", "b"]}}, "'b' is among the values to take: 'b' does not match"),
    ({"mock": [{"when": {"cty": "x"}, "error": "y"}]}, "unknown parameter 'cty': did you mean 'city'"),
    ({"mock": [{"when": {}, "gives": {"high": 99}}]}, "not what the tool returns: high: 99 is greater"),
    ({"mock": [{"when": {}}]}, "either `gives` or `error`"),
]


@pytest.mark.parametrize(("change", "why"), BAD, ids=[why[:30] for _, why in BAD])
def test_what_is_wrong_with_a_tool_is_said_with_file_and_line(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    with pytest.raises(TaxonomyError, match=rf"t\.yaml:\d+: .*{why}"):
        leaf(tmp_path, [{**WEATHER, **change}])


def test_two_tools_of_one_name_and_a_language_that_a_leaf_adds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TaxonomyError, match="two tools have the name 'get_weather'"):
        leaf(tmp_path, [WEATHER, WEATHER])
    english = in_language(WEATHER, "en")
    assert leaf(tmp_path, [english]).tools("zh")[0].description == "Weather of a city on a day."  # said once: for both
    (tmp_path / "t.yaml").write_text(
        yaml.safe_dump(
            {
                "name": "t",
                "languages": ["en"],
                "title": {"en": "T", "zh": "题"},
                "settings": {"tools": [{**english, "description": {"en": "Weather."}}]},
                "children": {"a": {"languages": ["en", "zh"], "title": {"en": "A", "zh": "甲"}, "description": {"en": "a", "zh": "甲"}}},
            }
        )
    )
    with pytest.raises(TaxonomyError, match="a text that is not given in zh"):
        load(tmp_path / "t.yaml")


def test_properties_that_are_called_en_and_zh_are_properties() -> None:
    translated = {"properties": {"en": {"type": "string"}, "zh": {"type": "string"}}}
    assert in_language(translated, "zh") == translated


# -- mock tools ------------------------------------------------------------------------------------------------------------


def test_a_rule_decides_before_anything_is_made_up() -> None:
    assert mock_tools.call(tool(), {"city": "Oslo", "day": "2025-03-01"}, 7) == ({"city": "Oslo", "high": 3}, False)
    assert mock_tools.call(tool("zh"), {"city": "Atlantis"}, 7).text == '{"error": "没有这个城市"}'


def test_what_is_made_up_echoes_arguments_and_speaks_the_language_of_its_schema() -> None:
    given = mock_tools.call(tool("zh"), {"city": "丽江"}, 7).value
    assert (given["city"], given["sky"] in ("晴", "雨")) == ("丽江", True)
    assert mock_tools.CJK.search(given["station"])
    assert mock_tools.call(tool("en"), {"city": "Lima"}, 7).value["station"].isascii()
    both = tool("en", returns=schema(note={"type": "string", "description": "备注"}, text=TEXT), mock=())
    given = mock_tools.call(both, {"city": "Lima"}, 7).value
    assert (bool(mock_tools.CJK.search(given["note"])), given["text"].isascii()) == (True, True)


def test_another_argument_or_another_run_gives_something_else() -> None:
    cities = [f"city {number}" for number in range(8)]
    given = [mock_tools.call(tool(), {"city": city}, seed).value for seed in (1, 2) for city in cities]
    assert len({(one["sky"], one["high"], one["station"]) for one in given}) > 12


def test_another_process_gives_the_same() -> None:
    asked = {"day": "2025-03-01", "city": "Lima"}
    program = (
        "import json, sys\nfrom taxonomy import mock_tools\nfrom taxonomy.tools import Tool\n"
        "print(mock_tools.call(Tool.model_validate_json(sys.argv[1]), json.loads(sys.argv[2]), 7).text)"
    )
    command = [sys.executable, "-c", program, tool().model_dump_json(), json.dumps(dict(reversed(asked.items())))]
    root = Path(__file__).parent.parent
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env={"PYTHONHASHSEED": "99"})
    assert said.stdout.strip() == mock_tools.call(tool(), asked, 7).text


NAMES = st.sampled_from(["city", "price", "order_id", "day", "status", "note", "high"])
SCALARS = st.one_of(
    st.just(TEXT),
    st.fixed_dictionaries({"type": st.just("string"), "format": st.sampled_from(["date", "date-time", "email", "ipv4", "uuid"])}),
    st.builds(lambda low, more: {"type": "string", "minLength": low, "maxLength": low + more}, st.integers(0, 30), st.integers(0, 30)),
    st.builds(lambda low, more: {"type": "integer", "minimum": low, "maximum": low + more}, st.integers(-99, 99), st.integers(0, 50)),
    st.builds(
        lambda low, more: {"type": "number", "exclusiveMinimum": low, "exclusiveMaximum": low + more},
        st.integers(-99, 99),
        st.floats(0.001, 9),
    ),
    st.builds(
        lambda bound: {"type": "integer", **bound}, st.sampled_from([{"minimum": 5000}, {"maximum": -9}, {"exclusiveMinimum": 7}, {}])
    ),
    st.fixed_dictionaries({"enum": st.lists(st.sampled_from(["a", 1, None, "晴"]), min_size=1, unique=True)}),
    st.fixed_dictionaries({"type": st.sampled_from([["string", "null"], "boolean", ["integer", "boolean"]])}),
)
SCHEMAS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.dictionaries(NAMES, inner, max_size=4).map(lambda properties: {**schema(**properties), "additionalProperties": False}),
        st.builds(lambda items, low: {"type": "array", "items": items, "minItems": low, "maxItems": low + 2}, inner, st.integers(0, 2)),
        st.fixed_dictionaries({"anyOf": st.lists(inner, min_size=1, max_size=2)}),
    ),
    max_leaves=8,
)
VALUES = st.one_of(st.text(max_size=12), st.integers(-999, 999), st.floats(-9, 9), st.booleans())


@settings(max_examples=120, deadline=None)
@given(returns=SCHEMAS, arguments=st.dictionaries(NAMES, VALUES, max_size=4), seed=st.integers(0, 99))
def test_what_a_mock_gives_is_always_of_its_schema_and_always_the_same(
    returns: dict[str, Any], arguments: dict[str, Any], seed: int
) -> None:
    mocked = tool(returns=returns, mock=())
    assert fault_of(mocked) is None
    given = mock_tools.call(mocked, arguments, seed)
    assert first_error(returns, given.value) is None
    again = mock_tools.call(mocked, dict(reversed(arguments.items())), seed)
    assert (again.text, json.loads(given.text)) == (given.text, given.value)
    whole = {name: int(value) if isinstance(value, float) and value.is_integer() else value for name, value in arguments.items()}
    assert mock_tools.call(mocked, whole, seed).value == given.value  # 1.0 is 1


# -- calls -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "wrong"),
    [
        ("get_weather", {"city": "Oslo"}, None),
        ("get_weather", {"city": "Oslo", "day": "2025-02-28"}, None),
        ("get_wether", {"city": "Oslo"}, ("unknown", "did you mean 'get_weather'")),
        ("get_weather", {}, ("invalid_call", "'city' is a required property")),
        ("get_weather", {"city": 3}, ("invalid_call", "city: 3 is not of type 'string'")),
        ("get_weather", {"city": "Oslo", "day": "2025-02-30"}, ("invalid_call", "day: '2025-02-30' is not a 'date'")),
        ("get_weather", {"city": "Oslo", "dya": "x"}, ("invalid_call", "unknown argument 'dya': did you mean 'day'")),
    ],
)
def test_a_call_is_held_against_the_schema_of_its_tool(name: str, arguments: dict[str, Any], wrong: tuple[str, str] | None) -> None:
    found = wrong_call([tool().shown], name, arguments)
    assert (found and found.code) == (wrong and wrong[0])
    assert wrong is None or (found and wrong[1] in found.problem)


def test_a_schema_that_allows_other_arguments_is_believed_and_one_of_a_data_set_that_is_none_is_said(tmp_path: Path) -> None:
    free = {"name": "x", "parameters": {"type": "object", "additionalProperties": True}}
    assert wrong_call([free], "x", {"any": 1}) is None
    assert wrong_call([{"name": "x"}], "x", {"any": 1}) is None
    bad = wrong_call([{"name": "x", "parameters": {"type": "dict"}}], "x", {})
    (tmp_path / "far.json").write_text("{}")
    far = wrong_call([{"name": "x", "parameters": {"$ref": (tmp_path / "far.json").as_uri()}}], "x", {})  # which nothing fetches
    assert "'dict' is not" in str(bad)
    assert "leads nowhere" in str(far)


# -- what a candidate is about ---------------------------------------------------------------------------------------------


def brief(kind: Any = "single", number: int = 0, **mode: Any) -> Brief:
    return Brief(id=digest(number), leaf="t/a", number=number, language="en", mode=Mode(tools=kind, **mode))


def test_what_a_candidate_is_about_depends_on_its_brief_alone_and_all_tools_get_their_turn() -> None:
    tools = [tool(), FIND, TRACK, OPEN]
    tasks = [task_of(brief(number=number), tools) for number in range(40)]
    assert tasks == [task_of(brief(number=number), tools) for number in range(40)]
    assert {task.needed[0].name for task in tasks} == {one.name for one in tools}
    assert all(task.needed[0] in task.shown for task in tasks)
    assert len({task.shown.index(task.needed[0]) for task in tasks}) == 4  # in no fixed order


def test_a_missing_tool_is_not_shown_and_a_missing_parameter_is_a_required_one() -> None:
    tools = [tool(), FIND, OPEN]
    for number in range(20):
        task = task_of(brief("missing_tool", number), tools)
        assert len(task.shown) == 2
        assert task.needed[0] not in task.shown
        assert task_of(brief("missing_parameter", number), tools).left_out in ("city", "phone")


def test_steps_go_from_a_tool_to_one_that_takes_what_only_the_first_gives() -> None:
    assert chains([tool(), FIND, TRACK]) == [(FIND, TRACK)]
    echo = tool(name="echo", parameters=schema(order_id=TEXT), returns=schema(order_id=TEXT), mock=())
    assert (echo, TRACK) not in chains([echo, TRACK])
    assert task_of(brief("multi_step"), [tool(), TRACK, FIND]).needed == (FIND, TRACK)


@pytest.mark.parametrize(
    ("kind", "tools", "why"),
    [
        ("single", [], "there is no tool"),
        ("missing_tool", [OPEN], "two at least"),
        ("missing_parameter", [OPEN], "a tool with a required parameter"),
        ("multi_step", [tool(), FIND], "that another one returns"),
    ],
)
def test_tools_that_do_not_allow_a_class_are_told(kind: str, tools: list[Tool], why: str) -> None:
    assert why in str(unfit(kind, tools))
    with pytest.raises(ValueError, match=why):
        task_of(brief(kind), tools)


def test_no_more_tools_are_shown_than_a_prompt_has_room_for() -> None:
    many = [tool(name=f"t{number}") for number in range(30)]
    Random(1).shuffle(many)
    assert len(task_of(brief("parallel"), many).shown) == len(task_of(brief("missing_tool"), many).shown) == 5


# -- the gate --------------------------------------------------------------------------------------------------------------

CITY = {"city": "Lima"}


def call(number: int, name: str = "get_weather", **arguments: Any) -> ToolCall:
    return ToolCall(id=f"call_{number}", name=name, arguments=arguments)


def step(*calls: ToolCall, gave: Any) -> tuple[Turn, ...]:
    results = gave if isinstance(gave, list) else [gave]
    said = (Turn(role="tool", content=json.dumps(one, ensure_ascii=False), answers=c.id) for c, one in zip(calls, results, strict=False))
    return (Turn(role="assistant", content="", calls=calls), *said)


LIMA, CUSCO = call(1, city="Lima"), call(2, city="Cusco")
ORDER = step(call(1, "find_order", phone="555-0142"), gave={"order_id": "O77120"})
PLACE = step(call(2, "track_order", order_id="O77120"), gave={"place": "Leeds"})


async def code_of(kind: Any, steps: tuple[Turn, ...], answer: str, asked: str = "How warm is it there?", **facts: Any) -> str:
    row = Row(language="en", instruction=asked, answer=answer, steps=steps, tools=(tool().shown, FIND.shown, TRACK.shown))
    found = await Tools()(Subject(id="x", row=row, brief=brief(kind) if kind else None, facts=facts))
    return "" if found.decision == "accept" else found.code.removeprefix("tools.")


@pytest.mark.parametrize(
    ("kind", "steps", "answer", "code"),
    [
        ("single", step(LIMA, gave={"high": 24}), "It is 24 degrees.", ""),
        ("single", (), "It is 24 degrees.", "missing_call"),
        ("single", step(LIMA, CUSCO, gave=[{"high": 24}, {"high": 9}]), "24 and 9.", "too_many"),
        ("parallel", step(LIMA, CUSCO, gave=[{"high": 24}, {"high": 9}]), "24 and 9.", ""),
        ("parallel", step(LIMA, CUSCO, gave=[{"high": 24}, {"high": 9}]), "24 there.", "result_unused"),
        ("parallel", step(LIMA, gave={"high": 24}) + step(CUSCO, gave={"high": 9}), "24 and 9.", "not_parallel"),
        ("parallel", step(LIMA, call(2, city="Lima"), gave=[{"high": 24}] * 2), "24 and 24.", "not_parallel"),
        ("multi_step", ORDER + PLACE, "It is in Leeds.", ""),
        ("multi_step", ORDER, "It is O77120.", "too_few"),
        ("multi_step", ORDER + step(call(2, "track_order", order_id="O1"), gave={"place": "Leeds"}), "In Leeds.", "not_dependent"),
        ("missing_tool", (), "I cannot look that up.", ""),
        ("missing_tool", (), "It is about 24 degrees.", "did_not_decline"),
        ("missing_tool", step(LIMA, gave={"high": 24}), "I cannot look that up.", "called_although_missing"),
        ("missing_parameter", (), "Which city do you mean?", ""),
        ("missing_parameter", (), "Do you like warm weather?", "did_not_ask"),
        ("missing_parameter", (), "Every city is warm in summer.", "did_not_ask"),
        ("single", step(LIMA, gave={"high": 24}), "It is warm.", "result_unused"),
        ("single", step(LIMA, gave={"high": 24}), "It is 31 degrees.", "contradicted"),
        ("single", step(LIMA, gave={"city": "Lima", "sky": "rainy"}), "In Lima, well.", "result_unused"),
        ("single", step(LIMA, gave={"error": "no such city"}), "That did not work, sorry.", ""),
        ("single", step(call(1, "get_wether", city="x"), gave={}), "24", "unknown"),
        ("single", step(call(1, town="x"), gave={}), "24", "invalid_call"),
        ("single", step(LIMA, CUSCO, gave={"high": 24}), "24", "invalid_call"),
        ("single", (Turn(role="tool", content="24", answers="call_9"),), "24", "invalid_call"),
        (None, step(LIMA, gave={"high": 24}), "It is warm.", "result_unused"),
        (None, (), "Hello.", ""),
    ],
)
async def test_the_gate_knows_each_class_of_task(kind: Any, steps: tuple[Turn, ...], answer: str, code: str) -> None:
    assert await code_of(kind, steps, answer, left_out="city" if kind == "missing_parameter" else "") == code


@pytest.mark.parametrize(
    ("gave", "answer"),
    [
        ({"total": 1299.0}, "That makes 1,299.00 euros."),
        ({"rate": 23.46}, "About 23.5 percent."),
        ({"rate": 23.46}, "About 23 percent."),
        ({"day": "2025-03-04"}, "It comes on March 4."),
        ({"day": "2025-03-04"}, "它 3月4日 到。"),
        ({"sky": "晴"}, "那天是晴天。"),
        ({"note": "left with the neighbour upstairs"}, "The neighbour has it, upstairs, where it was left."),
        ({"open": True}, "Yes, it is."),
    ],
)
async def test_a_result_is_found_again_in_other_words_of_it(gave: Any, answer: str) -> None:
    assert await code_of("single", step(LIMA, gave=gave), answer) == ""


async def test_a_step_depends_on_nothing_that_the_user_has_said() -> None:
    assert await code_of("multi_step", ORDER + PLACE, "It is in Leeds.", asked="Where is my order O77120?") == "not_dependent"


@pytest.mark.parametrize(
    ("kind", "answer", "code"),
    [
        ("missing_tool", "抱歉，目前没有可以查天气的工具，无法为您查询。", ""),
        ("missing_tool", "明天会下雨，记得带伞。", "did_not_decline"),
        ("missing_parameter", "请问您要查哪个城市的天气？", ""),
        ("missing_parameter", "您喜欢晴天吗？", "did_not_ask"),
        ("missing_parameter", "各个城市的天气都很好。", "did_not_ask"),
    ],
)
async def test_it_knows_a_refusal_and_a_question_in_chinese(kind: Any, answer: str, code: str) -> None:
    row = Row(language="zh", instruction="帮我查一下明天的天气。", answer=answer, tools=(tool("zh").shown,))
    found = await Tools()(Subject(id="x", row=row, brief=brief(kind), facts={"left_out": "city"}))
    assert found.code == (f"tools.{code}" if code else "ok")


async def test_to_decline_is_no_refusal_where_it_is_right() -> None:
    row = Row(language="en", instruction="How warm is it?", answer="I cannot help with that: no tool tells the weather.")
    decisions = [(await Refusal()(Subject(id="x", row=row, brief=brief(kind)))).decision for kind in ("missing_tool", "single")]
    assert decisions == ["accept", "reject"]
