"""Admission: the one serial reducer through which every row of a run gets into the dataset.

Within a leaf candidates are admitted in the order of their numbers: one that is ready waits for those before it that are still
under way (their time is bounded by the timeouts of their calls). So the accepted rows of a leaf are the first n good ones by
number, whichever reply came first, and of two near-twins the earlier gets in. Between leaves it is first come, first served.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from filters.gate import ENDS, Gate, Subject, refusal
from filters.memory import Remembering
from leafmill.ledger import Ending, Ledger, Step
from leafmill.records import Brief


class Admission:
    """Holds the admit gates (which remember what was admitted) and each leaf's quota."""

    def __init__(self, ledger: Ledger, gates: Mapping[str, Sequence[Gate]], quotas: Mapping[str, int], accepted: Mapping[str, int]) -> None:
        self._ledger, self._gates, self._quotas = ledger, gates, quotas
        self._accepted = Counter(accepted)
        remembering = (gate for of_leaf in gates.values() for gate in of_leaf if isinstance(gate, Remembering))
        self.memory = tuple({gate.name: gate for gate in remembering}.values())
        """one gate of each kind that remembers, for leaves share what is remembered: that of a leaf which has the gate off, too"""
        self._under_way: dict[str, set[int]] = defaultdict(set)
        self._undecided: dict[str, int] = {}
        """by leaf, the lowest number that was left open: nobody after it may be decided before it is"""
        self._moved = asyncio.Condition()
        self._one_at_a_time = asyncio.Lock()

    def is_full(self, leaf: str) -> bool:
        return self._accepted[leaf] >= self._quotas[leaf]

    def accepted(self, leaf: str) -> int:
        return self._accepted[leaf]

    def enter(self, brief: Brief) -> None:
        """A candidate is under way; later ones of its leaf wait for it at the door. Call in the order of numbers."""
        self._under_way[brief.leaf].add(brief.number)

    async def leave(self, brief: Brief, decided: bool = True) -> None:
        """A candidate has ended, however it did; or, not `decided`, it is left open because the run ends."""
        async with self._moved:
            self._under_way[brief.leaf].discard(brief.number)
            if not decided:
                self._undecided[brief.leaf] = min(brief.number, self._undecided.get(brief.leaf, brief.number))
            self._moved.notify_all()

    async def admit(self, brief: Brief, subject: Subject, lineage: Mapping[str, Any], step: Step) -> Ending:
        """Decide a candidate that passed everything else, and record the decision."""
        async with self._moved:
            await self._moved.wait_for(lambda: min(self._under_way[brief.leaf], default=brief.number) >= brief.number)
        async with self._one_at_a_time:
            ending = await self._decide(brief, subject, step)
            await self._ledger.finish(brief, ending, subject.row, lineage)
            if ending.state == "accepted":
                self._accepted[brief.leaf] += 1
                for gate in self.memory:
                    await gate.add(subject)
        return ending

    async def _decide(self, brief: Brief, subject: Subject, step: Step) -> Ending:
        if self._undecided.get(brief.leaf, brief.number) < brief.number:
            return Ending("open", "admit", "halted", "a candidate before it was left open")
        if self.is_full(brief.leaf):
            return Ending("rejected", "admit", "quota_met", "good, but the leaf was full")
        verdict = await refusal(self._gates[brief.leaf], subject, partial(self._ledger.note_verdict, step))
        if verdict is not None:
            return Ending(ENDS[verdict.decision], "admit", verdict.code, verdict.sentence)
        return Ending("accepted", "admit")
