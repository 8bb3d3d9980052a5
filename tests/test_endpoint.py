"""An endpoint seen through real HTTP: its dialects, its retries, and what each fault means."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from conftest import alias

from agents.models.alias import Alias
from agents.models.endpoint import Asked, Completion
from agents.scripted import Fault, FaultKind, Reply, Request, ScriptedServer
from leafmill import errors

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}, "required": ["score"], "additionalProperties": False}
PARAMS = {"temperature": 0.5, "max_tokens": 50, "seed": 3}


def endpoint(base_url: str, **settings: Any) -> Alias:
    given = {"base_url": base_url, "model": "m", "attempts": 2, "patience": 1, "timeout": 5, **settings}
    return alias(given)


@asynccontextmanager
async def speaking(server: ScriptedServer, **settings: Any) -> AsyncIterator[Alias]:
    one = endpoint(server.base_url, **settings)
    try:
        yield one
    finally:
        await one.aclose()


async def ask(
    one: Alias, schema: Any = ("critic", SCHEMA), text: str = "Judge it.", params: Mapping[str, Any] = PARAMS, role: str = "critic"
) -> Completion:
    return await one.complete(Asked([{"role": "user", "content": text}], params, schema, role, one.model.timeout, tokens=100))


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer(script=lambda request: '{"score": 4}') as one:
        yield one


async def test_the_schema_the_parameters_and_the_role_are_sent(server: ScriptedServer) -> None:
    async with speaking(server, extra_body={"top_p": 0.9}) as one:
        done = await ask(one)
    (record,) = server.requests
    wanted = {"type": "json_schema", "json_schema": {"name": "critic", "strict": True, "schema": SCHEMA}}
    assert record.request.body["response_format"] == wanted
    assert {key: record.request.body[key] for key in ("model", "temperature", "max_tokens", "seed", "top_p")} == {
        "model": "m", "temperature": 0.5, "max_tokens": 50, "seed": 3, "top_p": 0.9,
    }  # fmt: skip
    assert record.request.headers["x-leafmill-role"] == "critic"
    assert (done.text, done.finish_reason, done.attempts) == ('{"score": 4}', "stop", 1)
    assert done.usage.total > done.usage.completion > 0


@pytest.mark.parametrize(("strongest", "tries"), [("json_schema", 1), ("json_object", 2), ("text", 3)])
async def test_auto_goes_down_to_what_the_server_takes_and_stays_there(strongest: Any, tries: int) -> None:
    async with ScriptedServer(structured=strongest) as server, speaking(server) as one:
        for _ in range(2):
            done = await ask(one)
        assert one.endpoints[0].format == strongest
        assert server.count() == tries + 1
        assert '"score"' in done.text
        assert [record.request.format for record in server.requests if record.status == 200] == [strongest] * 2


@pytest.mark.parametrize("strongest", ["json_object", "text"])
async def test_many_first_calls_at_once_learn_the_dialect_together(strongest: Any) -> None:
    async with ScriptedServer(structured=strongest, latency=0.05) as server, speaking(server, concurrency=12) as one:
        done = await asyncio.gather(*(ask(one, text=f"Judge number {number}.") for number in range(12)))
        assert one.endpoints[0].format == strongest
        assert all('"score"' in reply.text for reply in done)


async def test_a_dialect_that_is_asked_for_and_refused_stops_the_run() -> None:
    async with ScriptedServer(structured="text") as server, speaking(server, structured="json_schema") as one:
        with pytest.raises(errors.EndpointError, match="refuses 'response_format'"):
            await ask(one)
        assert server.count() == 1


def picky(*forbidden: str) -> Any:
    """A server that refuses some keys of the body."""

    def script(request: Request) -> Any:
        for key in forbidden:
            if key in request.body:
                return Reply(f"Unsupported parameter: '{key}' is not supported with this model.", status=400, code="unsupported_parameter")
        return '{"score": 4}'

    return script


async def test_max_tokens_becomes_max_completion_tokens_and_a_refused_seed_is_left_out(server: ScriptedServer) -> None:
    server.script, server.latency = picky("max_tokens", "seed"), 0.02
    async with speaking(server, concurrency=6) as one:
        await asyncio.gather(*(ask(one, text=f"Judge {number}.") for number in range(6)))
        await ask(one)
    last = server.requests[-1].request.body
    assert last["max_completion_tokens"] == 50
    assert "max_tokens" not in last
    assert "seed" not in last


@pytest.mark.parametrize("kind", ["429", "500", "503", "reset", "truncated_body", "bad_utf8"])
async def test_a_passing_fault_is_tried_again_and_counted(server: ScriptedServer, kind: FaultKind) -> None:
    server.faults = [Fault(kind, times=1)]
    async with speaking(server) as one:
        done = await ask(one)
    assert (done.text, done.attempts, server.count()) == ('{"score": 4}', 2, 2)


@pytest.mark.parametrize(
    ("kind", "error", "code"),
    [
        ("500", errors.ServerFaultError, "server_fault"),
        ("bad_utf8", errors.ReplyError, "undecodable_reply"),
        ("truncated_body", errors.ServerFaultError, "server_fault"),
        ("reset", errors.ServerFaultError, "server_fault"),
    ],
)
async def test_a_lasting_fault_ends_after_the_attempts_as_what_it_is(
    server: ScriptedServer, kind: FaultKind, error: type[Exception], code: str
) -> None:
    server.faults = [Fault(kind)]
    async with speaking(server) as one:
        with pytest.raises(error) as raised:
            await ask(one)
    assert server.count() == 2
    assert raised.value.code == code


async def test_the_wait_is_at_least_what_the_server_asks_for(server: ScriptedServer) -> None:
    server.faults = [Fault("429", times=1, retry_after=0.8)]
    async with speaking(server) as one:
        began = time.monotonic()
        await ask(one)
    assert time.monotonic() - began >= 0.8


async def test_who_waits_for_another_try_keeps_no_place_from_others(server: ScriptedServer) -> None:
    server.faults = [Fault("429", times=1, retry_after=2, role="critic")]
    async with speaking(server, concurrency=1) as one:
        slow = asyncio.create_task(ask(one))
        await asyncio.sleep(0.3)
        began = time.monotonic()
        await ask(one, None, "hi", role="answerer")
        assert time.monotonic() - began < 1
        slow.cancel()


async def test_no_more_calls_are_open_than_the_model_allows(server: ScriptedServer) -> None:
    server.latency = 0.02
    async with speaking(server, concurrency=3) as one:
        await asyncio.gather(*(ask(one, text=f"Judge {number}.") for number in range(15)))
    assert server.in_flight_peak == 3


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply("Incorrect API key provided.", status=401, code="invalid_api_key"), errors.WrongKeyError),
        (Reply("You have no access.", status=403), errors.WrongKeyError),
        (Reply("The model `m` does not exist.", status=404, code="model_not_found"), errors.UnknownModelError),
        (Reply("You exceeded your current quota.", status=429, code="insufficient_quota"), errors.QuotaError),
        (Reply("Insufficient Balance", status=402), errors.QuotaError),
    ],
)
async def test_what_no_call_can_survive_stops_at_once_with_its_own_error(
    server: ScriptedServer, reply: Reply, error: type[Exception]
) -> None:
    server.script = lambda request: reply
    async with speaking(server, attempts=5) as one:
        with pytest.raises(error, match="generator"):
            await ask(one)
    assert server.count() == 1


async def test_a_wrong_key_names_the_setting_and_never_the_key(server: ScriptedServer) -> None:
    server.api_key = "right"
    async with speaking(server, api_key="sk-wrong-and-secret") as one:
        with pytest.raises(errors.WrongKeyError, match=r"api_key.*models\.generator") as raised:
            await ask(one)
    assert "sk-wrong" not in str(raised.value)


@pytest.mark.parametrize(("status", "kind"), [(401, errors.WrongKeyError), (400, errors.CallError), (500, errors.ServerFaultError)])
async def test_a_key_that_the_server_repeats_gets_no_further(server: ScriptedServer, status: int, kind: type[Exception]) -> None:
    server.script = lambda request: Reply("Bad key sk-mine-and-secret, sorry.", status=status)
    async with speaking(server, api_key="sk-mine-and-secret", attempts=1) as one:
        with pytest.raises(kind, match=r"Bad key \*\*\*, sorry"):
            await ask(one)


async def test_a_403_about_one_prompt_is_not_about_the_key(server: ScriptedServer) -> None:
    server.script = lambda request: Reply("Your prompt was blocked by the content policy.", status=403)
    async with speaking(server) as one:
        with pytest.raises(errors.CallError, match="refused for its content"):
            await ask(one)


async def test_a_model_called_seed_is_no_refusal_of_the_seed(server: ScriptedServer) -> None:
    server.script = lambda request: Reply("doubao-seed cannot take an empty prompt", status=400)
    async with speaking(server) as one:
        with pytest.raises(errors.CallError, match="the request was refused"):
            await ask(one)
    assert server.count() == 1


async def test_a_call_that_failed_says_how_often_it_was_tried(server: ScriptedServer) -> None:
    server.faults = [Fault("500")]
    async with speaking(server, attempts=2) as one:
        with pytest.raises(errors.ServerFaultError) as raised:
            await ask(one)
    assert raised.value.attempts == server.count() == 2


@pytest.mark.parametrize("said", ["先想一想。\n</think>\n\n答案。", "<think>\n先想一想。\n</think>\n答案。"])
async def test_thoughts_are_kept_apart_with_or_without_their_opening_tag(server: ScriptedServer, said: str) -> None:
    server.script = lambda request: said
    async with speaking(server) as one:
        done = await ask(one, schema=None)
    assert (done.text, done.reasoning) == ("答案。", "先想一想。")


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1"])
async def test_an_endpoint_that_is_down_is_not_a_timeout(address: str) -> None:
    one = endpoint(address)
    with pytest.raises(errors.EndpointDownError, match="cannot be reached"):
        await ask(one)
    await one.aclose()


async def test_a_prompt_too_long_is_said_so_and_not_sent_again(server: ScriptedServer) -> None:
    server.context_tokens = 20
    async with speaking(server, attempts=5) as one:
        with pytest.raises(errors.ContextOverflowError, match="context length"):
            await ask(one, text="word " * 100)
    assert server.count() == 1


async def test_any_other_refusal_fails_this_call_only(server: ScriptedServer) -> None:
    server.script = lambda request: Reply("The prompt was filtered by content management.", status=400, code="content_filter")
    async with speaking(server) as one:
        with pytest.raises(errors.CallError, match="filtered") as raised:
            await ask(one)
    assert type(raised.value) is errors.CallError
    assert server.count() == 1


async def test_a_reply_that_never_comes_is_a_timeout(server: ScriptedServer) -> None:
    server.faults = [Fault("hang")]
    async with speaking(server, timeout=0.3) as one:
        with pytest.raises(errors.TimeoutCallError, match=r"no reply within 0\.3 s"):
            await ask(one)
    assert server.count() == 2


async def test_reasoning_is_kept_apart_however_it_comes(server: ScriptedServer) -> None:
    async with speaking(server) as one:
        server.script = lambda request: Reply("The answer.", reasoning="Let me see.")
        apart = await ask(one, None)
        server.script = lambda request: "<think>\nLet me see.\n</think>\n\nThe answer."
        within = await ask(one, None)
        server.script = lambda request: "Use the tag <think> with care."
        about = await ask(one, None)
    assert (apart.text, apart.reasoning) == (within.text, within.reasoning) == ("The answer.", "Let me see.")
    assert apart.usage.reasoning
    assert (about.text, about.reasoning) == ("Use the tag <think> with care.", "")


async def test_half_characters_and_nuls_are_cleaned_wherever_the_server_puts_them() -> None:
    message = {"role": "assistant", "content": "half \ud83d of it\x00", "reasoning_content": "also \udc00"}
    async with answering({**WHOLE, "choices": [{"index": 0, "message": message, "finish_reason": "stop\ud83d"}]}) as base_url:
        one = endpoint(base_url)
        done = await ask(one, None)
        await one.aclose()
    async with answering({"error": {"message": "refused: \ud83d\x00", "code": "\udc00"}}, status=400) as base_url:
        one = endpoint(base_url)
        with pytest.raises(errors.CallError, match="refused") as raised:
            await ask(one, None)
        await one.aclose()
    for text in (done.text, done.reasoning, done.finish_reason, str(raised.value)):
        assert text.encode()
        assert "\x00" not in text


async def test_a_redirect_is_not_followed_with_the_key_in_hand() -> None:
    async with answering({}, status=307) as base_url:
        one = endpoint(base_url)
        with pytest.raises(errors.EndpointError, match=r"moved to .*: write that into base_url"):
            await ask(one, None)
        await one.aclose()


WHOLE = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
MESSAGE = {"role": "assistant", "content": "said"}


@pytest.mark.parametrize(
    "body",
    [
        "[]", '"words"', "null", "{}", "<html>Welcome!</html>", "",
        {**WHOLE, "choices": []}, {**WHOLE, "choices": None}, {**WHOLE, "choices": [{}]},
        {**WHOLE, "choices": [{"index": 0, "message": None}]}, {**WHOLE, "choices": [{"index": 0, "message": {"content": 5}}]},
        {"error": {"message": "upstream is down", "code": 502}},
    ],
)  # fmt: skip
async def test_an_ok_that_is_no_completion_is_a_failed_call(body: Any) -> None:
    async with answering(body, "text/html" if "<" in body else "application/json") as base_url:
        one = endpoint(base_url, attempts=1)
        with pytest.raises(errors.CallError) as raised:
            await ask(one, None)
        await one.aclose()
    assert raised.value.code in ("undecodable_reply", "empty_reply")


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        (None, (None, None)),
        ({"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}, (5, 2)),
        ({"prompt_tokens": 5.0, "completion_tokens": 2.5, "total_tokens": 7.5}, (5, 2)),
        ({"prompt_tokens": "many", "completion_tokens": {}, "total_tokens": []}, (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 1}, (None, 2)),
    ],
)
@pytest.mark.filterwarnings("ignore:Pydantic serializer")
async def test_odd_counts_of_tokens_cost_no_reply(usage: Any, counted: tuple[int | None, int | None]) -> None:
    body = {**WHOLE, "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}], "usage": usage}
    async with answering(body) as base_url:
        one = endpoint(base_url, attempts=1)
        done = await ask(one, None)
        await one.aclose()
    assert (done.text, (done.usage.prompt, done.usage.completion)) == ("said", counted)


@asynccontextmanager
async def answering(body: Any, kind: str = "application/json", status: int = 200) -> AsyncIterator[str]:
    """A server that answers everything with one body."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=body, content_type=kind) if isinstance(body, str) else web.json_response(body, status=status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    finally:
        await runner.cleanup()
