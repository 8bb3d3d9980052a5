"""Which candidates a leaf has: one for each cell of its plan, and another where none was accepted (a hole).

Their order is by cell, and within a cell by attempt. Which there are follows from that order alone, as if each were made when all before
it are decided: the first of every cell; then another as long as none was accepted, up to `refills` of them; `most` in all. Yet they are
made side by side: one may begin as soon as it is certain to be among the first `most`, however the cells before it come out. So equal runs
have equal candidates, whichever reply came first and however many rows were asked for before.

A cell is settled when it has an accepted row, or when none is to be tried for any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from leafmill.records import Brief

FIRST_BRIEFS = 16
"""cells that are planned without a look at what became of others"""


@dataclass
class _Cell:
    """One that is not settled."""

    tries: int = 0
    """its candidates, begun or waiting"""
    undecided: int = 0
    """of them"""
    accepted: bool = False


@dataclass
class Cells:
    """The cells of one leaf that have been planned, and the candidates that wait to begin in them."""

    refills: int
    most: int
    next: int = 0
    """the first cell that is not planned"""
    _going: dict[int, _Cell] = field(default_factory=dict)
    """cells that are not settled"""
    _settled: dict[int, int] = field(default_factory=dict)
    """how many candidates the others had"""
    _sum: int = 0
    """of those"""
    _waiting: list[tuple[tuple[int, int], bool, Brief]] = field(default_factory=list)
    """a heap: place, whether an earlier run began it, brief"""

    @property
    def waiting(self) -> int:
        """How many are to begin before any new cell."""
        return len(self._waiting)

    @property
    def settled(self) -> int:
        """All cells before this one are settled."""
        return min(self._going, default=self.next)

    @property
    def room(self) -> int:
        """How many new cells may begin, if they take one candidate each."""
        return max(0, self.most - self._at_most)

    def add(self, brief: Brief) -> None:
        """A candidate that has a place from now on."""
        cell = self._going.setdefault(brief.cell, _Cell())
        cell.tries = max(cell.tries, brief.attempt + 1)
        cell.undecided += 1
        self.next = max(self.next, brief.cell + 1)

    def wait(self, brief: Brief, began: bool = False) -> None:
        """It is to begin when it may; one that began in an earlier run may at once."""
        heapq.heappush(self._waiting, (brief.place, began, brief))

    def first(self) -> Brief | None:
        """The first that waits, if it may begin now."""
        if not self._waiting:
            return None
        (cell, attempt), began, brief = self._waiting[0]
        return brief if began or self._at_most <= self.most or self._before(cell) + attempt < self.most else None

    def take(self) -> Brief | None:
        """The same; it waits no more."""
        brief = self.first()
        if brief:
            heapq.heappop(self._waiting)
        return brief

    def end(self, brief: Brief, accepted: bool) -> int | None:
        """A candidate is decided. When that leaves a hole: how many have been tried in it."""
        cell = self._going[brief.cell]
        cell.undecided -= 1
        cell.accepted |= accepted
        if cell.undecided:
            return None
        if not cell.accepted and cell.tries <= self.refills:
            return cell.tries
        self._settle(brief.cell)
        return None

    def reopen(self, brief: Brief) -> int | None:
        """A row that was to be accepted is not: a person objects. When that leaves a hole: how many have been tried in it."""
        if brief.cell in self._settled:
            tries = self._settled.pop(brief.cell)
            self._sum -= tries
            self._going[brief.cell] = _Cell(tries=tries)
        cell = self._going[brief.cell]
        cell.undecided += 1
        cell.accepted = False
        return self.end(brief, accepted=False)

    def drop(self, everything: bool) -> Iterator[Brief]:
        """Those that will never begin: they would not be among the first `most`; or `everything`, for the leaf goes no further."""
        while self._waiting:
            (number, attempt), began, brief = self._waiting[0]
            if not everything and (
                began or self._at_most <= self.most or number > self.settled or self._before(number) + attempt < self.most
            ):
                return
            heapq.heappop(self._waiting)
            cell = self._going[number]
            cell.tries, cell.undecided = cell.tries - (not began), cell.undecided - 1
            if not cell.undecided and not everything:
                self._settle(number)
            yield brief

    def _settle(self, number: int) -> None:
        self._settled[number] = self._going.pop(number).tries
        self._sum += self._settled[number]

    @property
    def _at_most(self) -> int:
        """How many candidates all cells so far may come to."""
        return self._sum + len(self._going) * (1 + self.refills)

    def _before(self, number: int) -> int:
        """How many candidates the cells before this one may come to."""
        settled = sum(tries for cell, tries in self._settled.items() if cell < number)
        return settled + sum(cell < number for cell in self._going) * (1 + self.refills)


def seen_by(number: int, first: int = FIRST_BRIEFS) -> int:
    """How many of a leaf's cells the brief of cell `number` may look back at: the older half of those before it, none of the `first`
    cells. It grows in steps (four while the number doubles), so that what is made of them is made seldom.

    >>> [seen_by(number) for number in (15, 16, 31, 32, 100)]
    [0, 8, 14, 16, 48]
    """
    if number < first:
        return 0
    step = 1 << max(0, number.bit_length() - 3)
    return number // step * step // 2
