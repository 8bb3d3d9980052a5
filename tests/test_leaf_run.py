"""Leaves and runs: quotas, budgets, order, and what a run that was stopped anywhere owes to the next one."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from conftest import SEED, Case, Cast, Told, case_of, go, recipe, shelf, taxonomy, told

from agents.scripted import Fault, Reply, Request, ScriptedServer
from filters.gate import Stage, Subject, verdict
from graphs.run import Run
from leafmill import errors
from leafmill.ledger import CANDIDATES, Ledger
from leafmill.records import AGAIN, Brief, Verdict, digest

FLAT = {"flow": {"evolve_rounds": 0, "revise_rounds": 0}}


def jumbled(number: int, most: float = 0.03) -> Callable[[Request], float]:
    """Latencies that depend on the request and on `number`, so that replies come in another order for each."""
    return lambda request: random.Random(f"{number} {request.key}").random() * most


def bad(*numbers: int) -> Cast:
    """A cast whose critic dislikes some candidates."""
    return Cast(critic=lambda request, case: {"reason": "bad", "score": 1} if case.number in numbers else None)


def answered(ledger: Told) -> set[tuple[str, str, str]]:
    """What the ledger has an answer to: candidate, step and role."""
    return {(call["candidate"], call["step"], call["role"]) for call in ledger.calls if call["status"] == "ok"}


# -- quotas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 5])
async def test_n_asked_n_come_out_and_all_that_was_started_has_an_end(tmp_path: Path, server: ScriptedServer, n: int) -> None:
    server.script = bad(1, 3)
    run = await go(recipe(tmp_path, server, target=n, **FLAT), tmp_path)
    assert (run.exit_code, run.jobs[0].outcome.state) == (0, "met")
    states = told(tmp_path).states
    assert states["accepted"] == n
    assert states["open"] == 0
    assert states["accepted"] + states["rejected"] + states["errored"] + states["waiting"] == len(told(tmp_path).candidates)
    assert all(one["code"] and one["stage"] and one["ended_at"] for one in told(tmp_path).candidates if one["state"] != "accepted")


async def test_the_rows_are_the_first_good_ones_by_number(tmp_path: Path, server: ScriptedServer) -> None:
    server.script, server.latency = bad(0, 3), jumbled(1)
    await go(recipe(tmp_path, server, target=4, **FLAT), tmp_path)
    assert told(tmp_path).accepted == [("t/a", number) for number in (1, 2, 4, 5)]


async def test_a_leaf_that_starves_says_why(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = bad(*range(1, 60))
    run = await go(recipe(tmp_path, server, target=3, limits={"candidates_per_leaf": 7}, **FLAT), tmp_path)
    (job,) = run.jobs
    assert (run.exit_code, job.outcome.state) == (3, "starved")
    assert job.outcome.reason == "1 of 7 candidates were accepted; the others: 6 critic.low"
    assert len(told(tmp_path).candidates) == job.started == 7


async def test_every_end_state_adds_up(tmp_path: Path, server: ScriptedServer) -> None:
    low = {"reason": "bad", "score": 1}
    server.script = Cast(
        critic=lambda request, case: low if case.number % 4 == 1 else None,
        annotator_clarity=lambda request, case: {"rationale": "no", "score": 1} if case.number % 4 == 2 else None,
        answerer=lambda request, case: "" if case.number % 4 == 3 else None,
    )
    limits = {"candidates_per_leaf": 16, "error_share": 1.0}
    run = await go(recipe(tmp_path, server, target=9, limits=limits, **FLAT), tmp_path)
    assert told(tmp_path).states == {"accepted": 4, "rejected": 4, "waiting": 4, "errored": 4}
    assert run.jobs[0].counts == told(tmp_path).states
    assert run.jobs[0].under_way == 0


async def test_a_run_that_has_met_its_quota_asks_nothing_more(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=2), tmp_path)
    before = server.count()
    run = await go(recipe(tmp_path, server, target=2), tmp_path)
    assert (run.exit_code, server.count()) == (0, before)
    assert (await go(recipe(tmp_path, server, target=1), tmp_path)).exit_code == 0


async def test_a_larger_target_goes_on_and_gives_the_rows_of_asking_for_it_at_once(tmp_path: Path, server: ScriptedServer) -> None:
    server.script, server.latency = bad(1, 4), jumbled(2)
    whole = tmp_path / "whole"
    whole.mkdir()
    await go(recipe(whole, server, target=6), whole)
    before = server.count()
    for target in (1, 3, 6):
        await go(recipe(tmp_path, server, target=target), tmp_path)
    assert server.count() - before == len(answered(told(tmp_path))), "a recorded call was asked again"
    assert told(tmp_path).accepted == told(whole).accepted
    assert told(tmp_path).rows == told(whole).rows


# -- holes -------------------------------------------------------------------------------------------------------------


def attempt_of(request: Request, case: Case) -> int:
    """Of a writer's request: how many candidates have had its cell before. Its seed says whose call it is."""
    for attempt in range(9):
        id_ = digest(SEED, f"t/{case.leaf}", case.number + attempt * AGAIN)
        if request.seed == int(digest(SEED, id_, "write.0.0", "writer", 0, length=8), 16) % 2**31:
            return attempt
    raise AssertionError(f"nobody's seed: {request.seed}")


def until(**attempts: int) -> Cast:
    """A cast whose critic dislikes the first so many candidates of some cells: `until(c3=1)` the first of the third."""

    def write(request: Request, case: Case) -> Any:
        attempt = attempt_of(request, case)
        asks = f"Explain to colleague {attempt} how invoice {case.leaf}-{case.number} gets filed on shelf {shelf(case) + 5 * attempt}."
        return {"instruction": asks, "input": ""}

    def criticise(request: Request, case: Case) -> Any:
        attempt = int(request.task.split("colleague ")[1].split()[0])
        return {"reason": "bad", "score": 1} if attempt < attempts.get(f"c{case.number}", 0) else None

    return Cast(writer=write, critic=criticise)


def places(ledger: Told) -> list[tuple[int, int]]:
    """Cell and attempt of all candidates, in their order."""
    return sorted(Brief.model_validate(one["brief"]).place for one in ledger.candidates)


async def test_a_cell_without_a_row_is_taken_by_another_candidate_before_new_cells_are(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = until(c1=1, c3=2)
    run = await go(recipe(tmp_path, server, target=5, refills=2, **FLAT), tmp_path)
    assert (run.exit_code, run.jobs[0].counts["accepted"]) == (0, 5)
    ends = [Brief.model_validate(one["brief"]).place for one in told(tmp_path).candidates if one["state"] == "accepted"]
    assert sorted(ends) == [(0, 0), (1, 1), (2, 0), (3, 2), (4, 0)]
    first, other = (Brief.model_validate(told(tmp_path).of(number)["brief"]) for number in (1, 1 + AGAIN))
    assert other.refills == first.number
    assert {**first.model_dump(), "id": "", "number": 0, "seeds": ()} == {**other.model_dump(), "id": "", "number": 0, "seeds": ()}


async def test_a_cell_is_given_up_after_so_many_refills(tmp_path: Path, server: ScriptedServer) -> None:
    server.script = until(c1=9)
    await go(recipe(tmp_path, server, target=3, refills=2, **FLAT), tmp_path)
    ends = {Brief.model_validate(one["brief"]).place: one["state"] for one in told(tmp_path).candidates if one["code"] != "quota_met"}
    assert ends == {(0, 0): "accepted", (1, 0): "rejected", (1, 1): "rejected", (1, 2): "rejected", (2, 0): "accepted", (3, 0): "accepted"}


@pytest.mark.parametrize("targets", [[6], [1, 3, 6]])
async def test_holes_are_filled_alike_whichever_reply_comes_first_and_whatever_was_asked_for_before(
    tmp_path: Path, server: ScriptedServer, targets: list[int]
) -> None:
    """Two cells fail once, one for good."""
    seen = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        server.script, server.latency = until(c1=1, c2=9, c4=1), jumbled(number)
        for target in targets:
            await go(recipe(folder, server, target=target, refills=2, in_flight=[2, 9][number], **FLAT), folder)
        seen.append((told(folder).accepted, told(folder).rows))
    assert seen[0] == seen[1]
    assert {number % AGAIN: number // AGAIN for _, number in seen[0][0]} == {0: 0, 1: 1, 3: 0, 4: 1, 5: 0, 6: 0}


async def test_the_candidates_of_a_leaf_that_starves_are_the_first_by_place(tmp_path: Path, server: ScriptedServer) -> None:
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        server.script, server.latency = until(**{f"c{cell}": 9 for cell in range(1, 20)}), jumbled(number)
        limits = {"candidates_per_leaf": 9}
        run = await go(recipe(folder, server, target=5, refills=2, in_flight=[1, 9][number], limits=limits, **FLAT), folder)
        assert (run.exit_code, run.jobs[0].outcome.state) == (3, "starved")
        assert places(told(folder)) == [(0, 0), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1)]


async def test_a_row_waits_for_the_hole_before_it(tmp_path: Path, server: ScriptedServer) -> None:
    """The second candidate of cell 0 is slow, and that of cell 1 its twin: the earlier cell gets in."""
    twin = {"instruction": "Explain how the twin invoice a-0 gets filed on shelf 5.", "input": ""}

    def write(request: Request, case: Case) -> Any:
        first = case.number == 0 and attempt_of(request, case) == 0
        return {"instruction": "no", "input": ""} if first else twin if case.number < 2 else None

    server.script = Cast(writer=write)
    server.latency = lambda request: 0.4 if request.role == "answerer" and request.task.count("twin") else 0.0
    await go(recipe(tmp_path, server, target=3, refills=1, **FLAT), tmp_path)
    assert [number % AGAIN for _, number in told(tmp_path).accepted][-1] == 0
    assert told(tmp_path).of(1)["code"].endswith(".duplicate")


# -- budgets -----------------------------------------------------------------------------------------------------------


async def test_a_budget_of_tokens_ends_the_run_and_counts_what_earlier_runs_spent(tmp_path: Path, server: ScriptedServer) -> None:
    settings = {"target": 20, "in_flight": 2}
    run = await go(recipe(tmp_path, server, limits={"tokens": 9000}, **settings), tmp_path)
    assert (run.exit_code, run.jobs[0].outcome.state) == (3, "budget")
    assert "limits.tokens" in run.jobs[0].outcome.reason
    spent = sum(call["prompt_tokens"] + call["completion_tokens"] for call in told(tmp_path).calls)
    assert 8000 < spent == run.budget.spent.tokens <= 9000
    assert told(tmp_path).states["open"] <= 2, "what is under way stops at its next step, and stays open"
    before = server.count()
    again = await go(recipe(tmp_path, server, limits={"tokens": 9000}, **settings), tmp_path)
    assert (again.exit_code, again.budget.spent.tokens, server.count()) == (3, spent, before)
    assert (await go(recipe(tmp_path, server, target=4, in_flight=2), tmp_path)).exit_code == 0
    assert [number for _, number in told(tmp_path).accepted] == [0, 1, 2, 3]
    assert told(tmp_path).states["open"] == 0
    assert server.count() == len(answered(told(tmp_path))), "a recorded call was asked again"


async def test_a_budget_of_minutes_ends_the_run(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.05
    run = await go(recipe(tmp_path, server, target=40, in_flight=2, limits={"minutes": 0.01}), tmp_path)
    assert (run.exit_code, run.jobs[0].outcome.state) == (3, "budget")
    assert "limits.minutes" in run.jobs[0].outcome.reason
    assert told(tmp_path).states["open"] <= 2


# -- several leaves ----------------------------------------------------------------------------------------------------


async def test_two_leaves_share_the_slots_and_both_meet_their_quota(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "ab")
    server.latency = 0.01
    run = await go(recipe(tmp_path, server, target=6, in_flight=4, **FLAT), tmp_path)
    assert (run.exit_code, told(tmp_path).states["accepted"]) == (0, 12)
    begun = sorted(told(tmp_path).candidates, key=lambda one: one["begun_at"])
    first = Counter(one["leaf"] for one in begun[:12])
    assert abs(first["t/a"] - first["t/b"]) <= 3, first
    assert server.in_flight_peak <= 4 * 3  # a panel of three votes at once


async def test_the_leaf_that_is_behind_catches_up_first(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "ab")
    await go(recipe(tmp_path, server, target=4, leaves=["t/a"], **FLAT), tmp_path)
    done = {one["id"] for one in told(tmp_path).candidates if one["state"] == "accepted"}
    await go(recipe(tmp_path, server, target=8, in_flight=1, **FLAT), tmp_path)
    begun = sorted((one for one in told(tmp_path).candidates if one["id"] not in done), key=lambda one: one["begun_at"])
    assert [one["leaf"] for one in begun[1:4]] == ["t/b"] * 3


async def test_a_starving_leaf_does_not_keep_the_others_from_their_quota(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "ab")
    server.script = Cast(critic=lambda request, case: {"reason": "bad", "score": 1} if case.leaf == "a" else None)
    run = await go(recipe(tmp_path, server, target=3, in_flight=2, limits={"candidates_per_leaf": 6}, **FLAT), tmp_path)
    assert {job.leaf.path: job.outcome.state for job in run.jobs} == {"t/a": "starved", "t/b": "met"}
    assert run.exit_code == 3


async def test_twins_of_two_leaves_give_one_row_but_which_depends_on_who_comes_first(tmp_path: Path, server: ScriptedServer) -> None:
    """Between leaves it is first come, first served: here the order of replies does decide, as admission.py says."""
    taxonomy(tmp_path, "ab")
    twin = {"instruction": "Explain how the shared invoice x-9 gets filed on shelf 9.", "input": ""}
    server.script = Cast(writer=lambda request, case: twin if case.number == 0 else None)
    winners = set()
    for slow in "ab":
        folder = tmp_path / slow
        folder.mkdir()
        taxonomy(folder, "ab")
        server.latency = lambda request, slow=slow: 0.2 if f"> {slow.upper()}" in request.prompt else 0.0
        await go(recipe(folder, server, target=2, limits={"candidates_per_leaf": 4}, **FLAT), folder)
        winners |= {leaf for leaf, number in told(folder).accepted if number == 0}
        assert told(folder).states["accepted"] == 4
    assert winners == {"t/a", "t/b"}


async def test_what_leaves_remember_is_restored_even_if_the_first_leaf_has_a_gate_off(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "ab", {"a": {"gates": {"exact": False, "minhash": False}}})
    twin = {"instruction": "Explain how the twin invoice b-0 gets filed on shelf 5.", "input": ""}
    other = "Take the lift to the third floor and ask the porter for the key to the long cabinet."
    server.script = Cast(
        writer=lambda request, case: twin if case.leaf == "b" else None, answerer=lambda request, case: other if case.leaf == "b" else None
    )
    await go(recipe(tmp_path, server, target=1, **FLAT), tmp_path)
    await go(recipe(tmp_path, server, target=2, limits={"candidates_per_leaf": 4}, **FLAT), tmp_path)
    assert [number for leaf, number in told(tmp_path).accepted if leaf == "t/b"] == [0]


# -- equal inputs, equal decisions -------------------------------------------------------------------------------------


async def test_one_leafs_rows_do_not_depend_on_the_order_of_replies(tmp_path: Path, server: ScriptedServer) -> None:
    """Candidate 2 is born as the twin of candidate 0's final row, and 4 evolves into 3's: whoever is faster, the same get in."""
    taken = "Explain to a new colleague how invoice a-{0} gets filed on shelf {1}. Add the usual mistake."

    def write(request: Request, case: Case) -> Any:
        return {"instruction": taken.format(2, 5), "input": ""} if case.number == 2 else None

    def evolve(request: Request, case: Case) -> Any:
        if case.number in (0, 3, 4):
            return {"instruction": taken.format({0: 2, 3: 3, 4: 3}[case.number], {0: 5, 3: 44, 4: 44}[case.number]), "input": ""}
        return None

    def early(request: Request) -> float:
        """0 and 3 are accepted before 2 and 4 are written."""
        return 0.8 if request.role == "writer" and case_of(request).number in (2, 4) else 0.0

    def late(request: Request) -> float:
        """0 and 3 are answered when 2 and 4 are through."""
        return 0.5 if request.role == "answerer" and "usual mistake" in request.prompt else 0.0

    server.script = Cast(writer=write, evolver=evolve)
    seen = []
    for latency in (early, late, jumbled(5)):
        folder = tmp_path / latency.__name__
        folder.mkdir()
        server.latency = latency
        await go(recipe(folder, server, target=5, limits={"candidates_per_leaf": 6}), folder)
        seen.append((told(folder).accepted, told(folder).rows))
    assert seen[0] == seen[1] == seen[2], [accepted for accepted, _ in seen]
    assert told(tmp_path / "early").of(4)["code"].endswith(".duplicate")


async def test_equal_runs_are_equal_to_the_letter(tmp_path: Path, server: ScriptedServer) -> None:
    found = []
    for number in range(2):
        folder = tmp_path / str(number)
        folder.mkdir()
        server.latency = jumbled(number)
        await go(recipe(folder, server, target=3, in_flight=[1, 8][number]), folder)
        found.append(
            [(one["id"], one["row"], one["lineage"], one["brief"]) for one in told(folder).candidates if one["state"] == "accepted"]
        )
    assert found[0] == found[1]


# -- stopped and gone on with ------------------------------------------------------------------------------------------


async def cancelled_after(folder: Path, server: ScriptedServer, calls: int, **settings: Any) -> None:
    """Run until the server has heard so many more calls, then cancel as a second Ctrl-C does."""
    before = server.count()
    task = asyncio.create_task(go(recipe(folder, server, **settings), folder))
    while server.count() < before + calls and not task.done():
        await asyncio.sleep(0.005)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_run_cancelled_again_and_again_ends_as_an_unbroken_one(tmp_path: Path, server: ScriptedServer) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    for folder in (whole, broken):
        folder.mkdir()
    server.script, server.latency = bad(2, 5), jumbled(3)
    settings = {"target": 6, "in_flight": 4}
    await go(recipe(whole, server, **settings), whole)
    for calls in (3, 9, 17, 8):
        await cancelled_after(broken, server, calls, **settings)
        recorded, before = answered(told(broken)), len(server.requests)
    assert told(broken).states["open"] > 0, "the run was stopped too late to prove anything"
    run = await go(recipe(broken, server, **settings), broken)
    assert run.exit_code == 0
    assert told(broken).accepted == told(whole).accepted
    assert told(broken).rows == told(whole).rows
    assert told(broken).states["open"] == 0
    counts = Counter((call["candidate"], call["step"], call["role"]) for call in told(broken).calls)
    assert set(counts.values()) == {1}, "a recorded call was asked again"
    assert len(server.requests) - before == len(told(broken).calls) - len(recorded)


async def test_what_was_left_open_ends_even_if_the_leaf_fills_without_it(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.05
    await cancelled_after(tmp_path, server, 30, target=8, in_flight=8)
    assert told(tmp_path).states["open"] == 8
    run = await go(recipe(tmp_path, server, target=1, in_flight=2), tmp_path)
    assert run.exit_code == 0
    assert told(tmp_path).states == {"accepted": 1, "rejected": 7}
    assert run.jobs[0].counts == told(tmp_path).states
    await go(recipe(tmp_path, server, target=8), tmp_path)
    assert [number for _, number in told(tmp_path).accepted] == list(range(8))


async def test_stopping_gently_asks_nothing_new_and_the_next_run_goes_on_from_there(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.03
    held: list[Run] = []
    task = asyncio.create_task(go(recipe(tmp_path, server, target=30, in_flight=3), tmp_path, held.append))
    while server.count() < 16:  # the panel is voting
        await asyncio.sleep(0.01)
    asked = server.count()
    held[0].stop()
    run = await task
    assert (run.jobs[0].outcome.state, run.exit_code) == ("stopped", 3)
    assert server.count() <= asked + 9, "three candidates, each with a panel of three"
    left = [one["stage"] for one in told(tmp_path).candidates if one["state"] == "open"]
    assert left
    assert sum(stage != "admit" for stage in left) <= 3, "others waited at the door for those before them"
    assert all(call["status"] == "ok" for call in told(tmp_path).calls), "what was in flight is recorded"
    before = server.distinct
    assert (await go(recipe(tmp_path, server, target=30, in_flight=3), tmp_path)).exit_code == 0
    assert server.count() - before == server.distinct - before, "nothing is asked twice"


@pytest.mark.parametrize("calls", [12, 25, 40])
async def test_stopped_gently_anywhere_a_leaf_gives_the_rows_of_an_unbroken_run(tmp_path: Path, server: ScriptedServer, calls: int) -> None:
    """Candidate 1 is slow, and 2 is its twin: 2 must not get in while 1 is left open."""
    twin = {"instruction": "Explain how the twin invoice a-1 gets filed on shelf 18.", "input": ""}
    server.script = Cast(writer=lambda request, case: twin if case.number in (1, 2) else None)
    slow: list[Request] = []

    def latency(request: Request) -> float:
        if request.role == "answerer" and "twin invoice" in request.prompt and not slow:
            slow.append(request)
            return 0.3
        return 0.01

    server.latency = latency
    held: list[Run] = []
    settings = {"target": 4, "in_flight": 4, **FLAT}
    task = asyncio.create_task(go(recipe(tmp_path, server, **settings), tmp_path, held.append))
    while server.count() < calls and not task.done():
        await asyncio.sleep(0.002)
    held[0].stop()
    await task
    assert (await go(recipe(tmp_path, server, **settings), tmp_path)).exit_code == 0
    assert [number for _, number in told(tmp_path).accepted] == [0, 1, 3, 4]
    assert told(tmp_path).states["open"] == 0


async def test_what_ended_in_an_error_is_tried_again_by_the_next_run_only(tmp_path: Path, server: ScriptedServer) -> None:
    boom = Reply("The server had an error.", status=500)
    server.script = Cast(answerer=lambda request, case: boom if case.number in (1, 3) else None)
    settings = {"target": 4, "limits": {"candidates_per_leaf": 5, "error_share": 1.0}}
    first = await go(recipe(tmp_path, server, **settings), tmp_path)
    assert [one["number"] for one in told(tmp_path).candidates if one["state"] == "errored"] == [1, 3]
    assert first.exit_code == 3
    before = len(server.requests)
    server.script = Cast()
    assert (await go(recipe(tmp_path, server, **settings), tmp_path)).exit_code == 0
    assert told(tmp_path).states["accepted"] == 4
    assert {record.role for record in server.requests[before:]} & {"writer", "evolver"} == set(), "their writing was paid for already"


async def test_too_large_a_share_of_errors_stops_the_run(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("empty", role="answerer")]
    run = await go(recipe(tmp_path, server, target=50, in_flight=8, limits={"error_share": 0.2}, **FLAT), tmp_path)
    assert run.exit_code == errors.EXIT_ERRORS
    assert "empty_reply" in run.failure
    assert 20 <= told(tmp_path).states["errored"] <= 28
    assert told(tmp_path).states["open"] <= 8
    assert run.jobs[0].outcome == ("stopped", run.failure)


async def test_fewer_than_twenty_errors_prove_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("empty", role="answerer")]
    limits = {"candidates_per_leaf": 10, "error_share": 0.0}
    run = await go(recipe(tmp_path, server, target=5, limits=limits, **FLAT), tmp_path)
    assert (run.exit_code, run.failure) == (3, "")


async def test_a_server_that_dies_stops_the_run_and_the_next_one_finishes(tmp_path: Path) -> None:
    async with ScriptedServer(seed=7, script=Cast(), latency=0.02) as server:
        port = int(server.base_url.split(":")[2].split("/")[0])
        settings = {"target": 6, "in_flight": 4}
        task = asyncio.create_task(go(recipe(tmp_path, server, **settings), tmp_path))
        while server.count() < 25:
            await asyncio.sleep(0.005)
    with pytest.raises(errors.EndpointDownError, match="cannot be reached"):
        await asyncio.wait_for(task, 20)
    recorded = len(answered(told(tmp_path)))
    assert recorded >= 10
    async with ScriptedServer(seed=7, script=Cast(), port=port) as server:
        assert (await go(recipe(tmp_path, server, **settings), tmp_path)).exit_code == 0
        assert server.count() == len(answered(told(tmp_path))) - recorded


async def test_a_wrong_key_stops_the_run_at_once(tmp_path: Path, server: ScriptedServer) -> None:
    server.api_key = "right"
    with pytest.raises(errors.WrongKeyError):
        await go(recipe(tmp_path, server, target=20), tmp_path)
    assert server.count() <= 8
    assert told(tmp_path).states["accepted"] == 0


async def test_a_disk_that_fills_stops_the_run_and_the_next_one_finishes(tmp_path: Path, server: ScriptedServer) -> None:
    def fill(run: Run) -> None:
        (used,) = run.ledger._writer.execute("PRAGMA page_count").fetchone()
        run.ledger._writer.execute(f"PRAGMA max_page_count = {used + 10}")

    with pytest.raises(errors.DiskError, match="full"):
        await go(recipe(tmp_path, server, target=6), tmp_path, fill)
    kept = told(tmp_path)
    assert kept.calls
    before = server.count()
    assert (await go(recipe(tmp_path, server, target=6), tmp_path)).exit_code == 0
    assert server.count() - before == len(answered(told(tmp_path))) - len(answered(kept))


async def test_another_recipe_is_turned_away_and_leaves_the_folder_as_it_was(tmp_path: Path, server: ScriptedServer) -> None:
    await go(recipe(tmp_path, server, target=1), tmp_path)
    kept = (tmp_path / "run" / "recipe.yaml").read_text()
    with pytest.raises(errors.OtherRecipeError, match="seed"):
        await go(recipe(tmp_path, server, target=1, seed=8), tmp_path)
    assert (tmp_path / "run" / "recipe.yaml").read_text() == kept


async def test_two_runs_in_one_folder_are_one_too_many(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.05
    task = asyncio.create_task(go(recipe(tmp_path, server, target=1), tmp_path))
    while not server.count():
        await asyncio.sleep(0.01)
    with pytest.raises(errors.LockedError):
        await go(recipe(tmp_path, server, target=1), tmp_path)
    assert (await task).exit_code == 0


# -- the planner -------------------------------------------------------------------------------------------------------


async def test_scenarios_are_planned_page_by_page_and_read_back_on_resume(tmp_path: Path, server: ScriptedServer) -> None:
    def plan(request: Request, case: Case) -> Any:
        known = request.prompt.count("<known>")
        return {"scenarios": [f"Situation {known + number}: a clerk has lost a page." for number in range(8)]}

    server.script = Cast(planner=plan)
    await go(recipe(tmp_path, server, target=3, roles={}), tmp_path)
    pages = server.count("planner")
    await go(recipe(tmp_path, server, target=12, roles={}), tmp_path)
    briefs = [one["brief"]["scenario"] for one in told(tmp_path).candidates]
    assert all(briefs)
    assert len(set(briefs)) == len(briefs)
    plans = [call for call in told(tmp_path).calls if call["role"] == "planner"]
    assert len(plans) == len({call["step"] for call in plans}) == server.count("planner") > pages


async def test_a_planner_that_fails_costs_scenarios_and_nothing_else(tmp_path: Path, server: ScriptedServer) -> None:
    server.faults = [Fault("bad_json", role="planner")]
    run = await go(recipe(tmp_path, server, target=2, roles={}), tmp_path)
    assert run.exit_code == 0
    assert {one["brief"]["scenario"] for one in told(tmp_path).candidates} == {""}
    assert {call["status"] for call in told(tmp_path).calls if call["role"] == "planner"} == {"unreadable_reply"}


# -- damage ------------------------------------------------------------------------------------------------------------


async def test_candidates_left_open_by_a_kill_are_carried_on_from_their_recorded_calls(tmp_path: Path, server: ScriptedServer) -> None:
    """What kill -9 leaves behind: calls that are recorded, candidates that are open, votes and verdicts half noted."""
    await go(recipe(tmp_path, server, target=3), tmp_path)
    rows, before = told(tmp_path).rows, server.count()
    with Ledger(tmp_path / "run" / "ledger.db") as ledger, ledger._engine.begin() as conn:
        conn.execute(CANDIDATES.update().values(state="open", row=None, lineage=None, ended_at=None))
    assert (await go(recipe(tmp_path, server, target=3), tmp_path)).exit_code == 0
    assert (told(tmp_path).rows, server.count()) == (rows, before)
    ends = Counter((one["candidate"], one["seq"], one["gate"]) for one in told(tmp_path).verdicts)
    assert set(ends.values()) == {1}, "verdicts of the broken run were not forgotten"


async def test_a_bug_in_a_node_stops_the_run_and_loses_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    """Bugs are not caught; what was recorded stays, and a mended program goes on."""

    @dataclass(frozen=True)
    class Forgetful:
        name: ClassVar[str] = "forgetful"
        stage: ClassVar[tuple[Stage, ...]] = ("admit",)
        says: ClassVar[str] = "cannot remember"

        async def __call__(self, subject: Subject) -> Verdict:
            return verdict(self, "accept")

        async def add(self, subject: Subject) -> None:
            raise ZeroDivisionError("a bug in add")

    def during(run: Run) -> None:
        run.jobs[0].admission.memory = (Forgetful(),)

    with pytest.raises(ZeroDivisionError):
        await go(recipe(tmp_path, server, target=3), tmp_path, during)
    assert told(tmp_path).states["accepted"] >= 1
    assert (await go(recipe(tmp_path, server, target=3), tmp_path)).exit_code == 0
    assert told(tmp_path).states["accepted"] == 3
