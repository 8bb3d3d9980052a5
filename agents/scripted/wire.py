"""How a scripted model's request and reply look on the wire: the bodies of OpenAI's protocol, whole, as a stream, or broken on the way."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from aiohttp import web

from agents.scripted.words import Schema, count_tokens, cut_tokens, find_schema

DRIPS = 20
"""pieces that a slow body comes in"""


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
    def contract(self) -> Schema | None:
        """The JSON schema that the reply must obey: the one sent, or else the one that a message spells out."""
        return self.schema or find_schema("\n".join(_text(one) for one in self.messages))

    @property
    def prompt(self) -> str:
        """The text of the last message of the user."""
        return next((_text(one) for one in reversed(self.messages) if one.get("role") == "user"), "")

    @property
    def task(self) -> str:
        """The text of the first message of the user, which says what it is all about; later ones ask again."""
        return next((_text(one) for one in self.messages if one.get("role") == "user"), "")

    @property
    def told(self) -> str:
        """The text of the system message; "" without one."""
        return next((_text(one) for one in self.messages if one.get("role") == "system"), "")

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
    likely: Mapping[str, float] = field(default_factory=dict)
    """how likely which tokens were where a `score` is written, for requests with `logprobs`; none: the written one was certain"""


def limit(reply: Reply, request: Request) -> Reply:
    """The reply cut to max_tokens. Reasoning is spent first, so that a small limit leaves no content at all."""
    most = request.body.get("max_completion_tokens") or request.body.get("max_tokens")
    if not most:
        return reply
    reasoning = None if reply.reasoning is None else cut_tokens(reply.reasoning, most)
    content = None if reply.content is None else cut_tokens(reply.content, max(0, most - count_tokens(reasoning or "")))
    if (content, reasoning) == (reply.content, reply.reasoning):
        return reply
    return replace(reply, content=content, reasoning=reasoning, finish="length")


def completion(request: Request, reply: Reply) -> dict[str, Any]:
    """The reply as the JSON of a whole completion."""
    message = {"role": "assistant", "content": reply.content}
    if reply.reasoning is not None:
        message["reasoning_content"] = reply.reasoning
    choice = {"index": 0, "message": message, "finish_reason": reply.finish or "stop", "logprobs": None}
    if request.body.get("logprobs"):
        choice["logprobs"] = {"content": _told(reply, request.body.get("top_logprobs") or 0)}
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


def _told(reply: Reply, most: int) -> list[dict[str, Any]]:
    """The content's tokens with their log-probabilities. A Chinese character is two tokens, as it is to models that read bytes."""
    content = (reply.content or "").encode()
    score = re.search(rb'"score": *(?=\d)(?!.*"score": *\d)', content, re.DOTALL)
    told = []
    for piece in re.finditer(rb"[\xc0-\xff][\x80-\xbf]|[\x80-\xbf]+|\d| ?[A-Za-z]+|.", content, re.DOTALL):
        text = piece[0].decode("utf-8", "replace")
        chances = reply.likely if score and piece.start() == score.end() and reply.likely else {text: 1.0}
        top = sorted(chances.items(), key=lambda item: -item[1])[:most]
        ranked = [{"token": token, "logprob": math.log(chance), "bytes": list(token.encode())} for token, chance in top]
        told.append({"token": text, "logprob": 0.0, "bytes": list(piece[0]), "top_logprobs": ranked})
    return told


def stream(request: Request, reply: Reply) -> str:
    """The completion as server-sent events: reasoning, then content by the word, then the finish, then the usage."""
    whole = completion(request, reply)
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
    return "".join(f"data: {one}\n\n" for one in lines)


def respond(reply: Reply) -> web.Response:
    """An error in the shape of OpenAI's."""
    kind = reply.code if reply.code in ("insufficient_quota", "server_error") else "invalid_request_error"
    error = {"message": reply.content, "type": kind, "param": None, "code": reply.code}
    return web.json_response({"error": error}, status=reply.status, headers=reply.headers)


async def send_half(http: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    """Half of a body whose header promises all of it, and then a closed connection."""
    response = await _begin(http, body, headers)
    await response.write(body[: len(body) // 2])
    if http.transport is not None:
        http.transport.close()
    return response


async def send_slowly(http: web.Request, body: bytes, headers: Mapping[str, str], seconds: float) -> web.StreamResponse:
    """A body that takes so many seconds from its first byte to its last."""
    response = await _begin(http, body, headers)
    step = len(body) // DRIPS + 1
    pieces = [body[start : start + step] for start in range(0, len(body), step)]
    for piece in pieces:
        await asyncio.sleep(seconds / len(pieces))
        await response.write(piece)
    await response.write_eof()
    return response


async def _begin(http: web.Request, body: bytes, headers: Mapping[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers={**headers, "Content-Length": str(len(body))})
    await response.prepare(http)
    return response


def _text(message: Mapping[str, Any]) -> str:
    """The text of a message, whose content may be a string, a list of parts or null."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "\n".join(one.get("text", "") for one in content)
