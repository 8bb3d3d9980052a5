"""A model at one OpenAI-compatible address: how it is spoken to, and what its faults mean. One try of one call; `Alias` tries again.

    Endpoint.ask -> Completion          takes a place of the governor, and tells it how the call went
        `-- _speak                      in the best dialect that the server is known to take; learns a worse one when it refuses
            `-- _send                   once (agents/models/transport.py); a fault of the transport becomes one of ours

Everything that varies goes in the body. The ledger holds messages and parameters; how a schema is asked for (the dialect) is the
endpoint's own business.
"""

from __future__ import annotations

import json
import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from langchain_core.messages import AIMessage

from agents.models.governor import Governor
from agents.models.logprobs import at_score
from agents.models.transport import FirstByteTimeout, RefusedError, ThinChatOpenAI, UnreadableError
from leafmill import errors, telemetry
from leafmill.log import ENDPOINT, INFO, WARNING, event
from leafmill.recipe import Address, Model, Timeouts
from leafmill.records import Usage

warnings.filterwarnings("ignore", "This model does not support OpenAI's structured output", UserWarning)  # the dialect is learnt here
DIALECTS = ("json_schema", "json_object", "text")
TOP_LOGPROBS = (20, 5, 0)
"""of how many tokens a place's log-probabilities are asked for; servers allow 20, or fewer, or none"""
THINK = re.compile(r"^\s*(?:<think>(?P<inside>.*?)</think>|(?P<before>.*?)\n</think>[ \t]*\n)\s*", re.DOTALL)
"""a reasoning model's thoughts; some servers keep the opening tag in the prompt, so that only the closing one comes back"""

PARTS = {
    "logprobs": r"logprobs|log.?probabilit",
    "response_format": r"response_format|schema|grammar",
    "max_tokens": r"max_tokens",
    "seed": r"(?<![\w-])seed(?![\w-])",
}
"""What a refusal says of each part of the body that a server may not take; a model may be called something-seed."""

MODERATED = re.compile(r"moderat|content.{0,12}(?:policy|filter|safety)|safety|敏感|违规|审核", re.IGNORECASE)
"""of a 403 that is about this one prompt, not about the key"""

OVERFLOW = re.compile(r"context[_ ](?:length|size|window)|prompt is too long|too many tokens", re.IGNORECASE)
OVERLOADED = frozenset({429, 503, 529})
"""statuses by which a server says that it is too much, whoever asks"""


@dataclass(frozen=True)
class Completion:
    """One reply of a model: text, reasoning kept apart from it, why it ended, what it cost, where it came from and after how many tries."""

    text: str
    reasoning: str
    finish_reason: str
    usage: Usage
    attempts: int = 1
    base_url: str = ""
    score_logprobs: Mapping[str, float] | None = None
    """of what might have stood where a score was written, if that was asked for and is told"""


@dataclass(frozen=True)
class Asked:
    """One call as it is to be sent: `params` are temperature, max_tokens, seed; `schema` is (name, JSON schema); `tokens` is the most that
    prompt and reply may come to; `logprobs`: how likely each score was is wanted too."""

    messages: Sequence[Mapping[str, str]]
    params: Mapping[str, Any]
    schema: tuple[str, Mapping[str, Any]] | None
    role: str
    timeouts: Timeouts
    tokens: int
    logprobs: bool = False


class Transient(Exception):
    """A fault worth another try: the error it becomes when tries run out, and how long the server asked to wait (seconds).

    `general`: it befalls whoever asks (a rate limit, an overloaded server, one that is down), so it says nothing about this call.
    """

    def __init__(self, error: errors.LeafmillError, wait: float | None = None, *, general: bool = False) -> None:
        self.error, self.wait, self.general = error, wait, general
        super().__init__(str(error))

    @property
    def code(self) -> str:
        """What log and spans call it: the HTTP status where the server answered, else the code of the error that it becomes."""
        cause = self.__cause__
        return str(cause.status) if isinstance(cause, RefusedError) else getattr(self.error, "code", type(self.error).__name__)


class DialectRefused(Exception):
    """The server does not take a part of the body; `part` is one of `PARTS`."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(part)


@dataclass
class Endpoint:
    """One address of an alias. Its governor is shared with every other endpoint of the same address and model."""

    alias: str
    model: Model
    address: Address
    governor: Governor
    format: str = ""
    """how structured output is asked for; in mode auto it starts at json_schema and goes down as the server refuses"""
    limit_key: str = "max_tokens"
    send_seed: bool = True
    top_logprobs: int = TOP_LOGPROBS[0]
    """for how many tokens log-probabilities are asked where a call wants them; fewer, and then none, as the server refuses"""
    reached: set[str] = field(default_factory=set)
    """addresses that have answered, of all endpoints of a run"""
    sent: int = 0
    is_down: bool = False
    """it could not be reached the last time"""
    _chat: ThinChatOpenAI = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.format = "json_schema" if self.model.structured == "auto" else self.model.structured
        self.send_seed = self.model.send_seed
        key = self.address.api_key.get_secret_value() if self.address.api_key else "none"
        self._chat = ThinChatOpenAI.at(self.address.base_url, self.served_name, key)

    @property
    def served_name(self) -> str:
        """What the model is called at this address."""
        return self.address.model or self.model.served_name

    async def aclose(self) -> None:
        await self._chat.aclose()

    async def ask(self, asked: Asked) -> Completion:
        """Send one call once. Raises Transient when another try may help, a CallError when this call cannot be had, an EndpointError
        when none can."""
        self.sent += 1
        used = None
        place = await self.governor.enter(asked.tokens)
        began = time.monotonic()
        try:
            with telemetry.call(self.served_name, self.address.base_url, asked.params, asked.schema is not None) as span:
                reply = await self._speak(asked)
                done = _completion(reply, self.address.base_url)
                span.answered(done.finish_reason, done.usage)
            used = done.usage.total or None
            self.governor.answered(place, reply.response_metadata.get("headers") or {})
        except Transient as fault:
            fault.general = fault.general or self._befalls_all(fault, began)
            if fault.general or isinstance(fault.error, errors.TimeoutCallError):
                self.governor.refused(place, fault.wait)
            if isinstance(fault.error, errors.EndpointDownError) and not self.is_down:
                self.is_down = True
                event(ENDPOINT, WARNING, "endpoint down", model=self.served_name, endpoint=self.address.base_url)
            raise
        finally:
            self.governor.leave(place, used)
        self.reached.add(self.address.base_url)
        if self.is_down:
            self.is_down = False
            event(ENDPOINT, INFO, "endpoint back", model=self.served_name, endpoint=self.address.base_url)
        return done

    def _befalls_all(self, fault: Transient, began: float) -> bool:
        """Whether a fault is probably the endpoint's and not this call's: others are under way too, and since this one was sent nobody was
        answered, though there were answers before. A timeout is the call's: a long reply is no sign of anything."""
        last, others = self.governor.answered_at, self.governor.in_flight + self.governor.waiting > 1
        return others and last is not None and last < began and not isinstance(fault.error, errors.TimeoutCallError)

    async def _speak(self, asked: Asked) -> AIMessage:
        """Send once, in the best dialect that the server is known to take; learn a worse one when it refuses."""
        while True:
            spoken = (self.format, self.limit_key, self.send_seed, self.top_logprobs)
            try:
                return await self._send(asked)
            except DialectRefused as refused:
                if spoken != (self.format, self.limit_key, self.send_seed, self.top_logprobs):
                    continue  # another call has learned since this one was sent: speak as it does before learning more
                if refused.part == "response_format" and self.model.structured == "auto" and self.format != "text":
                    self.format = DIALECTS[DIALECTS.index(self.format) + 1]
                elif refused.part == "max_tokens" and self.limit_key == "max_tokens":
                    self.limit_key = "max_completion_tokens"
                elif refused.part == "seed" and self.send_seed:
                    self.send_seed = False
                elif refused.part == "logprobs" and asked.logprobs and self.top_logprobs:
                    self.top_logprobs = TOP_LOGPROBS[TOP_LOGPROBS.index(self.top_logprobs) + 1]
                else:
                    raise errors.EndpointError(f"{self}: the server refuses {refused.part!r}: {refused.__cause__}") from refused

    async def _send(self, asked: Asked) -> AIMessage:
        body = {**self.model.extra_body, **asked.params, self.limit_key: asked.params["max_tokens"]}
        if self.limit_key != "max_tokens":
            del body["max_tokens"]
        if not self.send_seed:
            body.pop("seed", None)
        if asked.logprobs and self.top_logprobs:
            body.update(logprobs=True, top_logprobs=self.top_logprobs)
        messages: Any = list(asked.messages) if asked.schema is None else self._with_format(asked.messages, asked.schema, body)
        try:
            return await self._chat.say(messages, body=body, role=asked.role, timeouts=asked.timeouts)
        except RefusedError as fault:
            raise self._explain(fault) from fault
        except UnreadableError as fault:
            text = self._shown(str(fault))
            raise Transient(errors.ReplyError("undecodable_reply", f"{self}: the reply is not a chat completion: {text}")) from fault
        except aiohttp.ConnectionTimeoutError as fault:
            what = f"{self}: cannot be reached within {asked.timeouts.connect:g} s. Is the server running, and base_url right?"
            raise self._down(what) from fault
        except TimeoutError as fault:
            said = str(fault) if isinstance(fault, FirstByteTimeout) else f"no reply within {asked.timeouts.total:g} s"
            raise Transient(errors.TimeoutCallError(f"{self}: {said}")) from fault
        except aiohttp.ClientConnectorError as fault:
            raise self._down(f"{self}: cannot be reached: {fault.os_error}. Is the server running, and base_url right?") from fault
        except aiohttp.InvalidURL as fault:
            raise errors.EndpointError(f"{self}: not an address: {fault}") from fault
        except aiohttp.ClientError as fault:
            raise Transient(errors.ServerFaultError(f"{self}: the connection broke before the reply was there: {fault!r}")) from fault

    def _with_format(self, messages: Any, schema: tuple[str, Mapping[str, Any]], body: dict[str, Any]) -> list[dict[str, str]]:
        name, contract = schema
        if self.format == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": contract}}
            return list(messages)
        if self.format == "json_object":
            body["response_format"] = {"type": "json_object"}
        hint = f"Reply with one JSON object and nothing else. Its JSON schema: {json.dumps(contract, ensure_ascii=False)}"
        return [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}\n\n{hint}"}]

    def _explain(self, fault: RefusedError) -> Exception:
        """What an answer that is no reply means to a run."""
        text, status = self._shown(_said(fault)), fault.status
        if 300 <= status < 400:
            return errors.EndpointError(f"{self}: moved to {self._shown(fault.headers.get('location', '?'))}: write that into base_url")
        if status == 403 and MODERATED.search(text):
            return errors.CallError(f"{self}: refused for its content: {text}")
        if status in (401, 403):
            return errors.WrongKeyError(f"{self}: the server refuses the API key: {text}. Check `api_key` of models.{self.alias}")
        if status == 404:
            return errors.UnknownModelError(f"{self}: no model {self.served_name!r} there (or base_url does not end in /v1): {text}")
        if status == 402 or (status == 429 and ("insufficient_quota" in text or "billing" in text.lower())):
            return errors.QuotaError(f"{self}: the account has no quota left: {text}")
        if status in OVERLOADED:
            what = "refused for its rate" if status == 429 else "overloaded"
            return Transient(errors.ServerFaultError(f"{self}: {what}: {text}"), _retry_after(fault), general=True)
        if status >= 500 or status in (408, 409, 425):
            return Transient(errors.ServerFaultError(f"{self}: {text}"), _retry_after(fault))
        if status in (400, 413, 422):
            return self._explain_refusal(text)
        return errors.CallError(f"{self}: {text}")

    def _explain_refusal(self, text: str) -> Exception:
        if OVERFLOW.search(text):
            return errors.ContextOverflowError(f"{self}: the prompt does not fit the model's context: {text}")
        for part, marks in PARTS.items():
            if re.search(marks, text.lower()):
                refused = DialectRefused(part)
                refused.__cause__ = Exception(text)
                return refused
        return errors.CallError(f"{self}: the request was refused: {text}")

    def _down(self, what: str) -> Transient:
        """A server that has answered before will probably come back; one that never has may be a wrong address."""
        return Transient(errors.EndpointDownError(what), general=self.address.base_url in self.reached)

    def _shown(self, text: str) -> str:
        """Text of a server as it may be shown: storable, of readable length, and without the key, which some servers repeat."""
        key = self.address.api_key.get_secret_value() if self.address.api_key else ""
        text = _clean(text)
        return (text.replace(key, "***") if key else text)[:600]

    def __str__(self) -> str:
        return f"model {self.alias!r} ({self.served_name} at {self.address.base_url})"


def _completion(reply: AIMessage, base_url: str) -> Completion:
    text = _clean(reply.text)
    reasoning = _clean(str(reply.additional_kwargs.get("reasoning", "")))
    if thought := THINK.match(text):
        text, reasoning = text[thought.end() :], reasoning or (thought["inside"] or thought["before"] or "").strip()
    counted: Any = reply.usage_metadata or {}
    usage = Usage(
        prompt=_count(counted.get("input_tokens")),
        completion=_count(counted.get("output_tokens")),
        cached=_count((counted.get("input_token_details") or {}).get("cache_read")),
        reasoning=_count((counted.get("output_token_details") or {}).get("reasoning")),
    )
    finish, told = _clean(str(reply.response_metadata.get("finish_reason") or "")), at_score(reply.response_metadata.get("logprobs"))
    return Completion(text, reasoning, finish, usage, base_url=base_url, score_logprobs=told)


def _count(value: Any) -> int | None:
    """A number of tokens; None where the server says something else, which is no reason to lose a reply that was paid for."""
    return int(value) if isinstance(value, int | float) and value >= 0 else None


def _clean(text: str) -> str:
    """Text that can be stored: half of a surrogate pair, as a cut reply can hold, becomes a replacement mark; NULs go."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def _said(fault: RefusedError) -> str:
    """What the server said, with its own error code where it gave one; the status where it said nothing."""
    try:
        body = json.loads(fault.text)
    except ValueError:
        body = None
    error = body.get("error", body) if isinstance(body, dict) else None
    if not isinstance(error, dict):
        return f"HTTP {fault.status}: {error or fault.text.strip()}"
    text, code = str(error.get("message") or error), error.get("code")
    return f"HTTP {fault.status}: {text} [{code}]" if code and str(code) not in text else f"HTTP {fault.status}: {text}"


def _retry_after(fault: RefusedError) -> float | None:
    """Seconds; a server may also give milliseconds."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        if re.fullmatch(r"\d+(\.\d+)?", value := fault.headers.get(name, "")):
            return float(value) * unit
    return None
