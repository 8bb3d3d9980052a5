"""How scores and lengths of candidates are distributed, and where the gates draw their lines; how each judge scores."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, computed_field

from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.records import Language, seat_names

BINS = 24
"""about so many"""
DECADE = (10, 13, 18, 24, 32, 42, 56, 75)
"""where bins of lengths begin: each about a third longer than the one before"""
LATELY = 5000
"""verdicts that are asked for the gates' thresholds: they seldom change within a run"""
GROUPS = {"accepted": "state = 'accepted'", "other": "state <> 'accepted'"}
OUTCOMES = {"accepted": ("accepted",), "other": ("rejected", "errored", "waiting", "open")}
By = Literal["outcome", "language"]


class Plot(NamedTuple):
    """What is plotted of a score: what it is told apart by, the width of a bin (0: as its values need, -1: growing) and where bins begin,
    and the gates whose thresholds belong to it."""

    by: By
    step: float = 0.0
    begin: float = 0.0
    gates: tuple[str, ...] = ()


PLOTS: dict[str, Plot] = {
    "ifd": Plot("outcome", gates=("ifd",)),
    "instruction_length": Plot("language", -1),
    "answer_length": Plot("language", -1),
    "panel": Plot("outcome", 0.5, 0.75, ("agreement",)),
    "critic": Plot("outcome", 1, 0.5, ("critic",)),
    "similarity": Plot("outcome", 0.05, 0, ("minhash", "semantic")),
}
"""by column of the index"""


class Bin(BaseModel):
    """Candidates whose score is at least `low` and less than `high`."""

    low: float
    high: float
    group: str
    """accepted or other, or a language"""
    count: int
    query: str


class Limit(BaseModel):
    """A threshold of a gate."""

    gate: str
    at: float
    stratum: str = ""
    """for which rows it holds; "" for all"""


class Histogram(BaseModel):
    score: str
    by: By
    known: int
    """candidates that have the score"""
    unknown: int
    mean: float | None
    groups: list[str]
    bins: list[Bin]
    limits: list[Limit]


class Scored(BaseModel):
    """How often a judge gave a score."""

    score: int
    count: int


class Seat(BaseModel):
    """What a judge's scores are."""

    seat: str
    role: str
    alias: str
    scores: list[Scored]
    query: str
    """finds the candidates that it judged"""

    @computed_field  # type: ignore[prop-decorator]
    @property
    def votes(self) -> int:
        return sum(one.count for one in self.scores)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def mean(self) -> float | None:
        return sum(one.score * one.count for one in self.scores) / self.votes if self.votes else None


class Extent(NamedTuple):
    """Of the values of a score; None where no candidate has one."""

    least: float | None
    most: float | None
    mean: float | None
    known: int


def extents(index: Index, leaf: str = "") -> dict[str, Extent]:
    """Of all scores that are plotted; and, as "", how many candidates there are. Those of a leaf are few, and looked at once; those of all
    are read along the index of each score, which is narrower than they are."""
    if leaf:
        sums = ("min", "max", "avg", "count")
        columns = ", ".join(f"{name}({_value(score)}) AS {score}_{name}" for score in PLOTS for name in sums)
        (found,) = index.rows(f"SELECT {columns}, count(*) AS total FROM candidates WHERE leaf = :leaf", {"leaf": leaf})
        by_score = {score: Extent(*(found[f"{score}_{name}"] for name in sums)) for score in PLOTS}
        return {**by_score, "": Extent(None, None, None, found["total"])}
    along = " UNION ALL ".join(
        f"""SELECT '{score}' AS score, (SELECT min({score}) FROM candidates WHERE {score} {known}) AS least,
            (SELECT max({score}) FROM candidates WHERE {score} {known}) AS most, total({score}) AS total, count(*) AS count
            FROM candidates INDEXED BY by_{score} WHERE {score} {known}"""
        for score in PLOTS
        for known in ["> 0" if PLOTS[score].step < 0 else "IS NOT NULL"]
    )
    of = {row["score"]: row for row in index.rows(along)}
    by_score = {
        score: Extent(row["least"], row["most"], row["total"] / row["count"] if row["count"] else None, row["count"])
        for score, row in of.items()
    }
    (every,) = index.rows("SELECT count(*) AS n FROM candidates")
    return {**by_score, "": Extent(None, None, None, every["n"])}


def histogram(index: Index, score: str, found: Mapping[str, Extent], leaf: str = "") -> Histogram:
    """Of one leaf or of all. `score`: one of PLOTS; `found`: `extents` of the same."""
    plot, (least, most, mean, known) = PLOTS[score], found[score]
    limits = _limits(index, plot.gates) if plot.gates else []
    edges = [] if least is None or most is None else edges_of(plot, least, most)
    bins = [*_bins(index, score, plot.by, edges, leaf)] if edges else []
    return Histogram(
        score=score,
        by=plot.by,
        known=known,
        unknown=found[""].known - known,
        mean=mean,
        groups=list(OUTCOMES) if plot.by == "outcome" else sorted({one.group for one in bins}),
        bins=bins,
        limits=limits,
    )


def seats(index: Index, leaf: str = "") -> list[Seat]:
    """The scores of each seat of the panels, expected ones to the nearest whole; those that could not be heard are left out."""
    counts: dict[tuple[str, str], list[Scored]] = defaultdict(list)
    for row in index.rows(_SEATS_OF_LEAF, {"leaf": leaf}) if leaf else index.rows(_SEATS):
        counts[row["role"], row["alias"]] += [Scored(score=row["score"], count=row["count"])] if row["count"] else []
    names = seat_names(counts)
    return [
        Seat(seat=names[role, alias], role=role, alias=alias, scores=scores, query=Filter().query(leaf=leaf, role=role))
        for (role, alias), scores in counts.items()
    ]


_SEATS = """
WITH seats AS (SELECT DISTINCT role, alias FROM votes), scale (score) AS (VALUES (1), (2), (3), (4), (5))
SELECT role, alias, score, (
    SELECT count(*) FROM votes AS v
    WHERE v.role = seats.role AND v.alias = seats.alias AND v.value >= score - 0.5 AND v.value < score + 0.5
) AS count FROM seats, scale ORDER BY role, alias, score
"""
"""counted along an index: grouping all votes would sort them"""
_SEATS_OF_LEAF = """
SELECT role, alias, CAST(value + 0.5 AS INTEGER) AS score, count(value) AS count FROM votes JOIN candidates USING (n) WHERE leaf = :leaf
GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
"""


def edges_of(plot: Plot, least: float, most: float) -> list[float]:
    """Where bins begin, and where the last one ends: beyond the greatest value."""
    if plot.step < 0:
        every = [float(one * 10**power) for power in range(-1, 8) for one in DECADE]
        last = next((at for at, edge in enumerate(every) if edge > most), len(every) - 1)
        return every[max(0, sum(edge <= least for edge in every) - 1) : last + 1]
    step = plot.step or _round((most - least) / BINS)

    def edge(at: int) -> float:
        return round(plot.begin + at * step, 6)

    first, last = math.floor((least - plot.begin) / step), math.floor((most - plot.begin) / step) + 1
    first, last = first - (edge(first) > least), last + (edge(last) <= most)  # where dividing has rounded to the other side
    return [edge(at) for at in range(first, last + 1)]


def _value(score: str) -> str:
    """What is plotted of it: a text that was never written has no length."""
    return f"nullif({score}, 0)" if PLOTS[score].step < 0 else score


def _round(width: float) -> float:
    """A width of bins that people can read: 1, 2 or 5 times a power of ten, at least so much, and not too fine to be written."""
    width = max(width, 0.001)
    power = 10.0 ** math.floor(math.log10(width))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= width * 0.999)


def _bins(index: Index, score: str, by: By, edges: Sequence[float], leaf: str) -> Iterator[Bin]:
    """Which bin a value is in is said by the edges themselves, so that it is that of the query."""
    groups = {one: f"language = '{one}'" for one in get_args(Language)} if by == "language" else GROUPS
    within = ", ".join(f"({at}, {low!r}, {high!r})" for at, (low, high) in enumerate(pairwise(edges)))
    scan = f"FROM candidates INDEXED BY by_{score} WHERE {score} >= low AND {score} < high {'AND leaf = :leaf' if leaf else ''}"
    counts = " UNION ALL ".join(
        f"""SELECT bin, '{group}' AS "group", (SELECT count(*) {scan} AND {condition}) AS count FROM bins"""
        for group, condition in groups.items()
    )
    sql = f"""WITH bins (bin, low, high) AS (VALUES {within}) SELECT * FROM ({counts}) WHERE count ORDER BY bin, "group" """
    between = [*pairwise(edges)]
    for row in index.rows(sql, {"leaf": leaf} if leaf else {}):
        low, high = between[row["bin"]]
        named = {"language": [row["group"]]} if by == "language" else {"state": OUTCOMES[row["group"]]}
        found = Filter().query(leaf=leaf, **named, **{f"{score}.min": low, f"{score}.max": high})
        yield Bin(low=low, high=high, group=row["group"], count=row["count"], query=found)


def _limits(index: Index, gates: Sequence[str]) -> list[Limit]:
    """What the gates' last verdicts were measured against; of the IFD the ends of its bands."""
    named = {f"gate{at}": gate for at, gate in enumerate(gates)}
    lately = f"SELECT gate, code, threshold, evidence FROM ledger.verdicts ORDER BY id DESC LIMIT {LATELY}"
    wanted = ", ".join(f":{name}" for name in named)
    sql = f"""SELECT DISTINCT gate, threshold, json_extract(evidence, '$.band') AS band, json_extract(evidence, '$.stratum') AS stratum
        FROM ({lately}) WHERE gate IN ({wanted}) AND (gate <> 'agreement' OR code IN ('ok', 'agreement.low'))"""
    found = {(one.gate, one.at, one.stratum): one for row in index.rows(sql, named) for one in _of(row)}
    return sorted(found.values(), key=lambda one: one.at)


def _of(row: dict[str, Any]) -> Iterator[Limit]:
    if row["band"]:
        for at in _numbers(row["band"]):
            yield Limit(gate=row["gate"], at=at, stratum=row["stratum"] or "")
    elif row["threshold"] is not None:
        yield Limit(gate=row["gate"], at=row["threshold"])


def _numbers(band: str) -> list[float]:
    """Of a band as JSON; its low end is 0 where there is none, which is no line to draw."""
    return [float(at) for at in json.loads(band) if at]
