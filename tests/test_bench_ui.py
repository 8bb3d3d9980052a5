"""The benchmark of the pages: its ledger is one that a run could have written, and it asks for pages that are there."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from bench.ui import beside, pages
from bench.ui.ledger import retell
from leafmill import trace
from leafmill.index.index import Index
from leafmill.ledger import Ledger
from leafmill.runfolder import RunFolder
from leafmill.ui.run.page import PARTS
from tests import ui


def test_a_small_ledger_is_told_again_and_every_page_of_it_is_asked_for(shop: Path, tmp_path: Path) -> None:
    folder = RunFolder(ui.copy_of(shop, tmp_path) / ui.NAME)
    retell(folder.ledger, 120)
    with closing(Index(folder)) as index, Ledger(folder.ledger, read_only=True) as ledger:
        index.refresh(60)
        states = {row["state"]: row["n"] for row in index.rows("SELECT state, count(*) AS n FROM candidates GROUP BY 1")}
        assert sum(states.values()) == 120
        assert {"accepted", "rejected", "errored"} <= states.keys()
        (one,) = index.rows("SELECT id, calls FROM candidates WHERE state = 'rejected' AND calls > 5 LIMIT 1")
        told = trace.read(ledger, one["id"]).events
        assert sum(event["kind"] == "call" for event in told) == one["calls"]
        assert [event["seq"] for event in told] == sorted(event["seq"] for event in told)
    lines = pages.measure(folder.path, 1)
    assert {f"part: {part}" for part in PARTS} <= {line.page for line in lines}
    assert all(len(line.changed) == len(line.again) == 1 for line in lines)
    assert len(list(pages.table(lines))) == len(lines) + 1


def test_a_page_that_is_slow_is_said_to_be() -> None:
    slow, whole = pages.Line("trace", [0.1, 0.3], [0.1, 0.1]), pages.Line("overview", [0.1, 0.3], [0.1, 0.1])
    assert [line.is_met for line in (slow, whole)] == [False, True]
    first, second = list(pages.table([slow, whole]))[1:]
    assert first.endswith("more than the goal")
    assert not second.endswith("more than the goal")


def test_what_looking_costs_is_the_median_of_the_pairs() -> None:
    def pair(alone: float, watched: float) -> beside.Pair:
        return beside.Pair(beside.Spent(0, alone, alone, 1.0), beside.Spent(0, watched, watched * 1.1, 1.0), 7)

    *_, last = beside.table(iter([pair(10, 10), pair(10, 10.2), pair(10, 30)]))
    assert last == "looked at, a run takes +12.2% CPU and +2.0% wall (goal: less than +3%)"
