"""The gate `contamination`: a row holds an item of a test set.

It is asked about the instruction before anybody is paid to answer it, and about the whole row before anybody is paid to judge it. What
it cannot look at is never clean: a fault of its own is the state `error`, and a comparison of meanings that fails leaves the row for a
person to see.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from filters.contamination.index import CHARACTERS, CODE, SHARE, WORDS, Found, Hit, Index
from filters.contamination.reading import Message, messages
from filters.contamination.similar import Meanings
from filters.contamination.testsets import Benchmarks
from filters.gate import Stage, Subject, verdict
from leafmill.errors import CallError
from leafmill.records import Row, Verdict

SPANS, LONG = 5, 300
"""spans that a verdict shows, and characters of each"""


@dataclass(frozen=True, kw_only=True)
class Contamination:
    """* `contamination.ngram`: more than `share` of an item's tokens, or of a reference solution's, are in n-grams of the row;
    * `contamination.exact`: a message, an instruction or an input is an item that is shorter than an n-gram;
    * `contamination.similar`: no such thing, but the prompt means almost what an item means: a person should look;
    * `contamination.not_compared`: the meanings could not be compared: a person should look.
    """

    name: ClassVar[str] = "contamination"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "check")
    says: ClassVar[str] = "more than half of an item of a test set is in the row"

    share: float = SHARE
    words: int = WORDS
    """units of an n-gram"""
    characters: int = CHARACTERS
    """the same of an item that is mostly Chinese"""
    code: int = CODE
    """tokens of an n-gram of a reference solution"""
    similar: float | None = None
    """cosine similarity to the nearest item from which on a person should look; None: meanings are not compared"""
    tests: Benchmarks = field(repr=False, compare=False)
    meanings: Meanings | None = field(default=None, repr=False, compare=False)
    sets: str = field(init=False)
    """what is in the test sets, so that other ones make another version of the gate"""
    _found: dict[tuple[Message, ...], Found] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sets", self.tests.id)
        for name in ("share", "similar"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must be from 0 to below 1, got {value}")
        for name in ("words", "characters", "code"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} must be at least 2, got {getattr(self, name)}")

    async def __call__(self, subject: Subject) -> Verdict:
        said = messages(subject.row)
        found = self._found.get(said) or self.index.find([said], self.share)[0]
        given = self._verdict(said, found)
        return await self._compare(subject.row.prompt, given) if given.decision == "accept" and self.similar is not None else given

    async def prepare(self, subjects: Sequence[Subject]) -> None:
        """Look at many rows at once, which is many times faster than one by one."""
        said = [messages(subject.row) for subject in subjects]
        self._found.clear()
        self._found.update(zip(said, self.index.find(said, self.share), strict=True))

    def read(self, rows: Sequence[Row]) -> list[Verdict]:
        """What the n-grams of many rows say, without comparing meanings."""
        said = [messages(row) for row in rows]
        return [self._verdict(*both) for both in zip(said, self.index.find(said, self.share), strict=True)]

    @property
    def index(self) -> Index:
        made: Index = self.tests.index(self.words, self.characters, self.code)
        return made

    def _verdict(self, said: Sequence[Message], found: Found) -> Verdict:
        if not found.hits:
            return verdict(self, "accept", value=found.share, threshold=self.share)
        worst, *others = found.hits
        code = "contamination.exact" if self.index.is_short(worst) else "contamination.ngram"
        evidence = {"set": worst.set, "item": worst.item, "rule": worst.rule, "spans": self._spans(said, worst), **_others(others)}
        return verdict(self, "reject", code, value=worst.share, threshold=self.share, **evidence)

    def _spans(self, said: Sequence[Message], hit: Hit) -> list[dict[str, Any]]:
        return [{**span._asdict(), "text": span.text[:LONG]} for span in self.index.spans(said, hit)[:SPANS]]

    async def _compare(self, prompt: str, clean: Verdict) -> Verdict:
        if self.meanings is None:
            raise ValueError("gate 'contamination': `similar` compares meanings, which takes an embedder")
        try:
            near = await self.meanings.nearest(prompt)
        except CallError as fault:
            return verdict(self, "unscorable", "contamination.not_compared", message=str(fault)[:LONG])
        if near.similarity < (self.similar or 0):
            return clean
        evidence = {"set": near.set, "item": near.item, "text": near.text[:LONG]}
        return verdict(self, "unscorable", "contamination.similar", value=near.similarity, threshold=self.similar, **evidence)


def _others(hits: Sequence[Hit]) -> dict[str, Any]:
    """The other items that are in the row: their ids by test set. Nothing when there are none."""
    by_set: dict[str, list[str]] = defaultdict(list)
    for hit in hits:
        by_set[hit.set].append(hit.item)
    return {"others": dict(by_set)} if by_set else {}
