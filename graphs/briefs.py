"""What the candidates of a leaf are told: the cells of its plan, with concepts, scenarios, material, and what earlier ones have taught."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from agents import evolver, planner
from agents.chat import Chat
from agents.syllabus import list_sessions
from filters.twins import Twins
from graphs.cells import FIRST_BRIEFS, seen_by
from graphs.pages import Pages
from graphs.syllabus import Syllabus
from leafmill.ledger import CANDIDATES
from leafmill.recipe import Flow
from leafmill.records import AGAIN, OTHER, Brief, Language, Settled
from taxonomy import Leaf, again, draw, plan_of
from taxonomy.covering import Plan
from taxonomy.material import furnish

if TYPE_CHECKING:
    from filters.embedder import Embedder

FIRST_EVOLVED = 128
"""cells of a leaf whose evolutions are drawn without a look at those before: what a few have come to says little about an operator"""


@dataclass
class Briefs:
    """Of one leaf. `embedder` tells concepts and scenarios that say the same; without one, only the same words do."""

    leaf: Leaf
    seed: int
    languages: tuple[Language, ...]
    chat: Chat
    flow: Flow
    embedder: Embedder | None = None
    _drawn: Counter[Language] = field(default_factory=Counter)
    """cells planned, by the language that they are written in"""
    _turns: Counter[tuple[str, Language]] = field(default_factory=Counter)
    """the same by what their candidates are written from, and in which language"""
    _past: list[Settled] = field(default_factory=list)
    _past_until: int = 0
    """the cells that it holds"""
    _shares: dict[int, dict[str, float]] = field(default_factory=dict)
    """of the evolver's operators, by how many cells they were weighed on"""

    @cached_property
    def plan(self) -> Plan:
        return plan_of(self.leaf, self.seed, self.languages)

    def planned(self, brief: Brief) -> None:
        """A brief of this leaf is in use: the first of its cell uses up what it is told."""
        if brief.attempt == 0:
            self._drawn[brief.written_in] += 1
            self._turns[brief.mode.write, brief.written_in] += 1
            if brief.written_in in self._syllabus:
                self._syllabus[brief.written_in].told(brief.concepts)

    def looks_back(self, number: int) -> int:
        """How many cells must be settled before the brief of cell `number` is planned."""
        return max((seen_by(number, first) for first in self._firsts), default=0)

    async def next(self, number: int) -> Brief:
        """The first brief of a cell; cells are planned in order. Raises Halted, and then nothing is used up."""
        brief = draw(self.leaf, self.seed, number, self.plan.cell(number))
        language, told = brief.written_in, dict[str, Any]()
        if syllabus := self._syllabus.get(language):
            told["concepts"] = await syllabus.concepts(brief.mode.composite)
        if pages := self._scenarios.get(language):
            at, place = divmod(self._drawn[language], planner.PAGE)
            await pages.reach(at + 1)
            listed = pages.page(at)
            told["scenario"] = listed[place % len(listed)] if listed else ""
        brief = self._furnished(brief.model_copy(update=told), self._turns[brief.mode.write, language])
        self.planned(brief)
        return brief

    def again(self, brief: Brief, attempt: int) -> Brief:
        """The brief of the candidate that takes the cell of another once more."""
        renewed = again(brief, self.leaf, self.seed, attempt)
        return self._furnished(renewed, 0) if brief.mode.write == "self_instruct" else renewed

    async def ahead(self, number: int, count: int) -> None:
        """Ask for the pages that `count` cells from this one on will use, so that planning them need not wait."""
        if not (self._scenarios or self._syllabus):
            return
        briefs = [draw(self.leaf, self.seed, one, self.plan.cell(one)) for one in range(number, number + count)]
        asked: list[Awaitable[None]] = []
        for language in self._written:
            ours = [brief for brief in briefs if brief.written_in == language]
            if ours and (pages := self._scenarios.get(language)):
                asked.append(pages.reach(math.ceil((self._drawn[language] + len(ours)) / planner.PAGE)))
            if ours and (syllabus := self._syllabus.get(language)):
                asked.append(syllabus.ahead(sum(not brief.mode.composite for brief in ours)))
        await asyncio.gather(*asked)

    def _furnished(self, brief: Brief, turn: int) -> Brief:
        """The brief with what its candidate is written from, and evolved by."""
        learns = brief.mode.write == "self_instruct"
        brief = furnish(brief, self.leaf, self.seed, turn, self._settled(seen_by(brief.cell)) if learns else ())
        return brief.model_copy(update={"operators": self._operators(seen_by(brief.cell, FIRST_EVOLVED))}) if self._evolves else brief

    def _operators(self, seen: int) -> dict[str, float]:
        if seen not in self._shares:
            self._shares = {seen: evolver.weights(self._settled(seen), self.flow.breadth_share)}
        return self._shares[seen]

    def _settled(self, seen: int) -> list[Settled]:
        """What became of the candidates of the first cells."""
        if seen > self._past_until:
            self._past += self._read(self._past_until, seen)
            self._past_until = seen
        return [one for one in self._past if one.number % AGAIN < seen]

    def _read(self, first: int, until: int) -> Iterator[Settled]:
        c = CANDIDATES.c
        columns = (c.number, c.state, c.code, c.lineage, sa.case((c.state == "accepted", c.row)).label("row"))
        cell = c.number % AGAIN
        wanted = sa.select(*columns).where(c.leaf == self.leaf.path, cell >= first, cell < until).order_by(cell, c.number)
        for found in self.chat.ledger.rows(wanted):
            lineage = found.pop("lineage") or {}
            yield Settled(**found, **{name: lineage.get(name, ()) for name in ("made", "evolutions")})

    @cached_property
    def _evolves(self) -> bool:
        return self.flow.evolve_rounds > 0

    @cached_property
    def _firsts(self) -> list[int]:
        """From which cells on something is looked back at."""
        learns = any(mode.write == "self_instruct" for mode in self.leaf.modes)
        return [*([FIRST_BRIEFS] if learns else []), *([FIRST_EVOLVED] if self._evolves else [])]

    @cached_property
    def _scenarios(self) -> dict[Language, Pages[str]]:
        return {one: Pages(partial(self._situations, one, Twins(self.embedder))) for one in self._speaking("planner")}

    async def _situations(self, language: Language, twins: Twins, page: int, known: Sequence[str]) -> list[str]:
        return await twins.fresh(await planner.list_scenarios(self.chat, self.leaf, language, page, known))

    @cached_property
    def _syllabus(self) -> dict[Language, Syllabus]:
        return {
            one: Syllabus(partial(list_sessions, self.chat, self.leaf, one), Twins(self.embedder), self.seed, self.leaf.path, one)
            for one in self._speaking("syllabus-planner")
        }

    def _speaking(self, role: str) -> list[Language]:
        """The languages in which the leaf has this role."""
        return [language for language in self._written if self.chat.roles.speaks(role, language)]

    @cached_property
    def _written(self) -> list[Language]:
        """The languages in which instructions are written first."""
        modes, own = self.leaf.modes, self.languages
        return sorted({OTHER[one] if mode.localised else one for mode in modes for one in own})
