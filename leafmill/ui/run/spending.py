"""What a run spends and on whom: tokens and money by role and model, and how long calls take."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from pydantic import BaseModel

from leafmill.index.filter import Filter
from leafmill.index.index import Index

GROWTH = 1.05
"""of the buckets that latencies are counted in"""


class Spent(BaseModel):
    """What some calls took."""

    calls: int = 0
    failed: int = 0
    retries: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    uncounted: int = 0
    """calls whose server did not say how many tokens they took"""
    money: float | None = None
    """of the calls whose cost is known; None where none is"""
    unpriced: int = 0
    tokens_per_accepted: float | None = None
    money_per_accepted: float | None = None
    share: float | None = None
    """of all tokens"""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens


class ModelSpent(Spent):
    model: str
    query: str


class RoleSpent(Spent):
    role: str
    models: list[ModelSpent]
    query: str


class Took(BaseModel):
    """How long the calls of a role took that succeeded, over all leaves: seconds, to within 5%."""

    role: str
    model: str
    """"": all of them"""
    calls: int
    p50: float
    p95: float
    query: str


class Spending(BaseModel):
    leaf: str
    accepted: int
    total: Spent
    roles: list[RoleSpent]
    """the dearest first"""
    latencies: list[Took]
    """the slowest first; by role, and by model where several play it"""


def read(index: Index, leaf: str = "") -> Spending:
    """Of one leaf or of all; latencies are of all in any case."""
    where, values = ("WHERE leaf = :leaf", {"leaf": leaf}) if leaf else ("", {})
    (found,) = index.rows(f"SELECT count(*) AS n FROM candidates {where} {'AND' if leaf else 'WHERE'} state = 'accepted'", values)
    accepted: int = found["n"]
    sums = "sum(calls) AS calls, sum(iif(status = 'ok', 0, calls)) AS failed, sum(retries) AS retries"
    sums += ", sum(prompt_tokens) AS prompt_tokens, sum(completion_tokens) AS completion_tokens, sum(uncounted) AS uncounted"
    sums += ", sum(money) AS money, sum(unpriced) AS unpriced"
    rows = index.rows(f"SELECT role, model, {sums} FROM spent {where} GROUP BY role, model ORDER BY role, model", values)
    tokens = sum(row["prompt_tokens"] + row["completion_tokens"] for row in rows)
    models: dict[str, list[ModelSpent]] = defaultdict(list)
    for row in rows:
        role = row.pop("role")
        row["money"] = None if row["unpriced"] == row["calls"] else row["money"]
        models[role].append(ModelSpent(**row, query=Filter().query(leaf=leaf, role=role, model=row["model"])))
    roles = [
        RoleSpent(role=role, models=ones, query=Filter().query(leaf=leaf, role=role), **_added(ones).model_dump())
        for role, ones in models.items()
    ]
    for one in [*roles, *(model for role in roles for model in role.models)]:
        _share(one, accepted, tokens)
    return Spending(
        leaf=leaf,
        accepted=accepted,
        total=_share(_added(roles), accepted, tokens),
        roles=sorted(roles, key=lambda one: -one.tokens),
        latencies=_latencies(index),
    )


def _added(ones: Sequence[Spent]) -> Spent:
    counts = ("calls", "failed", "retries", "prompt_tokens", "completion_tokens", "uncounted", "unpriced")
    known = [one.money for one in ones if one.money is not None]
    return Spent(money=sum(known) if known else None, **{name: sum(getattr(one, name) for one in ones) for name in counts})


def _share(one: Spent, accepted: int, tokens: int) -> Spent:
    one.tokens_per_accepted = one.tokens / accepted if accepted else None
    one.money_per_accepted = one.money / accepted if accepted and one.money is not None else None
    one.share = one.tokens / tokens if tokens else None
    return one


def _latencies(index: Index) -> list[Took]:
    by_role: dict[str, dict[str, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in index.rows("SELECT role, model, bucket, calls FROM latencies ORDER BY role, model, bucket"):
        by_role[row["role"]][row["model"]][row["bucket"]] = row["calls"]
    found: list[Took] = []
    for role, models in by_role.items():
        every: dict[int, int] = defaultdict(int)
        for buckets in models.values():
            for bucket, calls in buckets.items():
                every[bucket] += calls
        parts = {"": every, **(models if len(models) > 1 else {})}
        for model, buckets in parts.items():
            found.append(Took(role=role, model=model, **_quantiles(buckets), query=Filter().query(role=role, model=model)))
    slowest = {one.role: one.p95 for one in found if not one.model}
    return sorted(found, key=lambda one: (-slowest[one.role], one.role, one.model))


def _quantiles(buckets: dict[int, int]) -> dict[str, float]:
    """Of counts by bucket: the middle of the bucket that holds the quantile."""
    total, seen, found = sum(buckets.values()), 0, {}
    for bucket in sorted(buckets):
        seen += buckets[bucket]
        for name, share in (("p50", 0.5), ("p95", 0.95)):
            if name not in found and seen >= share * total:
                found[name] = GROWTH ** (bucket + 0.5) / 1000
    return {"calls": total, **found}
