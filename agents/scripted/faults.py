"""What can go wrong with a scripted model: faults that strike a share of the requests, and a limit on their rate.

A fault strikes by a hash of what was asked and of the number of the try, so that a retry may well succeed, and two clients who ask the same
meet the same. Only `after`, `lasts` and `stale` depend on the order of arrival.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Literal

from agents.scripted.wire import Reply

FaultKind = Literal[
    "429", "quota", "500", "503", "reset", "hang", "die", "slow", "drip",
    "empty", "null_content", "cut", "cut_json", "bad_json", "huge", "stale",
    "bad_utf8", "mislabelled", "gbk", "truncated_body", "bad_body", "error_body", "twice",
]  # fmt: skip
HARMLESS: frozenset[FaultKind] = frozenset({"slow", "drip", "stale", "gbk", "twice"})
"""faults under which a reply can be used all the same"""
OF_JSON: frozenset[FaultKind] = frozenset({"cut_json", "bad_json"})
"""faults that strike only where JSON was asked for"""
HUGE = 100_000
"""Characters in the content of a `huge` reply."""


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong with a share of the requests.

    429, quota, 500, 503      an error instead of a reply
    reset, hang               the connection breaks without a reply; nothing ever comes
    die                       the server is gone for `lasts` seconds: no connection survives, none is taken
    slow, drip                `seconds` later than usual; a body that takes so many seconds from first byte to last
    empty, null_content, huge the content is at fault
    cut, cut_json, bad_json   half of the content, as max_tokens leaves it; the same of JSON only; JSON that is none
    stale                     the content of the role's reply before this one
    bad_utf8, mislabelled     bytes that are no UTF-8; GBK that is said to be UTF-8
    gbk                       GBK that is said to be GBK
    truncated_body, bad_body  half of the body; a body that is not JSON
    error_body, twice         a 200 that holds an error; the body two times over
    """

    kind: FaultKind
    rate: float = 1.0
    """share of the tries that are hit, 0 to 1"""
    role: str | None = None
    """only requests of this role; None: of any"""
    times: int | None = None
    """at most so many hits on identical requests; None: no bound"""
    after: int = 0
    """spares the first so many requests (of the role) to arrive"""
    lasts: float | None = None
    """seconds from the first request that is not spared, after which it is over; None: it does not end"""
    seconds: float = 1.0
    """how long `slow` and `drip` take"""
    retry_after: float | None = None
    """seconds that the Retry-After header of a 429 or 503 says; None: no header"""


@dataclass
class RateLimit:
    """So many completions in so many seconds, counted in windows as providers do. Every reply says in x-ratelimit headers what is left."""

    requests: int
    seconds: float
    _left: int = field(default=0, repr=False)
    _ends: float = field(default=0.0, repr=False)

    def take(self) -> tuple[bool, dict[str, str]]:
        """Whether one more is let in, and what the reply says of the limit."""
        now = time.monotonic()
        if now >= self._ends:
            self._left, self._ends = self.requests, now + self.seconds
        is_let_in = self._left > 0
        self._left -= is_let_in
        return is_let_in, {
            "x-ratelimit-limit-requests": str(self.requests),
            "x-ratelimit-remaining-requests": str(self._left),
            "x-ratelimit-reset-requests": span(self._ends - now),
        }


def span(seconds: float) -> str:
    """A time as OpenAI's headers write it: 20ms, 8.6s, 6m5s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1000)}ms"
    minutes, rest = divmod(math.ceil(seconds), 60)
    return f"{minutes}m{rest}s" if minutes else f"{seconds:.3g}s"


def error_of(fault: Fault) -> Reply | None:
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


def spoil(reply: Reply, fault: Fault | None) -> Reply:
    """The reply with the fault in its content, where the fault is of that kind."""
    content = reply.content or ""
    match fault.kind if fault else None:
        case "empty":
            return replace(reply, content="")
        case "null_content":
            return replace(reply, content=None)
        case "cut" | "cut_json":
            return replace(reply, content=content[: len(content) // 2], finish="length")
        case "bad_json":
            return replace(reply, content='{"' + content[: len(content) // 2])
        case "huge":
            return replace(reply, content=(content or "-") * (HUGE // max(1, len(content))) + content[: HUGE % max(1, len(content))])
    return reply


def spoil_body(text: str, fault: Fault | None) -> tuple[bytes, str]:
    """The body as it is sent, with the fault in its bytes where the fault is of that kind, and the charset that its header names."""
    match fault.kind if fault else None:
        case "bad_utf8":
            return text.encode().replace(b'"content": "', b'"content": "\xff\xfe\xfd', 1), ""
        case "mislabelled":  # a word of Chinese, so that an English reply has the fault too
            return text.replace('"content": "', '"content": "好的。', 1).encode("gbk", "replace"), "utf-8"
        case "gbk":
            return text.encode("gbk", "replace"), "gbk"
        case "bad_body":
            return b"<html><h1>502 Bad Gateway</h1></html>", ""
        case "error_body":
            return b'{"error": {"message": "The upstream is down.", "type": "server_error", "code": 502}}', ""
        case "twice":
            return text.encode() * 2, ""
    return text.encode(), ""
