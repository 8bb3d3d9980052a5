"""Admission: the one serial reducer through which every row of a run gets into the dataset.

    enter -> ... -> admit: wait for one's turn -> decide, one at a time -> recorded
                    leave: a candidate that ended before it came here, or is left open

Within a leaf candidates are decided in the order of their places (cells of the plan, and attempts within a cell): one that is ready
waits for those before it that are still under way (their time is bounded by the timeouts of their calls), and for those that are to fill
a hole before it. So the accepted rows of a leaf are the first n good ones by place, whichever reply came first, and of two near-twins the
earlier gets in. Between leaves it is first come, first served.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from filters.gate import ENDS, Gate, Subject, refusal
from filters.memory import Remembering
from leafmill.ledger import Ending, Ledger, Step
from leafmill.records import Brief, Row

Place = tuple[int, int]
"""cell and attempt"""


class Door:
    """The door of one leaf: the lowest place under way goes first."""

    def __init__(self) -> None:
        self.left_open: Place | None = None
        """the lowest place that was left open: nobody after it may be decided before it is"""
        self._ahead: set[Place] = set()
        """places under way that are not decided"""
        self._order: list[Place] = []
        """a heap of them, and of places that have gone since"""
        self._waiting: dict[Place, asyncio.Future[None]] = {}

    def enter(self, place: Place) -> None:
        if place not in self._ahead:
            self._ahead.add(place)
            heapq.heappush(self._order, place)

    async def turn(self, place: Place) -> None:
        """Wait until nobody with a lower place is under way."""
        turn = self._waiting[place] = asyncio.get_running_loop().create_future()
        self._call()
        try:
            await turn
        finally:
            del self._waiting[place]

    def leave(self, place: Place) -> None:
        self._ahead.discard(place)
        self._call()

    def _call(self) -> None:
        """Call the first one in, if it waits already: only that one wakes."""
        while self._order and self._order[0] not in self._ahead:
            heapq.heappop(self._order)
        turn = self._waiting.get(self._order[0]) if self._order else None
        if turn is not None and not turn.done():
            turn.set_result(None)


class Admission:
    """Holds the admit gates (which remember what was admitted) and each leaf's quota."""

    def __init__(self, ledger: Ledger, gates: Mapping[str, Sequence[Gate]], quotas: Mapping[str, int], accepted: Mapping[str, int]) -> None:
        self._ledger, self._gates, self._quotas = ledger, gates, quotas
        self._accepted = Counter(accepted)
        self._held = Counter[str]()
        remembering = (gate for of_leaf in gates.values() for gate in of_leaf if isinstance(gate, Remembering))
        self.memory = tuple({gate.name: gate for gate in remembering}.values())
        """one gate of each kind that remembers, for leaves share what is remembered: that of a leaf which has the gate off, too"""
        self._doors: dict[str, Door] = defaultdict(Door)
        self._one_at_a_time = asyncio.Lock()

    def is_full(self, leaf: str) -> bool:
        """Whether as many rows as wanted are in, or will be if nobody objects."""
        return self._accepted[leaf] + self._held[leaf] >= self._quotas[leaf]

    def held(self, leaf: str) -> int:
        """Rows that passed everything and wait only for a person to see them."""
        return self._held[leaf]

    def hold(self, leaf: str, rows: int) -> None:
        """So many of them more, or less."""
        self._held[leaf] += rows

    def accepted(self, leaf: str) -> int:
        return self._accepted[leaf]

    def enter(self, brief: Brief) -> None:
        """A candidate is under way, or will be; later ones of its leaf wait for it at the door."""
        self._doors[brief.leaf].enter(brief.place)

    def leave(self, brief: Brief, decided: bool = True) -> None:
        """A candidate has ended, however it did; or, not `decided`, it is left open because the run ends."""
        door = self._doors[brief.leaf]
        if not decided:
            door.left_open = min(brief.place, door.left_open or brief.place)
        door.leave(brief.place)

    async def admit(
        self, brief: Brief, subject: Subject, lineage: Mapping[str, Any], step: Step, was: Row | None = None, seen: bool = False
    ) -> Ending:
        """Decide a candidate that passed everything else; return when the decision is on disk.

        `was`: what it gave up only after the gates that remember had let it on to be answered. How much they could remember then, is
        chance; so they are asked about that too, now that it is none. `seen`: a person has accepted it, so it gets in even when the leaf is
        full.
        """
        door = self._doors[brief.leaf]
        await door.turn(brief.place)
        async with self._one_at_a_time:
            ending = await self._decide(brief, door, subject, step, was, seen)
            recorded = self._ledger.finish(brief, ending, subject.row, lineage)
            if ending.state == "accepted":
                self._accepted[brief.leaf] += 1
                for gate in self.memory:
                    await gate.add(subject)
            if ending.state == "accepted" or ending.code == "quota_met":
                door.leave(brief.place)  # the next one need not wait for the disk: should that fail, nobody gets any further
        await recorded
        return ending

    async def _decide(self, brief: Brief, door: Door, subject: Subject, step: Step, was: Row | None, seen: bool) -> Ending:
        if door.left_open is not None and door.left_open < brief.place:
            return Ending("open", "admit", "halted", "a candidate before it was left open")
        if self.is_full(brief.leaf) and not seen:
            return Ending("rejected", "admit", "quota_met", "good, but the leaf was full")
        for one in [subject] if was is None else [replace(subject, row=was), subject]:
            verdict = await refusal(self._gates[brief.leaf], one, partial(self._ledger.note_verdict, step), seen)
            if verdict is not None:
                return Ending(ENDS[verdict.decision], "admit", verdict.code, verdict.sentence)
        return Ending("accepted", "admit")
