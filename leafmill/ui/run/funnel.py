"""The funnel of a run: how many candidates came as far as each step, and what became of those that came no further."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from pydantic import BaseModel, computed_field

from leafmill.index.filter import Filter
from leafmill.index.index import Index
from leafmill.index.schema import STEPS
from leafmill.ui.run import counts
from leafmill.ui.run.counts import Counted


class Reason(BaseModel):
    """Why some stopped where they did; `query` finds them."""

    state: str
    stage: str
    code: str
    count: int
    query: str


class Step(BaseModel):
    name: str
    reached: int
    """candidates that came this far or further"""
    went_on: int
    left: int
    """rejected or errored before the next step"""
    waiting: int
    open: int
    reasons: list[Reason]
    """the commonest first; of those that were rejected, errored or wait"""
    query: str
    """finds all that came this far"""
    open_query: str
    """finds those that are under way here"""


class Funnel(BaseModel):
    leaf: str
    """"": all of them"""
    steps: list[Step]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def started(self) -> int:
        return self.steps[0].reached


def read(index: Index, leaf: str = "", rest: float = 0.0) -> Funnel:
    """Of one leaf, or of all; `rest` as `Index.once` has it."""
    found = [one for one in counts.read(index, rest) if not leaf or one.leaf == leaf]
    return Funnel(leaf=leaf, steps=[_step(at, found, leaf) for at in range(len(STEPS))])


def _step(at: int, found: Sequence[Counted], leaf: str) -> Step:
    name, here = STEPS[at], [one for one in found if one.step == at]
    states, reasons = Counter[str](), Counter[tuple[str, str, str]]()
    for one in here:
        states[one.state] += one.n
        if one.state not in ("accepted", "open"):
            # where a candidate was when its leaf became full says nothing about it
            reasons[one.state, "" if one.code == "quota_met" else one.stage, one.code] += one.n
    on = sum(one.n for one in found if one.step > at)
    return Step(
        name=name,
        reached=on + states.total(),
        went_on=on,
        left=states["rejected"] + states["errored"],
        waiting=states["waiting"],
        open=states["open"],
        reasons=[
            Reason(state=state, stage=stage, code=code, count=count, query=_find(leaf, name, state=state, stage=stage, code=code))
            for (state, stage, code), count in reasons.most_common()
        ],
        query=Filter().query(leaf=leaf, reached=name),
        open_query=_find(leaf, name, state="open"),
    )


def _find(leaf: str, step: str, **keys: str) -> str:
    return Filter().query(leaf=leaf, step=step, **keys)
