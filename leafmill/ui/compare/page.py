"""Two runs, or two prompt variants, side by side: what was accepted, leaf by leaf, and why the rest was not; scores, costs, samples."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal
from urllib.parse import quote, urlencode

import yaml
from fastapi import APIRouter, Query
from pydantic import BaseModel, computed_field
from starlette.requests import Request
from starlette.responses import Response

from leafmill.errors import InputError, unknown
from leafmill.records import Row
from leafmill.ui import charts, words
from leafmill.ui.candidates.asked import indexed
from leafmill.ui.compare import sides
from leafmill.ui.compare.sides import Count, Sample, Side
from leafmill.ui.diff import Piece, diff
from leafmill.ui.library import Library
from leafmill.ui.page import page
from leafmill.ui.roles import cast
from leafmill.ui.run import plots
from leafmill.ui.run.distributions import PLOTS
from leafmill.ui.runs import without_secrets
from leafmill.variants import Rate

REASONS = 15
"""of refusal that are shown"""
COLOURS = ("var(--open)", "var(--waiting)")
"""of the two sides"""

router = APIRouter(tags=["compare"])


class Total(BaseModel):
    """What one side is, all in all."""

    address: str
    """RUN, or RUN:role.variant"""
    run: str
    variant: str
    candidates: int
    states: dict[str, int]
    fared: Rate
    tokens: int
    """of the calls for its candidates; what leaves ask before they have any is not in it"""
    tokens_per_accepted: float | None
    money: float | None
    """of the calls whose cost is known; None where none is"""
    money_per_accepted: float | None
    currency: str
    query: str


class Accepted(BaseModel):
    """How one leaf fared on both sides. `difference` is b - a, None where one side has nothing judged."""

    leaf: str
    """"": the leaves that both have, together"""
    a: Rate
    b: Rate
    difference: float | None
    interval: tuple[float, float] | None
    """in which the difference lies with 95%"""
    queries: tuple[str, str]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def clear(self) -> bool:
        """Whether chance alone would seldom make such a difference."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


class Reason(BaseModel):
    """Candidates refused for one reason, on either side."""

    stage: str
    code: str
    counts: tuple[int, int]
    shares: tuple[float | None, float | None]
    """of those that were judged"""
    queries: tuple[str, str]


class Scored(BaseModel):
    """How many candidates have a score, and its mean, on either side."""

    score: str
    known: tuple[int, int]
    means: tuple[float | None, float | None]


class Shown(BaseModel):
    """A candidate."""

    id: str
    leaf: str
    language: str
    state: str
    code: str
    axes: dict[str, str]
    row: Row
    scores: dict[str, float]


class Beside(BaseModel):
    """Two candidates beside each other."""

    at: int
    of: int
    cell: bool
    """they were made from the same cell of the plan: leaf, language and values of all axes"""
    a: Shown
    b: Shown


class Setting(BaseModel):
    """What the recipes say differently; None: not said."""

    key: str
    a: str | None
    b: str | None


class Prompt(BaseModel):
    """A prompt file that is not the same, by its hash on either side; None: that side has no such file."""

    file: str
    a: str | None
    b: str | None


class Contrast(BaseModel):
    """What there is to say of two sides."""

    totals: tuple[Total, Total]
    together: Accepted
    leaves: list[Accepted]
    only: tuple[list[str], list[str]]
    """leaves that one side alone has"""
    shared: int
    """candidates on both sides"""
    reasons: list[Reason]
    scores: list[Scored]
    sample: Beside | None
    settings: list[Setting]
    prompts: list[Prompt]
    changes: list[Piece]
    """from the one variant's file to the other's"""


class Compare(BaseModel):
    runs: list[str]
    a: str
    b: str
    leaf: str
    leaves: list[str]
    variants: dict[str, list[str]]
    """by run, of those that are compared"""
    problem: Literal["", "none", "choose", "same"]
    """why there is nothing to see"""
    contrast: Contrast | None
    indexed: float
    """the share of the ledgers that all this is of: less than 1 while the index of a run is being made"""


A = Annotated[str, Query(description="RUN, or RUN:role.variant")]
Leaf = Annotated[str, Query(description="one leaf; otherwise all")]


@router.get("/compare", response_model=Compare, summary="Two runs, or two prompt variants, side by side")
def compare(
    request: Request, a: A = "", b: A = "", leaf: Leaf = "", sample: Annotated[int, Query(ge=0, description="which pair of samples")] = 0
) -> Response:
    library: Library = request.app.state.library
    runs = library.names()
    both = [Side.of(library, said) for said in (a, b) if said]
    leaves = sorted({leaf for side in both for leaf in cast.leaves(side.index)})
    if leaf and leaf not in leaves:
        raise InputError(unknown("leaf", leaf, leaves))
    problem: Literal["", "none", "choose", "same"] = "none" if not runs else "choose" if len(both) < 2 else "same" if a == b else ""
    view = Compare(
        runs=runs,
        a=a,
        b=b,
        leaf=leaf,
        leaves=leaves,
        variants={side.run: cast.variants(side.index) for side in both},
        problem=problem,
        contrast=None if problem else _contrast(both[0], both[1], leaf, sample),
        indexed=min((indexed(side.index) for side in both), default=1.0),
    )
    return page(request, "compare.html", view, here=lambda **asked: _address(view, **asked), plots=plots, colours=COLOURS)


@router.get("/compare/charts/{score}", response_model=dict[str, Any], summary="The Vega-Lite specification of a score's distributions")
def chart(request: Request, score: str, a: A, b: A, leaf: Leaf = "") -> dict[str, Any]:
    if score not in PLOTS:
        raise InputError(unknown("score", score, PLOTS))
    library: Library = request.app.state.library
    say = words.speaking(words.language_of(request))
    both = [Side.of(library, said) for said in (a, b)]
    names = [f"A · {both[0].address}", f"B · {both[1].address}"]
    spreads = [side.spreads(leaf)[score] for side in both]
    edges = sides.edges(score, spreads)
    bars = [
        charts.Share(
            low=one.low,
            high=one.high,
            group=name,
            count=one.count,
            share=one.count / spread.known,
            address=f"/runs/{quote(side.run, safe='')}/candidates?{one.query}",
        )
        for side, name, spread in zip(both, names, spreads, strict=True)
        for one in (side.bins(score, edges, leaf) if edges else ())
    ]
    called = plots.CALLED[score]
    colours = dict(zip(names, COLOURS, strict=True))
    drawn = charts.overlaid(bars, colours, say(called.scale), say("share of candidates"), grows=score.endswith("_length"))
    return charts.specification(drawn, say(called.title))


def newcombe(a: Rate, b: Rate) -> tuple[float, float] | None:
    """The interval in which the difference of two shares lies with 95%, by Newcombe's hybrid of Wilson's intervals.

    >>> [round(end, 3) for end in newcombe(Rate(tried=80, accepted=48), Rate(tried=70, accepted=56))]
    [0.052, 0.334]
    """
    if a.rate is None or b.rate is None or a.interval is None or b.interval is None:
        return None
    difference = b.rate - a.rate
    below = math.hypot(b.rate - b.interval[0], a.interval[1] - a.rate)
    above = math.hypot(b.interval[1] - b.rate, a.rate - a.interval[0])
    return difference - below, difference + above


def _address(view: Compare, **changes: object) -> str:
    asked = {"a": view.a, "b": view.b, "leaf": view.leaf, **changes}
    return f"/compare?{urlencode({key: value for key, value in asked.items() if value not in ('', None)})}"


def _contrast(a: Side, b: Side, leaf: str, sample: int) -> Contrast:
    ours, theirs = ([one for one in side.counts() if leaf in ("", one.leaf)] for side in (a, b))
    of_a, of_b = sides.by_leaf(ours), sides.by_leaf(theirs)
    common = sorted({*of_a} & {*of_b})
    in_common = [sides.rate(one for name in common for one in of[name]) for of in (of_a, of_b)]
    known = a.spreads(leaf), b.spreads(leaf)
    return Contrast(
        totals=(_total(a, ours, leaf), _total(b, theirs, leaf)),
        together=_accepted(a, b, in_common[0], in_common[1], "", leaf),
        leaves=[
            _accepted(a, b, sides.rate(of_a.get(name, ())), sides.rate(of_b.get(name, ())), name, name)
            for name in sorted({*of_a} | {*of_b})
        ],
        only=(sorted({*of_a} - {*of_b}), sorted({*of_b} - {*of_a})),
        shared=sides.shared(a, b),
        reasons=_reasons(a, b, ours, theirs, leaf),
        scores=[
            Scored(score=score, known=(known[0][score].known, known[1][score].known), means=(known[0][score].mean, known[1][score].mean))
            for score in PLOTS
        ],
        sample=_sample(a, b, common, sample),
        settings=_settings(a, b),
        prompts=_prompts(a, b),
        changes=_changes(a, b),
    )


def _total(side: Side, counts: Sequence[Count], leaf: str) -> Total:
    states: dict[str, int] = defaultdict(int)
    for one in counts:
        states[one.state] += one.candidates
    known = [one.money for one in counts if one.money is not None]
    tokens, money, accepted = sum(one.tokens for one in counts), sum(known) if known else None, states.get("accepted", 0)
    return Total(
        address=side.address,
        run=side.run,
        variant=side.variant,
        candidates=sum(states.values()),
        states=dict(states),
        fared=sides.rate(counts),
        tokens=tokens,
        tokens_per_accepted=tokens / accepted if accepted else None,
        money=money,
        money_per_accepted=money / accepted if accepted and money is not None else None,
        currency=str(_recipe(side).get("currency") or ""),
        query=side.query(leaf=leaf),
    )


def _accepted(a: Side, b: Side, ours: Rate, theirs: Rate, leaf: str, asked: str) -> Accepted:
    difference = None if ours.rate is None or theirs.rate is None else theirs.rate - ours.rate
    return Accepted(
        leaf=leaf,
        a=ours,
        b=theirs,
        difference=difference,
        interval=newcombe(ours, theirs),
        queries=(a.query(leaf=asked), b.query(leaf=asked)),
    )


def _reasons(a: Side, b: Side, ours: Sequence[Count], theirs: Sequence[Count], leaf: str) -> list[Reason]:
    """The greatest shares first."""
    refused: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for at, counts in enumerate((ours, theirs)):
        for one in counts:
            if one.judged and one.state == "rejected":
                refused[one.stage, one.code][at] += one.candidates
    tried = sides.rate(ours).tried, sides.rate(theirs).tried
    found = [
        Reason(
            stage=stage,
            code=code,
            counts=(counts[0], counts[1]),
            shares=(counts[0] / tried[0] if tried[0] else None, counts[1] / tried[1] if tried[1] else None),
            queries=(
                a.query(leaf=leaf, state="rejected", stage=stage, code=code),
                b.query(leaf=leaf, state="rejected", stage=stage, code=code),
            ),
        )
        for (stage, code), counts in refused.items()
    ]
    return sorted(found, key=lambda one: -max(share or 0 for share in one.shares))[:REASONS]


# -- samples -----------------------------------------------------------------------------------------------------------


def _sample(a: Side, b: Side, leaves: Sequence[str], at: int) -> Beside | None:
    """A pair; beyond the last one the last one."""
    pairs = sides.pairs(a, b, leaves)
    if not pairs:
        return None
    at = min(at, len(pairs) - 1)
    return Beside(at=at, of=len(pairs), cell=pairs[at].cell, a=_shown(a, pairs[at].a), b=_shown(b, pairs[at].b))


def _shown(side: Side, sample: Sample) -> Shown:
    columns = ", ".join(f"c.{score}" for score in PLOTS)
    sql = f"SELECT l.row, c.code, c.tokens, {columns} FROM candidates AS c JOIN ledger.candidates AS l ON l.id = c.id WHERE c.id = ?"
    (found,) = side.index.rows(sql, (sample.id,))
    row, code = Row.model_validate_json(found.pop("row")), found.pop("code")
    scores = {name: value for name, value in found.items() if value is not None}
    return Shown(
        id=sample.id,
        leaf=sample.leaf,
        language=sample.language,
        state=sample.state,
        code=code,
        axes=json.loads(sample.axes),
        row=row,
        scores=scores,
    )


# -- settings ----------------------------------------------------------------------------------------------------------


def _recipe(side: Side) -> dict[str, Any]:
    """The recipe in the run's folder; nothing where it is not there or somebody spoilt it."""
    try:
        said = yaml.load(side.index.folder.recipe.read_text(encoding="utf-8"), cast.SAFE)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    return said if isinstance(said, dict) else {}


def _settings(a: Side, b: Side) -> list[Setting]:
    """What the recipes of two runs say differently, key by key; their names aside."""
    if a.run == b.run:
        return []
    ours, theirs = (dict(_flat(_recipe(side))) for side in (a, b))
    keys = dict.fromkeys((*ours, *theirs))
    return [Setting(key=key, a=ours.get(key), b=theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key) and key != "name"]


def _flat(said: Mapping[str, Any] | Sequence[Any], within: str = "") -> Iterator[tuple[str, str]]:
    """`models.judge.base_url` and its value, and so on; of what somebody wrote as a secret nothing."""
    for key, value in said.items() if isinstance(said, Mapping) else enumerate(said):
        if value and (isinstance(value, dict) or (isinstance(value, list) and any(isinstance(one, dict) for one in value))):
            yield from _flat(value, f"{within}{key}.")
        else:
            text = yaml.safe_dump(value, allow_unicode=True, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
            yield f"{within}{key}", without_secrets(f"{key}: {text}").removeprefix(f"{key}: ")


def _prompts(a: Side, b: Side) -> list[Prompt]:
    """Prompt files that the two runs do not have alike."""
    if a.run == b.run:
        return []
    ours, theirs = ({one.file: one.hash for one in cast.files(side.index)} for side in (a, b))
    files = sorted({*ours, *theirs})
    return [Prompt(file=file, a=ours.get(file), b=theirs.get(file)) for file in files if ours.get(file) != theirs.get(file)]


def _changes(a: Side, b: Side) -> list[Piece]:
    """From the file of the one variant to that of the other, if both are of one role."""
    if not a.variant or not b.variant or a.variant.partition(".")[0] != b.variant.partition(".")[0]:
        return []
    before, after = (_text(side) for side in (a, b))
    return diff(before, after) if before and after and before != after else []


def _text(side: Side) -> str:
    """The prompt file of a variant."""
    file = next((one.file for one in cast.files(side.index) if f"{one.name}.{one.variant}" == side.variant), "")
    return cast.text(side.index, file) or ""
