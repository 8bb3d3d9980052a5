"""Slots: a bound on what is under way, and the leaf furthest behind first."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from graphs.slots import Slots


@dataclass(eq=False)
class Job:
    """A leaf that takes slots until it has started `wants`, and works a while in each."""

    name: str
    wants: int
    quota: int
    log: list[str]
    at_once: int = 99
    pace: float = 0.0
    under_way: int = 0
    done: int = 0
    over: bool = False
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def progress(self) -> float:
        return (self.done + self.under_way) / self.quota

    @property
    def is_over(self) -> bool:
        return self.over or self.done >= self.wants

    @property
    def is_hungry(self) -> bool:
        return self.under_way < self.at_once

    async def run(self, slots: Slots) -> None:
        for _ in range(self.wants):
            if not await slots.take(self):
                break
            self.under_way += 1
            self.log.append(self.name)
            task = asyncio.create_task(self.work(slots))
            self.tasks.add(task)
        await asyncio.gather(*self.tasks)

    async def work(self, slots: Slots) -> None:
        await asyncio.sleep(self.pace)
        self.under_way -= 1
        self.done += 1
        slots.give_back()


async def test_no_more_are_under_way_than_there_are_slots() -> None:
    slots, log = Slots(3), list[str]()
    jobs = [Job(name, 20, 20, log, pace=0.001) for name in "ab"]
    peak = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, sum(job.under_way for job in jobs))
            await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.wait_for(asyncio.gather(*(job.run(slots) for job in jobs)), 10)
    watching.cancel()
    assert (peak, slots._free, len(log)) == (3, 3, 40)


async def test_two_equal_leaves_take_turns() -> None:
    slots, log = Slots(2), list[str]()
    await asyncio.gather(*(Job(name, 30, 30, log, pace=0.001).run(slots) for name in "ab"))
    first = log[:30]
    assert abs(first.count("a") - first.count("b")) <= 2, "".join(log)


async def test_the_leaf_furthest_behind_goes_first() -> None:
    slots, log = Slots(1), list[str]()
    ahead, behind = Job("ahead", 6, 10, log, pace=0.001), Job("behind", 6, 10, log, pace=0.001)
    ahead.done, ahead.wants = 4, 10
    await asyncio.gather(ahead.run(slots), behind.run(slots))
    assert log[1:5] == ["behind"] * 4, log  # the very first came when nobody else had asked


async def test_a_leaf_that_is_not_hungry_leaves_its_turn_to_others() -> None:
    slots, log = Slots(4), list[str]()
    modest, other = Job("modest", 4, 100, log, at_once=1, pace=0.01), Job("other", 12, 12, log, pace=0.001)
    await asyncio.wait_for(asyncio.gather(modest.run(slots), other.run(slots)), 5)
    assert log.index("modest", 1) > log.index("other")
    assert log[:8].count("modest") <= 2


async def test_a_leaf_that_is_over_is_told_so_and_takes_no_slot() -> None:
    slots, job = Slots(1), Job("a", 1, 1, [])
    assert await slots.take(job)
    job.under_way = 1
    waiting = asyncio.create_task(slots.take(job))
    await asyncio.sleep(0)
    assert not waiting.done()
    job.over = True
    slots.look()
    assert await waiting is False
    slots.give_back()
    assert slots._free == 1


async def test_who_is_cancelled_in_the_queue_takes_no_slot_with_him() -> None:
    slots, jobs = Slots(1), [Job(name, 1, 1, []) for name in "abc"]
    await slots.take(jobs[0])
    first, second = (asyncio.create_task(slots.take(job)) for job in jobs[1:])
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    slots.give_back()
    assert await asyncio.wait_for(second, 5)


async def test_nobody_starves_and_no_slot_is_lost_under_random_loads() -> None:
    for seed in range(20):
        rng, log = random.Random(seed), list[str]()
        slots = Slots(rng.randint(1, 4))
        free = slots._free
        jobs = [
            Job(name, rng.randint(1, 12), rng.randint(1, 12), log, at_once=rng.randint(1, 5), pace=rng.random() / 1000) for name in "abcd"
        ]
        await asyncio.wait_for(asyncio.gather(*(job.run(slots) for job in jobs)), 10)
        assert slots._free == free
        assert [job.done for job in jobs] == [job.wants for job in jobs]
