"""A model server that follows a script: real HTTP on loopback, OpenAI-compatible, without any model behind it.

    async with ScriptedServer(seed=7, latency=0.2, faults=[Fault("429", rate=0.1, retry_after=1)]) as server:
        client = openai.AsyncOpenAI(base_url=server.base_url, api_key="any")

or `python -m agents.scripted --port 8765`, for a dry run of a recipe that costs nothing.

A reply is a function of the server's seed and of what was asked (model, messages, response format, the request's own seed), never of
the order of arrival. It obeys the JSON schema of the request, or the one spelled out in its prompt, or is plain text; a `script` may
answer instead. Faults strike by a hash of the same content and the number of the try, so that a retry may well succeed.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import json
import random
import re
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from aiohttp import web

from agents.scripted_words import Speaker, count_tokens, cut_tokens, embed, find_schema

FaultKind = Literal[
    "429", "quota", "500", "503", "reset", "hang", "slow", "empty", "null_content", "cut", "bad_json", "huge", "bad_utf8", "truncated_body"
]
Structured = Literal["json_schema", "json_object", "text"]

HUGE = 100_000
"""Characters in the content of a `huge` reply."""
MAX_BODY = 64 * 2**20
"""Bytes of the largest request that is read."""


@dataclass(frozen=True)
class Request:
    """One completion that was asked for."""

    model: str
    messages: Sequence[Mapping[str, Any]]
    role: str | None
    """who asks: the header x-leafmill-role, or else the name of the JSON schema"""
    schema: Mapping[str, Any] | None
    seed: int | None
    body: Mapping[str, Any]
    """the whole request as it came"""
    headers: Mapping[str, str]
    """names in lower case; the key is left out"""
    key: str
    """digest of the model, messages, response format and seed: identical requests have the same"""
    number: int
    """which try of this identical request, from 1"""

    @property
    def format(self) -> str:
        return (self.body.get("response_format") or {}).get("type") or "text"

    @property
    def prompt(self) -> str:
        """The text of the last message of the user."""
        return next((_text(one) for one in reversed(self.messages) if one.get("role") == "user"), "")

    @property
    def prompt_tokens(self) -> int:
        return sum(4 + count_tokens(_text(one)) for one in self.messages)


@dataclass(frozen=True)
class Reply:
    """What is answered. With a status of 400 or more the content is the message of the error, and `code` its code and type."""

    content: str | None
    reasoning: str | None = None
    finish: str | None = None
    """the finish_reason; None: `stop`, or `length` where max_tokens cut the reply"""
    status: int = 200
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Script = Callable[[Request], "Reply | str | Mapping[str, Any] | None"]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a share of the requests.

    429, quota, 500, 503: an error instead of a reply. reset: the connection breaks without one. hang: nothing ever comes.
    slow: `seconds` later than usual. empty, null_content, cut, bad_json, huge: the content is at fault. bad_utf8, truncated_body:
    the bytes are.
    """

    kind: FaultKind
    rate: float = 1.0
    """share of the tries that are hit, 0 to 1"""
    role: str | None = None
    """only requests of this role; None: of any"""
    times: int | None = None
    """at most so many hits on identical requests; None: no bound"""
    after: int = 0
    """spares the first so many requests (of the role) to arrive; the one thing here that depends on their order"""
    seconds: float = 1.0
    """how long `slow` adds"""
    retry_after: float | None = None
    """seconds that the Retry-After header of a 429 or 503 says; None: no header"""


@dataclass
class Record:
    """What became of a request. Times are monotonic seconds; status is 0 until, and unless, an answer is sent."""

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
        reasoning: bool = False,
        duplicates: float = 0.1,
    ) -> None:
        """`latency` is in seconds; without `api_key` any key will do, without `models` any model; `structured` is the strongest
        response_format that is taken; `duplicates` is the share of instructions, 0 to 1, that repeat an earlier one."""
        self.seed, self.latency, self.script, self.faults = seed, latency, script, faults
        self.api_key, self.models, self.context_tokens = api_key, models, context_tokens
        self.structured, self.reasoning, self.duplicates = structured, reasoning, duplicates
        self.requests: list[Record] = []
        self.in_flight_peak = 0
        self.base_url = ""
        self._port = port
        self._in_flight = 0
        self._tries: Counter[str] = Counter()
        self._arrived: Counter[str | None] = Counter()
        self._hits: Counter[tuple[Fault, str]] = Counter()

    async def __aenter__(self) -> ScriptedServer:
        app = web.Application(client_max_size=MAX_BODY)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._list_models)
        self._closing = asyncio.Event()
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing.set()
        await self._runner.cleanup()

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

    async def _chat(self, http: web.Request) -> web.StreamResponse:
        try:
            request = self._read(await http.json(), http.headers)
        except (ValueError, TypeError, KeyError, AttributeError) as fault:
            return _respond(Reply(f"not a chat completion: {fault!r}", status=400))
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
        refusal = self._refuse_key(http) or self._refuse(request)
        fault, delay = (None, 0.0) if refusal else self._strike(request)
        record.fault = fault.kind if fault else "slow" if delay else None
        await asyncio.sleep(delay + (self.latency(request) if callable(self.latency) else self.latency))
        if fault and fault.kind == "hang":
            await self._closing.wait()
        if fault and fault.kind in ("hang", "reset"):
            if http.transport is not None:
                http.transport.abort()
            return web.Response()
        reply = refusal or (fault and _error_of(fault)) or _spoil(self._reply(request), fault)
        record.status = reply.status
        if reply.status >= 400:
            return _respond(reply)
        if request.body.get("stream"):
            kind, body = "text/event-stream", _stream(request, reply)
        else:
            kind, body = "application/json", json.dumps(_completion(request, reply), ensure_ascii=False).encode()
        if fault and fault.kind == "bad_utf8":
            body = body.replace(b'"content": "', b'"content": "\xff\xfe\xfd', 1)
        if fault and fault.kind == "truncated_body":
            return await _send_half(http, body, kind)
        return web.Response(body=body, content_type=kind, headers=reply.headers)

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
        if request.body.get("n") not in (None, 1):
            return Reply("Invalid parameter: only one choice ('n') is supported.", status=400, code="unsupported_value")
        return None

    def _strike(self, request: Request) -> tuple[Fault | None, float]:
        """The first fault that hits this try, and the seconds that slow ones before it add."""
        delay = 0.0
        for fault in self.faults:
            if fault.role not in (None, request.role) or self.count(fault.role) <= fault.after:
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
        return reply if reply.status >= 400 else _limit(reply, request)

    def _improvise(self, request: Request) -> Reply:
        speaker = Speaker(random.Random(f"{self.seed} {request.key}"), request.prompt, self.duplicates)
        schema = request.schema or find_schema("\n".join(_text(one) for one in request.messages))
        if schema is not None:
            content = json.dumps(speaker.value(schema), ensure_ascii=False)
        elif request.format == "text":
            content = speaker.answer()
        else:
            content = json.dumps({"answer": speaker.answer()}, ensure_ascii=False)
        return Reply(content, reasoning=speaker.answer() if self.reasoning else None)

    async def _embeddings(self, http: web.Request) -> web.StreamResponse:
        """Unit vectors in which texts that share words lie close; a list of token numbers counts as a text."""
        refusal = self._refuse_key(http)
        if refusal:
            return _respond(refusal)
        body = await http.json()
        asked = body["input"]
        texts = [asked] if isinstance(asked, str) or (asked and isinstance(asked[0], int)) else asked
        vectors = [embed(one if isinstance(one, str) else " ".join(map(str, one)), body.get("dimensions") or 256) for one in texts]
        shown = [_pack(one) for one in vectors] if body.get("encoding_format") == "base64" else vectors
        data = [{"object": "embedding", "index": index, "embedding": one} for index, one in enumerate(shown)]
        used = sum(count_tokens(one) if isinstance(one, str) else len(one) for one in texts)
        usage = {"prompt_tokens": used, "total_tokens": used}
        return web.json_response({"object": "list", "model": body.get("model"), "data": data, "usage": usage})

    async def _list_models(self, http: web.Request) -> web.StreamResponse:
        refusal = self._refuse_key(http)
        if refusal:
            return _respond(refusal)
        names = self.models or ("scripted",)
        data = [{"id": one, "object": "model", "created": 0, "owned_by": "leafmill"} for one in names]
        return web.json_response({"object": "list", "data": data})


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a string, a list of parts or null."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(one.get("text", "") for one in content)


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _pack(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _limit(reply: Reply, request: Request) -> Reply:
    """The reply cut to max_tokens. Reasoning is spent first, so that a small limit leaves no content at all."""
    limit = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    if not limit:
        return reply
    reasoning = None if reply.reasoning is None else cut_tokens(reply.reasoning, limit)
    content = None if reply.content is None else cut_tokens(reply.content, max(0, limit - count_tokens(reasoning or "")))
    if (content, reasoning) == (reply.content, reply.reasoning):
        return reply
    return replace(reply, content=content, reasoning=reasoning, finish="length")


def _error_of(fault: Fault) -> Reply | None:
    """The reply of a fault that is an error of HTTP."""
    headers = {} if fault.retry_after is None else {"Retry-After": f"{fault.retry_after:g}"}
    match fault.kind:
        case "429":
            return Reply("Rate limit reached.", status=429, code="rate_limit_exceeded", headers=headers)
        case "quota":
            return Reply("You exceeded your current quota.", status=429, code="insufficient_quota")
        case "500":
            return Reply("The server had an error.", status=500, code="server_error")
        case "503":
            return Reply("The server is overloaded.", status=503, code="overloaded", headers=headers)
    return None


def _spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply with the fault in its content, where the fault is of that kind."""
    content = reply.content or ""
    match fault.kind if fault else None:
        case "empty":
            return replace(reply, content="")
        case "null_content":
            return replace(reply, content=None)
        case "cut":
            return replace(reply, content=content[: len(content) // 2], finish="length")
        case "bad_json":
            return replace(reply, content='{"' + content[: len(content) // 2])
        case "huge":
            return replace(reply, content=(content or "-") * (HUGE // max(1, len(content))) + content[: HUGE % max(1, len(content))])
    return reply


def _completion(request: Request, reply: Reply) -> dict[str, Any]:
    message = {"role": "assistant", "content": reply.content}
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    choice = {"index": 0, "message": message, "finish_reason": reply.finish or "stop", "logprobs": None}
    thought = count_tokens(reply.reasoning or "")
    said = thought + count_tokens(reply.content or "")
    usage = {
        "prompt_tokens": request.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": request.prompt_tokens + said,
        "completion_tokens_details": {"reasoning_tokens": thought},
    }
    name = f"chatcmpl-{request.key}-{request.number}"
    return {"id": name, "object": "chat.completion", "created": 0, "model": request.model, "choices": [choice], "usage": usage}


def _stream(request: Request, reply: Reply) -> bytes:
    """The completion as server-sent events: reasoning, then content by the word, then the finish, then the usage."""
    whole = _completion(request, reply)
    finish, usage = whole["choices"][0]["finish_reason"], whole.pop("usage")
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    deltas += [{"reasoning_content": one} for one in re.findall(r"\S*\s*", reply.reasoning or "") if one]
    deltas += [{"content": one} for one in re.findall(r"\S{1,8}\s*|\s+", reply.content or "") if one]
    choices = [[{"index": 0, "delta": one, "finish_reason": None}] for one in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": finish}])
    events = [{**whole, "object": "chat.completion.chunk", "choices": one} for one in choices]
    if (request.body.get("stream_options") or {}).get("include_usage"):
        events.append({**events[0], "choices": [], "usage": usage})
    lines = [json.dumps(one, ensure_ascii=False) for one in events] + ["[DONE]"]
    return "".join(f"data: {one}\n\n" for one in lines).encode()


def _respond(reply: Reply) -> web.Response:
    """An error in the shape of OpenAI's."""
    kind = reply.code if reply.code in ("insufficient_quota", "server_error") else "invalid_request_error"
    error = {"message": reply.content, "type": kind, "param": None, "code": reply.code}
    return web.json_response({"error": error}, status=reply.status, headers=reply.headers)


async def _send_half(http: web.Request, body: bytes, kind: str) -> web.StreamResponse:
    """Half of a body whose header promises all of it, and then a closed connection."""
    response = web.StreamResponse(headers={"Content-Type": kind, "Content-Length": str(len(body))})
    await response.prepare(http)
    await response.write(body[: len(body) // 2])
    if http.transport is not None:
        http.transport.close()
    return response


async def serve_forever(port: int, seed: int, latency: float) -> None:
    async with ScriptedServer(seed, latency, port=port) as server:
        sys.stdout.write(f"{server.base_url}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m agents.scripted", description="Serve scripted replies; prints the base URL.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    options = parser.parse_args()
    try:
        asyncio.run(serve_forever(options.port, options.seed, options.latency))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
