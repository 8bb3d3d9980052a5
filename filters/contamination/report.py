"""What became of test sets in data: a report for each, made from the verdicts on the rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from filters.contamination.testsets import Benchmark
from leafmill.records import Record, Verdict

MOST = 2
"""per cent of a test set's items that may be in the data; with more it is no test any more"""
EXAMPLES = 5


class SetReport(Record):
    """How much of one test set is in the data."""

    set: str
    items: int
    rows_hit: int = 0
    items_covered: int = 0
    examples: tuple[dict[str, Any], ...] = ()
    """of the first rows: the item, how much of it, by which rule, and where in the row"""

    @property
    def share(self) -> float:
        """Of the items, that are in the data."""
        return self.items_covered / self.items

    @property
    def contaminated(self) -> bool:
        """Whether the data as it stands must not be trained on by those who test on this set."""
        return 100 * self.items_covered > MOST * self.items

    @property
    def line(self) -> dict[str, Any]:
        """A line of a table."""
        over = f"over {MOST} %" if self.contaminated else ""
        return {
            "test set": self.set,
            "items": self.items,
            "found": self.items_covered,
            "share": f"{self.share:.1%}",
            "": over,
            "rows": self.rows_hit,
        }

    def told(self) -> dict[str, Any]:
        """With what follows from it, for a file."""
        return {**self.model_dump(exclude={"examples"}), "share": self.share, "contaminated": self.contaminated, "examples": self.examples}


def report(sets: Iterable[Benchmark], verdicts: Iterable[Verdict]) -> list[SetReport]:
    """A report for each test set, from what the gate `contamination` said of rows."""
    rows: dict[str, int] = {}
    covered: dict[str, set[str]] = {}
    examples: dict[str, list[dict[str, Any]]] = {}
    for one in verdicts:
        evidence = one.evidence
        if one.decision != "reject" or "set" not in evidence:
            continue
        hit = {evidence["set"]: [evidence["item"]]}
        for name, ids in evidence.get("others", {}).items():
            hit[name] = [*hit.get(name, []), *ids]
        for name, ids in hit.items():
            rows[name] = rows.get(name, 0) + 1
            covered.setdefault(name, set()).update(ids)
        shown = examples.setdefault(evidence["set"], [])
        if len(shown) < EXAMPLES:
            shown.append({"item": evidence["item"], "share": one.value, "rule": evidence["rule"], "spans": evidence["spans"]})
    return [
        SetReport(
            set=one.name,
            items=len(one.items),
            rows_hit=rows.get(one.name, 0),
            items_covered=len(covered.get(one.name, ())),
            examples=tuple(examples.get(one.name, ())),
        )
        for one in sets
    ]
