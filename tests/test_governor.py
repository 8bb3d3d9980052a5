"""The governor: places, what refusals do to their limit, rests, rates. Its time is the loop's, which jumps from timer to timer."""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.models.governor import Governor, Place, seconds


class Hurry(selectors.DefaultSelector):
    """Waits for nothing: the time that a loop would sleep is added to `now`."""

    now = 0.0

    def select(self, timeout: float | None = None) -> Any:
        assert timeout is not None, "everybody waits, and no timer is set"
        self.now += max(timeout, 0.0)
        return super().select(0)


def run(main: Callable[[Callable[[], float]], Coroutine[Any, Any, None]]) -> None:
    """Run `main(clock)` in a loop without waiting."""
    selector = Hurry()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(main(loop.time))
    finally:
        loop.close()


async def rounds() -> None:
    """Let everybody who can run do so."""
    for _ in range(4):
        await asyncio.sleep(0)


def storm(governor: Governor, places: list[Place], wait: float | None = None) -> None:
    for place in places:
        governor.refused(place, wait)
        governor.leave(place)


async def fill(governor: Governor) -> list[Place]:
    """A round of calls: as many as the limit allows, from when the lane is open again."""
    return [await governor.enter() for _ in range(governor.limit)]


# -- places


def test_no_more_calls_than_places_are_let_in_and_the_others_follow_in_their_order() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor, order = Governor(2, clock=clock), []

        async def call(number: int) -> None:
            place = await governor.enter()
            order.append(number)
            await asyncio.sleep(1)
            governor.leave(place)

        calls = [asyncio.create_task(call(number)) for number in range(6)]
        await rounds()
        assert (order, governor.in_flight, governor.waiting) == ([0, 1], 2, 4)
        await asyncio.gather(*calls)
        assert (order, governor.in_flight, governor.waiting, clock()) == ([*range(6)], 0, 0, 3.0)

    run(main)


def test_who_comes_while_others_wait_does_not_overtake_them() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(1, clock=clock)
        place = await governor.enter()
        first = asyncio.create_task(governor.enter())
        await rounds()
        governor.leave(place)  # the place is the first one's now, though it has not run yet
        second = asyncio.create_task(governor.enter())
        await rounds()
        assert (first.done(), second.done()) == (True, False)
        second.cancel()

    run(main)


def test_a_small_call_does_not_overtake_a_large_one_that_the_rate_holds_back() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(8, tpm=100, clock=clock)
        await governor.enter(60)
        large, small = asyncio.create_task(governor.enter(90)), asyncio.create_task(governor.enter(10))
        await rounds()
        assert not small.done()
        large.cancel()
        await rounds()
        assert small.done()

    run(main)


@pytest.mark.parametrize("let_in", [False, True])
def test_a_call_that_is_cancelled_while_it_waits_leaks_no_place(let_in: bool) -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(1, clock=clock)
        place = await governor.enter()
        waiting, behind = asyncio.create_task(governor.enter()), asyncio.create_task(governor.enter())
        await rounds()
        if let_in:
            governor.leave(place)  # and in the same moment:
        waiting.cancel()
        if not let_in:
            governor.leave(place)
        await rounds()
        assert waiting.cancelled()
        assert behind.done()
        assert (governor.in_flight, governor.waiting) == (1, 0)

    run(main)


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel", "refuse", "answer", "rest", "pass"]), st.integers(0, 30)), max_size=60
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(1, 5), st.none() | st.integers(1, 6), st.none() | st.integers(1, 100))
def test_whatever_happens_nobody_enters_above_the_limit_and_no_place_is_lost(
    steps: list[tuple[str, int]], most: int, rpm: int | None, tpm: int | None
) -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(most, rpm, tpm, clock)
        tasks: list[asyncio.Task[Place]] = []
        for step, number in steps:
            inside = [task for task in tasks if task.done() and not task.cancelled()]
            before = governor.in_flight
            assert before == len(inside)
            one = inside[number % len(inside)] if inside else None
            match step:
                case "enter":
                    tasks.append(asyncio.create_task(governor.enter(number)))
                case "cancel" if tasks:
                    tasks[number % len(tasks)].cancel()
                case "rest":
                    governor.rest(number)
                case "pass":
                    await asyncio.sleep(number)
                case _ if one:
                    if step == "refuse":
                        governor.refused(one.result(), number / 10)
                    elif step == "answer":
                        governor.answered(one.result(), {})
                    governor.leave(one.result(), number)
                    tasks.remove(one)
                    before -= 1
            await rounds()
            assert 1 <= governor.limit <= most
            assert governor.in_flight <= max(governor.limit, before)
            assert governor.waiting == sum(not task.done() for task in tasks)
        while tasks:  # in the end everybody who was not cancelled gets in
            place = await tasks.pop(0) if not tasks[0].cancelled() else tasks.pop(0)
            if isinstance(place, Place):
                governor.leave(place)
        assert (governor.in_flight, governor.waiting, governor._timer) == (0, 0, None)

    run(main)


# -- refusals


@pytest.mark.parametrize("most", [4, 8, 64])
def test_five_random_refusals_in_a_hundred_leave_the_limit_near_the_most(most: int) -> None:
    async def main(clock: Callable[[], float]) -> None:
        dice, governor, limits = random.Random(7), Governor(most, clock=clock), []
        for _ in range(3000 // most):
            for place in await fill(governor):
                if dice.random() < 0.05:
                    governor.refused(place, 1.0)
                else:
                    governor.answered(place, {})
                governor.leave(place)
                limits.append(governor.limit)
            await asyncio.sleep(0.2)
        assert sum(limits) / len(limits) > 0.95 * most
        assert governor._era <= 2
        assert max(limits) == most

    run(main)


def test_one_burst_of_refusals_cuts_the_limit_once_and_rests_for_the_longest_wait_asked_for() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(64, clock=clock)
        for number, place in enumerate(await fill(governor)):
            governor.refused(place, 30.0 if number == 40 else 2.0)
            governor.leave(place)
        assert (governor.limit, governor.resting, governor.refusals) == (32, 30.0, 64)
        assert len(await fill(governor)) == 32
        assert clock() == pytest.approx(30.0)

    run(main)


def test_the_good_replies_to_calls_from_before_a_cut_do_not_raise_the_limit_again() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(64, clock=clock)
        places = await fill(governor)
        storm(governor, places[:17], wait=7.0)
        assert (governor.limit, governor.resting) == (32, 7.0)
        for place in places[17:]:
            governor.answered(place, {})
        assert governor.limit == 32

    run(main)


def test_a_storm_ends_at_one_call_at_a_time_which_probes_after_each_rest_and_all_comes_back_after_it() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor, sent = Governor(64, clock=clock), 0
        for place in await fill(governor):  # in good weather
            governor.answered(place, {})
            governor.leave(place)
        while clock() < 30:
            places = await fill(governor)
            sent += len(places)
            storm(governor, places, wait=1.0)
        assert governor.limit == 1
        assert sent <= 64 + 32 + 16 + 8 + 4 + 2 + 30
        seen = []
        while governor.limit < 64:
            for place in await fill(governor):
                governor.answered(place, {})
                governor.leave(place)
            seen.append(governor.limit)
        assert seen == [2, 4, 8, 16, 32, 64]

    run(main)


def test_without_a_word_how_long_to_wait_the_rests_of_a_storm_grow() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor, rests = Governor(8, clock=clock), []
        while len(rests) < 10:
            storm(governor, await fill(governor))
            if governor.resting:
                rests.append(governor.resting)
                await asyncio.sleep(governor.resting)
        assert 0.25 <= rests[0] <= 0.5
        assert 5.0 <= rests[-1] <= 10.0
        governor._cuts = 5000  # days of it
        storm(governor, await fill(governor))
        assert governor.resting <= 10.0

    run(main)


def test_a_server_that_takes_fewer_calls_is_found_out_and_then_approached_one_by_one() -> None:
    """It takes 10 at a time, and refuses the rest at once."""

    async def main(clock: Callable[[], float]) -> None:
        governor, busy, sent, refused, tops = Governor(64, clock=clock), 0, 0, 0, []

        async def caller() -> None:
            nonlocal busy, sent, refused
            while clock() < 300:
                place = await governor.enter()
                sent += 1
                if busy >= 10:
                    refused += 1
                    await asyncio.sleep(0.01)
                    governor.refused(place)
                    governor.leave(place)
                    await asyncio.sleep(0.5)
                    continue
                busy += 1
                await asyncio.sleep(1)
                busy -= 1
                governor.answered(place, {})
                governor.leave(place)
                tops.append(governor.limit)

        await asyncio.gather(*(caller() for _ in range(64)))
        assert sent - refused > 0.7 * 10 * 300
        assert refused < 0.25 * sent
        assert max(tops[len(tops) // 2 :]) < 32

    run(main)


def test_above_its_goal_the_limit_grows_by_one_for_each_round() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(32, clock=clock)
        places = await fill(governor)
        for place in places[:20]:
            governor.answered(place, {})
        for place in places[20:]:
            governor.refused(place, 1.0)
        for place in places:
            governor.leave(place)
        seen = [governor.limit]
        for _ in range(3):
            for place in await fill(governor):
                governor.answered(place, {})
                governor.leave(place)
            seen.append(governor.limit)
        assert seen == [16, 17, 18, 19]

    run(main)


# -- rests


def test_a_resting_lane_lets_nobody_in_and_a_shorter_rest_does_not_end_a_longer_one() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(4, clock=clock)
        assert governor.resting == 0.0
        governor.rest(5)
        waiting = asyncio.create_task(governor.enter())
        await asyncio.sleep(2)
        governor.rest(7)
        governor.rest(1)
        assert governor.resting == 7.0
        governor.leave(await waiting)
        assert clock() == pytest.approx(9.0)

    run(main)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1s", 1.0),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3s", 3723.0),
        ("2m59.56s", 179.56),
        ("1m", 60.0),
        ("20h", 72000.0),
        ("7.66s", 7.66),
        (" 17 ", 17.0),
        ("0.5", 0.5),
        ("0s", 0.0),
        ("1s2m", None),
        ("soon", None),
        ("", None),
        ("-1", None),
        ("nan", None),
        ("2026-01-27T12:00:00Z", None),
        ("1769515200", None),
        ("三秒", None),
    ],
)
def test_durations_are_read_in_every_form_of_the_headers_and_the_rest_is_ignored(text: str, expected: float | None) -> None:
    assert seconds(text) == (expected if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("headers", "rest"),
    [
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360.0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "120ms"}, 0.12),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "soon"}, 0.0),
        ({"x-ratelimit-remaining-tokens": "0"}, 0.0),
        ({"x-ratelimit-remaining-requests": "12", "x-ratelimit-reset-requests": "1s"}, 0.0),
        ({"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "1s"}, 0.0),
        ({}, 0.0),
    ],
)
def test_when_nothing_remains_the_lane_rests_until_the_reset(headers: dict[str, str], rest: float) -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(4, clock=clock)
        governor.answered(await governor.enter(), headers)
        assert governor.resting == pytest.approx(rest)

    run(main)


async def test_a_rest_ends_by_the_clock_of_the_machine_too() -> None:
    governor = Governor(1)
    governor.rest(0.02)
    governor.leave(await asyncio.wait_for(governor.enter(), 10))
    assert governor.resting == 0.0


# -- rates


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(10, 200), st.lists(st.tuples(st.integers(0, 40), st.integers(0, 60)), min_size=1, max_size=40))
def test_in_no_minute_are_there_more_calls_or_tokens_than_the_rates_allow(rpm: int, tpm: int, calls: list[tuple[int, int]]) -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor, entered = Governor(5, rpm, tpm, clock), []

        async def call(tokens: int, pause: int) -> None:
            place = await governor.enter(tokens)
            entered.append((clock(), tokens))
            await asyncio.sleep(pause / 10)
            governor.leave(place)
            assert len(governor._minute) <= rpm

        tasks = []
        for tokens, pause in calls:
            await asyncio.sleep(pause)
            tasks.append(asyncio.create_task(call(tokens, pause)))
        await asyncio.gather(*tasks)
        for first, _ in entered:
            minute = [tokens for at, tokens in entered if first <= at < first + 60 - 1e-6]
            assert len(minute) <= rpm
            assert sum(minute) <= tpm or len(minute) == 1

    run(main)


def test_a_rate_is_used_to_the_full() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(100, rpm=10, clock=clock)
        for _ in range(31):
            governor.leave(await governor.enter())
        assert clock() == pytest.approx(180.0)

    run(main)


def test_an_estimate_gives_way_to_what_was_counted() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor = Governor(10, tpm=100, clock=clock)
        dear, cheap = await governor.enter(50), await governor.enter(50)
        waiting = asyncio.create_task(governor.enter(30))
        await rounds()
        governor.leave(cheap, 20)
        await rounds()
        assert waiting.done()  # 50 + 20 + 30
        governor.leave(dear, 90)
        late = asyncio.create_task(governor.enter(1))
        await asyncio.sleep(59)
        assert not late.done()
        await late
        governor.leave(waiting.result(), 10)  # a count that comes when its minute is over changes nothing
        assert governor._minute_tokens == 1

    run(main)


def test_a_call_larger_than_the_rate_goes_alone_rather_than_never() -> None:
    async def main(clock: Callable[[], float]) -> None:
        governor, at = Governor(10, tpm=100, clock=clock), []
        for tokens in (30, 500, 30):
            governor.leave(await governor.enter(tokens))
            at.append(clock())
        assert at == pytest.approx([0.0, 60.0, 120.0])

    run(main)
