"""The loop of one leaf: brief, produce, count, until the quota of accepted rows is met or there is a reason why not.

    plan -> produce -> tally -> END     met | starved(reason) | budget(reason) | stopped
     ^                   |
     '----- not yet -----'

There is no barrier in it: `plan` briefs a few candidates, `produce` begins them as slots become free, in whichever leaf is furthest from
its quota, and comes back as soon as more would make sense, while the others go on. Candidates that an earlier run left open, errored, or
turned away only because the leaf was full come first: what was recorded of them is read, not asked again.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypedDict

import sqlalchemy as sa
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import planner
from agents.governor import Halted
from graphs import candidate
from graphs.admission import Admission
from graphs.slots import Slots
from leafmill import telemetry
from leafmill.errors import CallError, OtherRecipeError, TaxonomyError
from leafmill.ledger import CANDIDATES, Ending
from leafmill.log import CANDIDATE, INFO, LEAF, event
from leafmill.records import Brief, Language
from taxonomy import Leaf, draw


class Outcome(NamedTuple):
    """Why a leaf stopped."""

    state: Literal["met", "starved", "budget", "stopped"]
    reason: str = ""


class State(TypedDict, total=False):
    planned: list[Brief]
    outcome: Outcome | None


@dataclass
class LeafJob:
    """One leaf of a run: its quota, its counts, and what is needed to carry its candidates through their graph."""

    leaf: Leaf
    target: int
    most: int
    """candidates that may be started in all"""
    seed: int
    languages: tuple[Language, ...]
    context: candidate.Context
    graph: CompiledStateGraph[candidate.State, candidate.Context, candidate.State, candidate.State]
    admission: Admission
    slots: Slots
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
    _again: list[Brief] = field(default_factory=list)
    _open: dict[str, Brief] = field(default_factory=dict)
    """candidates that are neither under way nor decided: an earlier run left them, or this one as it halts"""
    _next: int = 0
    _scenarios: dict[Language, list[list[str]]] = field(default_factory=dict)
    _drawn: Counter[Language] = field(default_factory=Counter)
    _working: set[str] = field(default_factory=set)
    """candidates that hold a slot"""
    _moved: asyncio.Event = field(default_factory=asyncio.Event)
    _outside: contextvars.Context = field(default_factory=contextvars.copy_context)
    """candidates' graphs are runs of their own, not parts of this leaf's: they do not inherit what LangGraph keeps in the context"""

    def __post_init__(self) -> None:
        """Take up what earlier runs left in the ledger."""
        self.context = replace(self.context, at_the_door=self.give_back)
        columns = (CANDIDATES.c.brief, CANDIDATES.c.state, CANDIDATES.c.code, CANDIDATES.c.language)
        for found in self.context.ledger.rows(sa.select(*columns).where(CANDIDATES.c.leaf == self.leaf.path).order_by(CANDIDATES.c.number)):
            self._next += 1
            self._drawn[found["language"]] += 1
            if found["state"] in ("open", "errored") or found["code"] == "quota_met":
                brief = Brief.model_validate(found["brief"])
                self._check_axes(brief)
                self._again.append(brief)
                if found["state"] == "open":
                    self._open[brief.id] = brief
            else:
                self.counts[found["state"]] += 1

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
    def started(self) -> int:
        return sum(self.counts.values()) + self.under_way

    @property
    def progress(self) -> float:
        """How near the leaf is to its quota, were all under way accepted."""
        return (self.accepted + self.under_way) / self.target

    @property
    def is_over(self) -> bool:
        return self.accepted >= self.target or self.halted() is not None

    @property
    def wanted(self) -> int:
        """How many more candidates to begin now: as many as the missing rows will take by the acceptance seen so far, less those under
        way. Nothing has been refused before the first refusal, so at the beginning that is one for each row."""
        if self.is_over:
            return 0
        decided = sum(self.counts.values())
        likely = (self.accepted + 1) / (decided + 1)
        return max(0, min(math.ceil((self.target - self.accepted) / likely) - self.under_way, self.most - self.started))

    @property
    def is_hungry(self) -> bool:
        return self.wanted > 0

    async def next_brief(self) -> Brief:
        """One that an earlier run left, or a new one."""
        if self._again:
            return self._again.pop(0)
        brief = await self.brief(self._next)
        self._next += 1
        return brief

    async def brief(self, number: int) -> Brief:
        """Draw a new brief, with a scenario of the planner when there is one."""
        plain = draw(self.leaf, self.seed, number, self.languages)
        page, place = divmod(self._drawn[plain.language], planner.PAGE)
        self._drawn[plain.language] += 1
        listed = await self._page(plain.language, page)
        return draw(self.leaf, self.seed, number, self.languages, listed[place % len(listed)]) if listed else plain

    async def _page(self, language: Language, page: int) -> list[str]:
        pages = self._scenarios.setdefault(language, [])
        chat = self.context.chat
        while len(pages) <= page and chat.roles.speaks("planner", language):
            known = [scenario for listed in pages for scenario in listed]
            try:
                pages.append(await planner.list_scenarios(chat, self.leaf, language, len(pages), known))
            except CallError:  # recorded by the call; a brief can do without a scenario, and the report shows the failure
                pages.append([])
        return pages[page] if page < len(pages) else []

    async def carry(self, brief: Brief) -> None:
        """Carry one candidate from its brief to its end."""
        decided, began = False, time.monotonic()
        try:
            begun = self.context.ledger.begin(brief)  # its first call is on disk no earlier, so that need not wait for it
            config: Any = {"recursion_limit": candidate.RECURSION_LIMIT, "run_name": brief.id}
            with telemetry.candidate(self.context.ledger.path.parent.name, brief.leaf, brief.id) as span:
                final = await self.graph.ainvoke(candidate.start(brief), config, context=self.context)
                ending = final["ending"]
                span.ended(ending.state, ending.code)
            await begun
            seconds = time.monotonic() - began
            about = {"leaf": brief.leaf, "number": brief.number, "state": ending.state, "stage": ending.stage, "code": ending.code}
            event(CANDIDATE, INFO, "candidate ended", candidate=brief.id, **about, seconds=seconds)
            if ending.state == "open":
                self._open[brief.id] = brief
                return
            decided = True
            self.counts[ending.state] += 1
            self.new[ending.state] += 1
            if ending.state != "accepted":
                self.codes[ending.code] += 1
        finally:
            self.under_way -= 1
            self.admission.leave(brief, decided)
            self.give_back(brief)
            self.look()
            self.ended()

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
        self.admission.enter(brief)
        group.create_task(self.carry(brief), name=brief.id, context=self._outside.copy())

    def give_back(self, brief: Brief) -> None:
        """A candidate that has ended, or that waits to be admitted, needs its slot no more."""
        if brief.id in self._working:
            self._working.remove(brief.id)
            self.slots.give_back()

    async def until_more_is_wanted(self) -> None:
        """Wait until more candidates should be begun, or until there are none under way."""
        while self.under_way and not self.wanted:
            self._moved.clear()
            await self._moved.wait()

    def look(self) -> None:
        """Something has changed that the leaf's answers depend on."""
        self._moved.set()
        self.slots.look()


async def plan(state: State, runtime: Runtime[LeafJob]) -> State:
    """Brief the next candidates, a few at a time: those under way need not wait for all to be planned."""
    job = runtime.context
    planned: list[Brief] = []
    try:
        for _ in range(min(job.wanted, planner.PAGE)):
            planned.append(await job.next_brief())
    except Halted:  # the leaf is halted now; `tally` says so
        pass
    return {"planned": planned}


async def produce(state: State, runtime: Runtime[LeafJob]) -> State:
    """Begin the planned candidates as slots become free; those that are not begun stay planned."""
    job = runtime.context
    left = list(state["planned"])
    while left and await job.slots.take(job):
        job.begin(left.pop(0), job.group)
    job._again = left + job._again
    await job.until_more_is_wanted()
    return {"planned": []}


async def tally(state: State, runtime: Runtime[LeafJob]) -> State:
    """Met, starved, out of budget, stopped: or not yet."""
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
    decided = sum(job.counts.values())
    if decided >= job.most:
        codes = ", ".join(f"{count} {code}" for code, count in job.codes.most_common(4))
        return Outcome("starved", f"{job.accepted} of {decided} candidates were accepted; the others: {codes or 'see the report'}")
    return None
