"""What a misbehaving endpoint costs a run: samples lost, answers paid for twice, requests wasted, time.

    python -m bench.faults [--n 150] [--only NAME]

Each mix of faults meets `leafmill run` in a process of its own, with the built-in roles (writer, evolver, answerer, two annotators, critic:
6 calls a candidate) and the cheap gates, against a scripted server in another: real HTTP, 200 ms a reply, every judgement a good one. The
table for docs/reliability.md goes to stdout; the exit code is 1 when a mix has lost or doubled anything.

    lost        candidates that ended neither accepted nor as duplicates, and answers that were asked for and never had
    paid twice  answers that were good and were asked for again
    needed      calls whose answer the ledger holds; every other request is waste
    met         requests that a fault has struck, so that their answer was none, or of no use: the least waste there can be
    beyond      what was asked beyond both
    seconds     from the first request to the last reply; the floor is the same run without faults, in the same invocation
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from agents.scripted import Fault, Request, ScriptedServer

SEED = 7
LATENCY = 0.2
LEAVES = ("programming/debugging/locate-error", "ecommerce/after-sales/return-refund")
JUDGES = ("annotator-correctness", "annotator-helpfulness", "critic")
RUN = "from leafmill.cli import main; main()"
JUMP = "import itertools, time; real, hours = time.time, itertools.cycle((0, 3600, -3600)); time.time = lambda: real() + next(hours); "
"""put before RUN: each look at the wall clock sees another hour; the monotonic clock stays true"""


@dataclass(frozen=True)
class Mix:
    says: str
    faults: tuple[Fault, ...] = ()
    before: str = ""
    """Python that the run's process executes first"""


def mixes(n: int) -> dict[str, Mix]:
    """The mixes by name. What happens once begins when half of the calls have been asked for."""
    half = 3 * n
    refused = (Fault("429", rate=0.05, retry_after=1), Fault("500", rate=0.05))
    return {
        "none": Mix("no faults: the floor"),
        "a": Mix(
            "5% 429 (Retry-After 1 s), 5% 500, 2% malformed JSON of judges",
            (*refused, *(Fault("bad_json", rate=0.02, role=one) for one in JUDGES)),
        ),
        "b": Mix(
            "2% each: connection reset, malformed body, truncated body, empty content, truncated JSON",
            tuple(Fault(kind, rate=0.02) for kind in ("reset", "bad_body", "truncated_body", "empty", "cut_json")),
        ),
        "storm": Mix("429 for everybody for 30 s (Retry-After 1 s)", (Fault("429", after=half, lasts=30, retry_after=1),)),
        "overload": Mix("503 for everybody for 30 s, without Retry-After", (Fault("503", after=half, lasts=30),)),
        "outage": Mix("500 for everybody for 30 s", (Fault("500", after=half, lasts=30),)),
        "resets": Mix("10% connection resets", (Fault("reset", rate=0.1),)),
        "drip": Mix("5% of the bodies take 3 s", (Fault("drip", rate=0.05, seconds=3),)),
        "death": Mix("the server is gone for 10 s and comes back", (Fault("die", after=half, lasts=10),)),
        "encoding": Mix("2% GBK that says UTF-8, 2% GBK that says so", (Fault("mislabelled", rate=0.02), Fault("gbk", rate=0.02))),
        "twice": Mix(
            "2% of the bodies come twice, 2% hold the answer to another question", (Fault("twice", rate=0.02), Fault("stale", rate=0.02))
        ),
        "error": Mix("5% errors with status 200", (Fault("error_body", rate=0.05),)),
        "clock": Mix("a clock that jumps by an hour, to and fro; 5% 429, 5% 500", refused, JUMP),
    }


class Served(NamedTuple):
    """What the server counted."""

    requests: int
    failed: int
    paid_twice: int
    seconds: float


class Ended(NamedTuple):
    """What the ledger says."""

    accepted: int
    duplicates: int
    answers: int
    answers_lost: int


class Row(NamedTuple):
    """A line of the table."""

    says: str
    n: int
    ended: Ended
    served: Served

    @property
    def lost(self) -> int:
        return self.n - self.ended.accepted - self.ended.duplicates

    @property
    def is_sound(self) -> bool:
        return not (self.lost or self.ended.answers_lost or self.served.paid_twice)

    def format(self, floor: float) -> str:
        ended, served = self.ended, self.served
        cells = (
            self.says, ended.accepted, ended.duplicates, self.lost, ended.answers_lost, served.paid_twice,
            served.requests, ended.answers, served.failed, served.requests - ended.answers - served.failed,
            f"{served.seconds:.1f}", f"{served.seconds / floor:.1f}",
        )  # fmt: skip
        return f"| {' | '.join(map(str, cells))} |"


HEADINGS = (
    "faults", "accepted", "duplicates", "lost", "answers lost", "paid twice", "requests", "needed", "met", "beyond", "seconds", "x floor",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=150, help="candidates, an even number")
    parser.add_argument("--only", choices=list(mixes(2)), help="one mix, beside the floor")
    options = parser.parse_args()
    chosen = {name: mix for name, mix in mixes(options.n).items() if options.only in (None, name) or name == "none"}
    sys.stdout.write(f"| {' | '.join(HEADINGS)} |\n|{'---|' * len(HEADINGS)}\n")
    floor, sound = 0.0, True
    for mix in chosen.values():
        row = measure(mix, options.n)
        floor = floor or row.served.seconds
        sound = sound and row.is_sound
        sys.stdout.write(f"{row.format(floor)}\n")
        sys.stdout.flush()
    return 0 if sound else 1


def measure(mix: Mix, n: int) -> Row:
    """One run of n candidates under a mix."""
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, mix.faults), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(yaml.safe_dump(_recipe(here.recv(), n)), encoding="utf-8")
        command = [sys.executable, "-c", mix.before + RUN, "run", str(recipe), "--runs", folder]
        done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True)
        if done.returncode not in (0, 3):
            sys.stderr.write(f"{mix.says}: exit code {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}\n")
        ended = _read(Path(folder) / "faults" / "ledger.db")
    here.send("enough")
    served = here.recv()
    server.join()
    return Row(mix.says, n, ended, served)


def _recipe(base_url: str, n: int) -> dict[str, Any]:
    """Exactly n candidates, all of them wanted."""
    model = {"base_url": base_url, "concurrency": 32}
    return {
        "name": "faults",
        "seed": SEED,
        "taxonomies": sorted({leaf.split("/")[0] for leaf in LEAVES}),
        "leaves": list(LEAVES),
        "languages": {"programming": ["en"], "ecommerce": ["zh"]},
        "target": n // len(LEAVES),
        "in_flight": 64,
        "limits": {"candidates_per_leaf": n // len(LEAVES), "error_share": 1.0},
        "models": {"generator": {**model, "model": "scripted-qwen"}, "judge": {**model, "model": "scripted-llama"}},
        "roles": {name: {"off": True} for name in ("planner", "syllabus-planner", "annotator-clarity", "comparer", "arbiter")},
        "flow": {"breadth_share": 0.0},
        "refills": 0,
        "gates": {"semantic": False, "ifd": False},
        "judges": {"gold": False},
    }


def _read(path: Path) -> Ended:
    """How the candidates ended, and which answers were had: a call that was asked again counts once."""
    import sqlalchemy as sa

    from leafmill.ledger import CALLS, CANDIDATES, Ledger

    with Ledger(path, read_only=True) as ledger:
        candidates = ledger.rows(sa.select(CANDIDATES.c.state, CANDIDATES.c.code))
        had = sa.func.max(CALLS.c.status == "ok").label("had")
        calls = ledger.rows(sa.select(had).group_by(CALLS.c.candidate, CALLS.c.step, CALLS.c.role))
    answers = sum(one["had"] for one in calls)
    accepted = sum(one["state"] == "accepted" for one in candidates)
    return Ended(accepted, sum(one["code"].endswith(".duplicate") for one in candidates), answers, len(calls) - answers)


def _serve(pipe: Connection, faults: tuple[Fault, ...]) -> None:
    """The server's process: tells its address, then, when it is told that the run is over, what it counted."""

    async def serve() -> None:
        async with ScriptedServer(SEED, LATENCY, _judge, faults, duplicates=0) as server:
            pipe.send(server.base_url)
            await asyncio.to_thread(pipe.recv)
            seconds = max(one.stopped for one in server.requests) - server.requests[0].started
            pipe.send(Served(server.count(), server.failed, server.paid_twice, seconds))

    asyncio.run(serve())


def _judge(request: Request) -> dict[str, Any] | None:
    """Every judgement is a good one, in Chinese, so that an encoding matters; what the other roles say is improvised."""
    if request.role not in JUDGES:
        return None
    return {"reason" if request.role == "critic" else "rationale": "要求的都做到了，没有多余的话。", "score": 5}


if __name__ == "__main__":
    sys.exit(main())
