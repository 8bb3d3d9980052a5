"""Rows of every known format become ours: nothing of the conversation is lost, and what does not fit says why."""

from __future__ import annotations

import json
from typing import Any

import pytest

from leafmill import export, sharegpt
from leafmill.dataset.formats import FORMATS, Unfit, detect, language_of, parse
from leafmill.errors import InputError
from leafmill.records import Row, ToolCall, Turn

ALPACA = {"instruction": "Translate.", "input": "cat", "output": "猫", "system": "Be brief.", "history": [["Hi", "Hello"]]}
SHAREGPT = {
    "conversations": [
        {"from": "human", "value": "查一下北京的天气"},
        {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "北京"}}'},
        {"from": "observation", "value": "晴，21 度"},
        {"from": "gpt", "value": "北京今天晴，21 度。"},
    ],
    "system": "你是助手。",
    "tools": '[{"name": "weather"}]',
}
MESSAGES = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": [{"type": "text", "text": "What is 3 + 4?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": {"name": "加", "arguments": {"a": 3}}}]},
        {"role": "tool", "content": "7"},
        {"role": "assistant", "content": "Seven."},
    ]
}
BELLE_TURNS = {"id": "1", "conversations": [{"from": "human", "value": "你好"}, {"from": "assistant", "value": "你好！"}]}
BELLE_PACKED = {"instruction": "Human:你好\nAssistant:你好！\nHuman:写一首诗\n关于夏天\nAssistant:", "input": "", "output": "夏日长"}
FIREFLY = {"conversation": [{"human": "你好", "assistant": "你好！"}, {"human": "再见", "assistant": "再见！"}], "category": "闲聊"}
FIREFLY_OLD = {"kind": "Couplet", "input": "上联：春风", "target": "下联：秋月"}


def told(row: Row) -> list[tuple[str, str]]:
    return [(turn["role"], turn["content"]) for turn in row.messages()]


@pytest.mark.parametrize(
    ("raw", "format", "language", "turns"),
    [
        (ALPACA, "alpaca", "en", ["system", "user", "assistant", "user", "assistant"]),
        (SHAREGPT, "sharegpt", "zh", ["system", "user", "assistant", "tool", "assistant"]),
        (MESSAGES, "messages", "en", ["system", "user", "assistant", "user", "assistant", "tool", "assistant"]),
        (BELLE_TURNS, "belle", "zh", ["user", "assistant"]),
        (BELLE_PACKED, "belle", "zh", ["user", "assistant", "user", "assistant"]),
        (FIREFLY, "firefly", "zh", ["user", "assistant", "user", "assistant"]),
        (FIREFLY_OLD, "firefly", "zh", ["user", "assistant"]),
    ],
)
def test_every_format_is_known_by_its_columns_and_keeps_all_turns_in_order(
    raw: dict[str, Any], format: str, language: str, turns: list[str]
) -> None:
    parsed = parse(raw)
    assert (parsed.format, parsed.row.language) == (format, language)
    assert [role for role, _ in told(parsed.row)] == turns
    assert parse(raw, format) == parsed


def test_the_last_exchange_is_the_row_and_the_rest_its_history() -> None:
    row = parse(ALPACA).row
    assert (row.instruction, row.input, row.answer) == ("Translate.", "cat", "猫")
    assert told(row)[:3] == [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")]
    row = parse(BELLE_PACKED).row
    assert (row.instruction, row.answer) == ("写一首诗\n关于夏天", "夏日长")
    assert row.opening == "你好"


def test_what_tools_are_asked_and_return_stands_between_question_and_answer() -> None:
    row = parse(SHAREGPT).row
    assert (row.instruction, row.tools) == ("查一下北京的天气", ({"name": "weather"},))
    assert row.steps == (
        Turn(role="assistant", content="", calls=(ToolCall(id="call_1", name="weather", arguments={"city": "北京"}),)),
        Turn(role="tool", content="晴，21 度", answers="call_1"),
    )
    row = parse(MESSAGES).row
    assert [call.name for call in row.steps[0].calls] == ["加"]
    assert row.steps[1].answers == "call_1"
    assert '"加"' in row.steps[0].text  # nothing is escaped


WEATHER = {"name": "weather", "description": "查天气", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
ONE_CALL = Row(
    language="zh",
    instruction="北京今天热吗？",
    answer="北京 31 度，比较热。",
    history=(Turn(role="system", content="你是助手。"),),
    steps=(
        Turn(role="assistant", content="", calls=(ToolCall(id="call_1", name="weather", arguments={"city": "北京"}),)),
        Turn(role="tool", content='{"high": 31, "sky": "晴"}', answers="call_1"),
    ),
    tools=(WEATHER,),
)
TWO_AT_ONCE = ONE_CALL.model_copy(
    update={
        "steps": (
            Turn(
                role="assistant",
                content="",
                calls=tuple(ToolCall(id=f"call_{n}", name="weather", arguments={"city": city}) for n, city in enumerate("京沪", 1)),
            ),
            Turn(role="tool", content='{"high": 31}', answers="call_1"),
            Turn(role="tool", content="没有这个城市", answers="call_2"),
            Turn(role="assistant", content="", calls=(ToolCall(id="call_3", name="weather", arguments={}),)),
            Turn(role="tool", content='"[1, 2]"', answers="call_3"),
        )
    }
)
ODD_RESULTS = TWO_AT_ONCE.model_copy(
    update={
        "steps": (
            TWO_AT_ONCE.steps[0],
            Turn(role="tool", content='"晴"', answers="call_1"),
            Turn(role="tool", content='{"high":31}', answers="call_2"),
            TWO_AT_ONCE.steps[3],
            Turn(role="tool", content="[5]", answers="call_3"),
        )
    }
)
NO_CALL = ONE_CALL.model_copy(update={"steps": (), "answer": "请问您说的是哪个城市？"})
EARLIER_CALLS = ONE_CALL.model_copy(
    update={
        "history": (*ONE_CALL.asked, Turn(role="assistant", content=ONE_CALL.answer)),
        "instruction": "谢谢",
        "steps": (),
        "answer": "不客气。",
    }
)


@pytest.mark.parametrize("format", ["messages", "sharegpt"])
@pytest.mark.parametrize("row", [ONE_CALL, TWO_AT_ONCE, ODD_RESULTS, NO_CALL, EARLIER_CALLS])
def test_a_row_with_tools_is_the_same_after_it_was_written_and_read(row: Row, format: str) -> None:
    """T32: messages and ShareGPT there and back."""
    line = json.loads(json.dumps(export.FORMATS[format](row, row.answer), ensure_ascii=False))
    assert parse(line) == (row, "", format)


def test_trl_has_the_arguments_as_an_object_and_sharegpt_as_json_text() -> None:
    """T32"""
    said = export.messages(TWO_AT_ONCE, "好")
    first = said["messages"][2]["tool_calls"][0]
    assert first == {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "京"}}}
    assert said["messages"][3] == {"role": "tool", "content": '{"high": 31}', "name": "weather", "tool_call_id": "call_1"}
    assert said["tools"] == [{"type": "function", "function": WEATHER}]
    written = sharegpt.written(TWO_AT_ONCE, "好")
    assert [turn["from"] for turn in written["conversations"]] == [*("human", *("function_call", "observation") * 2, "gpt")]
    assert written["conversations"][1]["value"] == (
        '[{"name": "weather", "arguments": {"city": "京"}}, {"name": "weather", "arguments": {"city": "沪"}}]'
    )
    assert written["conversations"][2]["value"] == '[{"high": 31}, "没有这个城市"]'
    assert json.loads(written["tools"]) == [WEATHER]
    assert (written["system"], "\\u" in json.dumps(written, ensure_ascii=False)) == ("你是助手。", False)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"history": (Turn(role="user", content="喂"),)}, "turn 2 is human"),
        ({"history": (Turn(role="user", content="喂"), Turn(role="system", content="!"))}, "turn 2 is system"),
        ({"steps": (Turn(role="tool", content="31"),)}, "a result without its call"),
        ({"steps": ONE_CALL.steps[:1]}, "results of 1 calls do not stand behind them"),
        ({"steps": (ONE_CALL.steps[0].model_copy(update={"content": "我查一下"}), ONE_CALL.steps[1])}, "a text and calls"),
    ],
)
def test_what_llama_factory_would_leave_out_is_refused(change: dict[str, Any], why: str) -> None:
    """T32: consecutive user turns, a system prompt that is not first, results that are not where they should be."""
    with pytest.raises(InputError, match=why):
        sharegpt.written(ONE_CALL.model_copy(update=change), "好")


def test_alpaca_has_no_place_for_tools() -> None:
    with pytest.raises(InputError, match="with tools at hand"):
        export.alpaca(NO_CALL, NO_CALL.answer)


@pytest.mark.parametrize("tools", ["You may search the web.", [{"function": "?"}], '{"name": "x"}'])
def test_tools_that_cannot_be_read_stay_what_the_system_says(tools: Any) -> None:
    row = parse({**SHAREGPT, "tools": tools}).row
    assert row.tools == ()
    assert row.history[1].content == (tools if isinstance(tools, str) else json.dumps(tools))


@pytest.mark.parametrize("value", ["let me look", '{"arguments": {}}', '[{"name": "a", "arguments": "{oops"}]'])
def test_a_call_that_cannot_be_read_stays_text(value: str) -> None:
    said = {"conversations": [{"from": "human", "value": "Hi"}, {"from": "function_call", "value": value}, {"from": "gpt", "value": "Yo"}]}
    assert parse(said).row.steps == (Turn(role="assistant", content=value),)


def test_results_without_a_name_answer_the_calls_in_their_order() -> None:
    calls = [{"function": {"name": name, "arguments": '{"n": 1}'}} for name in "ab"]
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Let me see.", "tool_calls": calls}]
    said += [{"role": "tool", "content": text} for text in ("[1, 2]", "2")] + [{"role": "assistant", "content": "Done."}]
    steps = parse({"messages": said}).row.steps
    assert [(turn.content, turn.answers) for turn in steps] == [("Let me see.", ""), ("[1, 2]", "call_1"), ("2", "call_2")]
    assert [call.arguments for call in steps[0].calls] == [{"n": 1}, {"n": 1}]


def test_a_row_says_its_task() -> None:
    assert [parse(raw).task for raw in (FIREFLY, FIREFLY_OLD, ALPACA)] == ["闲聊", "Couplet", ""]
    assert parse({**ALPACA, "task": 3, "category": "maths"}).task == "maths"


def test_an_instruction_that_only_quotes_a_dialogue_is_left_as_it_is() -> None:
    quoted = "Human: hi\nAssistant: hello\nWho spoke first?"
    parsed = parse({"instruction": quoted, "output": "Human"})
    assert (parsed.format, parsed.row.instruction) == ("alpaca", quoted)
    forced = parse({"instruction": BELLE_PACKED["instruction"], "output": "x"}, "alpaca").row
    assert forced.instruction == BELLE_PACKED["instruction"]


def test_what_is_null_or_missing_where_it_may_be_is_nothing() -> None:
    row = parse({"instruction": "x", "input": None, "output": None, "system": None, "history": None}).row
    assert (row.input, row.answer, row.history) == ("", "", ())


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        ({"instruction": " ", "output": "x"}, "the instruction is empty"),
        ({"instruction": 3, "output": "x"}, "`instruction` is a number: expected text"),
        ({"instruction": "x", "output": ["x"]}, "`output` is a list: expected text"),
        ({"instruction": "x", "output": "y", "history": [["q"]]}, '`history` 1 is ["q"]: expected [question, answer]'),
        ({"messages": [user("x")]}, "the last turn is the user's: expected the assistant's answer"),
        ({"messages": []}, "the last turn is missing"),
        ({"messages": "x"}, "`messages` is text: expected a list"),
        ({"messages": ["x"]}, "`messages` 1 is text: expected {role, content}"),
        ({"messages": [{"role": "system", "content": "x"}, {"role": "assistant", "content": "y"}]}, "nothing is asked"),
        ({"messages": [user("x"), {"role": "judge", "content": "y"}]}, "`messages` 2 is said by 'judge': expected one of human, user"),
        ({"messages": [user("x"), {"role": "assistant"}]}, "`content` of `messages` 2 is null: expected text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "`content` of `messages` 1 is a list: expected text"),
        ({"conversations": [{"from": None, "value": "x"}]}, "`conversations` 1 is said by None"),
        ({"conversation": [{"human": "x"}]}, '`conversation` 1 is {"human": "x"}: expected {human, assistant}'),
        ({"question": "x", "answer": "y"}, "the columns are question, answer: not those of any format"),
        ({}, "the columns are (none): not those of any format"),
    ],
)
def test_what_cannot_be_a_row_says_why(raw: dict[str, Any], why: str) -> None:
    with pytest.raises(Unfit) as said:
        parse(raw)
    assert str(said.value).startswith(why)


def test_a_row_of_another_format_than_the_one_asked_for_does_not_fit() -> None:
    with pytest.raises(Unfit, match="the columns are messages: not those of alpaca"):
        parse(MESSAGES, "alpaca")


def test_no_row_is_of_two_formats_but_belle_which_borrows() -> None:
    for raw in (ALPACA, SHAREGPT, MESSAGES, FIREFLY, FIREFLY_OLD):
        fitting = {name for name, known in FORMATS.items() if known.fits(raw)}
        assert fitting - {"belle"} == {detect(raw)}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("写一首诗", "zh"),
        ("Write a poem", "en"),
        ("用 Python 写一个 quicksort 函数", "zh"),
        ("What does the idiom 画蛇添足 mean in everyday English?", "en"),
        ("解释这段代码：\n```python\nfor item in items: print(item, end='', flush=True); total += item.value\n```", "zh"),
        ("3 + 4 = ?", "en"),
    ],
)
def test_the_language_is_told_by_the_script_outside_code(text: str, language: str) -> None:
    assert language_of(text) == language
