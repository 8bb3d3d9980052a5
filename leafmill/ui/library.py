"""The runs of a folder, each with its index."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from leafmill.errors import RunFolderError, unknown
from leafmill.index.index import Index, Progress
from leafmill.ledger import Ledger
from leafmill.runfolder import PLAN, RunFolder


@dataclass
class Library:
    """Opened once by the server; asked by many threads."""

    runs: Path
    _indexes: dict[str, Index] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def names(self) -> list[str]:
        """Of all runs, the one used last first."""
        found = [path for path in self.runs.glob("*/ledger.db") if not (path.parent / PLAN).exists()]
        return [path.parent.name for path in sorted(found, key=lambda path: (-changed_at(path), path))]

    def folder(self, name: str) -> RunFolder:
        """Raises RunFolderError for a run that is not there (any more)."""
        folder = RunFolder(self.runs / name)
        if Path(name).name != name or not folder.ledger.is_file() or (folder.path / PLAN).exists():
            self._forget(name)
            raise RunFolderError(unknown("run", name, self.names()))
        return folder

    def index(self, name: str) -> Index:
        """The index of a run, as fresh as the last look at the ledger. Raises RunFolderError."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._indexes:
                Ledger(folder.ledger, read_only=True).close()  # says what is wrong with it, or brings its tables up to date
                self._indexes[name] = Index(folder)
            index = self._indexes[name]
        index.fresh()
        return index

    @contextmanager
    def glance(self, name: str, seconds: float) -> Iterator[tuple[Index, Progress]]:
        """The index for a moment, as far as it gets in so many seconds: for a page of all runs, which must not keep all their files open.

        One that needs longer is kept, and goes on in the background. Raises RunFolderError.
        """
        with self._lock:
            held = self._indexes.get(name)
        if held is not None:
            yield held, held.fresh()
            return
        with closing(Index(self.folder(name))) as index:
            progress = index.refresh(seconds)
            yield index, progress
        if progress.done < progress.total:
            self.index(name)

    def _forget(self, name: str) -> None:
        """Let go of the files of a run that was deleted."""
        with self._lock:
            index = self._indexes.pop(name, None)
        if index is not None:
            index.close()


def changed_at(path: Path) -> float:
    """When a file was written last; what is written to a ledger stands in a file beside it first. 0: there is none (any more)."""
    found = 0.0
    for one in (path, path.with_name(path.name + "-wal")):
        with suppress(FileNotFoundError):
            status = one.stat()
            if one == path or status.st_size:  # who only reads leaves an empty one
                found = max(found, status.st_mtime)
    return found
