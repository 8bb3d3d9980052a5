"""The folder of a run: `recipe.yaml` (resolved), `ledger.db`, `chroma/` (a cache), `prompts/` and
`test_sets/` (the files as used), `export/`.

One process runs in it at a time (a lock that ends with the process); any number may read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

from filelock import FileLock, Timeout

from leafmill.errors import DiskError, LockedError, RunFolderError, unknown
from leafmill.recipe import Recipe

RUNS = Path("runs")
PLAN = "plan.yaml"
"""the recipe of a plan, in a folder of a plan and in no other"""


def fresh_name(name: str, runs: Path, suffix: str = "") -> str:
    """`name`, or `name`-2, -3, ...: the first whose folder, its name and the suffix, is not there."""
    names = chain((name,), (f"{name}-{number}" for number in count(2)))
    return next(free for free in names if not (runs / f"{free}{suffix}").exists())


@dataclass(frozen=True)
class RunFolder:
    path: Path

    @property
    def ledger(self) -> Path:
        return self.path / "ledger.db"

    @property
    def chroma(self) -> Path:
        return self.path / "chroma"

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def test_sets(self) -> Path:
        return self.path / "test_sets"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @classmethod
    def find(cls, name: str | None, runs: Path = RUNS) -> RunFolder:
        """An existing run: a folder's path, a name under `runs/`, or None for the one used last. Raises RunFolderError."""
        ledgers = (p for p in runs.glob("*/ledger.db") if not (p.parent / PLAN).exists())
        there = sorted((p.parent for p in ledgers), key=lambda p: (p / "ledger.db").stat().st_mtime)
        if name is None:
            if not there:
                raise RunFolderError(f"there is no run under {runs}/ yet: start one with `leafmill run recipe.yaml`")
            return cls(there[-1])
        for path in (Path(name), runs / name):
            if (path / "ledger.db").is_file():
                return cls(path)
        raise RunFolderError(unknown("run", name, (p.name for p in there)))

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Make the folder and hold its lock.

        Raises LockedError when another process runs here, RunFolderError when the folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path / "lock", timeout=0)
            lock.acquire()
        except Timeout:
            raise LockedError(f"{self.path}: another process is running in this folder; wait for it, or stop it first") from None
        except OSError as fault:
            raise RunFolderError(f"{self.path}: the run folder cannot be used: {fault.strerror}") from fault
        try:
            yield
        finally:
            lock.release()

    def write(self, recipe: Recipe, prompts: Iterator[tuple[str, str]]) -> None:
        """Write down the recipe and the prompt files (name, text) as used. Raises DiskError."""
        write_whole(self.recipe, recipe.resolved())
        for name, text in prompts:
            path = self.path / "prompts" / name
            if not path.is_file() or path.read_bytes() != text.encode():  # a score of files, each of which would wait for the disk
                write_whole(path, text, at_once=False)

    def write_test_sets(self, sets: Mapping[str, str]) -> None:
        """Write down the test sets as used, by name, and drop those of another time. Raises DiskError."""
        for name, text in sets.items():
            path = self.test_sets / f"{name}.jsonl"
            if not path.is_file() or path.read_bytes() != text.encode():
                write_whole(path, text, at_once=False)
        for old in self.test_sets.glob("*.jsonl"):
            if old.stem not in sets:
                old.unlink()


def write_whole(path: Path, text: str, *, at_once: bool = True) -> None:
    """Write a file so that it is either the old one or the new one, never half; `at_once` onto the disk itself. Raises DiskError."""
    if path.is_dir():
        raise DiskError(f"{path}: cannot be written: it is a folder")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as out:
            out.write(text)
            if at_once:
                out.flush()
                os.fsync(out.fileno())
        part.replace(path)
    except OSError as fault:
        raise DiskError(f"{path}: cannot be written: {fault.strerror}") from fault
