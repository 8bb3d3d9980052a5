"""Every stop but the kill: signals, a sleep, a second run, a full disk, faults and bugs of all kinds; and what the next run makes of it.

The program runs in a process of its own where the stop comes from outside, and in this one where many short lives are needed. Calls go by
their seed, which is made of candidate, step and role.
"""

from __future__ import annotations

import asyncio
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import Case, Cast, Told, go, recipe, shelf, taxonomy, told, write_recipe
from victim import ROOT, Victim, Victims

from agents.scripted import Fault, Request, ScriptedServer
from graphs.run import Run
from leafmill import errors, report
from leafmill.ledger import Ledger

SETTINGS = {"target": 6, "in_flight": 4}
AT_ONCE = 4 * 3
"""calls in flight at most: a panel of three for each candidate"""


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims() as started:
        yield started


class Program:
    """`leafmill run` of one recipe."""

    def __init__(self, folder: Path, server: ScriptedServer, victims: Victims) -> None:
        self.server, self._victims, self._said_in = server, victims, folder / "said.txt"
        self.arguments = ["run", str(write_recipe(folder, server, name="run", **SETTINGS)), "--runs", str(folder)]

    async def start(self, file_limit: int | None = None) -> Victim:
        return await self._victims.start(self.arguments, self._said_in, file_limit=file_limit)

    async def started(self, calls: int) -> Victim:
        """Start, and wait until the server has heard so many calls."""
        victim, before = await self.start(), self.server.count()
        while self.server.count() < before + calls:
            await asyncio.sleep(0.005)
        return victim


def answered(ledger: Told) -> set[int]:
    return {call["params"]["seed"] for call in ledger.calls if call["status"] == "ok"}


def asked(server: ScriptedServer, since: int = 0) -> Counter[int]:
    return Counter(one.request.seed or 0 for one in server.requests[since:])


def check_whole(folder: Path) -> None:
    """All that was asked for is there, in order and once, and nothing was recorded twice."""
    ledger = told(folder)
    assert [number for _, number in ledger.accepted] == list(range(SETTINGS["target"]))
    assert len({json.dumps(row) for row in ledger.rows}) == SETTINGS["target"]
    assert not ledger.states["open"]
    assert len(ledger.calls) == len(answered(ledger))


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
async def test_a_first_signal_waits_for_what_is_in_flight(
    tmp_path: Path, server: ScriptedServer, victims: Victims, stop: signal.Signals
) -> None:
    server.latency = 0.1
    program = Program(tmp_path, server, victims)
    victim = await program.started(15)
    asked_before = server.count()
    victim.signal(stop)
    assert await victim.end() == errors.EXIT_INTERRUPTED, victim.said
    assert "Traceback" not in victim.said
    assert server.count() <= asked_before + AT_ONCE, "nothing new is asked"
    assert asked(server).keys() == answered(told(tmp_path)), "what was in flight is recorded"
    assert 1 <= told(tmp_path).states["open"] <= SETTINGS["in_flight"]
    server.latency = 0.0
    assert await (await program.start()).end() == 0
    assert set(asked(server).values()) == {1}
    check_whole(tmp_path)


@pytest.mark.parametrize("stops", [(signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGTERM), (signal.SIGINT, signal.SIGTERM)])
async def test_a_second_signal_stops_now(
    tmp_path: Path, server: ScriptedServer, victims: Victims, stops: tuple[signal.Signals, signal.Signals]
) -> None:
    server.latency = lambda request: 0.02 if request.role in ("writer", "evolver") else 30.0
    victim = await (program := Program(tmp_path, server, victims)).started(10)
    for stop in stops:
        victim.signal(stop)
        await asyncio.sleep(0.2)
    assert await victim.end(within=20) == errors.EXIT_INTERRUPTED, victim.said
    assert "Traceback" not in victim.said
    lost = asked(server).keys() - answered(told(tmp_path))
    assert 1 <= len(lost) <= SETTINGS["in_flight"], "only answers were in flight"
    assert told(tmp_path).states == {"open": SETTINGS["in_flight"]}
    server.latency = 0.0
    assert await (await program.start()).end() == 0
    assert {seed for seed, times in asked(server).items() if times > 1} == lost
    check_whole(tmp_path)


async def test_a_sleeping_laptop_loses_its_connections_and_nothing_else(tmp_path: Path, victims: Victims) -> None:
    async with ScriptedServer(seed=7, script=Cast(), latency=0.1) as server:
        victim = await Program(tmp_path, server, victims).started(15)
        victim.signal(signal.SIGSTOP)
        port = int(server.base_url.split(":")[2].split("/")[0])
    async with ScriptedServer(seed=7, script=Cast(), port=port) as again:
        recorded = answered(told(tmp_path))
        await asyncio.sleep(2)
        assert not again.count()
        victim.signal(signal.SIGCONT)
        assert await victim.end() == 0, victim.said
        assert not asked(again).keys() & recorded
        assert set(asked(again).values()) == {1}
        assert len((asked(server) + asked(again)).keys()) == len(told(tmp_path).calls)
    check_whole(tmp_path)


async def test_a_second_run_in_the_folder_is_refused_and_the_first_goes_on(
    tmp_path: Path, server: ScriptedServer, victims: Victims
) -> None:
    """The second one is the program as it is installed, started cold."""
    server.latency = lambda request: 0.01 if second.done() else 30.0
    second: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    program = Program(tmp_path, server, victims)
    victim = await program.started(1)
    pipe, code = asyncio.subprocess.PIPE, "from leafmill.cli import main; main()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *program.arguments, cwd=ROOT, stdout=pipe, stderr=pipe)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == errors.LockedError.exit_code
    assert (
        said.decode().strip().splitlines()[-1]
        == f"error: {tmp_path}/run: another process is running in this folder; wait for it, or stop it first"
    )
    assert victim.code is None
    for one in (signal.SIGINT, signal.SIGINT):
        victim.signal(one)
        await asyncio.sleep(0.1)
    assert await victim.end() == errors.EXIT_INTERRUPTED
    second.set_result(None)
    assert await (await program.start()).end() == 0, "the lock ended with the process that held it"
    check_whole(tmp_path)


# -- a full disk -------------------------------------------------------------------------------------------------------


async def test_a_full_disk_stops_the_run_with_a_clear_word_and_the_next_one_goes_on(
    tmp_path: Path, server: ScriptedServer, victims: Victims
) -> None:
    """No file may grow beyond a limit: to SQLite a disk on which nothing more can be written."""
    server.latency = lambda request: random.Random(request.key).random() * 0.02
    program = Program(tmp_path, server, victims)
    victim = await program.start(file_limit=400_000)
    assert await victim.end() == errors.DiskError.exit_code, victim.said
    last = victim.said.strip().splitlines()[-1]
    assert last.startswith(f"error: {tmp_path}/run/ledger.db: the ledger cannot be read or written: ")
    assert last.endswith("What was recorded before is kept; free space or rights, then run again")
    recorded, first = answered(told(tmp_path)), asked(server)
    assert len(recorded) > 10
    assert len(first.keys() - recorded) <= AT_ONCE, "it went on asking with nowhere to record"
    kept = told(tmp_path).rows
    assert await (await program.start()).end() == 0
    assert {seed for seed, times in asked(server).items() if times > 1} == first.keys() - recorded
    assert told(tmp_path).rows[: len(kept)] == kept
    check_whole(tmp_path)


async def test_a_disk_that_is_full_from_the_start_costs_nothing(tmp_path: Path, server: ScriptedServer, victims: Victims) -> None:
    victim = await Program(tmp_path, server, victims).start(file_limit=10_000)
    assert await victim.end() == errors.DiskError.exit_code, victim.said
    assert "Traceback" not in victim.said
    assert not server.count()


# -- faults and stops of all kinds -------------------------------------------------------------------------------------

KINDS = ("429", "500", "503", "reset", "slow", "empty", "null_content", "cut", "bad_json", "huge", "bad_utf8", "truncated_body")


def jumbled(number: int, most: float = 0.03) -> Callable[[Request], float]:
    """Latencies that depend on the request and on `number`, so that replies come in another order for each."""
    return lambda request: random.Random(f"{number} {request.key}").random() * most


def some_faults(rng: random.Random) -> list[Fault]:
    kinds = rng.sample(KINDS, rng.randint(1, 4))
    faults = [Fault(kind, rate=rng.choice([0.03, 0.1, 0.3]), seconds=0.1) for kind in kinds]
    return [*faults, Fault("quota", after=rng.randint(5, 60), rate=0.05)] if rng.random() < 0.3 else faults


async def stopped(folder: Path, server: ScriptedServer, calls: int | None, gently: bool, **settings: Any) -> None:
    """Run to the end; or until the server has heard so many more calls, and then stop, gently or at once."""
    runs: list[Run] = []
    task = asyncio.create_task(go(recipe(folder, server, **settings), folder, runs.append))
    before = server.count()
    while calls is not None and server.count() < before + calls and not task.done():
        await asyncio.sleep(0.002)
    if calls is not None:
        runs[0].stop() if gently and runs else task.cancel()
    with suppress(errors.EndpointError, asyncio.CancelledError):
        await task


def check_sums(folder: Path, leaves: str) -> Told:
    """accepted + rejected + errored + waiting + open = started, in the ledger and in the report."""
    ledger = told(folder)
    assert set(ledger.states) <= {"accepted", "rejected", "waiting", "errored", "open"}
    for leaf in leaves:
        numbers = [one["number"] for one in ledger.candidates if one["leaf"] == f"t/{leaf}"]
        assert numbers == list(range(len(numbers))), "one that was started is nowhere"
    with Ledger(folder / "run" / "ledger.db", read_only=True) as opened:
        read = report.read(opened)
    assert read.total.states == ledger.states
    assert sum(read.total.states.values()) == len(ledger.candidates)
    assert len(answered(ledger)) == sum(call["status"] == "ok" for call in ledger.calls), "a good reply was paid for twice"
    return ledger


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_fails_and_whenever_it_stops_the_sums_hold_and_a_sound_run_ends_it_well(
    tmp_path: Path, server: ScriptedServer, seed: int
) -> None:
    rng = random.Random(seed)
    taxonomy(tmp_path, "ab")
    model = {"base_url": server.base_url, "attempts": 2, "patience": 1, "timeout": 10, "concurrency": 16}
    models = {"generator": {**model, "model": "scripted-qwen"}, "judge": {**model, "model": "scripted-llama"}}
    server.script = Cast(
        critic=lambda request, case: {"reason": "bad", "score": 1} if case.number % 4 == 1 else None,
        annotator_clarity=lambda request, case: {"rationale": "no", "score": 1} if case.number % 5 == 2 else None,
    )
    settings = {"in_flight": 6, "models": models, "limits": {"candidates_per_leaf": 24, "error_share": 1.0}, "roles": {}}
    kept: dict[str, Any] = {}
    for life in range(rng.randint(1, 3)):
        recorded = answered(told(tmp_path)) if life else set()
        since, server.faults, server.latency = len(server.requests), some_faults(rng), jumbled(life)
        await stopped(tmp_path, server, rng.choice([None, rng.randint(1, 90)]), rng.random() < 0.5, target=3, **settings)
        ledger = check_sums(tmp_path, "ab")
        assert not asked(server, since).keys() & recorded, "a recorded call was asked again"
        assert kept.items() <= (kept := {one["id"]: one["row"] for one in ledger.candidates if one["state"] == "accepted"}).items()
    recorded, since, server.faults = answered(told(tmp_path)), len(server.requests), []
    run = await go(recipe(tmp_path, server, target=3, **settings), tmp_path)
    ledger = check_sums(tmp_path, "ab")
    assert run.exit_code == 0
    assert Counter(leaf for leaf, _ in ledger.accepted) == {"t/a": 3, "t/b": 3}
    assert not ledger.states["open"]
    assert len({json.dumps(row) for row in ledger.rows}) == 6
    assert kept.items() <= {one["id"]: one["row"] for one in ledger.candidates if one["state"] == "accepted"}.items()
    assert set(asked(server, since).values()) <= {1}
    assert not asked(server, since).keys() & recorded, "a recorded call was asked again"


# -- equal inputs ------------------------------------------------------------------------------------------------------


async def test_the_order_of_replies_and_a_stop_in_the_middle_change_no_row(tmp_path: Path, server: ScriptedServer) -> None:
    """With twins in a leaf: 2 is born as what 0 has become, 4 becomes what 3 has become. The earlier number gets in."""
    rows = []
    for order in range(4):
        folder = tmp_path / str(order)
        folder.mkdir()
        taxonomy(folder, "ab")
        server.script, server.latency = twins(), jumbled(order, most=0.1)
        settings = {"target": 4, "in_flight": 6, "limits": {"candidates_per_leaf": 8}}
        if order:
            await stopped(folder, server, 15 * order, gently=order == 2, **settings)
            assert told(folder).states["open"]
        assert (await go(recipe(folder, server, **settings), folder)).exit_code == 0
        rows.append([(one["leaf"], one["number"], one["row"]) for one in told(folder).candidates if one["state"] == "accepted"])
    assert rows[0] == rows[1] == rows[2] == rows[3]
    assert [number for leaf, number, _ in rows[0] if leaf == "t/a"] == [0, 1, 3, 5]


def twins() -> Cast:
    def taken(case: Case, number: int) -> dict[str, str]:
        case = case._replace(number=number)
        return {
            "instruction": f"Explain where invoice {case.leaf}-{number} goes on shelf {shelf(case)}, with the usual mistake.",
            "input": "",
        }

    becomes = {0: 0, 3: 3, 4: 3}
    return Cast(
        writer=lambda request, case: taken(case, 0) if case.number == 2 else None,
        evolver=lambda request, case: taken(case, becomes[case.number]) if case.number in becomes else None,
    )
