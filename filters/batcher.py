"""One device, many askers: gathers what is asked one by one into batches for a function that is faster on many.

    async with Batcher(encode_many, size=64, max_cost=16_384) as batcher:
        vector = await batcher.ask(text)          # from any number of coroutines of one event loop

Greedy: whenever the worker is free it takes what is queued, so there is no timer to tune and batches grow with the load by
themselves. The oldest item always goes, so nothing starves. With it go those nearest to it in length, so that little is lost to
padding; or, where nothing is padded, those that came next.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Sequence, Sized
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, NamedTuple, Self, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Waiter(NamedTuple):
    item: Any
    cost: float
    answer: asyncio.Future[Any]


class Batcher(Generic[Item, Result]):
    """Runs `work(items) -> results`, one result per item in the same order, in one thread of its own.

    A batch holds at most `size` items, and at most `max_cost` counted as the device pays for it: items times the dearest one where all
    are `padded` to its length, else their sum. An item dearer than `max_cost` goes alone. `cost` is the length of an item unless given.
    What `work` raises is raised to each asker of that batch and to nobody else. Belongs to one event loop at a time.
    """

    def __init__(
        self,
        work: Callable[[list[Item]], Sequence[Result]],
        *,
        size: int,
        max_cost: float | None = None,
        cost: Callable[[Item], float] | None = None,
        padded: bool = True,
        name: str = "batcher",
    ) -> None:
        if size < 1 or (max_cost is not None and max_cost <= 0):
            raise ValueError(f"a batch needs room for an item: size {size}, max_cost {max_cost}")
        self._work = work
        self._size = size
        self._max_cost = float("inf") if max_cost is None else max_cost
        self._cost = cost or _length
        self._padded = padded
        self._numbers = itertools.count()
        self._queue: dict[int, _Waiter] = {}  # in order of arrival
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._pump: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, item: Item) -> Result:
        """The result for `item`. An asker that is cancelled while it waits takes its item out of the queue."""
        if self._closed:
            raise RuntimeError("this batcher is closed")
        loop = asyncio.get_running_loop()
        number, waiter = next(self._numbers), _Waiter(item, self._cost(item), loop.create_future())
        self._queue[number] = waiter
        if self._pump is None or self._pump.done():
            self._pump = loop.create_task(self._drain())
        try:
            result: Result = await waiter.answer
            return result
        finally:
            self._queue.pop(number, None)

    async def aclose(self) -> None:
        """Answers what is queued, then lets the thread go. May be called twice."""
        self._closed = True
        if self._pump is not None:
            await asyncio.wait([self._pump])  # unlike a plain await, cancelling the closer does not cancel the work of others
        self._worker.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _drain(self) -> None:
        loop = asyncio.get_running_loop()
        while self._queue:
            batch = self._take()
            running = loop.run_in_executor(self._worker, self._run, [waiter.item for waiter in batch])
            await asyncio.wait([running])
            fault = running.exception()
            for i, waiter in enumerate(batch):
                if waiter.answer.done():
                    continue  # its asker was cancelled meanwhile
                if fault is None:
                    waiter.answer.set_result(running.result()[i])
                else:
                    waiter.answer.set_exception(fault)

    def _run(self, items: list[Item]) -> Sequence[Result]:
        try:
            results = self._work(items)
        except StopIteration as fault:  # no future can carry it: the askers would wait for ever
            raise RuntimeError("the work of a batcher raised StopIteration") from fault
        if len(results) != len(items):
            raise ValueError(f"the work of a batcher gave {len(results)} results for {len(items)} items")
        return results

    def _take(self) -> list[_Waiter]:
        batch: list[_Waiter] = []
        dearest = total = 0.0
        for number, waiter in self._nearest() if self._padded else list(itertools.islice(self._queue.items(), self._size)):
            dearest, total = max(dearest, waiter.cost), total + waiter.cost
            if batch and (dearest * (len(batch) + 1) if self._padded else total) > self._max_cost:
                break
            batch.append(self._queue.pop(number))
        return batch

    def _nearest(self) -> list[tuple[int, _Waiter]]:
        """The oldest item and those of like cost."""
        oldest = next(iter(self._queue.values()))
        return heapq.nsmallest(self._size, self._queue.items(), key=lambda pair: (abs(pair[1].cost - oldest.cost), pair[0]))


def _length(item: object) -> float:
    return len(item) if isinstance(item, Sized) else 1
