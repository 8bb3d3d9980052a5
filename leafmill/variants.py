"""What varies on purpose, and how it fares: the evolver's operators, and the prompt variants of every role.

Counted are candidates that were judged, accepted or rejected: one that waits, failed, is open, or found its leaf full says nothing yet.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, computed_field

from leafmill.ledger import CALLS, CANDIDATES, Ledger

JUDGED = sa.and_(CANDIDATES.c.state.in_(("accepted", "rejected")), CANDIDATES.c.code != "quota_met")
Z = 1.959964
"""standard deviations on either side that hold 95% of a normal distribution"""


class Rate(BaseModel):
    """How many of so many were accepted."""

    tried: int = 0
    accepted: int = 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def rate(self) -> float | None:
        return self.accepted / self.tried if self.tried else None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def interval(self) -> tuple[float, float] | None:
        """in which the rate lies with 95%"""
        return wilson(self.accepted, self.tried) if self.tried else None


class OperatorReport(Rate):
    """An operator's evolutions. `accepted` counts children that stand in an accepted row, `refused` the others by code; what is neither
    stood, and its row was rejected for something else."""

    refused: dict[str, int] = {}


class VariantReport(Rate):
    """One prompt file of a role: the candidates in which it spoke, and the tokens of all its calls, failed ones included."""

    role: str
    variant: str
    tokens: int = 0


class Varied(BaseModel):
    operators: dict[str, OperatorReport] = {}
    variants: list[VariantReport] = []
    """by role; what speaks for no candidate (a planner) is not among them"""


def read(ledger: Ledger) -> Varied:
    return Varied(operators=_operators(ledger), variants=_variants(ledger))


def wilson(accepted: int, tried: int) -> tuple[float, float]:
    """The interval in which a share lies with 95%, by Wilson's score: it holds for few and for extreme shares, too.

    >>> [round(end, 3) for end in wilson(8, 10)]
    [0.49, 0.943]
    """
    share, spread = accepted / tried, Z * Z / tried
    centre = (share + spread / 2) / (1 + spread)
    half = Z * math.sqrt(share * (1 - share) / tried + spread / (4 * tried)) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def _operators(ledger: Ledger) -> dict[str, OperatorReport]:
    c = CANDIDATES.c
    each = sa.func.json_each(c.lineage, "$.evolutions").table_valued("value")
    operator, refused = (sa.func.json_extract(each.c.value, f"$.{name}").label(name) for name in ("operator", "refused"))
    count = sa.func.count().label("n")
    wanted = sa.select(operator, refused, c.state, count).select_from(CANDIDATES.join(each, sa.true())).where(JUDGED)
    found: dict[str, OperatorReport] = defaultdict(OperatorReport)
    for row in ledger.rows(wanted.group_by(operator, refused, c.state).order_by(operator, refused)):
        one = found[row["operator"]]
        one.tried += row["n"]
        if row["refused"]:
            one.refused[row["refused"]] = one.refused.get(row["refused"], 0) + row["n"]
        elif row["state"] == "accepted":
            one.accepted += row["n"]
    return dict(found)


def _variants(ledger: Ledger) -> list[VariantReport]:
    k, c = CALLS.c, CANDIDATES.c
    tokens = sa.func.sum(sa.func.coalesce(k.prompt_tokens, 0) + sa.func.coalesce(k.completion_tokens, 0)).label("tokens")
    spoke = sa.func.max(sa.case((k.status == "ok", 1), else_=0)).label("spoke")
    judged = sa.case((JUDGED, 1), else_=0).label("judged")
    by_candidate = (
        sa.select(k.role, k.variant, c.state, judged, tokens, spoke)
        .join(CANDIDATES, c.id == k.candidate)
        .group_by(k.role, k.variant, k.candidate)
        .subquery()
    )
    b, total = by_candidate.c, sa.func.sum
    sums: dict[str, Any] = {
        "tokens": total(b.tokens),
        "tried": total(b.spoke * b.judged),
        "accepted": total(b.spoke * b.judged * sa.case((b.state == "accepted", 1), else_=0)),
    }
    wanted = sa.select(b.role, b.variant, *(column.label(name) for name, column in sums.items()))
    return [VariantReport(**row) for row in ledger.rows(wanted.group_by(b.role, b.variant).order_by(b.role, b.variant))]
