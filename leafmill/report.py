"""What became of a run: by leaf what was asked, accepted, rejected and why, and what it cost; by role how its calls went.

All of it is read from the ledger. What is not known is never added up as 0: it is counted beside the sum."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, computed_field

from agents import gold
from leafmill import coverage, panel, variants
from leafmill.coverage import Covered
from leafmill.ledger import CALLS, CANDIDATES, LEAVES, Ledger
from leafmill.panel import Judging
from leafmill.variants import Varied


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
    money: float | None = 0.0
    """in the recipe's currency, without the unpriced calls; None when there are no others"""
    unpriced_calls: int = 0
    """calls whose cost is unknown"""

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


class RoleReport(BaseModel):
    """How the calls of one role went, over all leaves. `p50` and `p95` are seconds, of the calls that succeeded; None when none did."""

    calls: int = 0
    failed: int = 0
    tokens: int = 0
    retries: int = 0
    """tries beyond the first of each call"""
    p50: float | None = None
    p95: float | None = None


class Report(BaseModel):
    leaves: list[LeafReport]
    roles: dict[str, RoleReport]
    judging: Judging = Judging()
    varied: Varied = Varied()
    covered: dict[str, Covered] = {}
    """values of axes, pairs of them, and concepts, over all leaves"""

    @property
    def total(self) -> LeafReport:
        """All leaves added up."""

        def add(name: str) -> dict[str, int]:
            return dict(sum((Counter[str](getattr(leaf, name)) for leaf in self.leaves), Counter[str]()))

        asked = [leaf.asked for leaf in self.leaves if leaf.asked is not None]
        outcomes = [leaf.outcome for leaf in self.leaves if leaf.leaf != gold.LEAF]
        calls, unpriced = (sum(getattr(leaf, name) for leaf in self.leaves) for name in ("calls", "unpriced_calls"))
        return LeafReport(
            leaf="all",
            asked=sum(asked) if asked else None,
            outcome=f"{outcomes.count('met')} of {len(outcomes)} met",
            states=add("states"),
            reasons=add("reasons"),
            failed_calls=add("failed_calls"),
            calls=calls,
            tokens=sum(leaf.tokens for leaf in self.leaves),
            uncounted_calls=sum(leaf.uncounted_calls for leaf in self.leaves),
            money=None if calls and unpriced == calls else sum(leaf.money or 0.0 for leaf in self.leaves),
            unpriced_calls=unpriced,
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
    spent, failed = ledger.spent(), _failed_calls(ledger)
    outcomes = {row["leaf"]: row for row in ledger.rows(sa.select(LEAVES))}
    for leaf in sorted({*states, *spent, *outcomes}):
        # a leaf with open candidates has been taken up again: what is written of it is of an earlier run
        outcome: dict[str, Any] = {} if states[leaf]["open"] else outcomes.get(leaf, {})
        leaves[leaf] = LeafReport(
            leaf=leaf,
            asked=outcomes.get(leaf, {}).get("asked"),
            outcome="judges tried" if leaf == gold.LEAF else outcome.get("state", "not finished"),
            why=outcome.get("reason", ""),
            states=dict(states[leaf]),
            reasons=dict(reasons[leaf].most_common()),
            failed_calls=dict(failed[leaf]),
            **(spent[leaf]._asdict() if leaf in spent else {}),
        )
    return Report(
        leaves=list(leaves.values()),
        roles=_roles(ledger),
        judging=panel.read(ledger),
        varied=variants.read(ledger),
        covered=coverage.read(ledger).total,
    )


def audit_size(defect_share: float, confidence: float) -> int:
    """How many rows must be read without finding a defect, to be sure with `confidence` that fewer than `defect_share` are bad.

    The smallest n with (1 - share)^n <= 1 - confidence.

    >>> audit_size(0.05, 0.95), audit_size(0.01, 0.95)
    (59, 299)
    """
    return math.ceil(math.log(1 - confidence) / math.log(1 - defect_share))


def _failed_calls(ledger: Ledger) -> dict[str, Counter[str]]:
    """Per leaf, as role:code."""
    c = CALLS.c
    failed: dict[str, Counter[str]] = defaultdict(Counter)
    wanted = sa.select(c.leaf, c.role, c.status, sa.func.count().label("n")).where(c.status != "ok")
    for row in ledger.rows(wanted.group_by(c.leaf, c.role, c.status)):
        failed[row["leaf"]][f"{row['role']}:{row['status']}"] += row["n"]
    return failed


def _roles(ledger: Ledger) -> dict[str, RoleReport]:
    c, total = CALLS.c, sa.func.sum
    sums = (
        sa.func.count().label("calls"),
        total(sa.case((c.status != "ok", 1), else_=0)).label("failed"),
        total(sa.func.coalesce(c.prompt_tokens, 0) + sa.func.coalesce(c.completion_tokens, 0)).label("tokens"),
        total(sa.func.max(c.attempts - 1, 0)).label("retries"),
    )
    seconds: dict[str, list[float]] = defaultdict(list)
    for row in ledger.rows(sa.select(c.role, c.seconds).where(c.status == "ok").order_by(c.seconds)):
        seconds[row["role"]].append(row["seconds"])
    roles = {}
    for row in ledger.rows(sa.select(c.role, *sums).group_by(c.role).order_by(c.role)):
        role = row.pop("role")
        roles[role] = RoleReport(**row, p50=_quantile(seconds[role], 0.5), p95=_quantile(seconds[role], 0.95))
    return roles


def _quantile(ordered: list[float], share: float) -> float | None:
    """The value that at least this share of them does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
