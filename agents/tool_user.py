"""The tool-user answers with tools at hand: it says which to call, is shown what they gave, and answers when it knows enough."""

from __future__ import annotations

import json
from typing import Literal, NamedTuple

from agents.answerer import unfenced
from agents.briefing import about_row
from agents.chat import Chat, Reply
from leafmill.ledger import Step
from leafmill.records import Brief, Row, ToolCall
from taxonomy import Leaf
from taxonomy.tools import wrong_call


class Said(NamedTuple):
    """What the tool-user wants: calls, or the answer; or what is wrong with the calls, and the code of that."""

    calls: tuple[ToolCall, ...] = ()
    answer: str = ""
    code: Literal["", "unknown", "invalid_call"] = ""
    problem: str = ""


async def ask(chat: Chat, leaf: Leaf, brief: Brief, row: Row, step: Step, feedback: str = "", problem: str = "") -> tuple[Said, Reply]:
    """What it says after the steps that the row has. `problem` is what was wrong with the calls of its last reply. Raises CallError."""
    told = about_row(leaf, brief, row if feedback else row.model_copy(update={"answer": ""}))
    reply = await chat.ask("tool-user", brief.language, step, {**told, "feedback": feedback, "problem": problem})
    return read(reply, row), reply


def read(reply: Reply, row: Row) -> Said:
    """A reply as calls of the row's tools, or as the answer. Calls are numbered through the conversation."""
    calls: list[ToolCall] = []
    made = sum(len(turn.calls) for turn in row.asked)
    for number, one in enumerate(reply.get("calls", ()), made + 1):
        arguments = _arguments(one.arguments)
        if arguments is None:
            return Said(code="invalid_call", problem=f"{one.name}: arguments must be a JSON object, got {one.arguments[:80]!r}")
        if wrong := wrong_call(row.tools, one.name, arguments):
            return Said(code=wrong.code, problem=wrong.problem)
        calls.append(ToolCall(id=f"call_{number}", name=one.name, arguments=arguments))
    if calls:
        return Said(calls=tuple(calls))
    answer = unfenced(reply.get("answer"))
    return Said(answer=answer) if answer else Said(code="invalid_call", problem="there are neither calls nor an answer")


def _arguments(text: str) -> dict[str, object] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
