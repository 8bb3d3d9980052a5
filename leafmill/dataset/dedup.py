"""`leafmill dedup`: drops every row that says what a row before it said. Of twins the first stays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters import catalogue
from filters.dedup.minhash import MinhashIndex
from filters.gate import version
from filters.memory import Remembering, admit, restore
from leafmill.dataset.items import Item
from leafmill.dataset.sweep import Outcome
from leafmill.records import Verdict

DIGITS = 4
"""of a similarity, after the point, that are written down"""


@dataclass(frozen=True)
class Dedup:
    """Asks the dedup gates, cheap before dear, and lets them remember what they all accept."""

    gates: tuple[Remembering, ...]
    batch: int = 512

    @property
    def rules(self) -> Mapping[str, str]:
        return {gate.name: version(gate) for gate in self.gates}

    async def remember(self, kept: Iterable[Item]) -> None:
        subjects = [item.subject for item in kept]
        for gate in self.gates:
            await restore(gate, subjects)

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        found = await admit(self.gates, [item.subject for item in items])
        return [Outcome(verdicts, _near(verdicts)) for verdicts in (tuple(map(_rounded, given)) for given in found)]


@asynccontextmanager
async def open_dedup(folder: Path, embedder: str | None, settings: Mapping[str, Mapping[str, Any]]) -> AsyncIterator[Dedup]:
    """The chain exact -> minhash -> semantic (without an embedder: without the last), with settings by gate. Vectors lie in `folder`."""
    resources: dict[str, dict[str, Any]] = {"exact": {"kept": {}}, "minhash": {"index": MinhashIndex()}}
    async with AsyncExitStack() as stack:
        if embedder is not None:
            from filters.dedup.semantic import SemanticIndex
            from filters.embedder import open_embedder

            opened = open_embedder(embedder)
            stack.push_async_callback(opened.aclose)
            await opened.encode([])  # an endpoint's dimension is known once it has answered
            index = await SemanticIndex.open(folder / "chroma", opened, rebuild=True)
            stack.push_async_callback(index.close)
            resources["semantic"] = {"embedder": opened, "index": index}
        gates = [catalogue.make(name, settings.get(name), **needed) for name, needed in resources.items()]
        yield Dedup(tuple(gate for gate in gates if isinstance(gate, Remembering)))


def _rounded(verdict: Verdict) -> Verdict:
    """A vector differs in its seventh digit with what shared its batch, which after a restart is not the same."""
    evidence = {name: round(value, DIGITS) if isinstance(value, float) else value for name, value in verdict.evidence.items()}
    return verdict.model_copy(update={"value": None if verdict.value is None else round(verdict.value, DIGITS), "evidence": evidence})


def _near(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """What a kept row is nearest to, as far as its gates say."""
    return {one.gate: {"nearest": one.value, **one.evidence} for one in verdicts if one.value is not None or one.evidence}
