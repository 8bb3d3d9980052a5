"""A model server that costs as little as it can, so that what is measured is its client: one process, a hand-made HTTP/1.1 reader.

    python -m bench.runtime.stub --port 8099 --latency 200

A reply is a function of the messages and the request's `seed`: an instruction, a judgement or an answer, by what the JSON schema of the
request asks for. No two instructions share much wording and no answer offends a gate, so every candidate of a run is accepted and the
number of calls is known beforehand. GET /stats tells what was asked.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from hashlib import blake2b
from importlib import import_module
from importlib.util import find_spec
from random import Random
from typing import Any

import orjson

from bench.runtime.words import VERBS, WORDS

SHAPES = (
    "{} how the {} {} of a {} {} keeps its {} while {} and {} share one {}, and say what the {} of the {} has to do with the {} {}.",
    "{} a {} for {} and {} that a {} near the {} can use with {} or {}, then relate its {} {} to the {} behind every {}.",
    "{} why {} {} and {} meet at the {} of each {} {}, which {} carries the {}, and where a {} would put {} or {}.",
    "{} the {} between {} {} and {} {} for a {} who owns {} with {}, showing what {} does to the {} under the {}.",
)
SENTENCE = "The {} of the {} depends on how much {} the {} can carry before its {} reaches the {}."


def _sentences() -> list[str]:
    """Enough of them that two answers seldom have one in common."""
    rng = Random(7)
    return [SENTENCE.format(*rng.sample(WORDS, 6)) for _ in range(4096)]


SENTENCES = _sentences()


class Draw:
    """Choices out of one large number."""

    def __init__(self, number: int) -> None:
        self._left = number

    def of(self, items: Any) -> Any:
        self._left, place = divmod(self._left, len(items))
        return items[place]


def content(asked: dict[str, Any], number: int) -> str:
    """What the model says: by the schema of the request an instruction or a judgement, without one an answer of about 0.9 kB."""
    draw = Draw(number)
    schema = asked.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", ())
    if "score" in schema:
        return orjson.dumps({"rationale": draw.of(SENTENCES), "score": draw.of((4, 5))}).decode()
    if "instruction" in schema:
        shape = draw.of(SHAPES)
        words = [draw.of(WORDS) for _ in range(shape.count("{}") - 1)]
        return orjson.dumps({"instruction": shape.format(draw.of(VERBS), *words), "input": ""}).decode()
    return " ".join([draw.of(SENTENCES) for _ in range(8)])


class Stats:
    """What was asked so far. Times are of the machine's monotonic clock, which all its processes share."""

    def __init__(self) -> None:
        self.requests = self.ok = self.repeated = self.in_flight = self.peak = 0
        self.answered: set[int] = set()
        self.first = self.last = self._since = 0.0
        self._area = 0.0

    def enter(self, number: int) -> None:
        now = self._move(1)
        self.requests += 1
        self.repeated += number in self.answered
        self.peak = max(self.peak, self.in_flight)
        self.first = self.first or now

    def leave(self, number: int | None) -> None:
        """A reply was sent, or (None) nobody is there to take it."""
        self.last = self._move(-1)
        if number is not None:
            self.ok += 1
            self.answered.add(number)

    def _move(self, by: int) -> float:
        now = time.monotonic()
        self._area += self.in_flight * (now - self._since)
        self.in_flight, self._since = self.in_flight + by, now
        return now

    def report(self) -> dict[str, float]:
        """`repeated` counts requests that had been answered before: they are paid twice."""
        span = self.last - self.first
        counts = {"requests": self.requests, "ok": self.ok, "repeated": self.repeated, "in_flight": self.in_flight, "peak": self.peak}
        return {
            **counts,
            "mean": self._area / span if span else 0.0,
            "first": self.first,
            "last": self.last,
            "span": span,
            "cpu": time.process_time(),
        }


class Connection(asyncio.Protocol):
    """One client's connection, which asks one thing at a time."""

    def __init__(self, stats: Stats, latency: float, spread: float) -> None:
        self.stats, self.latency, self.spread, self.loop = stats, latency, spread, asyncio.get_running_loop()
        self.read = b""
        self.waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, fault: Exception | None) -> None:
        if self.waiting is not None:
            self.waiting.cancel()
            self.stats.leave(None)

    def data_received(self, data: bytes) -> None:
        self.read += data
        end = self.read.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.read[:end].lower()
        _, _, length = head.partition(b"content-length:")
        whole = end + 4 + int(length.split(b"\r")[0] or 0)
        if len(self.read) >= whole:
            body, self.read = self.read[end + 4 : whole], self.read[whole:]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        if head.startswith(b"get /stats"):
            self.send(self.stats.report())
            return
        asked = orjson.loads(body)
        key = blake2b(orjson.dumps([asked["messages"], asked.get("seed")]), digest_size=32).digest()
        number = int.from_bytes(key)
        self.stats.enter(number)
        if self.latency:
            seconds = self.latency * (1 + self.spread * (number % 2001 / 1000 - 1))
            self.waiting = self.loop.call_later(seconds, self.reply, asked, number, len(body))
        else:
            self.reply(asked, number, len(body))

    def reply(self, asked: dict[str, Any], number: int, length: int) -> None:
        self.waiting = None
        said = content(asked, number)
        used = {"prompt_tokens": length // 4, "completion_tokens": len(said) // 4, "total_tokens": length // 4 + len(said) // 4}
        choice = {"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop", "logprobs": None}
        whole = {"id": f"chatcmpl-{number % 2**64:016x}", "object": "chat.completion", "created": 0, "model": asked["model"]}
        self.stats.leave(number)
        self.send({**whole, "choices": [choice], "usage": used})

    def send(self, said: dict[str, Any]) -> None:
        body = orjson.dumps(said)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
        self.transport.write(head + body)


async def serve(port: int, latency: float, spread: float) -> None:
    stats = Stats()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(stats, latency, spread), "127.0.0.1", port, backlog=2048)
    sys.stdout.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1\n")
    sys.stdout.flush()
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.runtime.stub", description="Serve replies; prints the base URL.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--latency", type=float, default=0.0, help="milliseconds before each reply")
    parser.add_argument("--spread", type=float, default=0.0, help="share of the latency, 0 to 1, by which it differs from call to call")
    options = parser.parse_args()
    loop = "uvloop" if find_spec("uvloop") else "asyncio"  # which costs twice as much: the stub alone
    import_module(loop).run(serve(options.port, options.latency / 1000, options.spread))


if __name__ == "__main__":
    main()
