"""The index of one run: kept up to date from its ledger, asked by pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from leafmill.runfolder import RunFolder


class Progress(NamedTuple):
    """How much of the ledger is in the index: candidates and calls."""

    done: int
    total: int


class Index:
    """One per run and process; its methods may be called from any thread."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    @property
    def version(self) -> int:
        """Grows with every change; 0 when nothing is in it yet."""
        raise NotImplementedError

    def refresh(self, seconds: float = 1.0) -> Progress:
        """Take up what the ledger has more than the index, for about so many seconds at most. Raises RunFolderError."""
        raise NotImplementedError

    def rows(self, sql: str, values: Mapping[str, Any] | Sequence[Any] = ()) -> list[dict[str, Any]]:
        """What a query finds, read-only. The ledger's tables stand beside the index's, as `ledger.calls` and so on."""
        raise NotImplementedError
