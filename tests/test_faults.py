"""Runs against an endpoint that misbehaves: nothing is lost, nothing is paid for twice, and few requests are wasted."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import SEED, Cast, Told, go, recipe, told

from agents.scripted import Fault, RateLimit, ScriptedServer

N = 10
"""candidates"""
CALLS = 6
"""of a candidate: writer, evolver, answerer, two annotators, critic"""
PLACES = 16
"""calls in flight at most, at each of the two models"""
JUDGES = ("annotator-correctness", "annotator-helpfulness", "critic")


def settings(**model: Any) -> dict[str, Any]:
    """A recipe's settings under which exactly N candidates begin, and all are wanted."""
    given = {"concurrency": PLACES, "timeout": 5, "patience": 30, **model}
    return {
        "target": N,
        "in_flight": N,
        "limits": {"candidates_per_leaf": N},
        "roles": {name: {"off": True} for name in ("planner", "syllabus-planner", "annotator-clarity", "comparer", "arbiter")},
        "flow": {"breadth_share": 0.0},
        "models": {"generator": {**given, "model": "scripted-qwen"}, "judge": {**given, "model": "scripted-llama"}},
    }


async def survive(folder: Path, server: ScriptedServer, in_transit: int = 0, **model: Any) -> Told:
    """A run that must come through: every candidate accepted, every answer used, none paid for twice but those that were `in_transit`."""
    given = settings(base_url=server.base_url, **model)
    run = await go(recipe(folder, server, **given), folder)
    ledger = told(folder)
    assert run.exit_code == 0, (run.failure, [job.outcome for job in run.jobs])
    assert ledger.states == {"accepted": N}
    assert sum(call["status"] == "ok" for call in ledger.calls) == CALLS * N
    assert server.paid_twice <= in_transit
    assert server.count() - server.failed - server.paid_twice == CALLS * N, "every request but the failed ones gave an answer that was used"
    return ledger


def serving(*faults: Fault, **given: Any) -> ScriptedServer:
    return ScriptedServer(**{"seed": SEED, "script": Cast(), "latency": 0.02, "faults": faults, **given})


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param([], id="none"),
        pytest.param(
            [Fault("429", rate=0.1, retry_after=0.3), Fault("500", rate=0.1), *(Fault("bad_json", rate=0.1, role=one) for one in JUDGES)],
            id="refusals, faults and malformed judgements",
        ),
        pytest.param(
            [Fault(kind, rate=0.06) for kind in ("reset", "bad_body", "truncated_body", "empty", "cut_json")], id="five ways to break"
        ),
        pytest.param([Fault("reset", rate=0.2)], id="resets"),
        pytest.param([Fault("503", rate=0.15, retry_after=0.3)], id="overloads"),
        pytest.param([Fault("hang", rate=0.05)], id="hangs"),
        pytest.param([Fault("drip", rate=0.3, seconds=0.8)], id="slow bodies"),
        pytest.param([Fault("twice", rate=0.1)], id="bodies that come twice"),
        pytest.param([Fault("error_body", rate=0.1)], id="errors that say 200"),
        pytest.param([Fault("empty", rate=0.15), Fault("cut_json", rate=0.15)], id="many replies that cannot be used"),
    ],
)
async def test_nothing_is_lost_or_paid_for_twice(tmp_path: Path, faults: Sequence[Fault]) -> None:
    async with serving(*faults) as server:
        await survive(tmp_path, server, timeout=1.5)
        assert {one.kind for one in faults} == {one.fault for one in server.requests} - {None}, "every fault has struck"


@pytest.mark.parametrize(
    "storm",
    [
        pytest.param(Fault("429", after=2 * N, lasts=2.5, retry_after=0.3), id="429"),
        pytest.param(Fault("503", after=2 * N, lasts=2.5), id="503 that does not say how long"),
        pytest.param(Fault("500", after=2 * N, lasts=2.5), id="500"),
        pytest.param(Fault("reset", after=2 * N, lasts=2.5), id="resets"),
        pytest.param(Fault("bad_body", after=2 * N, lasts=2.5), id="pages of a proxy"),
    ],
)
async def test_what_befalls_everybody_is_waited_out_with_few_tries(tmp_path: Path, storm: Fault) -> None:
    """It lasts far longer than the tries of one call: what counts is that nobody else is answered either."""
    async with serving(storm) as server:
        await survive(tmp_path, server, attempts=4)
        assert server.failed <= 3 * PLACES, [(one.role, one.number) for one in server.requests if not one.is_good]


@pytest.mark.parametrize("role", ["writer", "evolver", "annotator-correctness"])
async def test_a_server_that_dies_and_comes_back_costs_what_was_in_flight(tmp_path: Path, role: str) -> None:
    """Also where one of its models had not been asked before."""
    async with serving(Fault("die", role=role, after=role != "annotator-correctness", lasts=2)) as server:
        await survive(tmp_path, server, in_transit=PLACES, attempts=2)
        assert 1 <= server.failed <= 2 * N


async def test_a_rate_limit_costs_time_and_few_refusals(tmp_path: Path) -> None:
    async with serving(rate_limit=RateLimit(25, seconds=0.7)) as server:
        await survive(tmp_path, server, attempts=2)
        assert server.failed <= 3 * PLACES
        windows = (server.requests[-1].started - server.requests[0].started) / 0.7
        assert windows > CALLS * N // 25 - 1


async def test_chinese_in_another_encoding_is_read_where_the_server_says_so_and_refused_where_it_lies(tmp_path: Path) -> None:
    said = "指令里要求的都做到了，没有多余的话。"
    script = Cast(annotator={"rationale": said, "score": 5}, critic={"reason": said, "score": 5})
    async with serving(Fault("mislabelled", rate=0.1), Fault("gbk", rate=0.2), script=script) as server:
        ledger = await survive(tmp_path, server)
        assert {"mislabelled", "gbk"} <= {one.fault for one in server.requests}
    assert {vote["rationale"] for vote in ledger.votes} == {said}


async def test_an_answer_to_another_question_costs_at_most_its_candidate(tmp_path: Path) -> None:
    """It is as good as any, so it is paid for once and judged as what it is: here, a duplicate."""
    async with serving(Fault("stale", rate=0.5, role="evolver")) as server:
        await go(recipe(tmp_path, server, **settings(base_url=server.base_url)), tmp_path)
        assert (server.paid_twice, server.failed) == (0, 0)
        assert server.count() == len(told(tmp_path).calls)
    ledger = told(tmp_path)
    assert set(ledger.states) == {"accepted", "rejected"}
    assert {one["code"].split(".")[1] for one in ledger.candidates if one["state"] == "rejected"} == {"duplicate"}


async def test_a_clock_that_jumps_moves_nothing_but_dates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.cycle((0, 3600, -3600))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + next(hours))
    async with serving(Fault("429", rate=0.1, retry_after=0.3), Fault("500", rate=0.1)) as server:
        ledger = await survive(tmp_path, server)
    assert all(0 <= call["seconds"] < 60 for call in ledger.calls)
