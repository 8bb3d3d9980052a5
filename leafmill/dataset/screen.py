"""What a command on a dataset shows: how far it is, and its summary."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from leafmill.console import sayer
from leafmill.dataset.sweep import Show, Summary
from leafmill.dataset.tally import PLACES
from leafmill.screens import table

EVERY = 15.0
"""seconds between two lines where there is no terminal"""
SHOWN = 12
"""codes that are shown"""


@contextmanager
def watching(console: Console) -> Iterator[Show]:
    """A bar on a terminal; elsewhere a line now and then."""
    if not console.is_terminal:
        yield _teller(console)
        return
    columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=1.0)
        yield lambda words, share: progress.update(task, completed=share, description=words)


def _teller(console: Console) -> Show:
    last = began = time.monotonic()
    say = sayer(console)

    def show(words: str, share: float) -> None:
        nonlocal last
        if time.monotonic() - last >= EVERY:
            last = time.monotonic()
            say(f"{share:.0%} after {last - began:.0f} s: {words}")

    return show


def summary(found: Summary, console: Console) -> None:
    """Counts by language and by reason, how the values lie, and where the files are."""
    _say(console, f"{found.command}: {found.input} -> {found.out}/")
    _say(console, f"{found.read:,} rows ({_formats(found.formats)}) in {found.seconds:.1f} s, {found.rows_per_second:,.0f}/s\n")
    table(_by_language(found), console)
    if found.codes:
        console.print("\nwhy rows are not kept", style="italic")
        table([{"rows": n, "code": code} for code, n in sorted(found.codes.items(), key=lambda pair: -pair[1])[:SHOWN]], console)
    if found.values:
        console.print("\nhow the values lie", style="italic")
        table(found.values, console)
    if found.broken:
        _say(console, f"\nset aside in broken.jsonl, for they cannot be read: {found.broken}")
        for fault in found.faults:
            _say(console, f"  {fault}")
        if found.broken > len(found.faults):
            _say(console, "  ...")
    if found.errors:
        _say(console, f"\non {found.errors} rows a gate failed: they wait in waiting.jsonl, --fresh tries again")


def calibration(found: BaseModel, lines: list[dict[str, Any]], paths: Iterable[Path], console: Console, json: bool) -> None:
    """What was found by language, and where it is written."""
    if json:
        print(found.model_dump_json(indent=2))  # noqa: T201
        return
    rounded = [{name: round(value, 3) if isinstance(value, float) else value for name, value in line.items()} for line in lines]
    table(rounded, console)
    sayer(console)("\nwrote " + ", ".join(map(str, paths)))


def _formats(formats: Mapping[str, int]) -> str:
    if len(formats) == 1:
        return next(iter(formats))
    return "mixed formats: " + ", ".join(f"{n:,} {name}" for name, n in formats.items()) if formats else "no row"


def _by_language(found: Summary) -> list[dict[str, Any]]:
    places = list(dict.fromkeys(PLACES.values()))
    lines = [
        {"language": language, "read": sum(counts.values()), **{place: counts.get(place, 0) for place in places}, "broken": ""}
        for language, counts in sorted(found.languages.items())
    ]
    return [*lines, {"language": "all", "read": found.read, **{place: getattr(found, place) for place in places}, "broken": found.broken}]


def _say(console: Console, line: str) -> None:
    console.print(line, highlight=False, markup=False, soft_wrap=True)
