"""The loop of one leaf: brief, produce, count, until the quota of accepted rows is met or there is a reason why not.

    plan -> produce -> tally -> END     met | starved(reason) | budget(reason) | stopped
     ^                   |
     '----- not yet -----'

`produce` keeps candidates under way without a barrier between them, as far as `plan` has briefed: when one ends, the next begins, in
whichever leaf is furthest from its quota. Candidates that an earlier run left open, errored, or turned away only because the leaf was
full come first: what was recorded of them is read, not asked again.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypedDict

import sqlalchemy as sa
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from agents import planner
from graphs import candidate
from graphs.admission import Admission
from graphs.slots import Slots
from leafmill.errors import CallError, OtherRecipeError, TaxonomyError
from leafmill.ledger import CANDIDATES, Ending
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

    def __post_init__(self) -> None:
        """Take up what earlier runs left in the ledger."""
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
    def is_hungry(self) -> bool:
        """Keep about as many under way as the missing rows will take, by the acceptance seen so far."""
        decided = sum(self.counts.values())
        likely = (self.accepted + 1) / (decided + 2)
        return self.under_way < math.ceil((self.target - self.accepted) / likely)

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
        decided = False
        try:
            await self.context.ledger.begin(brief)
            config: Any = {"recursion_limit": candidate.RECURSION_LIMIT, "run_name": brief.id}
            final = await self.graph.ainvoke(candidate.start(brief), config, context=self.context)
            ending = final["ending"]
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
            await self.admission.leave(brief, decided)
            self.slots.give_back()
            self.ended()

    async def close_open(self) -> None:
        """The leaf is full: what was left open ends too, unless a larger quota takes it up again."""
        for brief in self._open.values():
            ending = Ending("rejected", "plan", "quota_met", "the leaf was full before this candidate was taken up again")
            await self.context.ledger.finish(brief, ending)
            self.counts[ending.state] += 1
        self._open.clear()

    def begin(self, brief: Brief) -> None:
        self.under_way += 1
        self._open.pop(brief.id, None)
        self.admission.enter(brief)


async def plan(state: State, runtime: Runtime[LeafJob]) -> State:
    """Brief as many candidates as the missing rows will probably take: those left over from earlier runs, then new ones."""
    job = runtime.context
    decided = sum(job.counts.values())
    wanted = math.ceil((job.target - job.accepted) * (decided + 2) / (job.accepted + 1))
    wanted = max(0, min(wanted, job.most - decided))
    planned, job._again = job._again[:wanted], job._again[wanted:]
    while len(planned) < wanted and not job.is_over:
        planned.append(await job.brief(job._next))
        job._next += 1
    return {"planned": planned}


async def produce(state: State, runtime: Runtime[LeafJob]) -> State:
    """Carry the planned candidates, as many at once as the slots allow. Those that were not begun stay planned for the next round."""
    job = runtime.context
    left = list(state["planned"])
    async with asyncio.TaskGroup() as group:
        while left and await job.slots.take(job):
            brief = left.pop(0)
            job.begin(brief)
            group.create_task(job.carry(brief), name=brief.id)
    job._again = left + job._again
    return {"planned": []}


async def tally(state: State, runtime: Runtime[LeafJob]) -> State:
    """Met, starved, out of budget, stopped: or not yet."""
    job = runtime.context
    job.outcome = _outcome(job)
    if job.outcome is not None:
        if job.outcome.state == "met":
            await job.close_open()
        await job.context.ledger.note_leaf(job.leaf.path, job.target, *job.outcome)
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
