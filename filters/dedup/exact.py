"""The gate `exact`: the same text twice, up to width, case, invisible characters, spaces and traditional or simplified Han."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import ClassVar

from filters.dedup.views import VIEWS, Seen, View, views
from filters.gate import Stage, Subject, verdict
from filters.text import normalise, remembered
from leafmill.records import Row, Verdict


@dataclass(frozen=True)
class Exact:
    name: ClassVar[str] = "exact"
    stage: ClassVar[tuple[Stage, ...]] = ("screen", "admit")
    says: ClassVar[str] = "the same prompt, first message or conversation was accepted before"

    views: tuple[View, ...] = VIEWS
    """by what rows are compared"""
    kept: dict[bytes, str] = field(default_factory=dict, repr=False, compare=False)
    """a text's views and hash -> id of the accepted row"""

    async def __call__(self, subject: Subject) -> Verdict:
        for seen, hash in _hashed(subject.row, self.views):
            for bits in _LIKE[seen.bits]:
                if (first := self.kept.get(bits + hash, subject.id)) != subject.id:
                    return verdict(self, "reject", "exact.duplicate", value=1.0, view=seen.view(bits[0]), kept=first)
        return verdict(self, "accept")

    async def add(self, subject: Subject) -> None:
        for seen, hash in _hashed(subject.row, self.views):
            self.kept.setdefault(bytes([seen.bits]) + hash, subject.id)


_LIKE = {bits: [bytes([other]) for other in (1, 2, 3, 4) if other & bits] for bits in (1, 2, 3, 4)}
"""the bits of a text -> those of the texts with which it is compared"""


def _hashed(row: Row, wanted: tuple[View, ...]) -> Iterator[tuple[Seen, bytes]]:
    """The views of a row with their hashes. Instruction and input are hashed apart, so that words cannot move between them."""
    for seen in views(row, wanted):
        prompt = row.input and seen.text == row.prompt
        yield seen, _hash(row.instruction, row.input) if prompt else _hash(seen.text)


@remembered
def _hash(text: str, input: str = "") -> bytes:
    return blake2b(f"{normalise(text)}\0{normalise(input)}".encode(errors="surrogatepass"), digest_size=16).digest()
