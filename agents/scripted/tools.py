"""What the scripted model says where tools are at hand: requests that tell what they take, calls that fit the schemas in the prompt, and
answers that say what came back.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agents.scripted.words import Language, Speaker
from taxonomy.mock_tools import made_up

ROLES = frozenset({"tool-writer", "tool-task-writer", "tool-user"})

_TASKS: Mapping[str, tuple[str, str]] = {
    "one call of this tool": ("single", "One look is enough."),
    "two or three calls at once": ("parallel", "Look up both at once."),
    "takes two steps": ("multi_step", "First find it, then go on with what you found."),
    "takes this very tool": ("missing_tool", "It has to be the usual service."),
    "the person forgets": ("missing_parameter", "I do not have the details by me."),
    "正好要调用一次": ("single", "查一次就行。"),
    "两三次互不依赖": ("parallel", "两样一起查。"),
    "分两步": ("multi_step", "先查出来，再接着往下查。"),
    "非用这个工具不可": ("missing_tool", "一定要走平常那个系统。"),
    "但用户忘了说": ("missing_parameter", "具体的我手头没有。"),
}
"""By words of the prompt: which kind of request is asked for, and how its last sentence says so."""


def improvise(role: str, prompt: str, draw: random.Random, duplicates: float) -> dict[str, Any]:
    """The reply of one of `ROLES` to a prompt."""
    asked = _inside("instruction", prompt) if role == "tool-user" else re.sub(r"<tools>.*?</tools>", "", prompt, flags=re.DOTALL)
    speaker = Speaker(draw, asked, duplicates)
    if role == "tool-writer":
        return {"tools": TOOLS[speaker.language]}
    if role == "tool-task-writer":
        return {
            "instruction": f"{speaker.instruction()} {next((said for words, (_, said) in _TASKS.items() if words in prompt), '')}".strip()
        }
    tools = [json.loads(line) for line in _inside("tools", prompt).split("\n") if line.strip()]
    results = [json.loads(line.partition(" -> ")[2]) for line in _inside("steps", prompt).split("\n") if " -> " in line]
    kind = next((kind for kind, said in _TASKS.values() if said in asked), "single")
    if not tools or (kind.startswith("missing") and not results):
        return {"calls": [], "answer": _declined(kind, tools, speaker.language)}
    if calls := _next(kind, tools, results, draw, speaker.language):
        return {"calls": [{"name": name, "arguments": json.dumps(given, ensure_ascii=False)} for name, given in calls], "answer": ""}
    found = ", ".join(map(str, _scalars(results)))
    return {"calls": [], "answer": f"{'查到的结果是' if speaker.language == 'zh' else 'This is what I found: '}{found}. {speaker.answer()}"}


def _next(
    kind: str, tools: list[dict[str, Any]], results: list[Any], draw: random.Random, language: Language
) -> list[tuple[str, dict[str, Any]]]:
    """The calls to make now; none when there is enough to answer by."""

    def call(tool: Mapping[str, Any], **known: Any) -> tuple[str, dict[str, Any]]:
        given = made_up(tool["parameters"], draw, chinese=language == "zh")
        return tool["name"], {**given, **known}

    if kind == "multi_step" and len(results) == 1 and isinstance(results[0], dict):
        for tool in tools:
            if links := set(tool["parameters"].get("required", ())) & results[0].keys():
                return [call(tool, **{name: results[0][name] for name in links})]
    if results:
        return []
    # What is known by a number has to be found by something else first: order_id by find_order.
    known_by = {name.removesuffix("_id") for tool in tools for name in tool["parameters"].get("required", ()) if name.endswith("_id")}
    first = [tool for tool in tools if not any(name.endswith("_id") for name in tool["parameters"].get("required", ()))] or tools
    finding = [tool for tool in first if any(stem in tool["name"] for stem in known_by)]
    chosen = draw.choice(finding if finding and kind == "multi_step" else first)
    return [call(chosen) for _ in range(2 if kind == "parallel" else 1)]


def _declined(kind: str, tools: list[dict[str, Any]], language: Language) -> str:
    if kind != "missing_parameter":
        return "抱歉，我没有能办这件事的工具，无法查询。" if language == "zh" else "I cannot do that, since none of my tools covers it."
    asked = [
        str(schema.get("description", name.replace("_", " ")))
        for tool in tools
        for name, schema in tool["parameters"].get("properties", {}).items()
    ]
    return f"请问{'、'.join(asked)}是什么？" if language == "zh" else f"Could you tell me this first: {', '.join(asked)}?"


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, (dict, list)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _scalars(one)
    elif value is not None:
        yield value


def _inside(label: str, prompt: str) -> str:
    """What stands between the tags of this name."""
    found = re.search(rf"<{label}>\n(.*?)\n</{label}>", prompt, re.DOTALL)
    return found[1] if found else ""


def _tool(name: str, description: str, parameters: Mapping[str, str], **returns: Any) -> dict[str, str]:
    taken = {key: {"type": "string", "description": said} for key, said in parameters.items()}
    schemas = {
        "parameters": {"type": "object", "properties": taken, "required": list(taken)},
        "returns": {"type": "object", "properties": returns},
    }
    return {"name": name, "description": description, **{key: json.dumps(one, ensure_ascii=False) for key, one in schemas.items()}}


TOOLS: Mapping[Language, list[dict[str, str]]] = {
    "en": [
        _tool(
            "find_file",
            "Finds the file of a person.",
            {"person": "name of the person"},
            file_id={"type": "string", "description": "number of the file"},
            pages={"type": "integer", "description": "its pages", "minimum": 2, "maximum": 90},
        ),
        _tool(
            "read_file",
            "Tells what stands in a file.",
            {"file_id": "number of the file"},
            status={"enum": ["open", "settled", "under review"]},
            cost={"type": "number", "description": "in euros", "minimum": 20, "maximum": 900},
        ),
        _tool(
            "opening_hours",
            "Tells when an office is open.",
            {"city": "city of the office"},
            opens={"enum": ["8:30", "9:00", "9:45"]},
            rooms={"type": "integer", "description": "rooms that are open", "minimum": 2, "maximum": 60},
        ),
    ],
    "zh": [
        _tool(
            "find_file",
            "查找某人的档案。",
            {"person": "姓名"},
            file_id={"type": "string", "description": "档案编号"},
            pages={"type": "integer", "description": "页数", "minimum": 2, "maximum": 90},
        ),
        _tool(
            "read_file",
            "读取档案的内容。",
            {"file_id": "档案编号"},
            status={"enum": ["待办", "已结", "复核中"]},
            cost={"type": "number", "description": "费用，单位元", "minimum": 20, "maximum": 900},
        ),
        _tool(
            "opening_hours",
            "查询某城市办事处的开放情况。",
            {"city": "所在城市"},
            opens={"enum": ["8:30", "9:00", "9:45"]},
            rooms={"type": "integer", "description": "开放的房间数", "minimum": 2, "maximum": 60},
        ),
    ],
}
"""Tools that would serve many a topic; two of them belong together."""
