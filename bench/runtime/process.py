"""What is measured, as processes of their own: the stub, and the runners beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple
from urllib.request import urlopen

import yaml

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CALLS = 6
"""model calls of one row: write, evolve, answer, three judges"""
RUNNERS = ("leafmill", "openai", "aiohttp")


class Stub:
    """The stub server in a process of its own, for the time of a `with`."""

    def __init__(self, latency: float, spread: float = 0) -> None:
        command = [sys.executable, "-m", "bench.runtime.stub", "--latency", f"{latency:g}", "--spread", f"{spread:g}"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        self._process.kill()
        self._process.wait()

    def stats(self) -> dict[str, float]:
        with urlopen(f"{self.url.removesuffix('/v1')}/stats") as reply:
            found: dict[str, float] = json.load(reply)
        return found


class Spent(NamedTuple):
    """What a process took: exit code, seconds of wall, seconds of CPU (user and system), largest resident memory in MB."""

    code: int
    wall: float
    cpu: float
    rss: float


class Process:
    """A runner under way, for the time of a `with`. Its output goes to files in `folder`."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._folder = folder
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            self.began = time.monotonic()
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)

    def __enter__(self) -> Process:
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.returncode is None:  # the benchmark itself was stopped
            self.kill()
            self.wait()

    @property
    def is_over(self) -> bool:
        """Whether it has ended; it stays to be waited for."""
        state = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "Z"

    @property
    def rss(self) -> float:
        """Resident memory now, in MB."""
        pages = int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self) -> None:
        """As `kill -9` does."""
        self._process.kill()

    def wait(self) -> Spent:
        """Its end; what it and all its children took."""
        _, status, usage = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.monotonic() - self.began
        return Spent(self._process.returncode, wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6)

    @property
    def said(self) -> str:
        return (self._folder / "stdout").read_text()

    def must_succeed(self) -> None:
        if self._process.returncode:
            raise SystemExit(f"exit code {self._process.returncode}:\n{(self._folder / 'stderr').read_text()[-2000:]}")


def leafmill(folder: Path, url: str, rows: int, concurrency: int) -> list[str]:
    """The command of a Leafmill run in `folder`; given again, it goes on with that run."""
    recipe = yaml.safe_load((HERE / "recipe.yaml").read_text())
    recipe["taxonomies"] = [str(HERE / name) for name in recipe["taxonomies"]]
    recipe["prompts"] = str(HERE / recipe["prompts"])
    recipe["target"] = rows
    recipe["in_flight"] = concurrency * 3 // 2
    for model in recipe["models"].values():
        model.update(base_url=url, concurrency=concurrency)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe, sort_keys=False))
    return [sys.executable, "-m", "leafmill.cli", "run", str(path), "--runs", str(folder / "runs"), "--json"]


def plain(client: str, folder: Path, url: str, rows: int, concurrency: int) -> list[str]:
    """The command of a plain runner, `openai` or `aiohttp`."""
    sizes = ["--rows", str(rows), "--concurrency", str(concurrency)]
    return [sys.executable, "-m", "bench.runtime.plain", client, "--base-url", url, *sizes, "--out", str(folder / "rows.jsonl")]


def measure(runner: str, rows: int, concurrency: int, latency: float) -> dict[str, Any]:
    """One run beside a fresh stub, as a flat line: what it took, what the stub saw, how many rows were made."""
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name, Stub(latency) as stub:
        folder = Path(name)
        size = (folder, stub.url, rows, concurrency)
        with Process(leafmill(*size) if runner == "leafmill" else plain(runner, *size), folder) as process:
            spent = process.wait()
        process.must_succeed()
        seen = stub.stats()
        made = accepted(process.said) if runner == "leafmill" else len((folder / "rows.jsonl").read_text().splitlines())
    cell = {"runner": runner, "rows": rows, "concurrency": concurrency, "latency": latency}
    taken = {**spent._asdict(), "start": seen["first"] - process.began, "made": made, "stub_cpu": seen["cpu"], "load": os.getloadavg()[0]}
    return {**cell, **taken, **{key: seen[key] for key in ("requests", "repeated", "peak", "mean", "span")}}


def accepted(said: str) -> int:
    """The rows of a run, from what `leafmill run --json` printed."""
    return sum(leaf["accepted"] for leaf in json.loads(said)["leaves"])
