"""The scripted server, seen through the real client."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import openai
import pytest

from agents.scripted import Fault, FaultKind, RateLimit, Reply, Request, ScriptedServer, Structured
from agents.scripted.faults import HUGE, span
from agents.scripted.words import language_of

ENGLISH = "Write something about tidal energy and the household budgets of learners."
CHINESE = "请写一点关于潮汐能源和家庭预算的内容，给初学者看。"
VERDICT = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 80},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "label": {"enum": ["easy", "hard"]},
        "sound": {"type": "boolean"},
        "scenarios": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 6},
        "input": {"anyOf": [{"type": "null"}, {"type": "string"}]},
        "inner": {"$ref": "#/$defs/Inner"},
    },
    "$defs": {"Inner": {"type": "object", "properties": {"share": {"type": "number", "minimum": 0, "maximum": 1}}}},
}
INSTRUCTION = {"type": "object", "properties": {"instruction": {"type": "string"}}}
ASKED: Any = {"model": "any", "messages": [{"role": "user", "content": ENGLISH}]}


class Client:
    """The real client, with the few words that these tests need."""

    def __init__(self, server: ScriptedServer, api_key: str, timeout: float) -> None:
        http = openai.DefaultAioHttpClient()
        self.openai = openai.AsyncOpenAI(base_url=server.base_url, api_key=api_key, http_client=http, max_retries=0, timeout=timeout)

    async def say(self, prompt: str = ENGLISH, schema: Any = None, name: str = "critic", **params: Any) -> Any:
        if schema is not None:
            params["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "schema": schema}}
        params = {"model": "any", "messages": [{"role": "user", "content": prompt}], **params}
        return await self.openai.chat.completions.create(**params)

    async def text(self, prompt: str = ENGLISH, schema: Any = None, **params: Any) -> str:
        done = await self.say(prompt, schema, **params)
        return str(done.choices[0].message.content)


@asynccontextmanager
async def serving(api_key: str = "any", timeout: float = 5.0, **settings: Any) -> AsyncIterator[tuple[ScriptedServer, Client]]:
    async with ScriptedServer(**settings) as server:
        client = Client(server, api_key, timeout)
        async with client.openai:
            yield server, client


async def test_the_reply_depends_on_what_is_asked_and_not_on_when() -> None:
    prompts = [f"{ENGLISH} {number}" for number in range(8)]
    async with serving(seed=1, latency=lambda request: len(request.prompt) % 3 * 0.01) as (_, client):
        first = await asyncio.gather(*map(client.text, prompts))
        seeded = await client.text(prompts[0], seed=5)
    async with serving(seed=1) as (_, client):
        assert [await client.text(one) for one in reversed(prompts)] == first[::-1]
    async with serving(seed=2) as (_, client):
        assert await client.text(prompts[0]) not in (first[0], seeded)
    assert len({*first, seeded}) == 9


async def test_who_is_asked_again_keeps_to_the_first_question() -> None:
    asked = {"role": "user", "content": CHINESE}
    again = [asked, {"role": "assistant", "content": "{"}, {"role": "user", "content": "That is no JSON. " * 20}]
    async with serving() as (_, client):
        assert language_of(await client.text(messages=again)) == "zh"


async def test_a_plain_answer_is_in_the_language_of_the_prompt_and_of_its_words() -> None:
    async with serving() as (_, client):
        english, chinese = await client.text(ENGLISH), await client.text(CHINESE)
    assert language_of(english) == "en"
    assert 60 <= len(english.split()) <= 150
    assert any(word in english for word in ("tidal", "energy", "household", "budgets", "learners"))
    assert language_of(chinese) == "zh"
    assert 100 <= len(chinese) <= 250
    assert "家庭预算" in chinese or "潮汐能源" in chinese


@pytest.mark.parametrize("prompt", [ENGLISH, CHINESE])
async def test_a_schema_is_obeyed(prompt: str) -> None:
    async with serving() as (_, client):
        replies = [json.loads(await client.text(prompt, VERDICT, seed=number)) for number in range(40)]
    for one in replies:
        assert list(one) == list(VERDICT["properties"])
        assert len(one["reason"]) <= 80
        assert one["label"] in ("easy", "hard")
        assert isinstance(one["sound"], bool)
        assert isinstance(one["input"], str)
        assert 2 <= len(set(one["scenarios"])) == len(one["scenarios"]) <= 6
        assert 0 <= one["inner"]["share"] <= 1
        assert language_of("".join(one["scenarios"])) == language_of(prompt)
    scores = [one["score"] for one in replies]
    assert {*scores} <= {2, 3, 4, 5}
    assert sum(scores) / len(scores) > 3.6


@pytest.mark.parametrize("prompt", [ENGLISH, CHINESE])
async def test_instructions_are_distinct_but_for_the_share_of_duplicates(prompt: str) -> None:
    async with serving(duplicates=0.0) as (server, client):
        fresh = [json.loads(await client.text(prompt, INSTRUCTION, seed=number))["instruction"] for number in range(150)]
        server.duplicates = 0.2
        mixed = [json.loads(await client.text(prompt, INSTRUCTION, seed=number))["instruction"] for number in range(150)]
    assert len(set(fresh)) == 150
    assert 105 <= len(set(mixed)) <= 140
    grams = [{text[at : at + 4] for at in range(len(text) - 3)} for text in fresh]
    near = [len(a & b) / len(a | b) > 0.7 for number, a in enumerate(grams) for b in grams[:number]]
    assert sum(near) / len(near) < 0.0005


@pytest.mark.parametrize("structured", ["json_object", "text"])
async def test_a_server_without_schemas_refuses_them_and_reads_the_one_in_the_prompt(structured: Structured) -> None:
    form = {"type": "json_object"} if structured == "json_object" else {"type": "text"}
    async with serving(structured=structured) as (_, client):
        with pytest.raises(openai.BadRequestError, match="response_format"):
            await client.say(schema=VERDICT)
        value = json.loads(await client.text(f"{CHINESE} JSON: {json.dumps(INSTRUCTION)}", response_format=form))
    assert language_of(value["instruction"]) == "zh"


async def test_json_without_a_schema_is_an_object_all_the_same() -> None:
    async with serving() as (_, client):
        assert set(json.loads(await client.text(response_format={"type": "json_object"}))) == {"answer"}


async def test_max_tokens_cuts_and_says_so() -> None:
    async with serving() as (_, client):
        whole, cut = await client.say(), await client.say(max_tokens=7)
    assert whole.choices[0].finish_reason == "stop"
    assert cut.choices[0].finish_reason == "length"
    assert cut.usage.completion_tokens == 7
    assert whole.choices[0].message.content.startswith(cut.choices[0].message.content)
    assert whole.usage.prompt_tokens + whole.usage.completion_tokens == whole.usage.total_tokens


async def test_reasoning_comes_apart_and_is_spent_first() -> None:
    async with serving(reasoning=True) as (_, client):
        whole, cut = await client.say(), await client.say(max_tokens=9)
    assert len(whole.choices[0].message.reasoning_content.split()) >= 60
    assert whole.usage.completion_tokens_details.reasoning_tokens > 60
    assert (cut.choices[0].message.content, cut.choices[0].finish_reason) == ("", "length")


async def test_a_stream_says_what_the_whole_reply_says() -> None:
    async with serving() as (_, client):
        whole = await client.say()
        chunks = [one async for one in await client.say(stream=True, stream_options={"include_usage": True})]
    said = "".join(one.choices[0].delta.content or "" for one in chunks if one.choices)
    assert said == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage


async def test_what_a_real_server_refuses_is_refused() -> None:
    async with serving(api_key="wrong") as (server, client):
        server.api_key = "right"
        with pytest.raises(openai.AuthenticationError) as wrong_key:
            await client.say()
        with pytest.raises(openai.AuthenticationError):
            await client.openai.models.list()
        with pytest.raises(openai.AuthenticationError):
            await client.openai.embeddings.create(model="e", input="a")
    async with serving(models=["small"], context_tokens=30) as (server, client):
        with pytest.raises(openai.NotFoundError) as unknown:
            await client.say(model="large")
        with pytest.raises(openai.BadRequestError) as too_long:
            await client.say(ENGLISH * 9, model="small")
        with pytest.raises(openai.BadRequestError, match="not a chat completion"):
            await client.openai.post("/chat/completions", cast_to=object, body={"model": "small"})
        assert (await client.openai.models.list()).data[0].id == "small"
        assert server.paid == 0
    codes = [one.value.code for one in (wrong_key, unknown, too_long)]
    assert codes == ["invalid_api_key", "model_not_found", "context_length_exceeded"]


async def test_embeddings_are_unit_vectors_in_which_like_texts_are_near() -> None:
    texts = ["tides drive the turbines", "the tides drive turbines here", "a recipe for rye bread", "潮汐推动涡轮", "潮汐推动涡轮机"]
    async with serving() as (_, client):
        done = await client.openai.embeddings.create(model="e", input=texts)
        plain = await client.openai.embeddings.create(model="e", input=texts[0], encoding_format="float", dimensions=64)
    vectors = np.array([one.embedding for one in done.data])
    near = vectors @ vectors.T
    assert np.allclose(np.diag(near), 1.0, atol=1e-5)
    assert min(near[0, 1], near[3, 4]) > 0.7 > 0.3 > near[0, 2]
    assert len(plain.data[0].embedding) == 64


async def test_a_script_answers_for_the_roles_it_knows() -> None:
    def script(request: Request) -> Reply | str | dict[str, Any] | None:
        match request.role:
            case "critic":
                return {"score": request.number}
            case "writer":
                return f"to {request.headers['x-leafmill-role']}"
            case "judge":
                return Reply("not today", status=503)
        return None

    async with serving(script=script) as (_, client):
        assert [await client.text(schema=VERDICT) for _ in range(2)] == ['{"score": 1}', '{"score": 2}']
        assert await client.text(extra_headers={"x-leafmill-role": "writer"}) == "to writer"
        assert len(await client.text()) > 100
        with pytest.raises(openai.InternalServerError, match="not today"):
            await client.say(schema=VERDICT, name="judge")


async def test_what_happened_is_recorded() -> None:
    async with serving(api_key="secret-key", latency=0.05, faults=[Fault("500", role="critic", times=1)]) as (server, client):
        await asyncio.gather(*(client.say(f"{number}", name="writer", schema=INSTRUCTION) for number in range(5)))
        with pytest.raises(openai.InternalServerError):
            await client.say(schema=VERDICT)
        await client.say(schema=VERDICT)
    assert (server.count(), server.count("writer"), server.count("critic"), server.count("nobody")) == (7, 5, 2, 0)
    assert (server.paid, server.distinct, server.in_flight_peak) == (6, 6, 5)
    assert [(one.role, one.model, one.number, one.status, one.fault) for one in server.requests[5:]] == [
        ("critic", "any", 1, 500, "500"),
        ("critic", "any", 2, 200, None),
    ]
    assert all(one.stopped - one.started >= 0.05 for one in server.requests)
    assert "secret-key" not in repr(server.requests)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("429", openai.RateLimitError),
        ("quota", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("reset", openai.APIConnectionError),
        ("hang", openai.APITimeoutError),
        ("truncated_body", openai.APIError),
        ("bad_utf8", UnicodeDecodeError),
        ("mislabelled", UnicodeDecodeError),
        ("bad_body", json.JSONDecodeError),
        ("twice", json.JSONDecodeError),
    ],
)
async def test_a_fault_breaks_the_call_and_a_retry_mends_it(kind: FaultKind, error: type[Exception]) -> None:
    async with serving(timeout=0.3, faults=[Fault(kind, times=1)]) as (server, client):
        with pytest.raises(error):
            await client.say()
        assert len(await client.text()) > 100
    assert [one.fault for one in server.requests] == [kind, None]
    assert all(one.stopped for one in server.requests)


async def test_rate_errors_say_how_long_to_wait_and_whether_it_helps() -> None:
    async with serving(faults=[Fault("429", times=1, retry_after=0.5), Fault("quota")]) as (_, client):
        with pytest.raises(openai.RateLimitError) as limited:
            await client.say()
        with pytest.raises(openai.RateLimitError) as spent:
            await client.say()
    assert spent.value.code == "insufficient_quota"
    assert limited.value.response.headers["retry-after"] == "0.5"


@pytest.mark.parametrize(
    ("kind", "holds"),
    [
        ("empty", lambda content, reason: content == ""),
        ("null_content", lambda content, reason: content is None),
        ("cut", lambda content, reason: reason == "length" and content.startswith('{"reason"')),
        ("cut_json", lambda content, reason: reason == "length" and content.startswith('{"reason"')),
        ("bad_json", lambda content, reason: reason == "stop" and len(content) > 20),
        ("huge", lambda content, reason: len(content) == HUGE),
    ],
)
async def test_a_fault_spoils_the_content(kind: FaultKind, holds: Callable[[str | None, str], bool]) -> None:
    async with serving(faults=[Fault(kind)]) as (server, client):
        choice = (await client.say(schema=VERDICT)).choices[0]
    assert holds(choice.message.content, choice.finish_reason)
    with pytest.raises((ValueError, TypeError)):
        json.loads(choice.message.content)
    assert server.paid == 1


@pytest.mark.parametrize("kind", ["cut_json", "bad_json"])
async def test_a_fault_of_json_spares_plain_text(kind: FaultKind) -> None:
    async with serving(faults=[Fault(kind)]) as (server, client):
        await client.say()
        await client.say(schema=VERDICT)
        await client.say(f"JSON: {json.dumps(INSTRUCTION)}")
    assert [one.fault for one in server.requests] == [None, kind, kind]


async def test_gbk_is_sent_as_what_it_is_or_as_what_it_is_not() -> None:
    async with serving(faults=[Fault("gbk")]) as (server, client), aiohttp.ClientSession() as session:
        body = {"model": "any", "messages": [{"role": "user", "content": CHINESE}]}
        async with session.post(f"{server.base_url}/chat/completions", json=body) as honest:
            assert honest.charset == "gbk"
            said = json.loads((await honest.read()).decode("gbk"))["choices"][0]["message"]["content"]
        server.faults = []
        assert said == await client.text(CHINESE)
        server.faults = [Fault("mislabelled")]
        async with session.post(f"{server.base_url}/chat/completions", json=body) as wrong:
            assert wrong.charset == "utf-8"
            assert said in (await wrong.read()).decode("gbk")


async def test_a_200_can_hold_an_error_or_what_was_said_before() -> None:
    async with serving(faults=[Fault("error_body", times=1)]) as (server, client):
        error = await client.say()
        assert (error.choices, error.error["code"], server.paid, server.failed) == (None, 502, 1, 1)
        first = await client.text()
        server.faults = [Fault("stale")]
        assert await client.text("something else") == first
        assert server.requests[-1].is_good


async def test_a_slow_body_begins_at_once_and_comes_by_and_by() -> None:
    async with serving(faults=[Fault("drip", seconds=0.4)]) as (server, client), aiohttp.ClientSession() as session:
        async with session.post(f"{server.base_url}/chat/completions", json=ASKED) as response:
            assert (response.status, server.requests[0].stopped) == (200, 0)
            whole = await response.json()
        server.faults = []
        assert whole["choices"][0]["message"]["content"] == await client.text()
    slow, quick = server.requests
    assert slow.stopped - slow.started >= 0.4 > quick.stopped - quick.started
    assert slow.is_good


async def test_a_storm_begins_after_some_requests_and_passes() -> None:
    async with serving(faults=[Fault("429", after=2, lasts=0.3, retry_after=1)]) as (server, client):
        for number in range(2):
            await client.say(f"{number}")
        for number in range(2, 5):
            with pytest.raises(openai.RateLimitError):
                await client.say(f"{number}")
        await asyncio.sleep(0.3)
        await client.say("2")
    assert [one.status for one in server.requests] == [200, 200, 429, 429, 429, 200]
    assert (server.failed, server.paid_twice) == (3, 0)


async def test_a_server_that_dies_breaks_its_connections_and_comes_back_at_its_address() -> None:
    async with serving(faults=[Fault("die", after=2, lasts=0.3)], latency=lambda request: float(request.prompt)) as (server, client):
        await client.say("0")
        cut_short = asyncio.create_task(client.say("9"))
        while server.count() < 2:
            await asyncio.sleep(0.01)
        for prompt in ("0", "0"):  # it dies of the first; of the second it knows nothing
            with pytest.raises(openai.APIConnectionError):
                await client.say(prompt)
        with pytest.raises(openai.APIConnectionError):
            await cut_short
        await asyncio.sleep(0.4)
        await client.say("0")
    assert [(one.status, one.is_good) for one in server.requests] == [(200, True), (0, False), (0, False), (200, True)]


async def test_a_rate_limit_refuses_what_is_too_much_and_says_what_is_left() -> None:
    async with serving(rate_limit=RateLimit(2, seconds=0.5)) as (server, client):
        raw = [await client.openai.chat.completions.with_raw_response.create(**ASKED) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as refused:
            await client.say()
        await asyncio.sleep(0.5)
        await client.say()
    headers = [*(one.headers for one in raw), refused.value.response.headers]
    assert [one["x-ratelimit-remaining-requests"] for one in headers] == ["1", "0", "0"]
    assert {one["x-ratelimit-limit-requests"] for one in headers} == {"2"}
    assert all(0 < int(one["x-ratelimit-reset-requests"].removesuffix("ms")) <= 500 for one in headers)
    assert [one.status for one in server.requests] == [200, 200, 429, 200]


@pytest.mark.parametrize(("seconds", "text"), [(0.0201, "21ms"), (8.64, "8.64s"), (59.5, "1m0s"), (119.7, "2m0s"), (365, "6m5s")])
def test_the_reset_of_a_rate_limit_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert span(seconds) == text


async def test_an_answer_that_is_asked_for_again_is_paid_twice_only_if_it_was_good() -> None:
    async with serving(faults=[Fault("empty", times=1)]) as (server, client):
        for _ in range(2):
            await client.say()
        assert (server.paid, server.paid_twice) == (2, 0)
        await client.say()
        assert (server.paid, server.paid_twice) == (3, 1)


async def test_faults_hit_the_same_share_of_tries_whatever_the_order() -> None:
    async def hit(prompts: Sequence[str]) -> dict[str, list[str | None]]:
        async with serving(seed=3, faults=[Fault("empty", rate=0.3)]) as (server, client):
            await asyncio.gather(*(client.say(one) for one in prompts for _ in range(2)))
        return {prompt: [one.fault for one in server.requests if one.request.prompt == prompt] for prompt in prompts}

    prompts = [f"prompt {number}" for number in range(60)]
    there, back = await hit(prompts), await hit(prompts[::-1])
    assert there == back
    firsts = [tries[0] for tries in there.values()]
    assert 9 <= firsts.count("empty") <= 28
    assert any(tries == ["empty", None] for tries in there.values())


async def test_a_fault_can_wait_and_another_can_slow_things_down() -> None:
    async with serving(faults=[Fault("slow", seconds=0.1, times=1), Fault("503", after=2)]) as (server, client):
        await client.say("one")
        await client.say("one")
        with pytest.raises(openai.InternalServerError):
            await client.say("one")
    slow, quick, _ = (one.stopped - one.started for one in server.requests)
    assert slow >= 0.1 > quick


async def test_closing_breaks_what_hangs_frees_the_port_and_leaves_nothing_running() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        before = asyncio.all_tasks()
        async with serving(faults=[Fault("hang")]) as (server, client):
            call = asyncio.create_task(client.say())
            while not server.requests:
                await asyncio.sleep(0.01)
            await server.__aexit__()
            with pytest.raises(openai.APIConnectionError):
                await call
            with pytest.raises(openai.APIConnectionError):
                await client.say()
        await asyncio.sleep(0.05)
        assert asyncio.all_tasks() == before


async def test_a_caller_who_leaves_is_not_billed() -> None:
    async with serving(timeout=0.1, latency=0.5) as (server, client):
        with pytest.raises(openai.APITimeoutError):
            await client.say()
        await asyncio.sleep(0.05)
        assert (server.paid, server.requests[0].status) == (0, 0)
        assert server.requests[0].stopped


async def test_as_a_program_it_prints_where_it_listens() -> None:
    command = [sys.executable, "-c", "from leafmill.cli import main; main()", "scripted", "--port", "0", "--seed", "7"]
    root = Path(__file__).parent.parent
    process = await asyncio.create_subprocess_exec(*command, cwd=root, stdout=subprocess.PIPE)
    assert process.stdout is not None
    url = (await process.stdout.readline()).decode().strip()
    async with openai.AsyncOpenAI(base_url=url, api_key="any", http_client=openai.DefaultAioHttpClient()) as client:
        there = await client.chat.completions.create(model="any", messages=[{"role": "user", "content": ENGLISH}])
    process.terminate()
    await process.wait()
    async with serving(seed=7) as (_, here):
        assert await here.text() == there.choices[0].message.content
