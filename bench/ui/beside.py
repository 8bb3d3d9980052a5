"""What it costs a run when somebody looks at it: the same run in turn alone, and with its pages open in a browser.

The browser is played by a thread: it opens the run's page, listens to its events, and asks for all parts of the page whenever they say that
something has changed, as the page does. Stub, run and server are processes of their own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple
from urllib.error import URLError
from urllib.request import Request, urlopen

from bench.runtime.process import Process, Spent, Stub, leafmill
from leafmill.ui.run.page import PARTS

ROWS, CONCURRENCY, LATENCY = 400, 32, 200.0
GOAL = 0.03
"""more than this share a run must not become slower"""


class Pair(NamedTuple):
    """One run alone, one that was looked at, and how many requests those were."""

    alone: Spent
    watched: Spent
    requests: int


def measure(pairs: int) -> Iterator[Pair]:
    """Which of the two comes first alternates."""
    for number in range(pairs):
        both = {watched: _run(watched) for watched in ((False, True) if number % 2 else (True, False))}
        yield Pair(both[False][0], both[True][0], both[True][1])


def table(pairs: Iterator[Pair]) -> Iterator[str]:
    """Pair by pair, and what the medians of the ratios come to."""
    yield f"{'CPU s alone':>12}{'watched':>10}{'wall s alone':>14}{'watched':>10}{'requests':>10}"
    found: list[Pair] = []
    for pair in pairs:
        found.append(pair)
        alone, watched = pair.alone, pair.watched
        yield f"{alone.cpu:12.2f}{watched.cpu:10.2f}{alone.wall:14.2f}{watched.wall:10.2f}{pair.requests:10}"
    cpu = _more([(pair.alone.cpu, pair.watched.cpu) for pair in found])
    wall = _more([(pair.alone.wall, pair.watched.wall) for pair in found])
    yield f"looked at, a run takes {cpu:+.1%} CPU and {wall:+.1%} wall (goal: less than {GOAL:+.0%})"


def _more(pairs: Sequence[tuple[float, float]]) -> float:
    return median(watched / alone for alone, watched in pairs) - 1


def _run(watched: bool) -> tuple[Spent, int]:
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name, Stub(LATENCY) as stub, ExitStack() as stack:
        folder, aside = Path(name), Path(name) / "ui"
        aside.mkdir()
        (folder / "runs").mkdir()
        browser = None
        if watched:
            serving = [sys.executable, "-m", "leafmill.cli", "ui", "--runs", str(folder / "runs"), "--port", "0"]
            server = stack.enter_context(Process(serving, aside))
            browser = stack.enter_context(Browser(_address(aside, server)))
        with Process(leafmill(folder, stub.url, ROWS, CONCURRENCY), folder) as process:
            spent = process.wait()
        process.must_succeed()
        return spent, 0 if browser is None else browser.requests


def _address(folder: Path, server: Process) -> str:
    """Where the server says that it is."""
    while True:
        said = "".join((folder / name).read_text() for name in ("stdout", "stderr"))
        if "http://" in said:
            return "http://" + said.split("http://")[1].split("/")[0]
        if server.is_over:
            raise SystemExit(said)
        time.sleep(0.05)


class Browser:
    """Looks at the first run that there is, for the time of a `with`."""

    def __init__(self, address: str) -> None:
        self.requests = 0
        self._address, self._ended = address, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Browser:
        self._thread.start()
        return self

    def __exit__(self, *fault: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not (runs := json.loads(self._get("/?format=json"))["runs"]):
            if self._ended.wait(0.2):
                return
        here = f"/runs/{runs[0]['name']}"
        while not self._ended.is_set():
            with suppress(URLError):  # the run has a folder, but nothing is in it yet
                self._get(here)
                with urlopen(f"{self._address}{here}/events", timeout=5) as events, suppress(TimeoutError):
                    for line in events:
                        if line.startswith(b"event: changed"):
                            for part in PARTS:
                                self._get(f"{here}/parts/{part}")
                        if self._ended.is_set():
                            return
            self._ended.wait(0.5)

    def _get(self, path: str) -> bytes:
        self.requests += 1
        with urlopen(Request(f"{self._address}{path}", headers={"Accept": "text/html"}), timeout=30) as reply:
            found: bytes = reply.read()
        return found
