"""An alias: what is tried again and how often, what a storm costs, and several endpoints behind one name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from conftest import alias

from agents.models.alias import Alias
from agents.models.endpoint import Asked, Completion
from agents.scripted import Fault, FaultKind, Reply, ScriptedServer
from leafmill import errors
from leafmill.recipe import Timeouts

PARAMS = {"max_tokens": 50, "seed": 3}


@asynccontextmanager
async def speaking(**settings: Any) -> AsyncIterator[Alias]:
    one: Alias = alias({"model": "m", "attempts": 2, "patience": 1, "timeout": 5, **settings})
    try:
        yield one
    finally:
        await one.aclose()


async def ask(one: Alias, text: str = "Say it.", timeouts: Timeouts | None = None) -> Completion:
    return await one.complete(Asked([{"role": "user", "content": text}], PARAMS, None, "writer", timeouts or one.model.timeout, tokens=80))


async def ask_many(one: Alias, number: int) -> list[Completion]:
    return await asyncio.gather(*(ask(one, f"Say number {n}.") for n in range(number)))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(script=lambda request: "Said.") as one:
        yield one


# -- storms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["429", "503"])
async def test_refusals_of_whoever_asks_use_up_patience_and_no_attempts(server: ScriptedServer, kind: FaultKind) -> None:
    server.faults = [Fault(kind, times=4, retry_after=0.05)]
    async with speaking(base_url=server.base_url, attempts=1, patience=30) as one:
        done = await ask(one)
    assert (done.text, done.attempts) == ("Said.", 5)


async def test_an_endpoint_that_refuses_everybody_for_longer_than_patience_stops_the_run(server: ScriptedServer) -> None:
    server.faults = [Fault("429")]
    async with speaking(base_url=server.base_url, patience=0.5) as one:
        with pytest.raises(errors.EndpointError, match=r"refused for its rate.*`patience` is 0\.5"):
            await ask(one)


async def test_a_call_that_alone_is_refused_while_others_are_answered_fails_alone(server: ScriptedServer) -> None:
    server.script = lambda request: Reply("Request too large.", status=429) if "large" in request.prompt else "Said."
    async with speaking(base_url=server.base_url, patience=0.6, concurrency=4) as one:
        large = asyncio.create_task(ask(one, "A large one."))
        while not large.done():
            await ask(one)
            await asyncio.sleep(0.02)
    with pytest.raises(errors.ServerFaultError, match="Request too large"):
        await large


async def test_a_wait_longer_than_patience_is_not_waited_for(server: ScriptedServer) -> None:
    server.faults = [Fault("429", retry_after=3600)]
    async with speaking(base_url=server.base_url, patience=30) as one:
        began = time.monotonic()
        with pytest.raises(errors.EndpointError, match="asks to wait 3600 s"):
            await ask(one)
    assert time.monotonic() - began < 20
    assert server.count() == 1


async def test_a_server_that_went_down_is_waited_for_and_one_that_never_was_there_is_not(server: ScriptedServer) -> None:
    async with speaking(base_url=server.base_url, attempts=1, patience=30) as one:
        await ask(one)
        await server.__aexit__()
        waiting = asyncio.create_task(ask(one, "Again."))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        port = int(server.base_url.split(":")[2].split("/")[0])
        async with ScriptedServer(script=lambda request: "Back.", port=port):
            assert (await asyncio.wait_for(waiting, 20)).text == "Back."
    async with speaking(base_url="http://127.0.0.1:9/v1", patience=30) as one:
        with pytest.raises(errors.EndpointDownError, match="cannot be reached"):
            await asyncio.wait_for(ask(one), 20)


# -- several endpoints ---------------------------------------------------------------------------------------------------


@asynccontextmanager
async def two(**settings: Any) -> AsyncIterator[tuple[ScriptedServer, ScriptedServer, Alias]]:
    """An alias of two endpoints; the second bears twice the weight, and calls the model by another name."""
    async with ScriptedServer(script=lambda request: "First.") as first, ScriptedServer(script=lambda request: "Second.") as second:
        places = [{"base_url": first.base_url}, {"base_url": second.base_url, "model": "its-own-name", "weight": 2.0}]
        async with speaking(endpoints=places, concurrency=30, **settings) as one:
            yield first, second, one


async def test_calls_are_shared_out_by_weight_and_each_endpoint_is_asked_for_its_own_name() -> None:
    async with two() as (first, second, one):
        replies = await ask_many(one, 30)
        for number in range(30):
            replies.append(await ask(one, f"One at a time, {number}."))
    assert (first.count(), second.count()) == (20, 40)
    assert {record.model for record in first.requests} == {"m"}
    assert {record.model for record in second.requests} == {"its-own-name"}
    assert {reply.base_url: reply.text for reply in replies} == {first.base_url: "First.", second.base_url: "Second."}


@pytest.mark.parametrize("fault", [Fault("429"), Fault("503")])
async def test_one_that_fails_is_rested_and_the_others_go_on(fault: Fault) -> None:
    async with two(patience=0.2) as (first, second, one):
        first.faults = [fault]
        for number in range(20):
            assert (await ask(one, f"Say number {number}.")).text == "Second."
        assert first.count() == 1
        assert second.count() == 20


async def test_one_with_a_wrong_key_or_that_is_down_does_not_stop_the_run_while_another_works() -> None:
    async with ScriptedServer(script=lambda request: "Said.") as good, ScriptedServer(api_key="right") as locked:
        places = [{"base_url": url} for url in (locked.base_url, "http://127.0.0.1:9/v1", good.base_url)]
        async with speaking(endpoints=places) as one:
            assert {reply.text for reply in await ask_many(one, 10)} == {"Said."}
        assert locked.count() < 10


async def test_when_all_of_them_fail_the_run_stops_with_the_reason() -> None:
    async with ScriptedServer(api_key="right") as first, ScriptedServer(api_key="right") as second:
        async with speaking(endpoints=[{"base_url": first.base_url}, {"base_url": second.base_url}]) as one:
            with pytest.raises(errors.WrongKeyError):
                await ask(one)
        assert first.count() + second.count() == 2


async def test_one_that_was_rested_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.models.alias.REST", 0.2)
    async with two() as (first, second, one):
        first.faults = [Fault("503", times=1)]
        await ask(one)
        first.faults = []
        await asyncio.sleep(0.4)
        replies = await ask_many(one, 6)
    assert {reply.text for reply in replies} == {"First.", "Second."}
    assert second.count() < 7


# -- timeouts ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("timeouts", "said"),
    [(Timeouts(total=0.3), r"no reply within 0\.3 s"), (Timeouts(first_byte=0.3), r"no first byte within 0\.3 s")],
)
async def test_a_call_waits_as_long_as_it_was_told(server: ScriptedServer, timeouts: Timeouts, said: str) -> None:
    server.faults = [Fault("hang")]
    async with speaking(base_url=server.base_url, attempts=1) as one:
        with pytest.raises(errors.TimeoutCallError, match=said):
            await ask(one, timeouts=timeouts)


async def test_a_host_that_does_not_answer_at_all_is_down() -> None:
    async with speaking(base_url="http://192.0.2.1:81/v1", attempts=1, timeout={"connect": 0.2}) as one:
        with pytest.raises(errors.EndpointDownError, match="cannot be reached"):
            await ask(one)
