"""The micro-batcher: who rides together must not matter, and one asker's misfortune stays its own."""

import asyncio
import threading

import pytest

from filters.batcher import Batcher


async def test_every_asker_gets_its_own_result_whatever_the_batch_size():
    texts = ["x" * (i * 7 % 23) + str(i) for i in range(60)]
    for size in (1, 2, 7, 64):
        async with Batcher(lambda items: [item.upper() for item in items], size=size, max_cost=100) as batcher:
            assert await asyncio.gather(*map(batcher.ask, texts)) == [text.upper() for text in texts]


async def test_what_is_asked_in_one_tick_rides_together_within_the_caps():
    batches: list[list[str]] = []

    def work(items: list[str]) -> list[int]:
        batches.append(items)
        return [len(item) for item in items]

    async with Batcher(work, size=3, max_cost=10) as batcher:
        await asyncio.gather(*(batcher.ask("x" * n) for n in (4, 20, 1, 5, 4, 2, 1)))
    # 4 takes its twin and not 5 (3 x 5 > 10); 20 is over the cap and goes alone; each batch starts at the oldest left
    assert [sorted(map(len, batch)) for batch in batches] == [[4, 4], [20], [1, 1, 2], [5]]


async def test_the_batch_is_the_oldest_item_and_those_nearest_to_it_in_length():
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    async with Batcher(work, size=2, cost=float) as batcher:
        await asyncio.gather(*map(batcher.ask, [50, 1, 2, 49]))
    assert batches == [[50, 49], [1, 2]]


async def test_where_nothing_is_padded_batches_are_in_order_of_arrival_and_cost_their_sum():
    batches: list[list[int]] = []

    def work(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    async with Batcher(work, size=3, max_cost=60, cost=float, padded=False) as batcher:
        await asyncio.gather(*map(batcher.ask, [50, 1, 9, 2, 70, 3, 4, 5, 6]))
    assert batches == [[50, 1, 9], [2], [70], [3, 4, 5], [6]]


async def test_a_failing_batch_reaches_all_of_its_askers_and_no_other():
    def work(items: list[str]) -> list[str]:
        if "bad" in items:
            raise ValueError("a bad item")
        return items

    async with Batcher(work, size=2, cost=lambda item: 1) as batcher:
        results = await asyncio.gather(*map(batcher.ask, ["bad", "unlucky", "fine", "well"]), return_exceptions=True)
        assert [str(result) for result in results] == ["a bad item", "a bad item", "fine", "well"]
        assert await batcher.ask("again") == "again"


async def test_a_cancelled_asker_neither_hangs_nor_takes_the_others_along():
    going, seen = threading.Event(), []

    def work(items: list[str]) -> list[str]:
        going.wait(5)
        seen.extend(items)
        return items

    async with Batcher(work, size=1) as batcher:
        first, second, third = (asyncio.create_task(batcher.ask(name)) for name in ("first", "second", "third"))
        await asyncio.sleep(0.01)
        first.cancel()  # while its batch runs
        second.cancel()  # while it waits in the queue
        await asyncio.sleep(0)
        going.set()
        assert await asyncio.wait_for(third, 5) == "third"
    assert seen == ["first", "third"]


async def test_the_event_loop_stays_free_and_all_work_is_done_in_one_thread():
    gate, threads = threading.Event(), set()

    def work(items: list[str]) -> list[str]:
        gate.wait(5)
        threads.add(threading.current_thread().name)
        return items

    async with Batcher(work, size=1, name="scorer") as batcher:
        asked = asyncio.gather(batcher.ask("a"), batcher.ask("b"))
        await asyncio.sleep(0.01)
        gate.set()  # could not happen if work held the loop
        await asked
    assert threads == {"scorer_0"}


async def test_closing_answers_what_is_queued_and_then_refuses():
    batcher = Batcher(lambda items: items, size=1)
    asked = [asyncio.create_task(batcher.ask(str(i))) for i in range(5)]
    await asyncio.sleep(0)
    await batcher.aclose()
    assert await asyncio.gather(*asked) == list("01234")
    with pytest.raises(RuntimeError, match="closed"):
        await batcher.ask("late")


@pytest.mark.parametrize("work", [lambda items: [], lambda items: next(iter(()))])
async def test_work_that_loses_results_or_stops_iterating_is_an_error_and_not_a_hang(work):
    async with Batcher(work, size=4) as batcher:
        with pytest.raises((ValueError, RuntimeError), match="the work of a batcher"):
            await asyncio.wait_for(batcher.ask("a"), 5)
