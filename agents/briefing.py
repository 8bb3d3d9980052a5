"""What an agent is told: the values that a stage offers to its template (`stages.STAGES`), made from leaf, brief and row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from leafmill.records import Brief, Language, Row
from taxonomy import Leaf


def about_leaf(leaf: Leaf, language: Language, axes: dict[str, str] | None = None) -> dict[str, Any]:
    """The leaf, in the language of the row, and the brief's value of every axis by its title."""
    return {
        "language": language,
        "trail": leaf.trail_in(language),
        "description": leaf.description_in(language),
        "axes": leaf.describe_axes(axes, language) if axes else {},
    }


def about_row(leaf: Leaf, brief: Brief, row: Row) -> dict[str, Any]:
    """The leaf, and what the candidate says so far."""
    told = about_leaf(leaf, brief.language, brief.axes)
    said = {"history": row.history, "instruction": row.instruction, "input": row.input, "answer": row.answer}
    return {**told, **said, "tools": shown_tools(row.tools), "steps": shown_steps(row), "passage": closed_book(brief)}


def closed_book(brief: Brief) -> str:
    """The passage that a question is about and that is not in the row; "" where there is none, or where it is the input."""
    return brief.source.text if brief.source and brief.mode.write == "document" and brief.mode.closed_book else ""


def shown_tools(tools: Iterable[Mapping[str, Any]]) -> str:
    """Tools as JSON, one a line; "" when there are none."""
    return "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)


def shown_steps(row: Row) -> str:
    """What was called on the way to the answer, and what came of it, a line each; "" when nothing was."""
    lines = []
    for turn in row.steps:
        lines += [f"{call.id}: {call.name} {json.dumps(call.arguments, ensure_ascii=False)}" for call in turn.calls]
        lines += [f"{turn.answers} -> {turn.content}"] if turn.role == "tool" else []
    return "\n".join(lines)
