"""What the votes of a run say of its judges, worked out beside the server: with many votes it takes longer than a page may.

Few votes are read at once. More are given to a process of its own, with low priority, one at a time for each run; meanwhile a page has what
was found last. While a run goes on it is asked again only after a rest that is much longer than it took.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel

from leafmill import panel
from leafmill.index.index import Index
from leafmill.ledger import Ledger
from leafmill.panel import Judging

FEW = 3000
"""votes that are read while the page waits: some tenths of a second"""
REST = 30
"""times as long as it took"""
PATIENCE = 1800.0
"""seconds for one process: then something is wrong with it"""

Votes = tuple[int, str]
"""the state of what is read: the last vote, and what was found of gold rows"""


class Judged(BaseModel):
    """What is known by now."""

    judging: Judging | None = None
    """None: nobody has voted, or nothing is known yet"""
    voted: bool = True
    working: bool = False
    """it is being worked out; `judging`, if there is any, is of an earlier moment"""
    fault: str = ""
    """why it could not be worked out"""


@dataclass
class _Found:
    """Of one ledger. `of`: the state of the votes that `judging` was read from."""

    of: Votes | None = None
    judging: Judging | None = None
    fault: str = ""
    rests_until: float = 0.0
    worker: threading.Thread | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_found: dict[Path, _Found] = {}
_lock = threading.Lock()


def read(index: Index, few: int = FEW) -> Judged:
    """What is known of a run's judges; asks for more where that is old. `few`: votes that are read at once."""
    ledger = index.folder.ledger
    gold = "(SELECT value FROM ledger.meta WHERE key = 'gold') AS gold"
    (state,) = index.rows(f"SELECT coalesce(max(id), 0) AS last, {gold} FROM ledger.votes")
    votes: Votes = (state["last"], state["gold"] or "")
    if not votes[0] and votes[1] in ("", "[]"):
        return Judged(voted=False)
    with _lock:
        found = _found.setdefault(ledger, _Found())
    with found.lock:
        if found.of != votes and found.worker is None:
            if votes[0] <= few:
                with Ledger(ledger, read_only=True) as opened:
                    found.judging, found.of, found.fault = panel.read(opened), votes, ""
            elif time.monotonic() > found.rests_until:
                found.worker = threading.Thread(target=_work, args=(ledger, found, votes), name="judges", daemon=True)
                found.worker.start()
        return Judged(judging=found.judging, working=found.worker is not None, fault=found.fault)


def _work(ledger: Path, found: _Found, votes: Votes) -> None:
    """Let another process do it, and keep what it says."""
    began = time.monotonic()
    command = [sys.executable, "-m", __name__, str(ledger)]
    said = fault = ""
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, encoding="utf-8", check=True).stdout
    except subprocess.CalledProcessError as failed:
        fault = str(failed.stderr).strip().rpartition("\n")[2] or f"exit code {failed.returncode}"
    except (subprocess.TimeoutExpired, OSError) as failed:
        fault = str(failed)
    judging = None if fault else Judging.model_validate_json(said)
    with found.lock:
        found.worker, found.of, found.fault = None, votes, fault
        found.judging = judging or found.judging
        found.rests_until = time.monotonic() + REST * (time.monotonic() - began)


def main(ledger: Path) -> None:
    """The other process."""
    if hasattr(os, "nice"):
        os.nice(10)
    with Ledger(ledger, read_only=True) as opened:
        sys.stdout.write(panel.read(opened).model_dump_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
