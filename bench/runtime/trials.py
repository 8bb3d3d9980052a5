"""What else a run must stand: a kill -9 at half of its calls, being run again when it is finished, many candidates, and its own ledger."""

from __future__ import annotations

import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bench.runtime.compare import Show, at_most
from bench.runtime.process import CALLS, ROOT, Process, Spent, Stub, leafmill


def kill(rows: int, concurrency: int, latency: float, show: Show) -> None:
    """kill -9 at half of the calls, then the same command again.

    The latency differs from call to call: were it always the same, all replies would come in waves, and the kill would hit one or miss it.
    """
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name, Stub(latency, spread=0.5) as stub:
        folder = Path(name)
        command = leafmill(folder, stub.url, rows, concurrency)
        with Process(command, folder) as first:
            _wait_for(stub, first, rows * CALLS // 2)
            first.kill()
            first.wait()
        paid = stub.stats()
        shutil.copytree(folder / "runs", folder / "killed")  # to look into it would mend the ledger
        before = _exported(folder / "killed", folder)
        _whole(command, folder)
        after, total = _exported(folder / "runs", folder), stub.stats()
    doubled = sum(count - 1 for count in Counter(after).values())
    lost = len(Counter(before) - Counter(after))
    answered = f"{paid['ok']:.0f} of {rows * CALLS} calls were answered and {len(before)} rows made"
    show(f"killed when {answered}; {total['requests']:.0f} were asked in all")
    show(at_most("calls paid twice, % of those paid", 100 * total["repeated"] / paid["ok"], 1))
    show(at_most("rows lost", lost, 0))
    show(at_most("rows doubled", doubled, 0))
    show(at_most("rows missing", rows - len(after), 0))


def resume(rows: int, concurrency: int, show: Show) -> None:
    """A finished run, run again: nothing is asked."""
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name, Stub(0) as stub:
        folder = Path(name)
        command = leafmill(folder, stub.url, rows, concurrency)
        first = _whole(command, folder)
        asked = stub.stats()["requests"]
        again = _whole(command, folder)
        show(f"{rows} candidates: {first.wall:.1f} s, then {again.wall:.2f} s ({again.cpu:.2f} CPU-s, {again.rss:.0f} MB)")
        show(at_most("seconds to run a finished run again", again.wall, 5))
        show(at_most("calls of the second run", stub.stats()["requests"] - asked, 0))


def memory(marks: Sequence[int], concurrency: int, show: Show) -> None:
    """Resident memory of one run as its candidates grow in number, without latency."""
    seen = {}
    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name, Stub(0) as stub:
        folder = Path(name)
        with Process(leafmill(folder, stub.url, max(marks), concurrency), folder) as process:
            for mark in sorted(marks):
                _wait_for(stub, process, mark * CALLS - concurrency)
                seen[mark] = process.rss
                show(f"  {mark:6} candidates: {seen[mark]:.0f} MB")
            spent = process.wait()
        process.must_succeed()
    show(f"  at most {spent.rss:.0f} MB; {1000 * spent.cpu / max(marks) / CALLS:.2f} CPU ms a call, all in")
    for mark in marks:
        if mark == 5000:
            show(at_most("MB at 5000 candidates", seen[mark], 150))
    show(at_most(f"MB at {max(marks)}, x those at {min(marks)}", seen[max(marks)] / seen[min(marks)], 1.1))


def _wait_for(stub: Stub, process: Process, answered: int) -> None:
    while stub.stats()["ok"] < answered:
        if process.is_over:
            process.wait()
            process.must_succeed()
            raise SystemExit(f"the run ended before {answered} calls")
        time.sleep(0.01)


def _whole(command: list[str], folder: Path) -> Spent:
    with Process(command, folder) as process:
        spent = process.wait()
    process.must_succeed()
    return spent


def _exported(runs: Path, folder: Path) -> list[str]:
    """The accepted rows of the run in `runs`, each as a line."""
    out = folder / "rows.jsonl"
    words = ["export", "bench", "--runs", str(runs), "--out", str(out), "--no-lineage"]
    subprocess.run([sys.executable, "-m", "leafmill.cli", *words], cwd=ROOT, check=True, capture_output=True)
    return out.read_text().splitlines()


# -- the ledger alone --------------------------------------------------------------------------------------------------


class Life(NamedTuple):
    """What one candidate of a finished run wrote."""

    brief: Any
    events: list[tuple[str, Any, Any]]
    """calls, verdicts and votes in their order: kind, step, record"""
    end: tuple[Any, ...]


class Nowhere:
    """A ledger that keeps nothing: what the replay itself costs."""

    def recorded_call(self, key: str) -> None:
        return None

    async def begin(self, brief: Any) -> None: ...

    async def record_call(self, call: Any) -> None: ...

    def note_verdict(self, step: Any, verdict: Any) -> None: ...

    def note_vote(self, step: Any, vote: Any) -> None: ...

    async def finish(self, *decided: Any) -> None: ...

    def close(self) -> None: ...


def ledger(rows: int, concurrency: int, latency: float, repeats: int, show: Show) -> None:
    """What the ledger adds: all that a run wrote is written anew, at the pace of its calls, into a ledger and into nothing."""
    from leafmill.ledger import Ledger

    with tempfile.TemporaryDirectory(prefix="leafmill-bench-") as name:
        folder = Path(name)
        with Stub(0) as stub:
            _whole(leafmill(folder, stub.url, rows, concurrency), folder)
        lives = list(_lives(folder / "runs" / "bench" / "ledger.db"))
        calls = sum(kind == "call" for life in lives for kind, _, _ in life.events)
        took: dict[str, list[Spent]] = {"with": [], "without": []}
        for repeat in range(repeats):
            took["without"].append(_replay(Nowhere(), lives, concurrency, latency))
            took["with"].append(_replay(Ledger(folder / f"{repeat}.db"), lives, concurrency, latency))
    cpu, wall = ({way: statistics.median(getattr(one, what) for one in took[way]) for way in took} for what in ("cpu", "wall"))
    paces = f"{wall['without']:.2f} s, with the ledger {wall['with']:.2f} s"
    show(f"{calls} calls of {len(lives)} candidates, {concurrency} at once, {latency:g} ms: {paces}")
    show(at_most("CPU ms that the ledger adds to a call", 1000 * (cpu["with"] - cpu["without"]) / calls, 0.3))
    show(at_most("% that it adds to the wall", 100 * (wall["with"] / wall["without"] - 1), 5))


def _replay(into: Any, lives: Iterable[Life], concurrency: int, latency: float) -> Spent:
    todo = iter(lives)

    async def write() -> None:
        for life in todo:
            await into.begin(life.brief)
            for kind, step, record in life.events:
                if kind == "call":
                    into.recorded_call(record.key)
                    await asyncio.sleep(latency / 1000)
                    await into.record_call(record)
                elif kind == "verdict":
                    into.note_verdict(step, record)
                else:
                    into.note_vote(step, record)
            await into.finish(life.brief, *life.end)

    async def all_of_them() -> None:
        await asyncio.gather(*(write() for _ in range(concurrency)))

    wall, cpu = time.perf_counter(), time.process_time()
    asyncio.run(all_of_them())
    into.close()
    return Spent(0, time.perf_counter() - wall, time.process_time() - cpu, 0)


def _lives(path: Path) -> Iterator[Life]:
    """The candidates of a finished run, out of its ledger."""
    import sqlalchemy as sa

    from leafmill.ledger import CALLS as CALLS_TABLE
    from leafmill.ledger import CANDIDATES, VERDICTS, VOTES, Call, Ending, Ledger, Step
    from leafmill.records import Brief, Row, Verdict, Vote

    with Ledger(path, read_only=True) as told:
        events: dict[str, list[tuple[int, int, str, Step, Any]]] = {}
        for kind, table, record in (("call", CALLS_TABLE, None), ("verdict", VERDICTS, Verdict), ("vote", VOTES, Vote)):
            for found in told.rows(sa.select(table).order_by(table.c.id)):
                made = record(**{k: found[k] for k in record.model_fields}) if record else Call.from_columns(found)
                step = made.step if isinstance(made, Call) else Step(found["candidate"], "", found["seq"], found.get("step", ""))
                events.setdefault(found["candidate"], []).append((found["seq"], len(events), kind, step, made))
        for one in told.rows(sa.select(CANDIDATES).order_by(CANDIDATES.c.number)):
            mine = sorted(events[one["id"]], key=lambda event: event[0])
            ending = Ending(one["state"], one["stage"], one["code"], one["detail"])
            yield Life(Brief(**one["brief"]), [event[2:] for event in mine], (ending, Row(**one["row"]), one["lineage"]))
