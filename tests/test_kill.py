"""kill -9: the real program, in a process of its own, killed at one point after another until it ends by itself.

A chain is one run folder and many lives. Each life but the last ends at a point: as a request arrives at the server, at a statement of
a commit, or while Chroma writes. After each the ledger is looked at, through a copy, so that the next life finds what the kill has left.
What was in flight at a kill is what the server was asked and the ledger does not hold: no other call may ever be asked again.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import shutil
import signal
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from conftest import Case, Cast, Told, case_of, go, recipe, taxonomy, told, write_recipe
from victim import Statement, Victims, Write

from agents.scripted import Request, ScriptedServer
from leafmill.errors import RunFolderError
from leafmill.records import Brief

STATES = {"accepted", "rejected", "waiting", "errored", "open"}
PANEL = {"annotator-clarity", "annotator-correctness", "annotator-helpfulness"}
PLANNERS = {"planner", "syllabus-planner"}
SETTINGS = {"target": 4, "in_flight": 4, "roles": {}, "refills": 1, "limits": {"candidates_per_leaf": 8}, "flow": {"breadth_share": 0}}
"""two leaves, and no more candidates than are needed, so that every run asks for exactly the same"""
CAST = Cast(
    critic=lambda request, case: {"reason": "It leaves out the shelf.", "score": 1} if case.number == 1 else None,
    annotator_clarity=lambda request, case: {"rationale": "Unclear.", "score": 1} if case.number == 3 else None,
)
"""of six cells four have an accepted row; in one a candidate is revised and then rejected, in one it waits for a person, both twice"""


class Arrival(NamedTuple):
    """The n-th request, in one life, of a role that fits the pattern."""

    role: str
    nth: int = 1


Point = Arrival | Statement | Write


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    with Victims() as started:
        yield started


@dataclass
class Chain:
    """One run folder and the lives in it."""

    folder: Path
    server: ScriptedServer
    victims: Victims
    settings: Mapping[str, Any] = field(default_factory=lambda: SETTINGS)
    lives: int = 0
    in_flight: Counter[int] = field(default_factory=Counter)
    """at how many kills a call was in flight; calls go by their seed, which is made of candidate, step and role"""
    accepted: dict[tuple[str, int], Any] = field(default_factory=dict)
    """rows that were ever seen accepted"""

    def __post_init__(self) -> None:
        self.folder.mkdir()
        taxonomy(self.folder, "ab")
        self.first = len(self.server.requests)
        self.recipe = write_recipe(self.folder, self.server, name="run", **self.settings)

    async def live(self, point: Point | None, *options: str) -> int:
        """Run to the point, or to the end; what is left must be sound. The exit code."""
        since = len(self.server.requests)
        self.lives += 1
        arrived = count(1)

        def latency(request: Request) -> float:
            if isinstance(point, Arrival) and re.fullmatch(point.role, request.role or "") and next(arrived) == point.nth:
                victim.signal(signal.SIGKILL)
            return random.Random(f"{self.lives} {request.key}").random() * 0.02

        self.server.latency = latency
        trap = None if isinstance(point, Arrival) else point
        arguments = ["run", str(self.recipe), "--runs", str(self.folder), *options]
        victim = await self.victims.start(arguments, self.folder / "said.txt", trap)
        code = await victim.end()
        assert code in (0, -signal.SIGKILL, -signal.SIGALRM), victim.said
        await silence(self.server)
        self.check(since, f"life {self.lives}, {point}")
        return code

    async def killed_at(self, *points: Point) -> None:
        for point in points:
            assert await self.live(point) < 0, f"life {self.lives} was over before {point}"

    def check(self, since: int, where: str) -> None:
        """Nothing accepted is lost or changed, all that was started is somewhere, and nothing ran ahead of its record."""
        ledger = seen(self.folder)
        for leaf in ("t/a", "t/b"):
            places = {Brief.model_validate(one["brief"]).place for one in ledger.candidates if one["leaf"] == leaf}
            assert {cell for cell, _ in places} == set(range(len({cell for cell, _ in places}))), where
            assert all((cell, attempt - 1) in places for cell, attempt in places if attempt), where
        assert set(ledger.states) <= STATES, where
        rows = accepted(ledger)
        assert self.accepted.items() <= rows.items(), where
        assert len({json.dumps(row) for row in rows.values()}) == len(rows), where
        self.accepted = rows
        asked = {one.request.seed or 0: one.request for one in self.server.requests[since:]}
        lost = asked.keys() - answered(ledger)
        at_once: dict[Case, set[str | None]] = defaultdict(set)
        for seed in lost:
            at_once[case_of(asked[seed])].add(asked[seed].role)
        for case, roles in at_once.items():
            assert len(roles) == 1 or roles <= PANEL or roles <= PLANNERS, (
                f"{where}: {case}: of {roles} one was asked before the other was recorded"
            )
        self.in_flight.update(lost)

    def ends_as(self, whole: Whole) -> None:
        """The last life has ended by itself, as a run that nobody killed."""
        ledger = seen(self.folder)
        assert fates(ledger) == whole.fates
        assert accepted(ledger) == whole.accepted
        for name, unit in UNITS.items():
            twice = Counter(tuple(row[column] for column in unit) for row in getattr(ledger, name))
            assert set(twice.values()) == {1}, (name, twice.most_common(3))
        paid = Counter(one.request.seed or 0 for one in self.server.requests[self.first :])
        assert paid.keys() == whole.asked
        assert not {seed for seed, n in paid.items() if n > 1 + self.in_flight[seed]}, "asked again though the reply was recorded"
        assert paid.total() <= len(whole.asked) + self.in_flight.total()


UNITS = {
    "candidates": ("leaf", "number"),
    "calls": ("key",),
    "verdicts": ("candidate", "seq", "gate"),
    "votes": ("candidate", "seq", "role"),
}
"""what no two rows of a table of the ledger may share"""


class Whole(NamedTuple):
    """What a run comes to that nobody kills."""

    fates: list[tuple[Any, ...]]
    accepted: dict[tuple[str, int], Any]
    asked: set[int]


async def unbroken(folder: Path, server: ScriptedServer, settings: Mapping[str, Any] = SETTINGS) -> Whole:
    folder.mkdir()
    taxonomy(folder, "ab")
    since = len(server.requests)
    run = await go(recipe(folder, server, **settings), folder)
    assert run.exit_code == 0
    asked = [one.request.seed or 0 for one in server.requests[since:]]
    assert len(asked) == len(set(asked))
    return Whole(fates(told(folder)), accepted(told(folder)), set(asked))


def answered(ledger: Told) -> set[int]:
    return {call["params"]["seed"] for call in ledger.calls if call["status"] == "ok"}


def accepted(ledger: Told) -> dict[tuple[str, int], Any]:
    return {(one["leaf"], one["number"]): one["row"] for one in ledger.candidates if one["state"] == "accepted"}


def fates(ledger: Told) -> list[tuple[Any, ...]]:
    return [(one["leaf"], one["number"], one["state"], one["code"]) for one in ledger.candidates]


def seen(folder: Path) -> Told:
    """The ledger as it lies there, read in a copy; an empty one while it is not made yet."""
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    (copy / "run").mkdir(parents=True)
    for path in (folder / "run").glob("ledger.db*"):
        shutil.copy(path, copy / "run")
    try:
        return told(copy)
    except RunFolderError:
        return Told([], [], [], [])


async def silence(server: ScriptedServer) -> None:
    """Wait until the server has noticed that its client is gone."""
    await asyncio.sleep(0.02)
    while not all(one.stopped for one in server.requests):
        await asyncio.sleep(0.005)


# -- the chains --------------------------------------------------------------------------------------------------------


async def test_killed_while_a_call_of_any_role_is_in_flight(tmp_path: Path, server: ScriptedServer, victims: Victims) -> None:
    server.script = CAST
    whole, chain, rng = await unbroken(tmp_path / "whole", server), Chain(tmp_path / "broken", server, victims), random.Random(1)
    points = [Arrival(role, rng.randint(1, 3)) for role in ("writer", "evolver", "answerer", "critic", *sorted(PANEL))]
    await chain.killed_at(Arrival("planner"), Arrival("syllabus-planner", 2), *points)
    assert chain.in_flight.total() >= len(points)
    assert await chain.live(None) == 0
    chain.ends_as(whole)


def insert(table: str, more: str = "") -> str:
    return rf'INSERT .*INTO "?{table}\b.*{more}'


COMMITS = [
    Statement("CREATE TABLE", 3),
    Statement(insert("meta")),
    Statement(insert("meta", "identity"), when="after"),
    Statement(insert("leaves")),
    Statement(insert("calls"), when="after"),
    Statement(insert("candidates"), 2),
    Statement(insert("calls")),
    Statement("BEGIN", 9),
    Statement("COMMIT", 5),
    Statement("COMMIT", 6, "after"),
    Statement("DELETE FROM verdicts", 3, "after"),
    Statement(insert("verdicts"), 5),
    Statement(insert("votes"), 2, "after"),
    Statement("UPDATE candidates .*'accepted'"),
    Statement("UPDATE candidates .*'accepted'", when="after"),
    Statement("UPDATE candidates .*'rejected'"),
    Statement("UPDATE candidates .*'waiting'", when="after"),
    Statement(insert("leaves", "'met'")),
    Statement(insert("leaves", "'met'"), 2, "after"),
]


async def test_killed_inside_a_commit(tmp_path: Path, server: ScriptedServer, victims: Victims) -> None:
    """From the first table to the last note; where a number is given, so many of its kind have begun in that life."""
    server.script = CAST
    whole, chain = await unbroken(tmp_path / "whole", server), Chain(tmp_path / "broken", server, victims)
    for point in COMMITS:
        if await chain.live(point) == 0:  # how much a commit holds depends on the moment: this run had passed the point
            chain.ends_as(whole)
            chain = Chain(tmp_path / f"broken again, {chain.lives}", server, victims)
            await chain.killed_at(point)
    assert await chain.live(None) == 0
    chain.ends_as(whole)


async def test_killed_anywhere(tmp_path: Path, server: ScriptedServer, victims: Victims) -> None:
    server.script = CAST
    whole, chain, rng = await unbroken(tmp_path / "whole", server), Chain(tmp_path / "broken", server, victims), random.Random(7)
    ends = Counter([await chain.live(anywhere(rng)) for _ in range(12)])
    assert ends[-signal.SIGKILL] >= 8
    assert await chain.live(None) == 0
    chain.ends_as(whole)


def anywhere(rng: random.Random) -> Point:
    if rng.random() < 0.5:
        return Arrival(".*", rng.randint(1, 12))
    return Statement(".", rng.randint(10, 200), rng.choice(("before", "after")))


async def test_killed_while_chroma_is_written_and_with_an_index_that_is_torn_or_gone(
    tmp_path: Path, server: ScriptedServer, victims: Victims
) -> None:
    """Every even candidate says in other words what the first one said: only an index that was rebuilt knows."""
    same = ["How do I politely ask a supplier for a refund?", "What is a polite way of asking a supplier for a refund?"]
    server.script = Cast(writer=lambda request, case: None if case.number % 2 else {"instruction": same[case.number > 0], "input": ""})
    gates = {"ifd": False, "semantic": {"threshold": 0.8}}
    flow = {"evolve_rounds": 0}
    settings = {"target": 4, "leaves": ["t/a"], "in_flight": 1, "gates": gates, "flow": flow, "limits": {"candidates_per_leaf": 6}}
    whole, chain = await unbroken(tmp_path / "whole", server, settings), Chain(tmp_path / "broken", server, victims, settings)
    index = tmp_path / "broken" / "run" / "chroma"
    assert await chain.live(Write(0.003), "--target", "2") == -signal.SIGALRM
    tear(index / "chroma.sqlite3")
    assert await chain.live(Write(0.008), "--target", "3") == -signal.SIGALRM
    assert "built anew from the ledger" in (tmp_path / "broken" / "said.txt").read_text()
    shutil.rmtree(index)
    assert await chain.live(None) == 0
    chain.ends_as(whole)
    assert [number for _, number in chain.accepted] == [0, 1, 3, 5]


def tear(file: Path) -> None:
    """Keep the first half."""
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
