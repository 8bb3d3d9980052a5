"""How much of each leaf is covered: values of axes, pairs of values of two axes, and concepts; as planned, and in accepted rows.

All of it is read from the ledger. The language counts as an axis. A hole is a pair that was planned and is in no accepted row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, combinations
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel, computed_field

from leafmill.ledger import CANDIDATES, Ledger
from leafmill.records import AGAIN
from taxonomy.covering import FACTORS, LANGUAGE

Factors = Mapping[str, Sequence[str]]
Choice = tuple[str, str]
"""axis and value"""


class Covered(BaseModel):
    """How many there are, how many some candidate has been planned with, and how many are in an accepted row."""

    possible: int = 0
    planned: int = 0
    accepted: int = 0


class Hole(BaseModel):
    """Two values that no accepted row has together, and how many candidates were planned with both."""

    values: dict[str, str]
    tried: int


class LeafCoverage(BaseModel):
    leaf: str
    candidates: int
    accepted: int
    refills: int
    """candidates that took a cell again"""
    values: Covered
    pairs: Covered
    concepts: Covered
    """of those that were ever planned: what else the syllabus holds is not counted"""
    missing: dict[str, list[str]] = {}
    """by axis, the values that are in no accepted row"""
    holes: list[Hole] = []
    untaught: list[str] = []
    """concepts that are in no accepted row"""


class Coverage(BaseModel):
    leaves: list[LeafCoverage] = []

    @computed_field  # type: ignore[prop-decorator]
    @property
    def total(self) -> dict[str, Covered]:
        """All leaves added up: values, pairs, concepts."""
        return {
            kind: Covered(**{part: sum(getattr(getattr(leaf, kind), part) for leaf in self.leaves) for part in Covered.model_fields})
            for kind in ("values", "pairs", "concepts")
        }


def read(ledger: Ledger) -> Coverage:
    """The coverage of a run, finished or under way."""
    c = CANDIDATES.c
    briefs: dict[str, list[tuple[Mapping[str, Any], bool]]] = defaultdict(list)
    for row in ledger.rows(sa.select(c.leaf, c.brief, c.state).order_by(c.leaf, c.number)):
        briefs[row["leaf"]].append((row["brief"], row["state"] == "accepted"))
    factors: dict[str, Factors] = ledger.meta(FACTORS) or {}
    return Coverage(leaves=[_leaf(leaf, ones, factors.get(leaf, {})) for leaf, ones in briefs.items()])


def _leaf(leaf: str, briefs: Sequence[tuple[Mapping[str, Any], bool]], factors: Factors) -> LeafCoverage:
    chosen = [[(LANGUAGE, brief["language"]), *brief["axes"].items()] for brief, _ in briefs]
    in_rows = [one for one, (_, accepted) in zip(chosen, briefs, strict=True) if accepted]
    values, pairs = _counted(chosen)
    got, got_together = _counted(in_rows)
    known: dict[str, list[str]] = {axis: list(ones) for axis, ones in factors.items()}
    for axis, value in values:
        if value not in known.setdefault(axis, []):  # of another version of the taxonomy
            known[axis].append(value)
    concepts = list(dict.fromkeys(concept for brief, _ in briefs for concept in brief.get("concepts", ())))
    taught = {concept for brief, accepted in briefs if accepted for concept in brief.get("concepts", ())}
    together = sum(len(known[one]) * len(known[other]) for one, other in combinations(known, 2))
    return LeafCoverage(
        leaf=leaf,
        candidates=len(briefs),
        accepted=len(in_rows),
        refills=sum(brief["number"] >= AGAIN for brief, _ in briefs),
        values=Covered(possible=sum(map(len, known.values())), planned=len(values), accepted=len(got)),
        pairs=Covered(possible=together, planned=len(pairs), accepted=len(got_together)),
        concepts=Covered(possible=len(concepts), planned=len(concepts), accepted=len(taught)),
        missing={axis: lacking for axis, ones in known.items() if (lacking := [one for one in ones if (axis, one) not in got])},
        holes=[Hole(values=dict(pair), tried=tried) for pair, tried in pairs.items() if pair not in got_together],
        untaught=[concept for concept in concepts if concept not in taught],
    )


def _counted(chosen: Sequence[Sequence[Choice]]) -> tuple[Counter[Choice], Counter[tuple[Choice, Choice]]]:
    """How often each value comes, and each pair of values."""
    return Counter(chain.from_iterable(chosen)), Counter(chain.from_iterable(combinations(one, 2) for one in chosen))
