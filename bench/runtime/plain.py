"""The same work on plain asyncio, as a good engineer writes it in an hour: what Leafmill is measured against.

    python -m bench.runtime.plain openai --base-url http://127.0.0.1:8099/v1 --rows 200 --out rows.jsonl

A semaphore caps the calls in flight, transport faults and unreadable JSON are tried again, finished rows are appended to a file.
`openai` speaks through AsyncOpenAI with its default transport; `aiohttp` posts by itself: about the least that a call can cost in Python.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

TRIES = 6
CRITERIA = ("clarity", "correctness", "helpfulness")
TOPICS = ("cooking for guests", "law of tenants", "graph theory", "gardening in clay soil", "computer networks", "first aid", "sailing")
PERSONS = ("a curious pupil", "a busy nurse", "a retired engineer", "a new manager", "a farmer")

TEXT = {"type": "string", "minLength": 1, "maxLength": 600}
INSTRUCTION = {
    "type": "object",
    "properties": {"instruction": TEXT, "input": {"type": "string", "minLength": 0, "maxLength": 1200}},
    "required": ["instruction", "input"],
    "additionalProperties": False,
}
JUDGEMENT = {
    "type": "object",
    "properties": {"rationale": {**TEXT, "maxLength": 300}, "score": {"type": "integer", "minimum": 1, "maximum": 5}},
    "required": ["rationale", "score"],
    "additionalProperties": False,
}

WRITER = (
    "You write what a person asks an assistant. Someone else will answer. Write one request that can be answered without asking back, as "
    'JSON: {"instruction": "the request", "input": ""}'
)
EVOLVER = (
    "You rewrite requests so that they become harder and can still be answered. Write the whole request again, as JSON: "
    '{"instruction": "the request", "input": ""}'
)
ANSWERER = "You are a careful assistant. Answer in full, in plain prose, and show the steps where there are any."
JUDGE = 'You are a strict judge of answers. Reply as JSON, rationale first: {"rationale": "one sentence", "score": 1 to 5}'

Body = dict[str, Any]
Send = Callable[[Body], Awaitable[str]]


def write(topic: str, person: str) -> Body:
    user = f"Everyday questions > Ask\ntopic: {topic}\nperson: {person}\n\nWrite the request."
    return _body(WRITER, user, 400, _schema("writer", INSTRUCTION))


def evolve(instruction: str) -> Body:
    user = f"<instruction>\n{instruction}\n</instruction>\n\nRewrite this request so that it needs one more step of reasoning."
    return _body(EVOLVER, user, 400, _schema("evolver", INSTRUCTION))


def answer(instruction: str) -> Body:
    return _body(ANSWERER, f"<instruction>\n{instruction}\n</instruction>\n\nAnswer this request.", 700)


def judge(criterion: str, instruction: str, answer: str) -> Body:
    material = f"<instruction>\n{instruction}\n</instruction>\n<answer>\n{answer}\n</answer>"
    user = f"{material}\n\nJudge the answer for its {criterion}."
    return _body(JUDGE, user, 160, {**_schema(f"annotator-{criterion}", JUDGEMENT), "temperature": 0.0})


def _body(system: str, user: str, max_tokens: int, more: Body | None = None) -> Body:
    messages = [{"role": "system", "content": system}, {"role": "user", "content": user}]
    return {"model": "stub", "messages": messages, "temperature": 0.7, "max_tokens": max_tokens, **(more or {})}


def _schema(name: str, schema: Body) -> Body:
    return {"response_format": {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}}


@asynccontextmanager
async def by_openai(base_url: str, concurrency: int) -> AsyncIterator[Send]:
    import httpx2
    from openai import AsyncOpenAI, DefaultAsyncHttpx2Client

    limits = httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    transport = DefaultAsyncHttpx2Client(limits=limits, timeout=120)
    async with AsyncOpenAI(base_url=base_url, api_key="none", max_retries=TRIES - 1, http_client=transport) as client:

        async def send(body: Body) -> str:
            reply = await client.chat.completions.create(**body)
            return reply.choices[0].message.content or ""

        yield send


@asynccontextmanager
async def by_aiohttp(base_url: str, concurrency: int) -> AsyncIterator[Send]:
    import aiohttp

    connector, timeout = aiohttp.TCPConnector(limit=concurrency), aiohttp.ClientTimeout(total=120)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:

        async def send(body: Body) -> str:
            for left in reversed(range(TRIES)):
                try:
                    async with session.post(f"{base_url}/chat/completions", json=body) as reply:
                        reply.raise_for_status()
                        said = await reply.json()
                        return str(said["choices"][0]["message"]["content"])
                except aiohttp.ClientError:
                    if not left:
                        raise
                    await asyncio.sleep(0.5 * 2 ** (TRIES - left))
            raise AssertionError("the last try returns or raises")

        yield send


async def run(client: str, base_url: str, rows: int, concurrency: int, out: Path) -> None:
    places = asyncio.Semaphore(concurrency)
    seeds = itertools.count()
    todo = iter(range(rows))

    async with {"openai": by_openai, "aiohttp": by_aiohttp}[client](base_url, concurrency) as send:

        async def text(body: Body) -> str:
            async with places:
                return await send({**body, "seed": next(seeds)})

        async def value(body: Body, wanted: str, kind: type) -> Any:
            """A field of a JSON reply; one that cannot be read is asked for again."""
            for left in (2, 1, 0):
                try:
                    found = json.loads(await text(body))[wanted]
                    if isinstance(found, kind):
                        return found
                except (ValueError, LookupError, TypeError):
                    pass
                if not left:
                    raise ValueError(f"no {wanted} in three replies")

        async def row(number: int) -> dict[str, Any]:
            topic, person = TOPICS[number % len(TOPICS)], PERSONS[number % len(PERSONS)]
            asked = await value(write(topic, person), "instruction", str)
            instruction = await value(evolve(asked), "instruction", str)
            answered = await text(answer(instruction))
            scores = await asyncio.gather(*(value(judge(criterion, instruction, answered), "score", int) for criterion in CRITERIA))
            return {"number": number, "instruction": instruction, "answer": answered, "scores": scores}

        with out.open("a", buffering=1) as file:

            async def work() -> None:
                for number in todo:
                    file.write(json.dumps(await row(number)) + "\n")

            await asyncio.gather(*(work() for _ in range(concurrency * 3 // 2)))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.runtime.plain")
    parser.add_argument("client", choices=("openai", "aiohttp"))
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asyncio.run(run(asked.client, asked.base_url, asked.rows, asked.concurrency, asked.out))


if __name__ == "__main__":
    main()
