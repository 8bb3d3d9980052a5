"""The loop of one leaf: brief, produce, count, until the quota of accepted rows is met or there is a reason why not.

    plan -> produce -> tally -> END     met | waiting(reason) | starved(reason) | budget(reason) | stopped
     ^                   |
     '----- not yet -----'

There is no barrier in it: `plan` briefs a few candidates, `produce` begins them as slots become free, in whichever leaf is furthest from
its quota, and comes back as soon as more would make sense, while the others go on. Candidates that an earlier run left open, errored, or
turned away only because the leaf was full come first: what was recorded of them is read, not asked again. So do those that take the cell
of one that was not accepted (`cells`): the rows of later cells wait at the door for them.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypedDict

import sqlalchemy as sa
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import planner
from filters.review import holds
from graphs import candidate
from graphs.admission import Admission
from graphs.briefs import Briefs
from graphs.cells import Cells
from graphs.slots import Slots
from graphs.waiting import Waiting
from leafmill import telemetry
from leafmill.errors import Halted, OtherRecipeError, TaxonomyError
from leafmill.ledger import CANDIDATES, Ending
from leafmill.log import CANDIDATE, INFO, LEAF, event
from leafmill.records import Brief, Review
from taxonomy import Leaf

AHEAD = 64
"""cells for which the planners are asked before they are planned"""


class Outcome(NamedTuple):
    """Why a leaf stopped."""

    state: Literal["met", "waiting", "starved", "budget", "stopped"]
    reason: str = ""


class State(TypedDict, total=False):
    planned: list[Brief]
    outcome: Outcome | None


@dataclass
class LeafJob:
    """One leaf of a run: its quota, its counts, and what is needed to carry its candidates through their graph."""

    leaf: Leaf
    target: int
    cells: Cells
    briefs: Briefs
    context: candidate.Context
    graph: CompiledStateGraph[candidate.State, candidate.Context, candidate.State, candidate.State]
    admission: Admission
    slots: Slots
    waiting: Waiting
    halted: Callable[[], Outcome | None]
    """the outcome of a run that goes no further, or None"""
    group: asyncio.TaskGroup = field(default_factory=asyncio.TaskGroup)
    """what candidates are tasks of"""
    ended: Callable[[], None] = lambda: None
    """called after each candidate"""
    counts: Counter[str] = field(default_factory=Counter)
    """candidates by state, those of earlier runs included"""
    new: Counter[str] = field(default_factory=Counter)
    """candidates by state that ended in this run"""
    codes: Counter[str] = field(default_factory=Counter)
    """reasons of this run's candidates that were not accepted"""
    under_way: int = 0
    outcome: Outcome | None = None
    _open: dict[str, Brief] = field(default_factory=dict)
    """candidates that are neither under way nor decided: an earlier run left them, or this one as it halts"""
    _fetched: int = 0
    """cells for which the planners' pages are asked for"""
    _working: set[str] = field(default_factory=set)
    """candidates that hold a slot"""
    _going: set[str] = field(default_factory=set)
    """candidates whose graphs go, or are just being put down"""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _outside: contextvars.Context = field(default_factory=contextvars.copy_context)
    """candidates' graphs are runs of their own, not parts of this leaf's: they do not inherit what LangGraph keeps in the context"""

    def __post_init__(self) -> None:
        """Take up what earlier runs left in the ledger."""
        self.context = replace(self.context, at_the_door=self.give_back)
        c = CANDIDATES.c
        earlier = sa.select(c.brief, c.state, c.code).where(c.leaf == self.leaf.path).order_by(c.number)
        found = [(Brief.model_validate(row["brief"]), row["state"], row["code"]) for row in self.context.ledger.rows(earlier)]
        for brief, _, _ in found:
            self.cells.add(brief)
            self.briefs.planned(brief)
        for brief, state, code in found:
            if state in ("open", "errored") or code == "quota_met":
                self._check_axes(brief)
                self.cells.wait(brief, began=True)
                if state == "open":
                    self._open[brief.id] = brief
            else:
                self.counts[state] += 1
                held = state == "waiting" and holds(code)
                self.admission.hold(self.leaf.path, held)
                if (attempt := self.cells.end(brief, held or state == "accepted")) is not None:
                    self._check_axes(brief)
                    self._fill(brief, attempt)

    def _check_axes(self, brief: Brief) -> None:
        """A candidate can be taken up only while its leaf still has the axes that it was planned by."""
        try:
            self.leaf.describe_axes(brief.axes, brief.language)
        except TaxonomyError as fault:
            planned = f"candidate {brief.id} of {self.leaf.path} was planned by another version of the taxonomy"
            raise OtherRecipeError(f"{planned} ({fault}); give the recipe another name") from fault

    @property
    def accepted(self) -> int:
        return self.counts["accepted"]

    @property
    def filled(self) -> int:
        """Rows that are in, and those that passed everything and wait by the recipe's `review:` rule: they count until a person objects."""
        return self.accepted + self.admission.held(self.leaf.path)

    @property
    def started(self) -> int:
        return sum(self.counts.values()) + self.under_way

    @property
    def progress(self) -> float:
        """How near the leaf is to its quota, were all under way accepted."""
        return (self.filled + self.under_way) / self.target

    @property
    def is_over(self) -> bool:
        return self.filled >= self.target or self.halted() is not None

    @property
    def wanted(self) -> int:
        """How many new cells to begin now: as many as the missing rows will take by the acceptance seen so far, less the candidates under
        way or due. Nothing has been refused before the first refusal, so at the beginning that is one for each row."""
        if self.is_over:
            return 0
        decided = sum(self.counts.values())
        likely = (self.filled + 1) / (decided + 1)
        return max(0, math.ceil((self.target - self.filled) / likely) - self.under_way - self.cells.waiting)

    @property
    def is_hungry(self) -> bool:
        return not self.is_over and (self.cells.first() is not None or self.wanted > 0)

    @property
    def may_plan(self) -> bool:
        """Whether a new cell may begin, and all is settled that its brief looks back at."""
        return self.cells.room > 0 and self.cells.settled >= self.briefs.looks_back(self.cells.next)

    async def next_brief(self) -> Brief:
        """That of a new cell."""
        brief = await self.briefs.next(self.cells.next)
        self.cells.add(brief)
        return brief

    def fetch_ahead(self) -> None:
        """Have the planners asked, beside the candidates, for what the next cells will need."""
        until = self.cells.next + min(self.wanted, self.cells.room, AHEAD)
        if until > self._fetched:
            self._fetched = until
            self.group.create_task(self._fetch(until), name=f"{self.leaf.path} ahead", context=self._outside.copy())

    async def _fetch(self, until: int) -> None:
        with suppress(Halted):  # whoever plans with them hears of it too
            await self.briefs.ahead(self.cells.next, until - self.cells.next)

    def _fill(self, brief: Brief, attempt: int) -> None:
        """A cell has no accepted row: another candidate takes it. Rows of later cells wait for it, so it stands at the door already."""
        due = self.briefs.again(brief, attempt)
        self.cells.add(due)
        self.cells.wait(due)
        self.admission.enter(due)

    async def carry(self, brief: Brief) -> None:
        """Carry one candidate from its brief to its end."""
        ending = None
        try:
            ending = await self._carry(brief)
            if ending.state == "open":
                self._open[brief.id] = brief
                return
            held = ending.state == "waiting" and holds(ending.code)
            if (attempt := self.cells.end(brief, held or ending.state == "accepted")) is not None and ending.code != "quota_met":
                self._fill(brief, attempt)
            self._count(ending)
        finally:
            self._leave(brief, ending)

    async def resume(self, brief: Brief, held: Ending, decided: Review) -> None:
        """Carry on one that waits by what a person decided. One whose checkpoint is gone (an older run, a copied ledger) is carried there
        again from its recorded calls first. One that gets no further (the run halts, a call fails) still waits, for the next run; one
        that is just being put down, for the next look."""
        if brief.id in self._going:
            return
        self._going.add(brief.id)
        self.under_way += 1
        self.admission.enter(brief)
        ending = None
        try:
            there = await self.waiting.holds(brief.id)
            ending = None if there else await self._carry(brief, awaited=True)
            if ending is None or ending.state == "waiting":
                ending = await self._through(brief, self.waiting.resume(self.graph, decided, self.context))
            if ending.state in ("open", "errored"):
                why = f"{held.detail}; as it went on: {ending.code}: {ending.detail}" if ending.state == "errored" else held.detail
                await self.context.ledger.wait_again(brief.id, held._replace(detail=why))
                return
            self.counts["waiting"] -= 1
            self._count(ending)
            if holds(held.code):
                self.admission.hold(self.leaf.path, -1)
                if ending.state != "accepted" and (attempt := self.cells.reopen(brief)) is not None and self.outcome is None:
                    self._fill(brief, attempt)
        finally:
            self._leave(brief, ending)

    async def _carry(self, brief: Brief, awaited: bool = False) -> Ending:
        """From the brief to the end, or to where it waits for a person."""
        begun = self.context.ledger.begin(brief)  # its first call is on disk no earlier, so that need not wait for it
        config: Any = {"recursion_limit": candidate.RECURSION_LIMIT, "run_name": brief.id}
        state: candidate.State = {**candidate.start(brief), "awaited": awaited}
        ending = await self._through(brief, self.graph.ainvoke(state, config, context=self.context), hold=True)
        await begun
        return ending

    async def _through(self, brief: Brief, going: Awaitable[Any], hold: bool = False) -> Ending:
        """Let its graph go until it stops, and tell of it. `hold`: put down one that waits."""
        began = time.monotonic()
        with telemetry.candidate(self.context.ledger.path.parent.name, brief.leaf, brief.id) as span:
            final = await going
            ending: Ending = final["ending"]
            span.ended(ending.state, ending.code)
        if hold and ending.state == "waiting":
            final.pop("__interrupt__")  # LangGraph's own, beside the state
            await self.waiting.hold(self.graph, final, self.context)
        about = {"leaf": brief.leaf, "number": brief.number, "state": ending.state, "stage": ending.stage, "code": ending.code}
        event(CANDIDATE, INFO, "candidate ended", candidate=brief.id, **about, seconds=time.monotonic() - began)
        return ending

    def _count(self, ending: Ending) -> None:
        self.counts[ending.state] += 1
        self.new[ending.state] += 1
        if ending.state != "accepted":
            self.codes[ending.code] += 1

    def _leave(self, brief: Brief, ending: Ending | None) -> None:
        """A candidate's graph has stopped; without an ending, or with it open, it is not decided."""
        self._going.discard(brief.id)
        self.under_way -= 1
        self.admission.leave(brief, ending is not None and ending.state != "open")
        self.give_back(brief)
        self.look()
        self.ended()

    async def settle(self) -> None:
        """What people decided while the leaf was over may have changed its outcome."""
        now = _outcome(self)
        if now is not None and self.outcome is not None and self.outcome.state in ("waiting", "starved") and now != self.outcome:
            self.outcome = now
            await self.context.ledger.note_leaf(self.leaf.path, self.target, *now)

    async def close_open(self) -> None:
        """The leaf is full: what was left open ends too, unless a larger quota takes it up again."""
        for brief in self._open.values():
            ending = Ending("rejected", "plan", "quota_met", "the leaf was full before this candidate was taken up again")
            await self.context.ledger.finish(brief, ending)
            self.counts[ending.state] += 1
        self._open.clear()

    def begin(self, brief: Brief, group: asyncio.TaskGroup) -> None:
        """Set a candidate on its way; it has been given a slot."""
        self.under_way += 1
        self._open.pop(brief.id, None)
        self._working.add(brief.id)
        self._going.add(brief.id)
        self.admission.enter(brief)
        group.create_task(self.carry(brief), name=brief.id, context=self._outside.copy())

    def give_back(self, brief: Brief) -> None:
        """A candidate that has ended, or that waits to be admitted, needs its slot no more."""
        if brief.id in self._working:
            self._working.remove(brief.id)
            self.slots.give_back()

    async def until_more_is_wanted(self) -> None:
        """Wait until more candidates can and should be begun, or until there are none under way."""
        while self.under_way and not self.cells.first() and not (self.wanted and self.may_plan):
            self._moved.clear()
            await self._moved.wait()

    def look(self) -> None:
        """Something has changed that the leaf's answers depend on."""
        for brief in self.cells.drop(everything=self.is_over):
            self.admission.leave(brief, decided=self.halted() is None)
        self._moved.set()
        self.slots.look()


async def plan(state: State, runtime: Runtime[LeafJob]) -> State:
    """Brief the next candidates, a few at a time: those under way need not wait for all to be planned."""
    job = runtime.context
    planned: list[Brief] = []
    job.fetch_ahead()
    try:
        while len(planned) < min(job.wanted, planner.PAGE) and job.may_plan:
            planned.append(await job.next_brief())
    except Halted:  # the leaf is halted now; `tally` says so
        pass
    return {"planned": planned}


async def produce(state: State, runtime: Runtime[LeafJob]) -> State:
    """Begin candidates as slots become free: those that are due, then the planned ones. What a leaf that is over leaves is planned again
    by the next run."""
    job = runtime.context
    left = list(state["planned"])
    while (left or job.cells.first()) and await job.slots.take(job):
        job.begin(job.cells.take() or left.pop(0), job.group)
    job.look()
    await job.until_more_is_wanted()
    return {"planned": []}


async def tally(state: State, runtime: Runtime[LeafJob]) -> State:
    """Met, waiting for a person, starved, out of budget, stopped: or not yet."""
    job = runtime.context
    job.outcome = _outcome(job)
    if job.outcome is not None:
        if job.outcome.state == "met":
            await job.close_open()
        await job.context.ledger.note_leaf(job.leaf.path, job.target, *job.outcome)
        event(LEAF, INFO, "leaf ended", leaf=job.leaf.path, outcome=job.outcome.state, accepted=job.accepted, asked=job.target)
    return {"outcome": job.outcome}


def build() -> CompiledStateGraph[State, LeafJob, State, State]:
    """Compile the graph; one serves all leaves."""
    graph = StateGraph(State, context_schema=LeafJob)
    graph.add_node("plan", plan)
    graph.add_node("produce", produce)
    graph.add_node("tally", tally)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "produce")
    graph.add_edge("produce", "tally")
    graph.add_conditional_edges("tally", lambda state: END if state["outcome"] else "plan", ["plan", END])
    return graph.compile()


def _outcome(job: LeafJob) -> Outcome | None:
    if job.accepted >= job.target:
        return Outcome("met")
    if halted := job.halted():
        return halted
    if job.filled >= job.target:
        held = job.filled - job.accepted
        return Outcome("waiting", f"{held} of the rows wait for a person: look at them with `leafmill review`, then run again")
    decided = sum(job.counts.values())
    if decided >= job.cells.most:
        codes = ", ".join(f"{count} {code}" for code, count in job.codes.most_common(4))
        return Outcome("starved", f"{job.accepted} of {decided} candidates were accepted; the others: {codes or 'see the report'}")
    return None
