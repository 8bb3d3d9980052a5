"""The runs of a folder, each with its index."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from pathlib import Path

from leafmill.errors import RunFolderError, unknown
from leafmill.index.index import Index
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
        return [path.parent.name for path in sorted(found, key=lambda path: -path.stat().st_mtime)]

    def folder(self, name: str) -> RunFolder:
        """Raises RunFolderError for a run that is not there (any more)."""
        if name not in (names := self.names()):
            raise RunFolderError(unknown("run", name, names))
        return RunFolder(self.runs / name)

    def index(self, name: str) -> Index:
        """The index of a run, as fresh as the last look at the ledger. Raises RunFolderError."""
        folder = self.folder(name)
        with self._lock:
            if name not in self._indexes:
                self._indexes[name] = Index(folder)
            return self._indexes[name]
