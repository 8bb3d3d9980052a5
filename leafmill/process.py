"""Whose process a run is, as its ledger says (`meta.process`), and whether it still lives."""

from __future__ import annotations

import os
import platform

from pydantic import BaseModel


class Process(BaseModel):
    """The last that worked in a run's folder. Times in seconds since the epoch."""

    pid: int
    host: str
    began_at: float
    ended_at: float | None = None
    exit_code: int | None = None
    command: str = ""

    @property
    def is_alive(self) -> bool:
        """Of a process of another machine nobody here can tell: it counts as gone."""
        if self.ended_at is not None or self.host != platform.node():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            return True
        return True
