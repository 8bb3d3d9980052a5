"""What people who reviewed say of the panel: how often it and they were of one mind, and how good the rows of the audit sample are.

Of a reviewed candidate that the panel had voted on, the panel's side is whether its median is what the gate `agreement` asks for; a
person's side is whether it was accepted as it was: to edit it says that it was not good enough. Those who wait are not like the others:
most wait because the panel was divided, and on hard cases anybody is wrong more often. Only the audit sample is drawn from all rows that
passed, so only it says how the panel does on what gets in; and of what was rejected without a person nothing is known.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any, NamedTuple

import sqlalchemy as sa
import yaml
from pydantic import BaseModel

from filters.agreement import ARBITER, Agreement
from filters.reliability import cohen
from leafmill.ledger import CANDIDATES, REVIEWS, VERDICTS, VOTES, Ledger
from leafmill.records import seat_names
from leafmill.report import audit_size
from leafmill.runfolder import RunFolder
from leafmill.variants import wilson

SAMPLE = "review.sample"
"""the code of those who wait by chance alone"""
DEFECTS, SURE = 0.05, 0.95
"""an audit asks for how many rows must be read without a defect, to be so sure that fewer than that share have one"""


class Share(BaseModel):
    """So many of so many, and where the share lies with 95% (Wilson's interval); None of none."""

    count: int
    of: int
    value: float | None
    between: tuple[float, float] | None

    @classmethod
    def of_all(cls, count: int, of: int) -> Share:
        return cls(count=count, of=of, value=count / of if of else None, between=wilson(count, of) if of else None)


class Sides(BaseModel):
    """Of the candidates that both judged: who said what of how many, and how far they agree."""

    both: int
    """accepted"""
    panel: int
    """accepted by the panel alone"""
    person: int
    """accepted by the person alone"""
    neither: int
    accuracy: Share
    """of one mind"""
    kappa: float | None
    """Cohen's: 1 is perfect, 0 is chance"""
    why: str
    """why there is no kappa"""

    @classmethod
    def of(cls, judged: Iterable[tuple[bool, bool]]) -> Sides:
        """Of pairs: the panel accepts, the person accepts."""
        pairs = list(judged)
        found, kappa = Counter(pairs), cohen(pairs)
        return cls(
            both=found[True, True],
            panel=found[True, False],
            person=found[False, True],
            neither=found[False, False],
            accuracy=Share.of_all(found[True, True] + found[False, False], len(pairs)),
            kappa=kappa.value,
            why=kappa.why,
        )


class Audit(BaseModel):
    """What people found in the audit sample, which was drawn from all rows that passed everything."""

    rejected: Share
    not_as_it_was: Share
    """rejected or edited"""
    size: int
    """rows to be read without a defect, to be 95% sure that fewer than 5% of all have one"""


class PeopleReport(BaseModel):
    """People against the panel."""

    threshold: float
    """the median from which the panel accepts"""
    reviewed: int
    """candidates that people decided"""
    unvoted: int
    """of these, those on which no vote of a panel was heard: they count nowhere else here but in the audit"""
    all: Sides
    seats: dict[str, Sides]
    """each seat's own vote against the person"""
    reviewers: dict[str, Sides]
    """the panel against each person"""
    reasons: dict[str, Sides]
    """by what the candidates waited for"""
    audit: Audit


class _Judged(NamedTuple):
    """A candidate that a person decided, with the votes of the panel's last look before that, by seat."""

    reviewer: str
    decision: str
    reason: str
    votes: Mapping[str, float]

    @property
    def accepted(self) -> bool:
        return self.decision == "accept"


def read(ledger: Ledger) -> PeopleReport:
    """All that was reviewed in a run. Where a candidate waited several times on the same votes, the first decision counts."""
    limit = threshold(RunFolder(ledger.path.parent))
    judged = _judged(ledger)
    voted = [one for one in judged if one.votes]

    def sides(some: Iterable[_Judged]) -> Sides:
        return Sides.of((median(one.votes.values()) >= limit, one.accepted) for one in some)

    seats = {seat for one in voted for seat in one.votes}
    return PeopleReport(
        threshold=limit,
        reviewed=len(judged),
        unvoted=len(judged) - len(voted),
        all=sides(voted),
        seats={seat: Sides.of((one.votes[seat] >= limit, one.accepted) for one in voted if seat in one.votes) for seat in sorted(seats)},
        reviewers={name: sides(some) for name, some in _grouped(voted, "reviewer").items()},
        reasons={code: sides(some) for code, some in _grouped(voted, "reason").items()},
        audit=_audit([one for one in judged if one.reason == SAMPLE]),
    )


def threshold(folder: RunFolder) -> float:
    """The median of the votes from which the panel's gate lets a row pass, by the run's recipe."""
    try:
        recipe = yaml.safe_load(folder.recipe.read_text(encoding="utf-8")) or {}
    except FileNotFoundError:
        recipe = {}
    settings = (recipe.get("gates") or {}).get(Agreement.name) or {}
    return float(settings.get("min_median", Agreement.min_median))


def _audit(sample: list[_Judged]) -> Audit:
    found = Counter(one.decision for one in sample)
    return Audit(
        rejected=Share.of_all(found["reject"], len(sample)),
        not_as_it_was=Share.of_all(found["reject"] + found["edit"], len(sample)),
        size=audit_size(DEFECTS, SURE),
    )


def _judged(ledger: Ledger) -> list[_Judged]:
    """In the order in which they were decided."""
    r, c = REVIEWS.c, CANDIDATES.c
    wanted = sa.select(r.candidate, r.seq, r.reviewer, r.decision, c.code).join(CANDIDATES, c.id == r.candidate)
    decided = ledger.rows(wanted.where(r.decision != "skip", r.undone_at.is_(None)).order_by(r.id))
    of_these = sa.select(r.candidate)
    v, g = VOTES.c, VERDICTS.c
    of_panel = sa.select(v.candidate, v.seq, v.role, v.alias, v.score, v.expected).where(v.candidate.in_(of_these), v.role != ARBITER)
    cast = ledger.rows(of_panel.order_by(v.candidate, v.seq, v.id))
    held = sa.select(g.candidate, g.seq, g.code).where(g.candidate.in_(of_these), g.decision != "accept")
    names = seat_names(sorted({(row["role"], row["alias"]) for row in cast}))
    votes, verdicts = _grouped_rows(cast), _grouped_rows(ledger.rows(held.order_by(g.candidate, g.seq, g.id)))
    found: dict[tuple[str, int], _Judged] = {}
    for row in decided:
        before = [vote for vote in votes[row["candidate"]] if vote["seq"] <= row["seq"]]
        look = before[-1]["seq"] if before else 0
        heard = {names[one["role"], one["alias"]]: _value(one) for one in before if one["seq"] == look and _value(one) is not None}
        codes = [verdict["code"] for verdict in verdicts[row["candidate"]] if verdict["seq"] <= row["seq"]]
        judged = _Judged(row["reviewer"], row["decision"], codes[-1] if codes else row["code"], heard)
        found.setdefault((row["candidate"], look), judged)
    return list(found.values())


def _value(vote: Mapping[str, Any]) -> Any:
    return vote["score"] if vote["expected"] is None else vote["expected"]


def _grouped_rows(rows: Iterable[dict[str, Any]]) -> Mapping[str, list[dict[str, Any]]]:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["candidate"]].append(row)
    return groups


def _grouped(judged: Iterable[_Judged], by: str) -> dict[str, list[_Judged]]:
    groups: dict[str, list[_Judged]] = defaultdict(list)
    for one in judged:
        groups[getattr(one, by)].append(one)
    return dict(sorted(groups.items()))
