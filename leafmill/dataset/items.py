"""What a dataset file is made of: rows as the gates know them, each beside what stood in the file, and lines that cannot be read."""

from __future__ import annotations

from typing import Any, NamedTuple

from filters.gate import Subject
from leafmill.records import Row


class Item(NamedTuple):
    line: int
    """where it stands, from 1; in a Parquet file or a JSON array the number of the row"""
    row: Row
    raw: dict[str, Any]
    """as it stood in the file: what is kept is written in these words"""
    task: str = ""
    """what kind of task the file says it is (`task`, `category`, `kind`), if it does"""
    format: str = ""
    """in which it was read"""

    @property
    def subject(self) -> Subject:
        return Subject(id=str(self.line), row=self.row, facts={"task": self.task})


class Broken(NamedTuple):
    """A line that holds no row: it is set aside with what is wrong, never dropped in silence."""

    line: int
    fault: str
    raw: str
