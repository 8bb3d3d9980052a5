"""A model behind an OpenAI-compatible address: how it is spoken to, how often one call is tried, and what its faults mean.

    Endpoint.complete -> Completion     takes a place; retries transport faults (tenacity), as nothing else does
        `-- _speak                      in the best dialect that the server is known to take; learns a worse one when it refuses
            `-- _send                   once; a fault of the SDK becomes one of ours

ChatOpenAI of langchain-openai does the sending, over one aiohttp transport per endpoint (the SDK's default
costs more CPU a call, and more the more calls are open). Everything that varies goes in the body. The ledger
holds messages and parameters; how a schema is asked for (the dialect) is the endpoint's own business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import openai
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from leafmill import errors
from leafmill.recipe import Model
from leafmill.records import Usage

for _name in ("httpx", "httpx2"):  # one line per request is no news
    logging.getLogger(_name).setLevel(logging.WARNING)
warnings.filterwarnings("ignore", "This model does not support OpenAI's structured output", UserWarning)  # the dialect is learnt here
DIALECTS = ("json_schema", "json_object", "text")
THINK = re.compile(r"^\s*(?:<think>(?P<inside>.*?)</think>|(?P<before>.*?)\n</think>[ \t]*\n)\s*", re.DOTALL)
"""a reasoning model's thoughts; some servers keep the opening tag in the prompt, so that only the closing one comes back"""

PARTS = {"response_format": r"response_format|schema|grammar", "max_tokens": r"max_tokens", "seed": r"(?<![\w-])seed(?![\w-])"}
"""What a refusal says of each part of the body that a server may not take; a model may be called something-seed."""

MODERATED = re.compile(r"moderat|content.{0,12}(?:policy|filter|safety)|safety|敏感|违规|审核", re.IGNORECASE)
"""of a 403 that is about this one prompt, not about the key"""


@dataclass(frozen=True)
class Completion:
    """One reply of a model: text, reasoning kept apart from it, why it ended, what it cost, how many tries it took."""

    text: str
    reasoning: str
    finish_reason: str
    usage: Usage
    attempts: int


class ThinkingChatOpenAI(ChatOpenAI):
    """ChatOpenAI that keeps the reasoning field of reasoning models, which ChatOpenAI drops."""

    def _create_chat_result(self, response: dict[str, Any] | openai.BaseModel, generation_info: dict[str, Any] | None = None) -> ChatResult:
        result = super()._create_chat_result(response, generation_info)
        raw = response if isinstance(response, dict) else response.model_dump()
        for generation, choice in zip(result.generations, raw.get("choices") or (), strict=False):
            said = choice.get("message") or {}
            reasoning = said.get("reasoning_content") or said.get("reasoning")
            if isinstance(reasoning, str):
                generation.message.additional_kwargs["reasoning"] = reasoning
        return result


class Transient(Exception):
    """A fault worth another try: the error it becomes when tries run out, and how long the server asked to wait (seconds)."""

    def __init__(self, error: errors.LeafmillError, wait: float | None = None) -> None:
        self.error, self.wait = error, wait
        super().__init__(str(error))


class DialectRefused(Exception):
    """The server does not take a part of the body; `part` is response_format, max_tokens or seed."""

    def __init__(self, part: str) -> None:
        self.part = part
        super().__init__(part)


@dataclass
class Endpoint:
    """One model alias of a recipe. `base_url` may differ from the recipe's: an embedded model has it only once it is served."""

    alias: str
    model: Model
    base_url: str
    format: str = ""
    """how structured output is asked for; in mode auto it starts at json_schema and goes down as the server refuses"""
    limit_key: str = "max_tokens"
    send_seed: bool = True
    _places: asyncio.Semaphore = field(init=False, repr=False)
    _chat: ThinkingChatOpenAI = field(init=False, repr=False)
    _transport: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.format = "json_schema" if self.model.structured == "auto" else self.model.structured
        self.send_seed = self.model.send_seed
        self._places = asyncio.Semaphore(self.model.concurrency)
        self._transport = openai.DefaultAioHttpClient(base_url=self.base_url, timeout=self.model.timeout)
        key = self.model.api_key.get_secret_value() if self.model.api_key else "none"
        self._chat = ThinkingChatOpenAI(
            model=self.model.served_name,
            base_url=self.base_url,
            api_key=key,
            max_retries=0,
            timeout=self.model.timeout,
            use_responses_api=False,
            http_async_client=self._transport,
        )

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def complete(
        self, messages: Sequence[Mapping[str, str]], params: Mapping[str, Any], schema: tuple[str, Mapping[str, Any]] | None, role: str
    ) -> Completion:
        """Send one call until it is answered. `params` are temperature, max_tokens, seed; `schema` is (name, JSON schema).

        Raises an EndpointError when no call can work, a CallError when this one cannot.
        """
        tries = 0
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.model.attempts),
            retry=retry_if_exception(lambda fault: isinstance(fault, Transient)),
            wait=_wait,
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    tries += 1
                    async with self._places:
                        return await self._speak(messages, params, schema, role, tries)
        except Transient as fault:
            if isinstance(fault.error, errors.CallError):
                fault.error.attempts = tries
            raise fault.error from fault
        raise AssertionError("tenacity always returns or raises")

    async def _speak(self, messages: Any, params: Mapping[str, Any], schema: Any, role: str, tries: int) -> Completion:
        """Send once, in the best dialect that the server is known to take; learn a worse one when it refuses."""
        while True:
            spoken = (self.format, self.limit_key, self.send_seed)
            try:
                return await self._send(messages, params, schema, role, tries)
            except DialectRefused as refused:
                if spoken != (self.format, self.limit_key, self.send_seed):
                    continue  # another call has learned since this one was sent: speak as it does before learning more
                if refused.part == "response_format" and self.model.structured == "auto" and self.format != "text":
                    self.format = DIALECTS[DIALECTS.index(self.format) + 1]
                elif refused.part == "max_tokens" and self.limit_key == "max_tokens":
                    self.limit_key = "max_completion_tokens"
                elif refused.part == "seed" and self.send_seed:
                    self.send_seed = False
                else:
                    raise errors.EndpointError(f"{self}: the server refuses {refused.part!r}: {refused.__cause__}") from refused

    async def _send(self, messages: Any, params: Mapping[str, Any], schema: Any, role: str, tries: int) -> Completion:
        body = {**self.model.extra_body, **params, self.limit_key: params["max_tokens"]}
        if self.limit_key != "max_tokens":
            del body["max_tokens"]
        if not self.send_seed:
            body.pop("seed", None)
        if schema is not None:
            messages = self._with_format(messages, schema, body)
        try:
            reply = await self._chat.ainvoke(list(messages), extra_body=body, extra_headers={"x-leafmill-role": role})
            return _completion(reply, tries)
        except openai.OpenAIError as fault:
            raise self._explain(fault) from fault
        except (ValueError, TypeError, AttributeError, LookupError) as fault:  # a 200 whose body is not a completion
            raise Transient(errors.ReplyError("undecodable_reply", f"{self}: the reply is not a chat completion: {fault}")) from fault

    def _with_format(self, messages: Any, schema: tuple[str, Mapping[str, Any]], body: dict[str, Any]) -> list[dict[str, str]]:
        name, contract = schema
        if self.format == "json_schema":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": contract}}
            return list(messages)
        if self.format == "json_object":
            body["response_format"] = {"type": "json_object"}
        hint = f"Reply with one JSON object and nothing else. Its JSON schema: {json.dumps(contract, ensure_ascii=False)}"
        return [*messages[:-1], {**messages[-1], "content": f"{messages[-1]['content']}\n\n{hint}"}]

    def _explain(self, fault: openai.OpenAIError) -> Exception:
        """What a fault of the SDK means to a run."""
        text = self._without_key(_said(fault))
        if isinstance(fault, openai.APIConnectionError):
            return Transient(self._explain_connection(_root(fault)))
        if isinstance(fault, openai.PermissionDeniedError) and MODERATED.search(text):
            return errors.CallError(f"{self}: refused for its content: {text}")
        if isinstance(fault, openai.AuthenticationError | openai.PermissionDeniedError):
            return errors.WrongKeyError(f"{self}: the server refuses the API key: {text}. Check `api_key` of models.{self.alias}")
        if isinstance(fault, openai.NotFoundError):
            name = self.model.served_name
            return errors.UnknownModelError(f"{self}: no model {name!r} there (or base_url does not end in /v1): {text}")
        if isinstance(fault, openai.RateLimitError):
            if "insufficient_quota" in text or "billing" in text.lower():
                return errors.QuotaError(f"{self}: the account has no quota left: {text}")
            return Transient(
                errors.ServerFaultError(f"{self}: still refused for its rate after {self.model.attempts} tries: {text}"),
                _retry_after(fault),
            )
        if isinstance(fault, openai.APIStatusError) and fault.status_code == 402:  # Payment Required: how some providers say it
            return errors.QuotaError(f"{self}: the account has no quota left: {text}")
        if isinstance(fault, openai.BadRequestError | openai.UnprocessableEntityError):
            return self._explain_refusal(text)
        if isinstance(fault, openai.InternalServerError):
            return Transient(errors.ServerFaultError(f"{self}: {text}"), _retry_after(fault))
        if isinstance(fault, openai.APIResponseValidationError):
            return Transient(errors.ReplyError("undecodable_reply", f"{self}: the reply is not valid: {text}"))
        return errors.CallError(f"{self}: {text}")

    def _explain_connection(self, cause: BaseException) -> errors.LeafmillError:
        """The transport calls a timeout whatever happens before the first byte: what it was is the innermost cause."""
        if isinstance(cause, TimeoutError):
            return errors.TimeoutCallError(f"{self}: no reply within {self.model.timeout:g} s ({cause})")
        if isinstance(cause, OSError) and not isinstance(cause, ConnectionResetError | BrokenPipeError):
            return errors.EndpointDownError(f"{self}: cannot be reached: {cause}. Is the server running, and base_url right?")
        return errors.ServerFaultError(f"{self}: the connection broke before the reply was there: {cause}")

    def _without_key(self, text: str) -> str:
        """Some servers repeat the key they refuse; it must not get further."""
        key = self.model.api_key.get_secret_value() if self.model.api_key else ""
        return text.replace(key, "***") if key else text

    def _explain_refusal(self, text: str) -> Exception:
        low = text.lower()
        if any(
            mark in low
            for mark in ("context_length", "context size", "context length", "context window", "prompt is too long", "too many tokens")
        ):
            return errors.ContextOverflowError(f"{self}: the prompt does not fit the model's context: {text}")
        for part, marks in PARTS.items():
            if re.search(marks, low):
                refused = DialectRefused(part)
                refused.__cause__ = Exception(text)
                return refused
        return errors.CallError(f"{self}: the request was refused: {text}")

    def __str__(self) -> str:
        return f"model {self.alias!r} ({self.model.served_name} at {self.base_url})"


def _completion(reply: AIMessage, tries: int) -> Completion:
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
    return Completion(text, reasoning, _clean(str(reply.response_metadata.get("finish_reason") or "")), usage, tries)


def _count(value: Any) -> int | None:
    """A number of tokens; None where the server says something else, which is no reason to lose a reply that was paid for."""
    return int(value) if isinstance(value, int | float) and value >= 0 else None


def _clean(text: str) -> str:
    """Text that can be stored: half of a surrogate pair, as a cut reply can hold, becomes a replacement mark; NULs go."""
    return text.encode("utf-8", "replace").decode().replace("\x00", "")


def _said(fault: openai.OpenAIError) -> str:
    """What the server said, with its own error code where it gave one, cut to a readable length."""
    code = getattr(fault, "code", None)
    text = str(getattr(fault, "message", fault))
    return _clean(f"{text} [{code}]" if code and str(code) not in text else text)[:600]


def _root(fault: BaseException) -> BaseException:
    return _root(fault.__cause__) if fault.__cause__ else fault


def _retry_after(fault: openai.APIStatusError) -> float | None:
    value = fault.response.headers.get("retry-after", "")
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None


_BACKOFF = wait_random_exponential(multiplier=0.5, max=20)


def _wait(state: RetryCallState) -> float:
    """Jittered exponential backoff in seconds; at least what the server asked for, up to two minutes."""
    fault = state.outcome.exception() if state.outcome else None
    asked = fault.wait if isinstance(fault, Transient) else None
    return max(min(asked or 0.0, 120.0), _BACKOFF(state))
