"""Rows of every known format become ours: nothing of the conversation is lost, and what does not fit says why."""

from __future__ import annotations

from typing import Any

import pytest

from leafmill.dataset.formats import FORMATS, Unfit, detect, language_of, parse
from leafmill.records import Row

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
        (SHAREGPT, "sharegpt", "zh", ["system", "system", "user", "assistant", "tool", "assistant"]),
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
    assert row.instruction == "查一下北京的天气"
    assert [(turn.role, turn.content) for turn in row.steps] == [
        ("assistant", '{"name": "weather", "arguments": {"city": "北京"}}'),
        ("tool", "晴，21 度"),
    ]
    called = parse(MESSAGES).row.steps[0].content
    assert '"name": "加"' in called  # nothing is escaped


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
