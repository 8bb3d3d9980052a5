"""What became of a run: by leaf what was asked, accepted, rejected and why, and what it cost; by role how its calls went.

All of it is read from the ledger. What is not known is never added up as 0: it is counted beside the sum."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, computed_field

from filters.reliability import alpha, fleiss, interval
from leafmill.ledger import CALLS, CANDIDATES, LEAVES, VOTES, Ledger


class PanelReport(BaseModel):
    """How far the annotators agree: on each candidate the votes of the last panel that looked at it, as ranks."""

    rows: int
    """candidates with two or more votes"""
    agreement: float | None
    """of the pairs of votes on one candidate, the share that is equal"""
    alpha: float | None
    """Krippendorff's, ordinal: 1 is perfect, 0 is chance"""
    why: str
    """why there is no alpha"""
    interval: tuple[float, float] | None = None
    """in which alpha lies with 95%, by bootstrap over candidates; for all leaves together only"""
    kappa: float | None = None
    """Fleiss', where every candidate has as many votes; for all leaves together only"""


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
    panel: dict[str, PanelReport] = {}
    """by leaf, and of `all`; of those that have votes"""

    @property
    def total(self) -> LeafReport:
        """All leaves added up."""

        def add(name: str) -> dict[str, int]:
            return dict(sum((Counter[str](getattr(leaf, name)) for leaf in self.leaves), Counter[str]()))

        asked = [leaf.asked for leaf in self.leaves if leaf.asked is not None]
        met = sum(leaf.outcome == "met" for leaf in self.leaves)
        calls, unpriced = (sum(getattr(leaf, name) for leaf in self.leaves) for name in ("calls", "unpriced_calls"))
        return LeafReport(
            leaf="all",
            asked=sum(asked) if asked else None,
            outcome=f"{met} of {len(self.leaves)} met",
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
            outcome=outcome.get("state", "not finished"),
            why=outcome.get("reason", ""),
            states=dict(states[leaf]),
            reasons=dict(reasons[leaf].most_common()),
            failed_calls=dict(failed[leaf]),
            **(spent[leaf]._asdict() if leaf in spent else {}),
        )
    return Report(leaves=list(leaves.values()), roles=_roles(ledger), panel=_panel(ledger))


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


def _panel(ledger: Ledger) -> dict[str, PanelReport]:
    v, c = VOTES.c, CANDIDATES.c
    last = sa.select(v.candidate, sa.func.max(v.seq).label("seq")).group_by(v.candidate).subquery()
    wanted = (
        sa.select(c.leaf, v.candidate, v.score)
        .join(last, (v.candidate == last.c.candidate) & (v.seq == last.c.seq))
        .join(CANDIDATES, c.id == v.candidate)
        .order_by(c.leaf, v.candidate)
    )
    votes: dict[str, dict[str, list[float | None]]] = defaultdict(lambda: defaultdict(list))
    for row in ledger.rows(wanted):
        votes[row["leaf"]][row["candidate"]].append(row["score"])
    units = {leaf: [*rows.values()] for leaf, rows in votes.items()}
    if not units:
        return {}
    every = [unit for of_leaf in units.values() for unit in of_leaf]
    drawn = interval(every, "ordinal")
    whole = _agreed(every).model_copy(update={"interval": drawn and (drawn.low, drawn.high), "kappa": _kappa(every)})
    return {**{leaf: _agreed(of_leaf) for leaf, of_leaf in units.items()}, "all": whole}


def _agreed(units: list[list[float | None]]) -> PanelReport:
    found = alpha(units, "ordinal")
    return PanelReport(rows=found.units, agreement=found.agreement, alpha=found.value, why=found.why)


def _kappa(units: list[list[float | None]]) -> float | None:
    if any(len(unit) != len(units[0]) or None in unit for unit in units) or len(units[0]) < 2:
        return None
    return fleiss([[unit.count(score) for score in range(1, 6)] for unit in units]).value


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
