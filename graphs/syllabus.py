"""What the briefs of a leaf are about, in one language: the concepts of its syllabus. It grows by a page when all have had their turn."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from agents.syllabus import CONCEPTS, PAGES
from filters.twins import Twins
from graphs.pages import Ask, Pages
from leafmill.records import digest
from taxonomy.syllabus import Session, alone, together


class Syllabus:
    """`key` says whose it is: another key, other combinations."""

    def __init__(self, ask: Ask[Session], twins: Twins, *key: str | int) -> None:
        self._ask, self._twins, self._key = ask, twins, key
        self._pages = Pages(self._page)
        self._told: list[tuple[str, ...]] = []
        """the concepts of the briefs so far"""

    def told(self, concepts: tuple[str, ...]) -> None:
        """A brief is about these."""
        if concepts:
            self._told.append(concepts)

    async def concepts(self, composite: bool) -> tuple[str, ...]:
        """What the next brief is about; nothing, when nothing is known."""
        used = sum(len(concepts) == 1 for concepts in self._told)
        await self.ahead(0 if composite else 1)
        pages = self._needed(used + (not composite))
        singles = [concept for page in pages for concept in alone(page)]
        if not composite and used < len(singles):
            return (singles[used],)
        sessions = [session for page in pages for session in page]
        return together(sessions, self._told, composite, Random(digest(*self._key, len(self._told)))) if sessions else ()

    def _needed(self, concepts: int) -> list[list[Session]]:
        """The first pages that have so many concepts, and one in any case: what was asked for ahead does not count yet."""
        pages, count = [self._pages.page(0)], 0
        for number in range(1, self._pages.count):
            count += sum(len(session.concepts) for session in pages[-1])
            if count >= concepts:
                break
            pages.append(self._pages.page(number))
        return pages

    async def ahead(self, briefs: int) -> None:
        """Have enough pages for so many more briefs about one concept each, and one page in any case."""
        used = sum(len(concepts) == 1 for concepts in self._told)
        await self._pages.until(lambda: self._ends or (self._pages.count > 0 and self._concepts >= used + briefs))

    @property
    def _concepts(self) -> int:
        return sum(len(session.concepts) for session in self._pages.known)

    @property
    def _ends(self) -> bool:
        """Whether no more pages are asked for: there are enough, or the last brought next to nothing."""
        count = self._pages.count
        return count == PAGES or (count > 0 and sum(len(session.concepts) for session in self._pages.page(count - 1)) < CONCEPTS)

    async def _page(self, number: int, known: Sequence[Session]) -> list[Session]:
        """The sessions of one page, without what was taught before."""
        found = []
        for session in await self._ask(number, known):
            if concepts := await self._twins.fresh(session.concepts):
                found.append(Session(session.title, tuple(concepts)))
        return found
