"""What the votes of a run say of its judges: how far they agree, who drifts from the others, and whether they like what is long.

Agreement is Krippendorff's alpha with the raw agreement beside it, by leaf and by dimension (what one annotator judges, where several
models play it). On each candidate the votes of the last panel that looked at it count; the arbiter's are none of the panel's.

A seat drifts if, over at least `ENOUGH` looks with two others beside it,
* it stands off: the mean of its difference from the median of them all is surely (95%) more than `APART`; or
* it confuses: without it alpha is higher by more than `GAIN`; or
* it has moved: that mean was surely more than `APART` away from itself in the other half of the run.

The others are the seats of the same dimension where there are at least two of them, else all other seats. Of a panel of two nobody can say
which of them drifts.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean, median, stdev
from typing import Any, Literal, NamedTuple

import numpy as np
import sqlalchemy as sa
from pydantic import BaseModel

from filters.agreement import ARBITER
from filters.reliability import alpha, fleiss, interval, spearman
from leafmill.ledger import CANDIDATES, VOTES, Ledger
from leafmill.log import RUN, WARNING, event
from leafmill.records import seat_names

ENOUGH = 20
"""looks from which anything is said of it"""
APART = 0.5
"""points"""
GAIN = 0.1
"""of alpha"""
FAR = 2
"""points from the median: an outlier"""
LONG_ENOUGH = 30
"""votes from which the correlation of score and length means something"""
ALARM = 0.3
"""of that correlation, either way"""
BINS = 4


class AgreementReport(BaseModel):
    """How far seats agree, their scores taken as ranks."""

    rows: int
    """candidates with two or more votes"""
    agreement: float | None
    """of the pairs of votes on one candidate, the share that is equal"""
    alpha: float | None
    """Krippendorff's, ordinal: 1 is perfect, 0 is chance"""
    why: str
    """why there is no alpha"""
    interval: tuple[float, float] | None = None
    """in which alpha lies with 95%, by bootstrap over candidates"""


class PanelReport(AgreementReport):
    """The panel's agreement over all its seats."""

    kappa: float | None = None
    """Fleiss', where every candidate has as many votes; for all leaves together only"""
    dimensions: dict[str, AgreementReport] = {}
    """by annotator, of those that several models play"""


class SeatReport(BaseModel):
    """One seat beside the others, over all leaves."""

    votes: int
    failed: int
    mean: float | None
    apart: float | None = None
    """mean of its difference from the median of it and the others; None where it never had two others beside it"""
    between: tuple[float, float] | None = None
    """in which that lies with 95%"""
    halves: tuple[float, float] | None = None
    """the same in the first and in the second half of the run"""
    outliers: float | None = None
    """share of its votes that are two points or more from that median"""
    alpha_without: float | None = None
    """the panel's, were it not there"""
    drifts: list[Literal["off", "confuses", "moved"]] = []
    mixed: bool = False
    """the others judge other dimensions: there are not two of its own"""


class Bin(BaseModel):
    """Answers of about one length."""

    shortest: int
    longest: int
    """tokens"""
    votes: int
    mean: float
    correlation: float | None
    """of score and length among them; None of too few"""


class LengthReport(BaseModel):
    """Whether a seat's scores go with the length of the answer, in one language."""

    seat: str
    language: str
    votes: int
    correlation: float | None
    """Spearman's; None where all scores, or all lengths, are the same"""
    bins: list[Bin]
    alarm: bool


class Judging(BaseModel):
    """All that the votes say."""

    panel: dict[str, PanelReport] = {}
    """by leaf, and of `all`; of those that have votes"""
    seats: dict[str, SeatReport] = {}
    lengths: list[LengthReport] = []
    gold: list[dict[str, Any]] = []
    """how each judge did on the gold rows, when they were last asked"""

    @property
    def drifting(self) -> dict[str, SeatReport]:
        return {name: seat for name, seat in self.seats.items() if seat.drifts}


class Cast(NamedTuple):
    """A vote as the ledger has it."""

    leaf: str
    candidate: str
    seq: int
    seat: str
    dimension: str
    language: str
    score: int | None
    value: float | None
    tokens: int | None


Unit = dict[str, Cast]
"""the votes on one candidate, by seat"""


def read(ledger: Ledger) -> Judging:
    """What the votes of a run say, finished or under way."""
    cast = _votes(ledger)
    looks = [{one.seat: one for one in votes} for _, votes in groupby(cast, key=lambda one: (one.candidate, one.seq))]
    last = {next(iter(unit.values())).candidate: unit for unit in looks}  # in the order of seq
    units = [*last.values()]
    names = sorted({one.seat for one in cast}, key=[one.seat for one in cast].index)
    return Judging(
        panel=_agreement(units),
        seats={name: _seat(name, cast, looks) for name in names},
        lengths=[_length(votes) for votes in _grouped(cast, lambda one: (one.seat, one.language)).values()],
        gold=ledger.meta("gold") or [],
    )


def tell(found: Judging) -> None:
    """Log what a person should look at."""
    for name, seat in found.drifting.items():
        event(RUN, WARNING, "annotator drifts", seat=name, how=",".join(seat.drifts), apart=seat.apart, votes=seat.votes)
    for one in found.lengths:
        if one.alarm:
            event(RUN, WARNING, "scores go with length", seat=one.seat, language=one.language, correlation=one.correlation, votes=one.votes)


# -- agreement ---------------------------------------------------------------------------------------------------------


def _agreement(units: Sequence[Unit]) -> dict[str, PanelReport]:
    if not units:
        return {}
    by_leaf: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        by_leaf[next(iter(unit.values())).leaf].append(unit)
    found = {leaf: _panel(by_leaf[leaf]) for leaf in sorted(by_leaf)}
    return {**found, "all": _panel(units).model_copy(update={"kappa": _kappa([_scores(unit.values()) for unit in units])})}


def _panel(units: Sequence[Unit]) -> PanelReport:
    whole = _agreed([_scores(unit.values()) for unit in units])
    seats = _grouped((one for unit in units for one in unit.values()), lambda one: one.dimension)
    several = [name for name, votes in seats.items() if len({one.seat for one in votes}) > 1]
    dimensions = {name: _agreed([_scores(one for one in unit.values() if one.dimension == name) for unit in units]) for name in several}
    return PanelReport(**whole.model_dump(), dimensions=dimensions)


def _agreed(units: Sequence[Sequence[int | None]]) -> AgreementReport:
    found, drawn = alpha(units, "ordinal"), interval(units, "ordinal")
    between = (drawn.low, drawn.high) if drawn and found.value is not None else None
    return AgreementReport(rows=found.units, agreement=found.agreement, alpha=found.value, why=found.why, interval=between)


def _kappa(units: Sequence[Sequence[int | None]]) -> float | None:
    if any(len(unit) != len(units[0]) or None in unit for unit in units) or len(units[0]) < 2:
        return None
    return fleiss([[unit.count(score) for score in range(1, 6)] for unit in units]).value


def _scores(votes: Iterable[Cast]) -> list[int | None]:
    return [one.score for one in votes]


# -- a seat beside the others ------------------------------------------------------------------------------------------


def _seat(name: str, cast: Sequence[Cast], looks: Sequence[Unit]) -> SeatReport:
    own = [one.value for one in cast if one.seat == name]
    heard = [value for value in own if value is not None]
    report = SeatReport(votes=len(heard), failed=len(own) - len(heard), mean=fmean(heard) if heard else None)
    dimension = next(one.dimension for one in cast if one.seat == name)
    fellows = {one.seat for one in cast if one.dimension == dimension and one.seat != name}
    others = fellows if len(fellows) > 1 else {one.seat for one in cast if one.seat != name}
    differences = [found for unit in looks if (found := _difference(name, others, unit)) is not None]
    if not differences:
        return report
    half = len(differences) // 2
    first, second = differences[:half], differences[half:]
    halves = (fmean(first), fmean(second)) if first else None
    with_, without = (
        alpha([_scores(one for seat, one in unit.items() if seat in some) for unit in looks], "ordinal").value
        for some in ({*others, name}, others)
    )
    drifts: list[Literal["off", "confuses", "moved"]] = []
    if len(differences) >= ENOUGH:
        drifts += ["off"] if _is_beyond(_mean_between(differences)) else []
        drifts += ["confuses"] if with_ is not None and without is not None and without - with_ > GAIN else []
        drifts += ["moved"] if _is_beyond(_step_between(first, second)) else []
    return report.model_copy(
        update={
            "apart": fmean(differences),
            "between": _mean_between(differences),
            "halves": halves,
            "outliers": fmean(abs(one) >= FAR for one in differences),
            "alpha_without": without,
            "drifts": drifts,
            "mixed": others != fellows,
        }
    )


def _difference(name: str, others: set[str], unit: Unit) -> float | None:
    """How far a seat's vote lies from the median of its own and the others': so one that stands off does not move the rest."""
    own = unit[name].value if name in unit else None
    beside = [value for seat, one in unit.items() if seat in others and (value := one.value) is not None]
    return own - median([own, *beside]) if own is not None and len(beside) > 1 else None


def _mean_between(sample: Sequence[float]) -> tuple[float, float] | None:
    """In which the mean lies with 95%; None of a single one."""
    if len(sample) < 2:
        return None
    middle, margin = fmean(sample), 1.96 * stdev(sample) / math.sqrt(len(sample))
    return middle - margin, middle + margin


def _step_between(first: Sequence[float], second: Sequence[float]) -> tuple[float, float] | None:
    """In which the difference of two means lies with 95%."""
    if len(first) < 2 or len(second) < 2:
        return None
    step = fmean(second) - fmean(first)
    margin = 1.96 * math.sqrt(stdev(first) ** 2 / len(first) + stdev(second) ** 2 / len(second))
    return step - margin, step + margin


def _is_beyond(between: tuple[float, float] | None) -> bool:
    return between is not None and (between[0] > APART or between[1] < -APART)


# -- length ------------------------------------------------------------------------------------------------------------


def _length(votes: Sequence[Cast]) -> LengthReport:
    """Of the votes of one seat in one language."""
    seat, language = votes[0].seat, votes[0].language
    pairs = sorted((one.tokens, one.value) for one in votes if one.tokens is not None and one.value is not None)
    found = spearman(pairs)
    bins = [_bin(some) for part in np.array_split(np.arange(len(pairs)), BINS) if (some := [pairs[at] for at in part])]
    alarm = found is not None and len(pairs) >= LONG_ENOUGH and abs(found) > ALARM
    return LengthReport(seat=seat, language=language, votes=len(pairs), correlation=found, bins=bins, alarm=alarm)


def _bin(pairs: Sequence[tuple[int, float]]) -> Bin:
    found = spearman(pairs) if len(pairs) >= LONG_ENOUGH else None
    return Bin(shortest=pairs[0][0], longest=pairs[-1][0], votes=len(pairs), mean=fmean(v for _, v in pairs), correlation=found)


# -- reading -----------------------------------------------------------------------------------------------------------


def _votes(ledger: Ledger) -> list[Cast]:
    """The panel's votes, candidate by candidate as they were begun, each look of the panel in its turn; seats by the names that tell them
    apart."""
    v, c = VOTES.c, CANDIDATES.c
    wanted = sa.select(c.leaf, v.candidate, v.seq, v.role, v.alias, c.language, v.score, v.expected, v.answer_tokens)
    of_panel = wanted.join(CANDIDATES, c.id == v.candidate).where(v.role != ARBITER)
    found = ledger.rows(of_panel.order_by(c.begun_at, c.leaf, c.number, v.seq, v.id))
    names = seat_names(sorted((row["role"], row["alias"]) for row in found))
    return [
        Cast(
            row["leaf"],
            row["candidate"],
            row["seq"],
            names[row["role"], row["alias"]],
            row["role"],
            row["language"],
            row["score"],
            row["score"] if row["expected"] is None else row["expected"],
            row["answer_tokens"],
        )
        for row in found
    ]


def _grouped(votes: Iterable[Cast], key: Callable[[Cast], Any]) -> Mapping[Any, list[Cast]]:
    groups: dict[Any, list[Cast]] = defaultdict(list)
    for one in votes:
        groups[key(one)].append(one)
    return groups
