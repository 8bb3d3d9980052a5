"""The folder of a run: `recipe.yaml` (resolved), `ledger.db`, `chroma/` (a cache), `prompts/` (the files as used), `export/`.

One process runs in it at a time (a lock that ends with the process); any number may read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from leafmill.errors import DiskError, LockedError, RunFolderError, unknown
from leafmill.recipe import Recipe

RUNS = Path("runs")


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
    def export(self) -> Path:
        return self.path / "export"

    @classmethod
    def find(cls, name: str | None, runs: Path = RUNS) -> RunFolder:
        """An existing run: a folder's path, a name under `runs/`, or None for the one used last. Raises RunFolderError."""
        there = sorted((p.parent for p in runs.glob("*/ledger.db")), key=lambda p: (p / "ledger.db").stat().st_mtime)
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
            write_whole(self.path / "prompts" / name, text)


def write_whole(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the new one, never half. Raises DiskError."""
    if path.is_dir():
        raise DiskError(f"{path}: cannot be written: it is a folder")
    part = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("w", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        part.replace(path)
    except OSError as fault:
        raise DiskError(f"{path}: cannot be written: {fault.strerror}") from fault
