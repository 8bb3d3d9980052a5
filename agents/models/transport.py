"""How a call travels: ChatOpenAI with another transport under it.

    ThinChatOpenAI.say -> LangChain's own payload -> POST over one aiohttp session -> LangChain's own result

Only the transport is ours. The SDK's (request models, reply models, a connection pool that is searched for every call) costs several
times more CPU a call, and the more the more calls are open; `bench/runtime` measures it. Everything else of ChatOpenAI holds: what
it is given, what it returns, and, by `ainvoke`, its callbacks. These cost as much again as the call, so `say` goes through them only
where LangSmith is told to trace, by its own variables.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from langsmith.utils import tracing_is_enabled
from pydantic import PrivateAttr

from leafmill.recipe import Timeouts


class RefusedError(Exception):
    """The server answered with an error: HTTP status, what it said, its headers (names in lower case)."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self.status, self.text, self.headers = status, text, headers
        super().__init__(f"HTTP {status}: {text}")


class UnreadableError(Exception):
    """A 200 whose body is no chat completion."""


class FirstByteTimeout(TimeoutError):
    """Nothing came within the time for the first byte."""


class ThinChatOpenAI(ChatOpenAI):
    """ChatOpenAI over one aiohttp session. Parameters given to a call go into its body as they are; `role` goes into a header, `timeouts`
    are those of the call. Keeps the reasoning field of reasoning models, which ChatOpenAI drops, and the reply's headers."""

    _session: aiohttp.ClientSession | None = PrivateAttr(None)
    _url: str = PrivateAttr("")
    _headers: dict[str, str] = PrivateAttr(default_factory=dict)
    _traced: bool = PrivateAttr(default_factory=lambda: bool(tracing_is_enabled()))

    @classmethod
    def at(cls, base_url: str, model: str, api_key: str) -> ThinChatOpenAI:
        """A model behind an address. The SDK's clients, which would not be used, are not built."""
        unused = object()
        clients = {"client": unused, "root_client": unused, "async_client": unused, "root_async_client": unused}
        made = cls(model=model, base_url=base_url, api_key=api_key, max_retries=0, use_responses_api=False, **clients)
        made._url = f"{base_url.rstrip('/')}/chat/completions"
        made._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}
        return made

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def say(self, messages: list[dict[str, str]], body: Mapping[str, Any], **how: Any) -> AIMessage:
        """One message, as `ainvoke` gives it. `messages` are as the server wants them, `body` is what else to send."""
        if self._traced:
            return await self.ainvoke(messages, body=body, **how)
        result = await self._ask({**self._default_params, "messages": messages, **body}, **how)
        said = result.generations[0]
        message = said.message
        message.response_metadata = {**(result.llm_output or {}), **message.response_metadata, **(said.generation_info or {})}
        assert isinstance(message, AIMessage)
        return message

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        role: str = "",
        timeouts: Timeouts | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await self._ask({**self._get_request_payload(messages, stop=stop, **kwargs), **(body or {})}, role, timeouts)

    async def _ask(self, payload: Mapping[str, Any], role: str = "", timeouts: Timeouts | None = None) -> ChatResult:
        reply, headers = await self._post(orjson.dumps(payload), {**self._headers, "x-leafmill-role": role}, timeouts or Timeouts())
        try:
            result = self._create_chat_result(reply, {"headers": _rates(headers)})
        except (ValueError, TypeError, AttributeError, LookupError) as fault:
            raise UnreadableError(str(fault)) from fault
        if not result.generations:
            raise UnreadableError("there are no choices in it")
        for generation, choice in zip(result.generations, reply["choices"], strict=True):
            said = choice["message"]
            reasoning = said.get("reasoning_content") or said.get("reasoning")
            if isinstance(reasoning, str):
                generation.message.additional_kwargs["reasoning"] = reasoning
        return result

    async def _post(self, data: bytes, headers: Mapping[str, str], timeouts: Timeouts) -> tuple[dict[str, Any], Mapping[str, str]]:
        if self._session is None:  # made here because a session belongs to the loop that runs
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
            self._session = aiohttp.ClientSession(connector=connector, proxy=_proxy(self._url))
        limits = aiohttp.ClientTimeout(total=timeouts.total, sock_connect=timeouts.connect)
        sending = self._session.post(self._url, data=data, headers=headers, timeout=limits, allow_redirects=False)
        if timeouts.first_byte is None:
            response = await sending
        else:
            try:
                response = await asyncio.wait_for(sending, timeouts.first_byte)
            except TimeoutError as fault:
                raise FirstByteTimeout(f"no first byte within {timeouts.first_byte:g} s") from fault
        async with response:
            raw = await response.read()
        if response.status != 200:
            headers = {name.lower(): value for name, value in response.headers.items()}
            raise RefusedError(response.status, raw[:10_000].decode("utf-8", "replace"), headers)
        return _decoded(raw, response.charset), response.headers


def _decoded(raw: bytes, charset: str | None) -> dict[str, Any]:
    """The JSON object in a body. Some proxies send it twice, or in another encoding, which they may or may not name."""
    try:
        reply = orjson.loads(raw)
    except orjson.JSONDecodeError as fault:
        try:
            reply, _ = json.JSONDecoder().raw_decode(raw.decode(charset or "utf-8").lstrip())
        except (ValueError, LookupError):
            raise UnreadableError(f"the body is not JSON: {fault}: {raw[:80]!r}") from fault
    if not isinstance(reply, dict):
        raise UnreadableError(f"the body is no JSON object: {raw[:80]!r}")
    return reply


def _rates(headers: Mapping[str, str]) -> dict[str, str]:
    """What a reply's headers say of rate limits; names in lower case."""
    return {low: value for name, value in headers.items() if (low := name.lower()).startswith("x-ratelimit")}


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address, looked up once: aiohttp would read it, and a .netrc, again for every call."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
