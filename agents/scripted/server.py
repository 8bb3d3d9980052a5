"""A model server that follows a script: real HTTP on loopback, OpenAI-compatible, without any model behind it.

    async with ScriptedServer(seed=7, latency=0.2, faults=[Fault("429", rate=0.1, retry_after=1)]) as server:
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="any")

or `leafmill scripted --port 8765`, for a dry run of a recipe that costs nothing.

A reply is a function of the server's seed and of what was asked (model, messages, response format, the request's own seed), never of
the order of arrival. It obeys the JSON schema of the request, or the one spelled out in its prompt, or is plain text; a `script` may
answer instead. What can go wrong is in `faults`, how things look on the wire in `wire`, the words in `words`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import random
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from aiohttp import web

from agents.scripted import tools
from agents.scripted.faults import HARMLESS, OF_JSON, Fault, FaultKind, RateLimit, error_of, spoil, spoil_body
from agents.scripted.wire import Reply, Request, completion, limit, respond, send_half, send_slowly, stream
from agents.scripted.words import Speaker, count_tokens, embed

Structured = Literal["json_schema", "json_object", "text"]
Script = Callable[[Request], Reply | str | Mapping[str, Any] | None]

MAX_BODY = 64 * 2**20
"""Bytes of the largest request that is read."""


@dataclass
class Record:
    """What became of a request. Times are monotonic seconds; status is 0 until, and unless, an answer has been sent."""

    request: Request
    started: float
    stopped: float = 0.0
    status: int = 0
    fault: FaultKind | None = None

    @property
    def role(self) -> str | None:
        return self.request.role

    @property
    def model(self) -> str:
        return self.request.model

    @property
    def number(self) -> int:
        return self.request.number

    @property
    def is_good(self) -> bool:
        """Whether it was answered, and the answer can be used."""
        return self.status == 200 and (self.fault is None or self.fault in HARMLESS)


class ScriptedServer:
    """The server, listening while entered. `script`, `faults` and `latency` may be changed at any time."""

    def __init__(
        self,
        seed: int = 0,
        latency: float | Callable[[Request], float] = 0.0,
        script: Script | None = None,
        faults: Sequence[Fault] = (),
        *,
        port: int = 0,
        api_key: str | None = None,
        models: Sequence[str] = (),
        context_tokens: int | None = None,
        structured: Structured = "json_schema",
        top_logprobs: int = 20,
        reasoning: bool = False,
        duplicates: float = 0.1,
        rate_limit: RateLimit | None = None,
    ) -> None:
        """`latency` is in seconds; without `api_key` any key will do, without `models` any model; `structured` is the strongest
        response_format that is taken, `top_logprobs` the most tokens that log-probabilities are told of (0: it takes no `logprobs`);
        `duplicates` is the share of instructions, 0 to 1, that repeat an earlier one."""
        self.seed, self.latency, self.script, self.faults = seed, latency, script, faults
        self.api_key, self.models, self.context_tokens = api_key, models, context_tokens
        self.top_logprobs = top_logprobs
        self.structured, self.reasoning, self.duplicates, self.rate_limit = structured, reasoning, duplicates, rate_limit
        self.requests: list[Record] = []
        self.in_flight_peak = 0
        self.base_url = ""
        self._port = port
        self._in_flight = 0
        self._tries: Counter[str] = Counter()
        self._arrived: Counter[str | None] = Counter()
        self._hits: Counter[tuple[Fault, str]] = Counter()
        self._began: dict[Fault, float] = {}
        self._said: dict[str | None, str | None] = {}
        self._death: asyncio.Task[None] | None = None

    async def __aenter__(self) -> ScriptedServer:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/pooling", self._reward)
        self._closing = asyncio.Event()
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await self.revive()
        self._port = self._runner.addresses[0][1]
        self.base_url = f"http://127.0.0.1:{self._port}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        if self._death is not None:
            self._death.cancel()
        await self._runner.cleanup()

    async def die(self) -> None:
        """Be gone: listen no longer, and break every connection."""
        await self._site.stop()
        for connection in self._runner.server.connections if self._runner.server else ():
            if connection.transport is not None:
                connection.transport.abort()

    async def revive(self) -> None:
        """Listen again, at the same address."""
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()

    async def _die_for(self, seconds: float | None) -> None:
        await self.die()
        if seconds is not None:
            await asyncio.sleep(seconds)
            await self.revive()

    def count(self, role: str | None = None) -> int:
        """Completions asked for so far, by one role or in all."""
        return len(self.requests) if role is None else self._arrived[role]

    @property
    def distinct(self) -> int:
        """How many different completions were asked for."""
        return len(self._tries)

    @property
    def paid(self) -> int:
        """Completions that a provider would bill: those answered with status 200, whatever was wrong with the content."""
        return sum(1 for one in self.requests if one.status == 200)

    @property
    def paid_twice(self) -> int:
        """Completions that were asked for again although their answer had been good."""
        good = Counter(one.request.key for one in self.requests if one.is_good)
        return good.total() - len(good)

    @property
    def failed(self) -> int:
        """Completions that were not answered, or not well."""
        return sum(1 for one in self.requests if not one.is_good)

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        try:
            request = self._read(await http.json(), http.headers)
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            return respond(Reply(f"not a chat completion: {fault!r}", status=400))
        record = Record(request, time.monotonic())
        self.requests.append(record)
        self._arrived[request.role] += 1
        self._in_flight += 1
        self.in_flight_peak = max(self.in_flight_peak, self._in_flight)
        try:
            return await self._serve(http, request, record)
        finally:
            self._in_flight -= 1
            record.stopped = time.monotonic()

    def _read(self, body: Any, headers: Mapping[str, str]) -> Request:
        messages, form = body["messages"], body.get("response_format") or {}
        contract = form.get("json_schema") or {}
        key = _digest(body["model"], messages, form, body.get("seed"))
        self._tries[key] += 1
        kept = {name.lower(): value for name, value in headers.items() if name.lower() not in ("authorization", "api-key")}
        role = kept.get("x-leafmill-role") or contract.get("name")
        return Request(body["model"], messages, role, contract.get("schema"), body.get("seed"), body, kept, key, self._tries[key])

    async def _serve(self, http: web.Request, request: Request, record: Record) -> web.StreamResponse:
        let_in, limits = self.rate_limit.take() if self.rate_limit else (True, {})
        refusal = self._refuse_key(http) or self._refuse(request) or (None if let_in else error_of(Fault("429")))
        fault, delay = (None, 0.0) if refusal else self._strike(request)
        record.fault = fault.kind if fault else "slow" if delay else None
        await asyncio.sleep(delay + (self.latency(request) if callable(self.latency) else self.latency))
        if fault and fault.kind == "die" and (self._death is None or self._death.done()):
            self._death = asyncio.create_task(self._die_for(fault.lasts))
        if fault and fault.kind in ("hang", "die"):
            await self._closing.wait()
        if fault and fault.kind in ("hang", "die", "reset"):
            if http.transport is not None:
                http.transport.abort()
            return web.Response()
        reply = refusal or (fault and error_of(fault)) or self._spoilt(self._reply(request), request, fault)
        reply = replace(reply, headers={**limits, **reply.headers})
        response = respond(reply) if reply.status >= 400 else await self._answer(http, request, reply, fault)
        record.status = reply.status
        return response

    async def _answer(self, http: web.Request, request: Request, reply: Reply, fault: Fault | None) -> web.StreamResponse:
        if request.body.get("stream"):
            kind, text = "text/event-stream", stream(request, reply)
        else:
            kind, text = "application/json", json.dumps(completion(request, reply), ensure_ascii=False)
        body, charset = spoil_body(text, fault)
        headers = {**reply.headers, "Content-Type": f"{kind}; charset={charset}" if charset else kind}
        if fault and fault.kind == "truncated_body":
            return await send_half(http, body, headers)
        if fault and fault.kind == "drip":
            return await send_slowly(http, body, headers, fault.seconds)
        return web.Response(body=body, headers=headers)

    def _spoilt(self, reply: Reply, request: Request, fault: Fault | None) -> Reply:
        before, self._said[request.role] = self._said.get(request.role, reply.content), reply.content
        return replace(reply, content=before) if fault and fault.kind == "stale" else spoil(reply, fault)

    def _refuse_key(self, http: web.Request) -> Reply | None:
        if self.api_key is None or http.headers.get("Authorization") == f"Bearer {self.api_key}":
            return None
        return Reply("Incorrect API key provided.", status=401, code="invalid_api_key")

    def _refuse(self, request: Request) -> Reply | None:
        """What a real server would not take."""
        if self.models and request.model not in self.models:
            return Reply(f"The model `{request.model}` does not exist.", status=404, code="model_not_found")
        if self.context_tokens is not None and request.prompt_tokens > self.context_tokens:
            text = f"This model's maximum context length is {self.context_tokens} tokens, but the messages have {request.prompt_tokens}."
            return Reply(text, status=400, code="context_length_exceeded")
        taken = {"json_schema": ("text", "json_object", "json_schema"), "json_object": ("text", "json_object"), "text": ("text",)}
        if request.format not in taken[self.structured]:
            text = f"Invalid parameter: 'response_format' of type '{request.format}' is not supported with this model."
            return Reply(text, status=400, code="unsupported_value")
        if request.body.get("logprobs") and (request.body.get("top_logprobs") or 0) > self.top_logprobs:
            text = (
                f"Invalid value for 'top_logprobs': must be at most {self.top_logprobs}."
                if self.top_logprobs
                else "logprobs: not supported"
            )
            return Reply(text, status=400, code="invalid_value")
        if request.body.get("n") not in (None, 1):
            return Reply("Invalid parameter: only one choice ('n') is supported.", status=400, code="unsupported_value")
        return None

    def _strike(self, request: Request) -> tuple[Fault | None, float]:
        """The first fault that hits this try, and the seconds that slow ones before it add."""
        delay = 0.0
        for fault in self.faults:
            if fault.role not in (None, request.role) or self.count(fault.role) <= fault.after:
                continue
            if fault.kind in OF_JSON and request.format == "text" and request.contract is None:
                continue
            if fault.lasts is not None and time.monotonic() - self._began.setdefault(fault, time.monotonic()) >= fault.lasts:
                continue
            if fault.times is not None and self._hits[fault, request.key] >= fault.times:
                continue
            if random.Random(f"{self.seed} {fault.kind} {request.key} {request.number}").random() >= fault.rate:
                continue
            self._hits[fault, request.key] += 1
            if fault.kind != "slow":
                return fault, delay
            delay += fault.seconds
        return None, delay

    def _reply(self, request: Request) -> Reply:
        said = self.script(request) if self.script else None
        if isinstance(said, Reply):
            reply = said
        elif said is not None:
            reply = Reply(said if isinstance(said, str) else json.dumps(said, ensure_ascii=False))
        else:
            reply = self._improvise(request)
        return reply if reply.status >= 400 else limit(reply, request)

    def _improvise(self, request: Request) -> Reply:
        speaker = Speaker(random.Random(f"{self.seed} {request.key}"), request.task, self.duplicates, request.told)
        if request.role in tools.ROLES:
            drawn = random.Random(f"{self.seed} {request.key}")
            content = json.dumps(tools.improvise(request.role, request.task, drawn, self.duplicates), ensure_ascii=False)
        elif (schema := request.contract) is not None:
            content = json.dumps(speaker.value(schema), ensure_ascii=False)
        elif request.format == "text":
            content = speaker.answer()
        else:
            content = json.dumps({"answer": speaker.answer()}, ensure_ascii=False)
        reasons = self.reasoning or request.role == "thinker"
        return Reply(content, reasoning=speaker.answer() if reasons else None)

    async def _embeddings(self, http: web.Request) -> web.StreamResponse:
        """Unit vectors in which texts that share words lie close; a list of token numbers counts as a text."""
        refusal = self._refuse_key(http)
        if refusal:
            return respond(refusal)
        body = await http.json()
        asked = body["input"]
        texts = [asked] if isinstance(asked, str) or (asked and isinstance(asked[0], int)) else asked
        vectors = [embed(one if isinstance(one, str) else " ".join(map(str, one)), body.get("dimensions") or 256) for one in texts]
        shown = [_pack(one) for one in vectors] if body.get("encoding_format") == "base64" else vectors
        data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)]
        used = sum(count_tokens(one) if isinstance(one, str) else len(one) for one in texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return web.json_response({"object": "list", "model": body.get("model"), "data": data, "usage": usage})

    async def _reward(self, http: web.Request) -> web.StreamResponse:
        """A number between -1 and 1 for a conversation, as a reward model gives one: the same for the same words."""
        refusal = self._refuse_key(http)
        if refusal:
            return respond(refusal)
        said = random.Random(f"{self.seed} {(await http.json())['messages']}").uniform(-1, 1)
        return web.json_response({"data": [{"index": 0, "data": [said]}]})

    async def _list_models(self, http: web.Request) -> web.StreamResponse:
        refusal = self._refuse_key(http)
        if refusal:
            return respond(refusal)
        names = self.models or ("scripted",)
        data = [{"id": one, "object": "model", "created": 0, "owned_by": "leafmill"} for one in names]
        return web.json_response({"object": "list", "data": data})


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _pack(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


async def serve_forever(port: int, seed: int, latency: float) -> None:
    async with ScriptedServer(seed, latency, port=port) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()
