"""What a run as a whole does with its endpoints, its slots and its budgets."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from conftest import Cast, case_of, go, recipe, taxonomy, told

from agents.scripted import ScriptedServer

FLAT = {"flow": {"evolve_rounds": 0, "revise_rounds": 0}}
CALLS = 6
"""of a candidate that passes at once: writer, answerer, three annotators, critic"""


def models(server: ScriptedServer, **settings: Any) -> dict[str, Any]:
    """Both aliases, for one and the same model."""
    one = {"base_url": server.base_url, "model": "shared", "attempts": 2, "patience": 5, **settings}
    return {"models": {"generator": one, "judge": one}, "same_family_judge": True}


async def test_no_more_are_begun_than_rows_are_wanted_while_all_pass(tmp_path: Path, server: ScriptedServer) -> None:
    run = await go(recipe(tmp_path, server, target=9, in_flight=20, **FLAT), tmp_path)
    assert run.exit_code == 0
    assert (len(told(tmp_path).candidates), server.count()) == (9, 9 * CALLS)


async def test_aliases_of_one_model_at_one_address_share_its_places(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = 0.02
    await go(recipe(tmp_path, server, target=6, in_flight=6, **FLAT, **models(server, concurrency=2)), tmp_path)
    assert server.in_flight_peak == 2


async def test_a_role_may_have_a_timeout_of_its_own(tmp_path: Path, server: ScriptedServer) -> None:
    server.latency = lambda request: 0.8 if request.role == "critic" else 0.0
    off = {"planner": {"off": True}}
    settings = {"target": 1, "limits": {"candidates_per_leaf": 1}, **FLAT}
    await go(recipe(tmp_path, server, **settings, roles={**off, "critic": {"timeout": 0.3}}), tmp_path)
    assert (told(tmp_path).of(0)["state"], told(tmp_path).of(0)["code"]) == ("errored", "timeout")
    await go(recipe(tmp_path, server, **settings, roles={**off, "answerer": {"timeout": 0.3}}), tmp_path)
    assert told(tmp_path).of(0)["state"] == "accepted"


async def test_one_that_waits_at_the_door_keeps_no_slot_from_others(tmp_path: Path, server: ScriptedServer) -> None:
    slow = lambda request: 1.5 if request.role == "critic" and case_of(request).number == 0 else 0.0  # noqa: E731
    server.latency = slow
    await go(recipe(tmp_path, server, target=6, in_flight=2, **FLAT), tmp_path)
    ended = {case_of(one.request).number: one.stopped for one in server.requests if one.role == "critic"}
    assert all(ended[number] < ended[0] for number in range(1, 6))
    assert told(tmp_path).accepted == [("t/a", number) for number in range(6)]


async def test_a_recipe_may_do_without_the_critic(tmp_path: Path, server: ScriptedServer) -> None:
    off = {"planner": {"off": True}, "critic": {"off": True}}
    await go(recipe(tmp_path, server, target=1, roles=off, **FLAT), tmp_path)
    assert told(tmp_path).states == {"accepted": 1}
    judged = [what for what in told(tmp_path).steps(0) if what.startswith(("agree", "critic"))]
    assert judged == ["agree:agreement"]


async def test_a_leafs_budget_ends_that_leaf_and_no_other(tmp_path: Path, server: ScriptedServer) -> None:
    taxonomy(tmp_path, "ab")
    wordy: Any = lambda request, case: "word " * 400 if case.leaf == "a" else None  # noqa: E731
    server.script = Cast(answerer=wordy)
    run = await go(recipe(tmp_path, server, target=3, in_flight=2, limits={"leaf_tokens": 9000}, **FLAT), tmp_path)
    outcomes = {job.leaf.path: job.outcome for job in run.jobs}
    assert (outcomes["t/a"].state, outcomes["t/b"].state, run.exit_code) == ("budget", "met", 3)
    assert "of leaf 't/a' used" in outcomes["t/a"].reason
    assert run.budget.spent_on("t/a").tokens <= 9000


@pytest.mark.parametrize("earlier", [False, True])
async def test_money_is_counted_call_by_call_and_never_passes_its_limit(tmp_path: Path, server: ScriptedServer, earlier: bool) -> None:
    priced = models(server, price={"input": 1.0, "output": 10.0})
    if earlier:
        await go(recipe(tmp_path, server, target=1, **FLAT, **priced), tmp_path)
    run = await go(recipe(tmp_path, server, target=20, in_flight=4, limits={"money": 0.05}, **FLAT, **priced), tmp_path)
    calls = told(tmp_path).calls
    assert all(call["cost"] == pytest.approx((call["prompt_tokens"] + 10 * call["completion_tokens"]) / 1e6) for call in calls)
    assert sum(call["cost"] for call in calls) == pytest.approx(run.budget.spent.money)
    assert 0.03 < run.budget.spent.money <= 0.05
    assert (run.jobs[0].outcome.state, run.exit_code) == ("budget", 3)
    assert "USD" in run.jobs[0].outcome.reason


async def test_a_call_without_a_price_costs_an_unknown_amount_and_not_nothing(tmp_path: Path, server: ScriptedServer) -> None:
    run = await go(recipe(tmp_path, server, target=1, **FLAT), tmp_path)
    assert {call["cost"] for call in told(tmp_path).calls} == {None}
    assert run.budget.spent.money is None


async def test_which_endpoint_answered_is_on_record(tmp_path: Path, server: ScriptedServer) -> None:
    async with ScriptedServer(seed=7, script=Cast()) as other:
        pool = {"model": "m", "endpoints": [{"base_url": server.base_url}, {"base_url": other.base_url}]}
        both = {"models": {"generator": pool, "judge": pool}, "same_family_judge": True}
        await go(recipe(tmp_path, server, target=4, **FLAT, **both), tmp_path)
        sent = {one.base_url: len(one.requests) for one in (server, other)}
    found = [call["endpoint"] for call in told(tmp_path).calls]
    assert {url: found.count(url) for url in sent} == sent
    assert all(sent.values())


async def test_a_run_that_is_stopped_sends_nothing_that_still_waited_for_its_turn(tmp_path: Path, server: ScriptedServer) -> None:
    def soon(run: Any) -> None:
        asyncio.get_running_loop().call_later(1.5, run.stop)

    run = await asyncio.wait_for(go(recipe(tmp_path, server, target=6, **FLAT, **models(server, rpm=10)), tmp_path, soon), 20)
    assert server.count() == 10, "and not one more, in this minute or the next"
    assert run.jobs[0].outcome.state == "stopped"
    assert told(tmp_path).states["open"] == len(told(tmp_path).candidates)
