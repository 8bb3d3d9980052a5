"""The charts of a run's page: what each is called, what it says in words, and its specification."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel

from leafmill.index.filter import Filter
from leafmill.panel import PanelReport
from leafmill.records import digest
from leafmill.ui import charts
from leafmill.ui.charts import Bar, Limit, Part, Spread
from leafmill.ui.numbers import count, hundredths, share, short
from leafmill.ui.run.distributions import Histogram, Seat
from leafmill.ui.words import phrase

Say = Callable[..., str]
"""`_`"""
MOST = 40
"""leaves in a chart that has a line for each: the others are in its table"""
FIRM, TENTATIVE = 0.8, 0.667
"""alpha from which agreement is customarily called firm, or enough for tentative conclusions"""
SCORES = ("1", "2", "3", "4", "5")


class Called(NamedTuple):
    """What a histogram is called, what its scale is, and what is said where there is nothing to show."""

    title: str
    scale: str
    nothing: str


CALLED: Mapping[str, Called] = {
    "ifd": Called(
        phrase("Instruction-following difficulty (IFD)"),
        phrase("IFD: the lower, the more the instruction helps"),
        phrase("No candidate has an IFD: the gate is off, or none has come as far as scoring."),
    ),
    "instruction_length": Called(
        phrase("Length of instructions"), phrase("characters, each step about a third more"), phrase("No instruction has been written yet.")
    ),
    "answer_length": Called(
        phrase("Length of answers"), phrase("characters, each step about a third more"), phrase("No answer has been written yet.")
    ),
    "panel": Called(
        phrase("The panel's scores"),
        phrase("median of a panel's votes"),
        phrase("No panel has voted: there is none, or none has been asked yet."),
    ),
    "critic": Called(
        phrase("The critic's scores"), phrase("score"), phrase("The critic has scored nothing: it is off, or has not been asked yet.")
    ),
    "similarity": Called(
        phrase("Similarity to the nearest neighbour"),
        phrase("similarity: 1 is the same"),
        phrase("No candidate has been held against others: the gates for duplicates are off, or found nothing near."),
    ),
}
GROUPS = {"accepted": phrase("accepted"), "other": phrase("not accepted"), "en": phrase("English"), "zh": phrase("Chinese")}
COLOURS = {"accepted": "var(--accepted)", "other": "color-mix(in oklab, var(--faint) 55%, var(--card))"}


def histogram(found: Histogram, run: str, _: Say) -> dict[str, Any]:
    called = CALLED[found.score]
    names = {group: _(GROUPS.get(group, group)) for group in found.groups}
    colours = {name: COLOURS.get(group, charts.PALETTE[at]) for at, (group, name) in enumerate(names.items())}
    bars = [Bar(low=one.low, high=one.high, group=names[one.group], count=one.count, address=address(run, one.query)) for one in found.bins]
    limits = [Limit(at=one.at, text=" ".join(part for part in (one.gate, one.stratum, f"{one.at:.3g}") if part)) for one in found.limits]
    drawn = charts.histogram(bars, colours, _(called.scale), _("candidates"), limits, grows=found.score.endswith("_length"))
    return charts.specification(drawn, told(found, _))


def told(found: Histogram, _: Say) -> str:
    """The main figures, in words."""
    if not found.bins:
        return _(CALLED[found.score].nothing)
    highest = max(found.bins, key=lambda one: sum(other.count for other in found.bins if other.low == one.low))
    parts = [
        _("{n} candidates, mean {mean}", n=count(found.known), mean=short(found.mean)),
        _("most often from {low} to {high}", low=short(highest.low), high=short(highest.high)),
    ]
    if found.by == "outcome":
        parts.append(_("{n} of them accepted", n=count(sum(one.count for one in found.bins if one.group == "accepted"))))
    if found.limits:
        parts.append(_("thresholds: {limits}", limits=", ".join(f"{one.gate} {one.at:.3g}" for one in found.limits)))
    return _("; ").join(parts)


def seats(found: Sequence[Seat], run: str, _: Say) -> dict[str, Any]:
    parts = [
        Part(line=seat.seat, part=str(one.score), count=one.count, address=address(run, seat.query))
        for seat in found
        for one in seat.scores
    ]
    return charts.specification(charts.shares(parts, SCORES, charts.SCALE, _("share of votes")), seats_told(found, _))


def seats_told(found: Sequence[Seat], _: Say) -> str:
    """The strictest and the mildest."""
    known = sorted((one for one in found if one.votes), key=lambda one: one.mean or 0.0)
    if not known:
        return _("No judge has voted yet.")
    said = _("{n} votes of {seats} judges", n=count(sum(one.votes for one in known)), seats=len(known))
    ends = (_("{seat} scores {mean} on average", seat=one.seat, mean=hundredths(one.mean)) for one in (known[0], known[-1]))
    return _("; ").join([said, *dict.fromkeys(ends)])


def agreement(panel: Mapping[str, PanelReport], run: str, _: Say) -> dict[str, Any]:
    """Krippendorff's alpha by leaf, the lowest first."""
    spreads = [
        Spread(
            line=_("all leaves") if leaf == "all" else leaf,
            value=one.alpha or 0.0,
            low=one.interval[0] if one.interval else None,
            high=one.interval[1] if one.interval else None,
            address=address(run, Filter().query(leaf=None if leaf == "all" else leaf, **{"panel.min": 0})),
        )
        for leaf, one in _lines(panel)[:MOST]
    ]
    return charts.specification(charts.spreads(spreads, "alpha", (0.0, TENTATIVE, FIRM)), agreement_told(panel, _))


def agreement_told(panel: Mapping[str, PanelReport], _: Say) -> str:
    """The figures of all leaves, and the leaf that is least agreed upon."""
    lines = _lines(panel)
    if "all" not in panel or not lines:
        return _("No agreement can be measured yet.")
    whole = panel["all"]
    every = _("alpha {alpha} over all, {share} of the pairs of votes equal", alpha=hundredths(whole.alpha), share=share(whole.agreement))
    lowest, one = lines[0]
    return every if lowest == "all" else _("; ").join([every, _("lowest: {leaf} with {alpha}", leaf=lowest, alpha=hundredths(one.alpha))])


def mark(*shown: BaseModel) -> str:
    """Changes with what a chart shows: one that would look the same is not drawn again."""
    return digest(*(one.model_dump(mode="json") for one in shown), length=8)


def address(run: str, query: str) -> str:
    """Of the candidates that a query finds."""
    return f"/runs/{quote(run, safe='')}/candidates{'?' if query else ''}{query}"


def _lines(panel: Mapping[str, PanelReport]) -> list[tuple[str, PanelReport]]:
    """The leaves that have an alpha, the lowest first; all together last."""
    known = [(leaf, one) for leaf, one in panel.items() if one.alpha is not None and (leaf != "all" or len(panel) > 2)]
    return sorted(known, key=lambda item: (item[0] == "all", item[1].alpha or 0.0))
