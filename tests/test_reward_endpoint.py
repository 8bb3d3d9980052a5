"""A reward model behind a server: one number for a conversation, or an error that says what came instead."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from filters.scoring.reward_endpoint import RewardEndpoint
from leafmill.errors import EndpointDownError, InputError, LeafmillError, ReplyError, UnknownModelError, WrongKeyError
from leafmill.records import Turn


@asynccontextmanager
async def served(answer: Callable[[dict[str, Any]], web.Response]) -> AsyncIterator[tuple[RewardEndpoint, list[dict[str, Any]]]]:
    asked: list[dict[str, Any]] = []

    async def pooling(request: web.Request) -> web.Response:
        asked.append({**await request.json(), "key": request.headers.get("Authorization")})
        return answer(asked[-1])

    app = web.Application()
    app.router.add_post("/pooling", pooling)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with RewardEndpoint(f"http://127.0.0.1:{port}/v1", "sesame") as model:
            yield model, asked
    finally:
        await runner.cleanup()


def data(value: Any) -> web.Response:
    return web.json_response({"data": [{"index": 0, "data": value}]})


@pytest.mark.parametrize("value", [-1.5, [-1.5], [[-1.5]]])
async def test_the_number_is_read_however_deep_it_lies(value: Any) -> None:
    async with served(lambda asked: data(value)) as (model, asked):
        reward = await model.score((Turn(role="system", content="Be brief."), Turn(role="user", content="写一首诗")), "海阔天空")
    assert (reward.value, reward.state, reward.code) == (-1.5, "scored", "")
    assert [turn["role"] for turn in asked[0]["messages"]] == ["system", "user", "assistant"]
    assert asked[0]["key"] == "Bearer sesame"
    assert "sesame" not in model.id


@pytest.mark.parametrize("value", [[0.1, 0.9], [], "high", [True]])
async def test_anything_but_one_number_is_unreadable(value: Any) -> None:
    async with served(lambda asked: data(value)) as (model, _):
        with pytest.raises(ReplyError, match=r"expected one number in data\[0\]\.data"):
            await model.score("q", "a")


async def test_a_number_that_is_not_finite_and_an_empty_answer_are_states() -> None:
    async with served(lambda asked: web.Response(text='{"data": [{"data": NaN}]}')) as (model, asked):
        assert (await model.score("q", "a")).code == "reward.not_finite"
        assert (await model.score("q", "  ")).code == "reward.empty_answer"
    assert len(asked) == 1


async def test_a_busy_server_is_asked_again() -> None:
    replies = iter([web.Response(status=503), web.Response(status=429), data([2.0])])
    async with served(lambda asked: next(replies)) as (model, asked):
        assert (await model.score("q", "a")).value == 2.0
    assert len(asked) == 3


@pytest.mark.parametrize(("status", "error"), [(401, WrongKeyError), (404, UnknownModelError)])
async def test_what_no_call_can_mend_is_not_tried_again(status: int, error: type[LeafmillError]) -> None:
    async with served(lambda asked: web.Response(status=status)) as (model, asked):
        with pytest.raises(error):
            await model.score("q", "a")
    assert len(asked) == 1


async def test_a_server_that_is_not_there_and_an_address_that_is_none() -> None:
    async with RewardEndpoint("http://127.0.0.1:9") as model:
        with pytest.raises(EndpointDownError):
            await model.score("q", "a")
    with pytest.raises(InputError, match="expected http"):
        RewardEndpoint("localhost:8000")
