"""What an agent is told: the values that a stage offers to its template (`stages.STAGES`), made from leaf, brief and row."""

from __future__ import annotations

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
    return {**told, "instruction": row.instruction, "input": row.input, "answer": row.answer}
