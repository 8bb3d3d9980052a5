"""One side of a comparison: the candidates of a run, or those in which one of its prompt variants spoke, counted, summed and shown.

RUN                  all candidates of a run
RUN:role.variant     those in which this prompt file spoke
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

from leafmill.errors import InputError, unknown
from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.ui.library import Library
from leafmill.ui.roles import cast
from leafmill.ui.run.distributions import PLOTS, Bin, edges_of
from leafmill.variants import Rate

LEAVES, OF_A_LEAF = 40, 40
"""how many leaves samples are taken of, and candidates of each side in a leaf"""


class Count(NamedTuple):
    """Candidates that ended in one way, and what they took."""

    leaf: str
    state: str
    stage: str
    code: str
    candidates: int
    tokens: int
    money: float | None
    """of those whose cost is known; None where none is"""

    @property
    def judged(self) -> bool:
        """Whether it says something of those who made them: what waits, failed, or found its leaf full does not."""
        return self.state in ("accepted", "rejected") and self.code != "quota_met"


class Spread(NamedTuple):
    """The values of a score."""

    known: int
    least: float | None
    most: float | None
    mean: float | None


@dataclass(frozen=True)
class Side:
    """Whose candidates are meant. `variant` is role.variant, "" for all of a run."""

    index: Index
    run: str
    variant: str = ""

    @classmethod
    def of(cls, library: Library, said: str) -> Side:
        """From an address. Raises RunFolderError for a run that is not there, InputError for a variant that it does not have."""
        run, colon, variant = said.rpartition(":")
        if not colon or said in library.names():
            return cls(library.index(said), said)
        index = library.index(run)
        if variant not in (known := cast.variants(index)):
            raise InputError(f"run {run!r}: {unknown('prompt variant', variant, known)}")
        return cls(index, run, variant)

    @property
    def address(self) -> str:
        return f"{self.run}:{self.variant}" if self.variant else self.run

    @property
    def within(self) -> str:
        """The condition for `candidates AS c`, with the value :variant."""
        return "c.n IN (SELECT n FROM tags WHERE kind = 'variant' AND value = :variant)" if self.variant else "1"

    def query(self, **keys: Any) -> str:
        """What finds candidates of this side."""
        return Filter().query(variant=self.variant or None, **keys)

    def rows(self, sql: str, **values: Any) -> list[dict[str, Any]]:
        return self.index.rows(sql, {"variant": self.variant, **values})

    def counts(self) -> list[Count]:
        """All its candidates, by leaf and how they ended."""
        sql = f"""SELECT leaf, state, stage, code, count(*) AS candidates, sum(tokens) AS tokens, sum(money) AS money
            FROM candidates AS c WHERE {self.within} GROUP BY 1, 2, 3, 4"""
        return self.index.once(("side", self.variant), lambda: [Count(**row) for row in self.rows(sql)])

    def spreads(self, leaf: str) -> dict[str, Spread]:
        """Of each score that is plotted."""
        sums = ", ".join(f"count({one}), min({one}), max({one}), avg({one})" for one in PLOTS)
        sql = f"SELECT {sums} FROM candidates AS c WHERE {self.within} {_in(leaf)}"

        def read() -> dict[str, Spread]:
            values = iter(self.rows(sql, leaf=leaf)[0].values())
            return {score: Spread(*(next(values) for _ in Spread._fields)) for score in PLOTS}

        return self.index.once(("spreads", self.variant, leaf), read)

    def bins(self, score: str, edges: Sequence[float], leaf: str) -> list[Bin]:
        """How many have a score between two edges."""
        within = " ".join(f"WHEN {score} < {edge!r} THEN {at}" for at, edge in enumerate(edges[1:]))
        sql = f"""SELECT CASE {within} END AS bin, count(*) AS count FROM candidates AS c
            WHERE {score} IS NOT NULL AND {self.within} {_in(leaf)} GROUP BY 1 ORDER BY 1"""
        between = [*pairwise(edges)]
        rows = self.index.once(("bins", self.variant, score, tuple(edges), leaf), lambda: self.rows(sql, leaf=leaf))
        return [
            Bin(
                low=low,
                high=high,
                group=self.address,
                count=row["count"],
                query=self.query(leaf=leaf, **{f"{score}.min": low, f"{score}.max": high}),
            )
            for row in rows
            for low, high in [between[row["bin"]]]
        ]

    def samples(self, leaf: str) -> list[Sample]:
        """The first candidates of a leaf that say something, of the accepted ones if there are any."""
        spoke = "EXISTS (SELECT 1 FROM tags AS t WHERE t.kind = 'variant' AND t.value = :variant AND t.n = c.n)" if self.variant else "1"
        sql = f"""SELECT id, leaf, language, state, axes FROM candidates AS c INDEXED BY by_leaf
            WHERE leaf = :leaf AND doc IS NOT NULL AND {{which}} AND {spoke} ORDER BY n LIMIT {OF_A_LEAF}"""

        def read() -> list[Sample]:
            found = next((rows for which in ("state = 'accepted'", "1") if (rows := self.rows(sql.format(which=which), leaf=leaf))), [])
            return [Sample(**row) for row in found]

        return self.index.once(("samples", self.variant, leaf), read)


class Sample(NamedTuple):
    """A candidate to be looked at. `axes`: its value of each, as JSON, which with leaf and language are its cell."""

    id: str
    leaf: str
    language: str
    state: str
    axes: str


class Pair(NamedTuple):
    a: Sample
    b: Sample
    cell: bool
    """both are of one cell; otherwise they have the leaf in common"""


def rate(counts: Iterable[Count]) -> Rate:
    """How many of those that were judged are accepted."""
    judged = [one for one in counts if one.judged]
    return Rate(tried=sum(one.candidates for one in judged), accepted=sum(one.candidates for one in judged if one.state == "accepted"))


def by_leaf(counts: Iterable[Count]) -> dict[str, list[Count]]:
    found: dict[str, list[Count]] = defaultdict(list)
    for one in counts:
        found[one.leaf].append(one)
    return dict(found)


def edges(score: str, spreads: Sequence[Spread]) -> list[float]:
    """Where the bins of a score begin that hold the values of both sides."""
    known = [one for one in spreads if one.least is not None and one.most is not None]
    ends = [end for one in known for end in (one.least, one.most) if end is not None]
    return edges_of(PLOTS[score], min(ends), max(ends)) if ends else []


def pairs(a: Side, b: Side, leaves: Sequence[str]) -> list[Pair]:
    """Samples beside each other: those of one cell first, from all leaves in turn; no candidate beside itself."""
    by_leaf = [list(_pairs(a.samples(leaf), b.samples(leaf), a.run == b.run)) for leaf in leaves[:LEAVES]]
    in_turn = [pair for turn in zip_longest(*by_leaf) for pair in turn if pair is not None]
    return sorted(in_turn, key=lambda pair: not pair.cell)


def shared(a: Side, b: Side) -> int:
    """Candidates that are on both sides."""
    if a.run != b.run:
        return 0
    rows = a.index.rows(
        f"SELECT count(*) AS n FROM candidates AS c WHERE {a.within} AND {b.within.replace(':variant', ':other')}",
        {"variant": a.variant, "other": b.variant},
    )
    return int(rows[0]["n"])


def _pairs(ours: Sequence[Sample], theirs: Sequence[Sample], same_run: bool) -> Iterator[Pair]:
    """Of one leaf: each candidate once, beside one of its cell if there is one, else of its language, else any."""
    left = list(theirs)
    later: list[Sample] = []
    for one in ours:
        other = next((that for that in left if _cell(that) == _cell(one) and not (same_run and that.id == one.id)), None)
        if other is None:
            later.append(one)
        else:
            left.remove(other)
            yield Pair(one, other, True)
    for one in later:
        free = [that for that in left if not (same_run and that.id == one.id)]
        if free:
            other = next((that for that in free if that.language == one.language), free[0])
            left.remove(other)
            yield Pair(one, other, False)


def _cell(one: Sample) -> tuple[str, str, bool]:
    return one.language, one.axes, one.state == "accepted"


def _in(leaf: str) -> str:
    return "AND c.leaf = :leaf" if leaf else ""
