"""What became of a run, leaf by leaf: asked, accepted, rejected and why, errors, tokens. All of it is read from the ledger."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, computed_field

from leafmill.ledger import CALLS, CANDIDATES, LEAVES, Ledger


class LeafReport(BaseModel):
    """One leaf's line. `states` counts candidates, `reasons` those that were not accepted, as stage:code."""

    leaf: str
    asked: int | None = None
    outcome: str = "not finished"
    why: str = ""
    states: dict[str, int] = {}
    reasons: dict[str, int] = {}
    failed_calls: dict[str, int] = {}
    calls: int = 0
    tokens: int = 0
    uncounted_calls: int = 0
    """calls whose server did not say how many tokens they took"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def started(self) -> int:
        """all candidates: accepted, rejected, errored, waiting and open"""
        return sum(self.states.values())

    @computed_field  # type: ignore[prop-decorator]
    @property
    def accepted(self) -> int:
        return self.states.get("accepted", 0)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def tokens_per_accepted(self) -> float | None:
        return self.tokens / self.accepted if self.accepted else None


class Report(BaseModel):
    leaves: list[LeafReport]

    @property
    def total(self) -> LeafReport:
        """All leaves added up."""

        def add(name: str) -> dict[str, int]:
            return dict(sum((Counter[str](getattr(leaf, name)) for leaf in self.leaves), Counter[str]()))

        asked = [leaf.asked for leaf in self.leaves if leaf.asked is not None]
        met = sum(leaf.outcome == "met" for leaf in self.leaves)
        return LeafReport(
            leaf="all",
            asked=sum(asked) if asked else None,
            outcome=f"{met} of {len(self.leaves)} met",
            states=add("states"),
            reasons=add("reasons"),
            failed_calls=add("failed_calls"),
            calls=sum(leaf.calls for leaf in self.leaves),
            tokens=sum(leaf.tokens for leaf in self.leaves),
            uncounted_calls=sum(leaf.uncounted_calls for leaf in self.leaves),
        )


def read(ledger: Ledger) -> Report:
    """The report of a run, finished or under way."""
    leaves: dict[str, LeafReport] = {}
    states: dict[str, Counter[str]] = defaultdict(Counter)
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    count = sa.func.count().label("n")
    c = CANDIDATES.c
    for row in ledger.rows(sa.select(c.leaf, c.state, c.stage, c.code, count).group_by(c.leaf, c.state, c.stage, c.code)):
        states[row["leaf"]][row["state"]] += row["n"]
        if row["state"] not in ("accepted", "open"):
            # where a candidate was when its leaf became full says nothing about it
            reasons[row["leaf"]][row["code"] if row["code"] == "quota_met" else f"{row['stage']}:{row['code']}"] += row["n"]
    spent, failed = _calls(ledger)
    outcomes = {row["leaf"]: row for row in ledger.rows(sa.select(LEAVES))}
    for leaf in sorted({*states, *spent, *outcomes}):
        # a leaf with open candidates has been taken up again: what is written of it is of an earlier run
        outcome: dict[str, Any] = {} if states[leaf]["open"] else outcomes.get(leaf, {})
        leaves[leaf] = LeafReport(
            leaf=leaf,
            asked=outcomes.get(leaf, {}).get("asked"),
            outcome=outcome.get("state", "not finished"),
            why=outcome.get("reason", ""),
            states=dict(states[leaf]),
            reasons=dict(reasons[leaf].most_common()),
            failed_calls=dict(failed[leaf]),
            **spent.get(leaf, {}),
        )
    return Report(leaves=list(leaves.values()))


def audit_size(defect_share: float, confidence: float) -> int:
    """How many rows must be read without finding a defect, to be sure with `confidence` that fewer than `defect_share` are bad.

    The smallest n with (1 - share)^n <= 1 - confidence.

    >>> audit_size(0.05, 0.95), audit_size(0.01, 0.95)
    (59, 299)
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - defect_share))


def _calls(ledger: Ledger) -> tuple[dict[str, dict[str, int]], dict[str, Counter[str]]]:
    """Per leaf: calls, tokens and uncounted calls; and failed calls as role:code."""
    c = CALLS.c
    tokens = sa.func.coalesce(c.prompt_tokens, 0) + sa.func.coalesce(c.completion_tokens, 0)
    uncounted = sa.func.sum(sa.case((sa.and_(c.prompt_tokens.is_(None), c.completion_tokens.is_(None)), 1), else_=0))
    sums = (sa.func.count().label("calls"), sa.func.sum(tokens).label("tokens"), uncounted.label("uncounted_calls"))
    spent = {row.pop("leaf"): row for row in ledger.rows(sa.select(c.leaf, *sums).group_by(c.leaf))}
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    wanted = sa.select(c.leaf, c.role, c.status, sa.func.count().label("n")).where(c.status != "ok")
    for row in ledger.rows(wanted.group_by(c.leaf, c.role, c.status)):
        failed[row["leaf"]][f"{row['role']}:{row['status']}"] += row["n"]
    return spent, failed
