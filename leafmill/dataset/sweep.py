"""Carries the rows of a dataset file through a judge, batch by batch, into the files of a folder.

    summary = await sweep(Job("dedup", data, out), lambda folder: Dedup.open(folder, ...))

The same call again goes on where the last one was killed, and ends with the same files; once it is done it only says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from pydantic import BaseModel

from leafmill.dataset.folder import SUMMARY, Outputs, default_folder, fingerprint
from leafmill.dataset.items import Broken, Item
from leafmill.dataset.reader import OWN, Reader, read
from leafmill.errors import RunFolderError
from leafmill.records import Verdict
from leafmill.runfolder import write_whole

PAUSE = 1.0
"""seconds between checkpoints, at least: a batch may take a hundredth of that"""
Show = Callable[[str, float], None]
"""told after every batch what there is to say, and how much of the work is done, 0..1"""


class Outcome(NamedTuple):
    """What a judge says of a row: the verdicts on it, of which the last decides."""

    verdicts: tuple[Verdict, ...]
    adds: Mapping[str, Any] = {}
    """what is written under `leafmill`, under the command's name, on a row that is kept"""


class Judge(Protocol):
    @property
    def batch(self) -> int:
        """how many rows it is best asked about at once"""
        ...

    @property
    def rules(self) -> Mapping[str, str]:
        """the versions of its gates: what must not change half-way"""
        ...

    async def remember(self, kept: Iterable[Item]) -> None:
        """Be as after keeping these rows, in this order. Their lines are those of the input."""
        ...

    async def __call__(self, items: Sequence[Item]) -> list[Outcome]: ...


@dataclass(frozen=True)
class Job:
    """What is to be done: a command, on a file, under settings."""

    command: str
    data: Path
    out: Path | None = None
    format: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)
    fresh: bool = False

    @property
    def folder(self) -> Path:
        return self.out or default_folder(self.data, self.command)


class Summary(BaseModel):
    """What a command did, as `summary.json` holds it."""

    command: str
    input: str
    out: str
    settings: dict[str, Any]
    rules: dict[str, str]
    """the versions of the gates"""
    read: int
    blank: int
    """lines with nothing on them"""
    kept: int
    dropped: int
    waiting: int
    broken: int
    errors: int
    formats: dict[str, int]
    codes: dict[str, int]
    languages: dict[str, dict[str, int]]
    values: list[dict[str, Any]]
    faults: list[str]
    seconds: float
    rows_per_second: float


async def sweep(
    job: Job,
    opened: Callable[[Path], AbstractAsyncContextManager[Judge]],
    *,
    show: Show = lambda words, share: None,
    pause: float = PAUSE,
) -> Summary:
    """Do the job, or go on with it. The judge is opened (with the folder) only if there is something left to do.

    Raises InputError (the file), OtherRecipeError (begun under other settings), RunFolderError, and whatever stops a judge.
    """
    with Reader(job.data, job.format) as reader:
        next(iter(reader))  # what is wrong with the file is said before anything is loaded
    settings = {"command": job.command, "format": job.format, **job.settings, "input": fingerprint(job.data)}
    with Outputs.open(job.folder, job.data, settings, job.fresh) as outputs:
        if not outputs.checkpoint.done:
            async with opened(job.folder) as judge:
                await _go(job, judge, outputs, show, pause)
        return _summarise(job, outputs)


async def _go(job: Job, judge: Judge, outputs: Outputs, show: Show, pause: float) -> None:
    now, began, saved = outputs.checkpoint, time.monotonic(), time.monotonic()
    before = now.seconds
    outputs.hold_to(judge.rules)
    if now.tally.kept:
        await judge.remember(_kept(job, outputs))
    with Reader(job.data, job.format, start=now.line) as reader:
        rows = iter(reader)
        while batch := list(islice(rows, judge.batch)):
            await _judge(job, judge, batch, outputs)
            now.line, now.seconds = reader.line, before + time.monotonic() - began
            show(now.tally.words, reader.share)
            if time.monotonic() - saved >= pause:
                outputs.commit()
                saved = time.monotonic()
        now.line, now.done = reader.line, True
    outputs.commit()


async def _judge(job: Job, judge: Judge, batch: Sequence[Item | Broken], outputs: Outputs) -> None:
    """Write every row of a batch to where it belongs, in the file's order."""
    items = [found for found in batch if isinstance(found, Item)]
    outcomes = {item.line: outcome for item, outcome in zip(items, await judge(items) if items else [], strict=True)}
    tally = outputs.checkpoint.tally
    for found in batch:
        if isinstance(found, Broken):
            tally.see_broken(found)
            outputs.write("broken", found._asdict())
            continue
        verdicts, adds = outcomes[found.line]
        place = tally.see(found, verdicts)
        outputs.write(place, _kept_row(job.command, found, adds) if place == "kept" else _left_row(found, verdicts[-1]))
    tally.check()


def _kept_row(command: str, item: Item, adds: Mapping[str, Any]) -> dict[str, Any]:
    """The row as it stood, with what this command found beside what others did."""
    return {**item.raw, OWN: {**item.raw.get(OWN, {}), command: {**adds, "line": item.line}}}


def _left_row(item: Item, verdict: Verdict) -> dict[str, Any]:
    return {
        "line": item.line,
        "code": verdict.code,
        "sentence": verdict.sentence,
        "value": verdict.value,
        "threshold": verdict.threshold,
        "evidence": verdict.evidence,
        "row": item.raw,
    }


def _kept(job: Job, outputs: Outputs) -> Iterator[Item]:
    """The rows kept so far, with the lines that they have in the input."""
    for found in read(outputs.kept, job.format):
        if not isinstance(found, Item):
            raise RunFolderError(f"{outputs.kept}:{found.line}: cannot be read again: {found.fault}")
        yield found._replace(line=found.raw[OWN][job.command]["line"])


def _summarise(job: Job, outputs: Outputs) -> Summary:
    """Draw the pictures and write the summary, unless that is done."""
    from leafmill.dataset.plots import draw

    path = outputs.path / SUMMARY
    if path.exists():
        return Summary.model_validate_json(path.read_bytes())
    found = outputs.checkpoint
    counts = found.tally.model_dump(exclude={"values", "thresholds"})
    values = [
        {"gate": one.gate, "language": one.language, "place": one.place, "code": one.code, "n": one.n}
        | {name: one.quantile(share) for name, share in (("p05", 0.05), ("median", 0.5), ("p95", 0.95))}
        for one in found.tally.spreads()
    ]
    summary = Summary(
        command=job.command,
        input=str(job.data),
        out=str(outputs.path),
        settings=found.settings,
        rules=found.rules,
        blank=found.line - found.tally.read,
        values=values,
        seconds=round(found.seconds, 3),
        rows_per_second=round(found.tally.read / max(found.seconds, 1e-9), 1),
        **counts,
    )
    draw(job.command, found.tally, outputs.path)
    write_whole(path, summary.model_dump_json(indent=2) + "\n")
    return summary
