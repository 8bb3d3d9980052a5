"""A reward model behind a server: vLLM's `/pooling`, which writes the conversation in the model's own chat template and gives its number.

    async with RewardEndpoint("http://localhost:8000") as model:      # vllm serve org/reward-model --runner pooling
        reward = await model.score(row.asked, row.answer)

The number stands in `data[0].data`, alone or in lists, as the server's version has it; anything but one number is an unreadable reply.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Sequence
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from filters.scoring.reward import Reward
from leafmill.errors import (
    CallError,
    EndpointDownError,
    InputError,
    ReplyError,
    ServerFaultError,
    TimeoutCallError,
    UnknownModelError,
    WrongKeyError,
)
from leafmill.records import Turn
from leafmill.tokens import count_tokens

ATTEMPTS = 3
SHOWN = 300
"""characters of what a server says that a message repeats"""


class RewardEndpoint:
    """Scores as RewardModel does. Faults of transport, 429 and 5xx are tried again; then EndpointError (no call can work) or CallError."""

    def __init__(self, base_url: str, api_key: str = "", *, concurrency: int = 16, timeout_s: float = 60.0) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
            raise InputError("a reward model's address is wrong: expected http(s)://host:port without a user or password in it")
        self._url = f"{base_url.rstrip('/').removesuffix('/v1').removesuffix('/pooling')}/pooling"
        self.id = f"pooling@{parts.netloc}"
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._places = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None

    async def score(self, prompt: str | Sequence[Turn], answer: str) -> Reward:
        if not answer.strip():
            return Reward(None, 0, "unscored", "reward.empty_answer", self.id)
        turns = (Turn(role="user", content=prompt),) if isinstance(prompt, str) else tuple(prompt)
        asked = {"messages": [turn.plain for turn in (*turns, Turn(role="assistant", content=answer))]}
        transient = retry_if_exception_type((EndpointDownError, ServerFaultError, TimeoutCallError))
        async for attempt in AsyncRetrying(
            retry=transient, stop=stop_after_attempt(ATTEMPTS), wait=wait_exponential_jitter(0.2, 5), reraise=True
        ):
            with attempt:
                async with self._places:
                    value = await self._ask(asked)
        code = "" if math.isfinite(value) else "reward.not_finite"
        return Reward(None if code else value, count_tokens(answer), "unscored" if code else "scored", code, self.id)

    async def _ask(self, asked: dict[str, Any]) -> float:
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers, timeout=self._timeout)
        try:
            async with self._session.post(self._url, json=asked) as reply:
                status, text = reply.status, await reply.text()
        except TimeoutError as fault:
            raise TimeoutCallError(f"{self.id}: no reply within {self._timeout.total:g} s") from fault
        except aiohttp.ClientError as fault:
            raise EndpointDownError(f"{self.id}: {type(fault).__name__}") from fault
        match status:
            case 200:
                return _number(text, self.id)
            case 401 | 403:
                raise WrongKeyError(f"{self.id} refused the API key (HTTP {status})")
            case 404:
                raise UnknownModelError(f"{self.id} has no /pooling: is a reward model served there? {text[:SHOWN]}")
            case 429 | 500 | 502 | 503 | 504:
                raise ServerFaultError(f"{self.id}: HTTP {status}: {text[:SHOWN]}")
            case _:
                raise CallError(f"{self.id}: HTTP {status}: {text[:SHOWN]}")

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _number(text: str, who: str) -> float:
    try:
        found = list(_flat(json.loads(text)["data"][0]["data"]))
    except (ValueError, KeyError, IndexError, TypeError):
        found = []
    if len(found) != 1 or isinstance(found[0], bool) or not isinstance(found[0], int | float):
        raise ReplyError("unreadable_reply", f"{who}: expected one number in data[0].data, got {text[:SHOWN]}")
    return float(found[0])


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    else:
        yield value
