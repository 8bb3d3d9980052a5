"""The budget: what is set aside before a call, who waits for room, and when it is over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.budget import Budget, BudgetSpent, Hold, Spent
from leafmill.errors import LeafmillError, RecipeError
from leafmill.recipe import Limits


async def rounds() -> None:
    """Let everybody who can run do so."""
    for _ in range(6):
        await asyncio.sleep(0)


# -- the end of a budget


async def test_a_call_that_cannot_fit_ends_the_budget_with_a_sentence() -> None:
    budget = Budget(Limits(tokens=1000))
    budget.settle(await budget.hold("a", 990, None), 980, None)
    assert budget.over("a") is None
    with pytest.raises(BudgetSpent, match=r"980 of 1000 tokens used, the next call may take 400 \(limits\.tokens\)"):
        await budget.hold("a", 400, None)
    assert budget.over("a") == budget.over("b") == "980 of 1000 tokens used, the next call may take 400 (limits.tokens)"
    with pytest.raises(BudgetSpent):
        await budget.hold("b", 1, None)  # it would fit; but the end is the end
    assert budget.spent == Spent(980, None)


@pytest.mark.parametrize(
    ("limits", "sentence"),
    [
        (Limits(tokens=100), "90 of 100 tokens used, the next call may take 20 (limits.tokens)"),
        (Limits(leaf_tokens=100), "90 of 100 tokens of leaf '礼貌' used, the next call may take 20 (limits.leaf_tokens)"),
        (Limits(money=1.0), "0.9 of 1 CNY used, the next call may take 0.2 (limits.money)"),
        (Limits(leaf_money=1.0), "0.9 of 1 CNY of leaf '礼貌' used, the next call may take 0.2 (limits.leaf_money)"),
    ],
)
async def test_each_limit_says_what_was_used_of_what(limits: Limits, sentence: str) -> None:
    budget = Budget(limits, "CNY", {"礼貌": Spent(90, 0.9)})
    with pytest.raises(BudgetSpent) as over:
        await budget.hold("礼貌", 20, 0.2)
    assert str(over.value) == budget.over("礼貌") == sentence


async def test_what_earlier_runs_used_up_is_over_before_a_call_is_asked_for() -> None:
    budget = Budget(Limits(tokens=100, leaf_tokens=70), earlier={"a": Spent(70, None), "b": Spent(29, None)})
    assert budget.over("a") == "70 of 70 tokens of leaf 'a' used (limits.leaf_tokens)"
    assert budget.over("b") is None
    budget.settle(await budget.hold("b", 1, None), 1, None)
    assert budget.over("b") == "100 of 100 tokens used (limits.tokens)"


async def test_the_end_of_a_leaf_is_not_the_end_of_the_others() -> None:
    budget = Budget(Limits(leaf_tokens=100))
    held = await budget.hold("a", 80, None)
    waits = asyncio.create_task(budget.hold("a", 30, None))
    await rounds()
    other = await budget.hold("b", 100, None)  # passes the one that waits
    budget.settle(held, 80, None)
    with pytest.raises(BudgetSpent, match="leaf 'a'"):
        await waits
    assert budget.over("b") is None
    budget.settle(other, 100, None)


async def test_the_end_of_the_run_wakes_all_who_wait_those_of_other_leaves_too() -> None:
    budget = Budget(Limits(tokens=100, leaf_tokens=60))
    first, second = await budget.hold("a", 40, None), await budget.hold("b", 40, None)
    of_leaf, of_run = asyncio.create_task(budget.hold("a", 30, None)), asyncio.create_task(budget.hold("c", 30, None))
    await rounds()
    with pytest.raises(BudgetSpent, match=r"limits\.leaf_tokens"):
        await budget.hold("d", 61, None)  # its leaf's end only
    assert not of_leaf.done()
    assert not of_run.done()
    budget.settle(second, 90, None)  # more than it said it may
    for waiting in (of_leaf, of_run):
        with pytest.raises(BudgetSpent, match=r"90 of 100 tokens used, the next call may take 30 \(limits\.tokens\)"):
            await asyncio.wait_for(waiting, 10)  # while the first is still in flight
    budget.settle(first, 5, None)
    assert budget.spent.tokens == 95


def test_it_is_no_failure_of_a_call_nor_any_error_of_ours() -> None:
    assert not issubclass(BudgetSpent, LeafmillError)


# -- waiting for room


async def test_a_call_that_does_not_fit_yet_waits_for_what_those_in_flight_leave() -> None:
    budget = Budget(Limits(tokens=1000))
    first, second = await budget.hold("a", 400, None), await budget.hold("b", 400, None)
    order: list[int] = []

    async def late(number: int, tokens: int) -> Hold:
        hold = await budget.hold("c", tokens, None)
        order.append(number)
        return hold

    waiting = [asyncio.create_task(late(0, 500)), asyncio.create_task(late(1, 100))]
    await rounds()
    assert order == []  # the second would fit, but does not overtake
    budget.settle(first, 200, None)
    await rounds()
    assert order == []
    budget.release(second)
    await rounds()
    assert order == [0, 1]
    for task in waiting:
        budget.settle(await task, 10, None)
    assert budget.spent.tokens == 220


@pytest.mark.parametrize("limits", [Limits(tokens=100), Limits(leaf_tokens=100), Limits(tokens=100, leaf_tokens=100)])
@pytest.mark.parametrize("let_in", [False, True])
async def test_a_call_that_is_cancelled_while_it_waits_leaks_nothing(limits: Limits, let_in: bool) -> None:
    budget = Budget(limits)
    held = await budget.hold("a", 100, None)
    waiting = asyncio.create_task(budget.hold("a", 50, None))
    behind = asyncio.create_task(budget.hold("a", 60, None))
    await rounds()
    if let_in:
        budget.settle(held, 40, None)  # and in the same moment:
    waiting.cancel()
    if not let_in:
        budget.settle(held, 40, None)
    await rounds()
    assert waiting.cancelled()
    budget.release(await behind)
    budget.release(await budget.hold("a", 60, None))  # all that is left
    assert budget.spent.tokens == 40


async def test_when_the_one_that_waits_for_much_is_cancelled_the_next_one_goes_at_once() -> None:
    budget = Budget(Limits(tokens=100))
    await budget.hold("a", 60, None)
    much, little = asyncio.create_task(budget.hold("a", 90, None)), asyncio.create_task(budget.hold("a", 40, None))
    await rounds()
    assert not little.done()
    much.cancel()
    await rounds()
    assert little.done()


@pytest.mark.parametrize("end", ["cancelled", "turned away"])
async def test_a_call_that_the_run_does_not_let_in_leaves_nothing_in_its_leaf(end: str) -> None:
    budget = Budget(Limits(tokens=100, leaf_tokens=150))
    held = await budget.hold("b", 100, None)
    waiting = asyncio.create_task(budget.hold("a", 100, None))
    await rounds()
    if end == "cancelled":
        waiting.cancel()
        await rounds()
        budget.release(held)
        async with asyncio.timeout(10):
            budget.release(await budget.hold("a", 100, None))
    else:
        budget.settle(held, 10, None)
        with pytest.raises(BudgetSpent):
            await waiting
        async with asyncio.timeout(10):
            with pytest.raises(BudgetSpent):
                await budget.hold("a", 100, None)


# -- money


async def test_what_is_set_aside_in_money_counts_too() -> None:
    budget = Budget(Limits(money=1.0))
    held = await budget.hold("a", 1, 0.75)
    waiting = asyncio.create_task(budget.hold("b", 1, 0.5))
    await rounds()
    assert not waiting.done()
    budget.settle(held, 1, 0.25)
    budget.settle(await waiting, 1, 0.5)
    assert budget.spent.money == 0.75


async def test_what_a_server_did_not_count_is_taken_to_be_all_that_was_set_aside() -> None:
    budget = Budget(Limits(tokens=1000, money=1.0))
    budget.settle(await budget.hold("a", 300, 0.25), None, None)
    assert budget.spent == budget.spent_on("a") == Spent(300, 0.25)


async def test_money_that_is_unknown_is_never_0() -> None:
    budget = Budget(Limits(), earlier={"a": Spent(10, 0.5), "b": Spent(10, 0.25)})
    assert budget.spent == Spent(20, 0.75)
    budget.settle(await budget.hold("b", 100, None), 10, None)
    assert (budget.spent, budget.spent_on("a"), budget.spent_on("b")) == (Spent(30, None), Spent(10, 0.5), Spent(20, None))


async def test_a_limit_of_money_needs_prices_and_a_known_past() -> None:
    with pytest.raises(ValueError, match="without a price"):
        await Budget(Limits(money=1.0)).hold("a", 10, None)
    with pytest.raises(RecipeError, match=r"limits\.leaf_money cannot be kept: .* leaf 'a' is not known in EUR"):
        Budget(Limits(leaf_money=1.0), "EUR", {"a": Spent(10, None)})


async def test_a_limit_of_money_can_be_used_up_in_small_sums() -> None:
    budget = Budget(Limits(money=0.3))
    for _ in range(3):  # 0.1 + 0.1 + 0.1 is a little more than 0.3
        budget.settle(await budget.hold("a", 1, 0.1), 1, 0.1)
    with pytest.raises(BudgetSpent):
        await budget.hold("a", 1, 0.001)


async def test_a_call_that_costs_nothing_is_made_when_the_money_is_used_up() -> None:
    budget = Budget(Limits(money=1.0), earlier={"a": Spent(10, 1.0)})
    budget.settle(await budget.hold("a", 10, 0.0), 10, 0.0)
    assert budget.over("a") is None


# -- the law

CALLS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.integers(0, 50),  # tokens it may take
        st.floats(0, 1),  # the share of them that it takes
        st.integers(0, 5),  # turns of the loop that it lasts
        st.none() | st.integers(0, 12),  # turns until it is cancelled
    ),
    max_size=30,
)


@settings(max_examples=200, deadline=None)
@given(CALLS, st.none() | st.integers(1, 400), st.none() | st.integers(1, 200), st.none() | st.floats(0.01, 4))
def test_no_limit_is_ever_passed_and_each_call_is_made_or_turned_away(
    calls: list[Any], tokens: int | None, leaf_tokens: int | None, money: float | None
) -> None:
    limits = Limits(tokens=tokens, leaf_tokens=leaf_tokens, money=money)

    async def call(budget: Budget, leaf: str, may: int, share: float, lasts: int) -> int:
        try:
            hold = await budget.hold(leaf, may, may / 100)
        except BudgetSpent:
            return 0 if budget.over(leaf) else -1
        took = 0
        try:
            for _ in range(lasts):
                await asyncio.sleep(0)
            took = int(share * may)
            return took
        finally:
            budget.settle(hold, took, took / 100) if took else budget.release(hold)

    async def main() -> None:
        budget = Budget(limits)
        tasks = [asyncio.create_task(call(budget, *one)) for *one, _ in calls]
        ends = [end for *_, end in calls]
        for turn in range(13):
            for task, end in zip(tasks, ends, strict=True):
                if end == turn:
                    task.cancel()
            await asyncio.sleep(0)
        async with asyncio.timeout(20):  # a deadlock
            took = await asyncio.gather(*tasks, return_exceptions=True)
        done = [(one[0], number) for one, number in zip(calls, took, strict=True) if isinstance(number, int)]
        assert all(isinstance(one, asyncio.CancelledError) or (isinstance(one, int) and one >= 0) for one in took)
        assert budget.spent.tokens >= sum(number for _, number in done)
        assert budget.spent.tokens <= (tokens or 10**9)
        assert (budget.spent.money or 0.0) <= (money or 10**9) * (1 + 1e-8)
        assert all(budget.spent_on(leaf).tokens <= (leaf_tokens or 10**9) for leaf in "abc")
        if budget.over("d") is None and tokens is not None and budget.spent.tokens < tokens and money is None:
            rest = tokens - budget.spent.tokens  # nothing leaked: all that is left can be held at once
            if leaf_tokens is None or rest <= leaf_tokens:
                budget.release(await asyncio.wait_for(budget.hold("d", rest, rest / 100), 20))

    asyncio.run(main())
