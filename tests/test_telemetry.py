"""Spans of candidates, roles and calls: how they hang together, what they say, what they never say, and that they arrive."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from conftest import Cast, go, recipe, told
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from terminal import KEYLESS, LEAVES, leafmill, write_recipe

from agents.scripted import Fault, ScriptedServer
from leafmill import telemetry
from leafmill.records import Usage


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """Where spans go while a test runs."""
    kept = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    with telemetry.tracing(provider):
        yield kept


def by_kind(spans: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    """The finished spans by the first word of their name."""
    found: dict[str, list[ReadableSpan]] = {"candidate": [], "invoke_agent": [], "chat": []}
    for span in spans.get_finished_spans():
        found[span.name.split()[0]].append(span)
    return found


def parents(spans: InMemorySpanExporter) -> Counter[tuple[str, str]]:
    """How often a span of one name lies right below one of another."""
    names = {span.context.span_id: span.name for span in spans.get_finished_spans() if span.context}
    return Counter((names[span.parent.span_id] if span.parent else "", span.name) for span in spans.get_finished_spans())


# -- a run -------------------------------------------------------------------------------------------------------------


async def test_each_candidate_is_a_trace_of_roles_and_their_calls(
    tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter
) -> None:
    await go(recipe(tmp_path, server, target=4), tmp_path)
    ledger, found = told(tmp_path), by_kind(spans)
    assert [span.parent for span in found["candidate"]] == [None] * len(ledger.candidates)
    assert {span.attributes["leafmill.candidate"] for span in found["candidate"]} == {one["id"] for one in ledger.candidates}  # type: ignore[index]
    assert {parent.split()[0] for parent, name in parents(spans) if name.startswith("chat")} == {"invoke_agent"}
    assert {parent for parent, name in parents(spans) if name.startswith("invoke_agent")} == {"candidate t/a"}
    assert len(found["chat"]) == len(found["invoke_agent"]) == len(ledger.calls)
    for one in ledger.candidates:  # the calls of a candidate are in its own trace, however many were under way at once
        (trace,) = (span.context.trace_id for span in found["candidate"] if span.attributes["leafmill.candidate"] == one["id"])  # type: ignore[index, union-attr]
        roles = Counter(span.attributes["gen_ai.agent.name"] for span in found["invoke_agent"] if span.context.trace_id == trace)  # type: ignore[index, union-attr]
        assert roles == Counter(call["role"] for call in ledger.calls if call["candidate"] == one["id"])


async def test_a_call_follows_the_conventions_and_counts_what_the_ledger_counts(
    tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter
) -> None:
    await go(recipe(tmp_path, server, target=1, limits={"candidates_per_leaf": 1}), tmp_path)
    ledger, found = told(tmp_path), by_kind(spans)
    (wrote,) = (call for call in ledger.calls if call["role"] == "writer")
    (span,) = (one for one in found["chat"] if one.attributes["gen_ai.request.seed"] == wrote["params"]["seed"])  # type: ignore[index]
    assert (span.name, span.kind, span.status.status_code) == ("chat scripted-qwen", SpanKind.CLIENT, StatusCode.UNSET)
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "scripted-qwen",
        "gen_ai.output.type": "json",
        "gen_ai.request.temperature": wrote["params"]["temperature"],
        "gen_ai.request.max_tokens": wrote["params"]["max_tokens"],
        "gen_ai.request.seed": wrote["params"]["seed"],
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": wrote["prompt_tokens"],
        "gen_ai.usage.output_tokens": wrote["completion_tokens"],
        "gen_ai.usage.reasoning.output_tokens": 0,
        "server.address": "127.0.0.1",
        "server.port": int(server.base_url.split(":")[2].split("/")[0]),
    }
    for name, column in (("input", "prompt_tokens"), ("output", "completion_tokens")):
        counted = sum(one.attributes[f"gen_ai.usage.{name}_tokens"] for one in found["chat"])  # type: ignore[index, misc]
        assert counted == sum(call[column] for call in ledger.calls)


async def test_a_role_names_itself_and_its_prompt_and_a_candidate_its_end(
    tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter
) -> None:
    server.script = Cast(critic={"reason": "poor", "score": 1})
    await go(recipe(tmp_path, server, target=1, limits={"candidates_per_leaf": 1}, flow={"revise_rounds": 0}), tmp_path)
    (candidate,), found = told(tmp_path).candidates, by_kind(spans)
    (span,) = found["candidate"]
    assert (span.name, span.kind) == ("candidate t/a", SpanKind.INTERNAL)
    ending = {"leafmill.state": "rejected", "leafmill.code": candidate["code"]}
    assert dict(span.attributes or {}) == {"leafmill.run": "run", "leafmill.leaf": "t/a", "leafmill.candidate": candidate["id"], **ending}
    assert candidate["code"].startswith("critic.")
    assert span.status.status_code == StatusCode.UNSET, "a refused candidate is no error"
    (critic,) = (one for one in found["invoke_agent"] if one.name == "invoke_agent critic")
    version = next(call["prompt_hash"] for call in told(tmp_path).calls if call["role"] == "critic")
    assert critic.kind == SpanKind.INTERNAL
    assert dict(critic.attributes or {}) == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "openai",
        "gen_ai.agent.name": "critic",
        "gen_ai.agent.version": version,
        "leafmill.variant": "en",
    }


async def test_a_try_that_fails_is_a_call_of_its_own_with_the_code_of_its_error(
    tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter
) -> None:
    server.faults = [Fault("500", role="writer", times=1)]
    await go(recipe(tmp_path, server, target=1, limits={"candidates_per_leaf": 1}), tmp_path)
    found = by_kind(spans)
    (writer,) = (one for one in found["invoke_agent"] if one.name == "invoke_agent writer")
    below = [one for one in found["chat"] if one.parent and writer.context and one.parent.span_id == writer.context.span_id]
    assert [(one.attributes or {}).get("error.type") for one in below] == ["500", None]
    assert [one.status.status_code for one in below] == [StatusCode.ERROR, StatusCode.UNSET]
    assert [(one.events, one.status.description) for one in below] == [((), None)] * 2
    assert writer.status.status_code == StatusCode.UNSET


async def test_a_candidate_that_ends_in_an_error_is_marked(tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter) -> None:
    server.faults = [Fault("500", role="writer")]
    await go(recipe(tmp_path, server, target=1, limits={"candidates_per_leaf": 1}), tmp_path)
    found = by_kind(spans)
    for span in (*found["candidate"], *found["invoke_agent"]):
        assert (span.status.status_code, (span.attributes or {})["error.type"]) == (StatusCode.ERROR, "server_fault")
    assert (found["candidate"][0].attributes or {})["leafmill.state"] == "errored"


async def test_a_reply_that_was_recorded_has_no_call_below_it(tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter) -> None:
    server.faults = [Fault("500", role="answerer")]
    one = {"target": 1, "limits": {"candidates_per_leaf": 1}, "flow": {"evolve_rounds": 0}}
    await go(recipe(tmp_path, server, **one), tmp_path)
    spans.clear()
    server.faults = []
    await go(recipe(tmp_path, server, **one), tmp_path)
    below = parents(spans)
    assert below["invoke_agent answerer", "chat scripted-qwen"] == 1
    assert below["invoke_agent writer", "chat scripted-qwen"] == 0
    (writer,) = (span for span in spans.get_finished_spans() if span.name == "invoke_agent writer")
    assert (writer.attributes or {})["leafmill.recorded"] is True


async def test_no_span_holds_a_word_that_was_asked_or_said(tmp_path: Path, server: ScriptedServer, spans: InMemorySpanExporter) -> None:
    server.faults = [Fault("bad_json", role="writer", times=1), Fault("empty", role="critic")]
    await go(recipe(tmp_path, server, target=2, limits={"candidates_per_leaf": 2}), tmp_path)
    told_ = " ".join(span.to_json() for span in spans.get_finished_spans())
    assert "chat scripted-qwen" in told_
    for text in ("invoice", "colleague", "Filing", "shelf"):
        assert text not in told_


# -- off ---------------------------------------------------------------------------------------------------------------


def test_what_is_not_traced_is_one_object_that_does_nothing() -> None:
    made = (telemetry.candidate("r", "t/a", "1"), telemetry.role("writer", "en", "x"), telemetry.call("m", "http://x/v1", {}, False))
    assert {*map(id, made)} == {id(telemetry.NOTHING)}
    with telemetry.NOTHING as span, telemetry.NOTHING:
        span.answered("stop", Usage(prompt=1))
        span.ended("accepted", "")
        span.recorded()
    assert span.__exit__(ValueError, ValueError("goes on"), None) is None  # type: ignore[func-returns-value]


def test_what_is_off_imports_nothing_of_opentelemetry() -> None:
    code = """
import sys
from leafmill import telemetry
with telemetry.exporting(False), telemetry.candidate("r", "t/a", "1"), telemetry.role("writer", "en", "x") as span:
    span.recorded()
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# -- the collector -----------------------------------------------------------------------------------------------------


class Collector:
    """A stand-in for an OpenTelemetry collector: takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    async def traces(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for resource in sent.resource_spans:
            self.services |= {one.value.string_value for one in resource.resource.attributes if one.key == "service.name"}
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return web.Response(content_type="application/x-protobuf")


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    one, app = Collector(), web.Application(client_max_size=2**26)
    app.router.add_post("/v1/traces", one.traces)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield one
    await runner.cleanup()


@pytest.mark.parametrize("service", ["leafmill", "my-farm"])
async def test_a_real_collector_gets_every_span(
    tmp_path: Path, collector: Collector, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if service != "leafmill":
        monkeypatch.setenv("OTEL_SERVICE_NAME", service)
    write_recipe(tmp_path)
    said = await asyncio.to_thread(leafmill, tmp_path, "run", "--scripted", "--otel", "--json", "--target", 1)
    assert said.code == 0, said
    kinds = Counter(span.name.split()[0] for span in collector.spans)
    calls = sum(leaf["calls"] for leaf in json.loads(said.out)["leaves"])
    assert (kinds["chat"], collector.services) == (calls, {service})
    assert kinds["candidate"] >= 2
    assert len({span.span_id for span in collector.spans}) == len(collector.spans)


def test_a_collector_that_is_not_there_does_not_stop_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    write_recipe(tmp_path)
    said = leafmill(tmp_path, "run", "--scripted", "--otel", "--target", 1, "--leaf", LEAVES[0])
    assert said.code == 0, said
    assert "logger=opentelemetry" in said.err


def test_without_the_extra_otel_is_an_error_that_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    write_recipe(tmp_path)
    said = leafmill(tmp_path, "run", "--scripted", "--otel")
    assert said.code == 2
    assert said.err.startswith("error: --otel needs the extra `otel`")
    assert "pip install 'leafmill[otel]'" in said.err


# -- LangSmith ---------------------------------------------------------------------------------------------------------

WATCHED = """
import sys
asked = []
def watch(event, args):
    if event == "socket.connect" and isinstance(args[1], tuple):
        asked.append(f"{args[1][0]}:{args[1][1]}")
    if event == "socket.getaddrinfo":
        asked.append(f"{args[0]}:{args[1]}")
sys.addaudithook(watch)
from leafmill.cli import main
sys.argv = ["leafmill", "run", "--scripted", "--target", "1"]
try:
    main()
except SystemExit as end:
    code = end.code
from langsmith.utils import tracing_is_enabled
import json, os, time
tracing = bool(tracing_is_enabled())
until = time.monotonic() + (20 if tracing else 0.5)  # whoever traces does so in a thread of its own
while time.monotonic() < until and all(one.startswith(HOME) for one in asked):
    time.sleep(0.05)
print(json.dumps({"code": code, "tracing": tracing, "asked": sorted(set(asked))}), flush=True)
os._exit(0)
"""
HOME = ("127.0.0.1:", "localhost:", "::1:")


def watched(folder: Path, **environ: str) -> dict[str, Any]:
    """A whole run in a process of its own: its exit code, and every address that it looked up or connected to."""
    write_recipe(folder, KEYLESS)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH_", "LANGCHAIN_", "OTEL_"))}
    done = subprocess.run(
        [sys.executable, "-c", f"HOME = {HOME}\n{WATCHED}"],
        cwd=folder,
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_run_speaks_to_its_own_machine_and_to_nobody_else(tmp_path: Path) -> None:
    found = watched(tmp_path)
    assert (found["code"], found["tracing"]) == (0, False)
    assert found["asked"]
    assert [address for address in found["asked"] if not address.startswith(HOME)] == []


def test_the_watch_would_see_langsmith_where_its_own_variables_ask_for_it(tmp_path: Path) -> None:
    found = watched(tmp_path, LANGSMITH_TRACING="true", LANGSMITH_API_KEY="none", LANGSMITH_ENDPOINT="http://127.0.0.2:9")
    assert found["tracing"] is True
    assert any(address.startswith("127.0.0.2:") for address in found["asked"])
