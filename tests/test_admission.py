"""Admission: one at a time, in the order of numbers, never more than the quota, and of twins exactly one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import sqlalchemy as sa

from filters.dedup.exact import Exact
from filters.dedup.minhash import Minhash
from filters.gate import Gate, Subject, verdict
from graphs.admission import Admission
from leafmill.errors import DiskError
from leafmill.ledger import CANDIDATES, VERDICTS, Ending, Ledger, Step
from leafmill.records import Brief, Row, Verdict


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.db") as one:
        yield one


def brief(number: int, leaf: str = "a") -> Brief:
    return Brief(id=f"{leaf}{number}", leaf=leaf, number=number, language="en")


def subject(one: Brief, text: str = "") -> Subject:
    row = Row(language="en", instruction=text or f"Describe the {one.number * 37} ways to fold sheet {one.id}.", answer="Fold it.")
    return Subject(id=one.id, row=row, brief=one)


def door(ledger: Ledger, *gates: Gate, quota: int = 9, leaves: str = "ab", accepted: int = 0) -> Admission:
    return Admission(ledger, {leaf: gates for leaf in leaves}, dict.fromkeys(leaves, quota), dict.fromkeys(leaves, accepted))


async def carry(admission: Admission, ledger: Ledger, one: Brief, text: str = "", delay: float = 0.0) -> Ending:
    """A candidate from its entry to its end, as a leaf carries it; with "-" for a text it fails on the way."""
    await ledger.begin(one)
    await asyncio.sleep(delay)
    try:
        if text == "-":
            return Ending("errored")
        return await admission.admit(one, subject(one, text), {}, Step(one.id, one.leaf, 9, "admit"))
    finally:
        admission.leave(one)


async def carry_all(admission: Admission, ledger: Ledger, texts: list[str], shuffle: int, leaf: str = "a") -> list[Ending]:
    briefs = [brief(number, leaf) for number in range(len(texts))]
    for one in briefs:
        admission.enter(one)
    delays = [0.002 * number for number in range(len(texts))]
    random.Random(shuffle).shuffle(delays)
    return list(await asyncio.gather(*(carry(admission, ledger, *given) for given in zip(briefs, texts, delays, strict=True))))


def on_disk(ledger: Ledger) -> list[str]:
    found = ledger.rows(sa.select(CANDIDATES.c.id).where(CANDIDATES.c.state == "accepted").order_by(CANDIDATES.c.number))
    return [row["id"] for row in found]


@pytest.mark.parametrize("gate", [Exact, Minhash])
async def test_of_twins_submitted_at_once_the_first_number_gets_in_whichever_comes_first(tmp_path: Path, gate: type[Gate]) -> None:
    """Part of T36: twins submitted in one parallel step; exactly one accepted, always the same one over 20 repeats."""
    texts = ["-", "Name the rivers of Spain and where each ends.", "", "name  the RIVERS of Spain and where each ends.", ""]
    for repeat in range(20):
        with Ledger(tmp_path / f"{repeat}.db") as ledger:
            endings = await carry_all(door(ledger, gate()), ledger, texts, repeat)
            assert [ending.state for ending in endings] == ["errored", "accepted", "accepted", "rejected", "accepted"]
            assert on_disk(ledger) == ["a1", "a2", "a4"]
            assert endings[3].code == f"{gate.name}.duplicate"
            assert "a1" in endings[3].detail


async def test_the_quota_is_filled_by_the_lowest_numbers_whichever_comes_first(ledger: Ledger) -> None:
    admission = door(ledger, quota=3)
    endings = await carry_all(admission, ledger, ["", "-", "", "", "", ""], shuffle=3)
    assert [(ending.state, ending.code) for ending in endings[3:]] == [("accepted", ""), *[("rejected", "quota_met")] * 2]
    assert on_disk(ledger) == ["a0", "a2", "a3"]
    assert (admission.accepted("a"), admission.is_full("a"), admission.is_full("b")) == (3, True, False)


async def test_one_waits_for_lower_numbers_of_its_own_leaf_only(ledger: Ledger) -> None:
    admission = door(ledger)
    slow, fast, other = brief(0), brief(1), brief(5, "b")
    for one in (slow, fast, other):
        admission.enter(one)
    waiting = asyncio.create_task(carry(admission, ledger, fast))
    assert (await asyncio.wait_for(carry(admission, ledger, other), 5)).state == "accepted"
    await asyncio.sleep(0.05)
    assert not waiting.done()
    admission.leave(slow)
    assert (await asyncio.wait_for(waiting, 5)).state == "accepted"


async def test_one_that_is_cancelled_at_the_door_holds_up_nobody(ledger: Ledger) -> None:
    admission = door(ledger)
    briefs = [brief(number) for number in range(3)]
    for one in briefs:
        admission.enter(one)
    middle, last = (asyncio.create_task(carry(admission, ledger, one)) for one in briefs[1:])
    await asyncio.sleep(0.05)
    middle.cancel()
    await asyncio.gather(middle, return_exceptions=True)
    admission.leave(briefs[0])
    assert (await asyncio.wait_for(last, 5)).state == "accepted"


async def test_nobody_is_decided_before_one_that_is_left_open(ledger: Ledger) -> None:
    """A run that halts must not give the place, or the twin's, of a candidate that the next run carries on."""
    admission = door(ledger)
    first, second, other = brief(0), brief(1), brief(1, "b")
    for one in (first, second, other):
        admission.enter(one)
    waiting = asyncio.create_task(carry(admission, ledger, second))
    await asyncio.sleep(0.02)
    admission.leave(first, decided=False)
    ending = await asyncio.wait_for(waiting, 5)
    assert (ending.state, ending.code) == ("open", "halted")
    assert (await carry(admission, ledger, other)).state == "accepted"
    assert on_disk(ledger) == ["b1"]


async def test_what_was_accepted_before_counts_towards_the_quota(ledger: Ledger) -> None:
    admission = door(ledger, quota=2, accepted=1)
    endings = await carry_all(admission, ledger, ["", ""], shuffle=0)
    assert [ending.code for ending in endings] == ["", "quota_met"]


@dataclass(frozen=True)
class Odd:
    """A gate that does as its name says."""

    how: str = "crash"
    name: ClassVar[str] = "odd"
    stage: ClassVar[tuple[str, ...]] = ("admit",)
    says: ClassVar[str] = "odd"

    async def __call__(self, subject: Subject) -> Verdict:
        if self.how == "crash":
            raise ZeroDivisionError("no")
        return verdict(self, "unscorable", "odd.cannot_tell")


@pytest.mark.parametrize(("how", "state", "code"), [("crash", "errored", "odd_crashed"), ("shrug", "waiting", "odd.cannot_tell")])
async def test_a_gate_that_crashes_or_cannot_tell_accepts_nobody_and_rejects_nobody(
    ledger: Ledger, how: str, state: str, code: str
) -> None:
    (ending,) = await carry_all(door(ledger, Odd(how), Exact()), ledger, [""], shuffle=0)
    assert (ending.state, ending.stage, ending.code) == (state, "admit", code)
    assert [row["gate"] for row in ledger.rows(sa.select(VERDICTS.c.gate))] == ["odd"]


async def test_only_what_is_on_disk_is_remembered(ledger: Ledger) -> None:
    """A row that could not be recorded must not turn its twin away."""
    gate, one = Exact(), brief(0)
    admission = door(ledger, gate)
    admission.enter(one)
    ledger._broken = DiskError("full")
    with pytest.raises(DiskError):
        await admission.admit(one, subject(one), {}, Step(one.id, "a", 9, "admit"))
    assert gate.kept == {}
    assert admission.accepted("a") == 0
