"""Gold rows: instructions with an answer that is known to be good or bad, and whom to ask about it. A judge that cannot tell them apart
judges nothing.

One JSON object a line; `prompts/gold.jsonl` has ours. A bad row names the judges whose question it is: an answer that breaks off may well
be true as far as it goes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from pydantic import Field, ValidationError

from leafmill.errors import Place, RecipeError, unknown
from leafmill.records import Language, Record, Row

BUILT_IN = Path(__file__).parent.parent / "prompts" / "gold.jsonl"
LEAF = "gold"
"""what stands for a leaf where these rows' calls are recorded"""


class Gold(Record):
    """One row, what it is, and the roles that are asked about it."""

    id: str = Field(min_length=1)
    language: Language
    good: bool
    fault: str = ""
    """of a bad one: what is wrong with it, in a word or two"""
    judges: tuple[str, ...] = ()
    """none: all of them"""
    instruction: str = Field(min_length=1)
    input: str = ""
    answer: str = Field(min_length=1)

    @property
    def row(self) -> Row:
        return Row(language=self.language, instruction=self.instruction, input=self.input, answer=self.answer)

    def concerns(self, judge: str) -> bool:
        return not self.judges or judge in self.judges


def read(path: Path, known: Collection[str] = ()) -> tuple[Gold, ...]:
    """The rows of a file. Raises RecipeError with the line of one that is none, that is there twice, or, where judges are `known`, that
    asks somebody else."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise RecipeError(f"gold rows cannot be read: {fault}", Place(str(path))) from None
    rows: dict[str, Gold] = {}
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, Place(str(path), number))
            if row.id in rows:
                raise RecipeError(f"the id {row.id!r} is there twice", Place(str(path), number))
            if strangers := [name for name in row.judges if known and name not in known]:
                raise RecipeError(unknown("judge", strangers[0], known), Place(str(path), number))
            rows[row.id] = row
    return tuple(rows.values())


def _row(line: str, place: Place) -> Gold:
    try:
        return Gold.model_validate(json.loads(line))
    except ValidationError as fault:
        first = fault.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{where}: {first['msg']}, got {str(first['input'])[:80]!r}", place) from None
    except ValueError as fault:
        raise RecipeError(f"not a JSON object: {fault}", place) from None
