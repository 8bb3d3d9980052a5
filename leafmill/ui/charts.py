"""The charts, as Vega-Lite specifications that the page draws: histograms, shares, and means with their intervals.

Colours are the page's own (`var(--accepted)`), so a chart turns dark with it. What a mark stands for leads on by the address in its datum
(`address`), and `static/charts.js` follows it. Nothing here knows where the numbers are from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
from pydantic import BaseModel

PALETTE = ("var(--open)", "var(--waiting)", "var(--accepted)", "var(--errored)", "var(--rejected)")
"""of groups without a colour of their own, by their order"""
SCALE = (
    "var(--rejected)",
    "color-mix(in oklab, var(--rejected) 45%, var(--line))",
    "var(--line)",
    "color-mix(in oklab, var(--accepted) 45%, var(--line))",
    "var(--accepted)",
)
"""from the worst to the best of five"""
ROWS = 3
"""in which the names of limits are written"""
HEIGHT, STEP = 170, 26
"""of a plot, and of one line of a plot that has a line for each of something: pixels"""


class Bar(BaseModel):
    """What lies between two values, of one group."""

    low: float
    high: float
    group: str
    count: int
    address: str


class Share(Bar):
    """The same, told by its share of the group."""

    share: float


class Limit(BaseModel):
    """A threshold, drawn as a line across the plot, and what is written at it."""

    at: float
    text: str


class Part(BaseModel):
    """One part of a line that is split."""

    line: str
    part: str
    count: int
    address: str


class Spread(BaseModel):
    """A value and the interval that it lies in; without one where there are too few."""

    line: str
    value: float
    low: float | None = None
    high: float | None = None
    address: str


def histogram(
    bars: Sequence[Bar], groups: Mapping[str, str], title: str, count: str, limits: Sequence[Limit] = (), *, grows: bool = False
) -> alt.TopLevelMixin:
    """Bars over a scale, those of a group on those of another. `groups`: their colours, by what they are called, from below. `grows`: each
    bin is wider than the one before it by the same factor."""
    names = list(groups)
    values = [
        {**bar.model_dump(), "place": names.index(bar.group), "told": f"{_between(bar)} · {bar.group}: {bar.count:,}"} for bar in bars
    ]
    plotted = _chart("bars", values).mark_bar(cursor="pointer", stroke="var(--card)", strokeWidth=0.5)
    scale = alt.Scale(type="log", nice=False) if grows else alt.Scale(zero=False, nice=False)
    drawn = plotted.encode(
        x=alt.X("low:Q", bin="binned", title=title, scale=scale, axis=alt.Axis(tickCount=6)),
        x2="high:Q",
        y=alt.Y("count:Q", title=count, stack="zero", axis=alt.Axis(tickCount=4, tickMinStep=1, format="~s")),
        color=_colour("group", groups),
        order="place:Q",
        tooltip="told:N",
    )
    rules = [layer for row in range(ROWS) if limits[row::ROWS] for layer in _limits(limits[row::ROWS], row)]
    return alt.layer(drawn, *rules).properties(width="container", height=HEIGHT)


def overlaid(bars: Sequence[Share], groups: Mapping[str, str], title: str, share: str, *, grows: bool = False) -> alt.TopLevelMixin:
    """Bars of several groups over one scale, one seen through the other; each group's add up to all of it."""
    values = [{**bar.model_dump(), "told": f"{_between(bar)} · {bar.group}: {bar.share:.0%} ({bar.count:,})"} for bar in bars]
    drawn: alt.TopLevelMixin = (
        _chart("bars", values)
        .mark_bar(cursor="pointer", opacity=0.5, strokeWidth=1)
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                title=title,
                scale=alt.Scale(type="log" if grows else "linear", zero=False, nice=False),
                axis=alt.Axis(tickCount=6),
            ),
            x2="high:Q",
            y=alt.Y("share:Q", title=share, stack=None, axis=alt.Axis(tickCount=4, format="%")),
            color=_colour("group", groups),
            stroke=alt.Stroke("group:N", legend=None, scale=alt.Scale(domain=list(groups), range=list(groups.values()))),
            tooltip="told:N",
        )
        .properties(width="container", height=HEIGHT)
    )
    return drawn


def shares(parts: Sequence[Part], names: Sequence[str], colours: Sequence[str], count: str) -> alt.TopLevelMixin:
    """A bar for each line, all of one length, split into its parts (`names`, from the left)."""
    lines = list(dict.fromkeys(part.line for part in parts))
    values = [
        {**part.model_dump(), "place": names.index(part.part), "told": f"{part.line} · {part.part}: {part.count:,}"} for part in parts
    ]
    drawn: alt.TopLevelMixin = (
        _chart("parts", values)
        .mark_bar(cursor="pointer", stroke="var(--card)", strokeWidth=0.5)
        .encode(
            x=alt.X("count:Q", stack="normalize", title=count, axis=alt.Axis(format="%", tickCount=4)),
            y=alt.Y("line:N", title=None, sort=lines, axis=alt.Axis(labelLimit=220)),
            color=_colour("part", dict(zip(names, colours, strict=True))),
            order="place:Q",
            tooltip="told:N",
        )
        .properties(width="container", height=alt.Step(STEP))
    )
    return drawn


def spreads(values: Sequence[Spread], title: str, marks: Sequence[float] = ()) -> alt.TopLevelMixin:
    """A point for each line, in its interval; `marks` are values that are drawn as lines across all of them."""
    lines = [one.line for one in values]
    told = [{**one.model_dump(), "told": f"{one.line}: {one.value:.2f}{_within(one)}"} for one in values]
    chart, y = _chart("points", told), alt.Y("line:N", title=None, sort=lines, axis=alt.Axis(labelLimit=220))
    x = alt.X("value:Q", title=title, scale=alt.Scale(zero=False))
    across = _chart("marks", [{"at": at} for at in marks]).mark_rule(color="var(--faint)", strokeDash=[2, 4]).encode(x="at:Q")
    within = chart.mark_rule(color="var(--faint)", strokeWidth=2).encode(x=alt.X("low:Q", title=title), x2="high:Q", y=y)
    points = chart.mark_circle(size=80, color="var(--leaf)", opacity=1, cursor="pointer").encode(x=x, y=y, tooltip="told:N")
    return alt.layer(across, within, points).properties(width="container", height=alt.Step(STEP))


def specification(chart: alt.TopLevelMixin, description: str) -> dict[str, Any]:
    """What `static/charts.js` embeds. `description`: what a person who cannot see it is told."""
    text = {
        "labelColor": "var(--faint)",
        "titleColor": "var(--faint)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    }
    spec: dict[str, Any] = chart.to_dict(validate=False)
    spec["description"] = description
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    spec["config"] = {
        "font": "system-ui, sans-serif",
        "background": None,
        "view": {"stroke": None},
        "axis": {**text, "gridColor": "var(--line)", "domainColor": "var(--line)", "tickColor": "var(--line)"},
        "legend": {**text, "orient": "top", "title": None, "symbolType": "square", "offset": 4},
        "aria": False,
    }
    return spec


def coloured(names: Sequence[str]) -> dict[str, str]:
    """Groups with the colours of the palette."""
    return {name: PALETTE[at % len(PALETTE)] for at, name in enumerate(names)}


def _chart(name: str, values: list[dict[str, Any]]) -> alt.Chart:
    """A chart of values under a name, by which new ones are put in their place."""
    return alt.Chart(alt.InlineData(values=values, name=name))


def _limits(limits: Sequence[Limit], row: int) -> tuple[alt.Chart, alt.Chart]:
    """Lines, and what is written at them in this row: so names of lines that are near do not lie on each other."""
    lines = _chart(f"limits{row}", [limit.model_dump() for limit in limits])
    rules = lines.mark_rule(color="var(--ink)", strokeDash=[4, 3]).encode(x="at:Q", tooltip="text:N")
    written = lines.mark_text(color="var(--faint)", align="left", baseline="top", dx=3, y=11 * row).encode(x="at:Q", text="text:N")
    return rules, written


def _colour(field: str, colours: Mapping[str, str]) -> alt.Color:
    return alt.Color(f"{field}:N", title=None, sort=list(colours), scale=alt.Scale(domain=list(colours), range=list(colours.values())))


def _between(bar: Bar) -> str:
    return f"{bar.low:.4g} – {bar.high:.4g}"


def _within(one: Spread) -> str:
    return "" if one.low is None or one.high is None else f" ({one.low:.2f} – {one.high:.2f})"
