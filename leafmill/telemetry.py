"""OpenTelemetry spans of candidates, roles and calls, after the semantic conventions for generative AI. Off unless asked for.

    candidate programming/debugging      a trace of its own; leafmill.* attributes, its end
      `-- invoke_agent writer            a role is asked (internal)
            `-- chat qwen-small          one try of one call (client); two of them where a try failed or a reply was asked for again

    with telemetry.role("writer", ...) as span: ...

While nothing is traced a span is one shared object that does nothing, and OpenTelemetry is not imported. No span holds what a prompt
or a reply says. The conventions (in development): https://github.com/open-telemetry/semantic-conventions-genai
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import leafmill
from leafmill.errors import InputError
from leafmill.records import Usage

if TYPE_CHECKING:
    from opentelemetry import trace

PROVIDER = "openai"
"""what the conventions call the flavour of API that is spoken; server.address says whose server it is"""


class Span:
    """A span under way, used as a context manager; one that was opened for nothing does nothing."""

    __slots__ = ("_opened", "_span")

    def __init__(self, opened: AbstractContextManager[trace.Span] | None = None) -> None:
        self._opened = opened
        self._span: trace.Span | None = None

    def __enter__(self) -> Span:
        if self._opened is not None:
            self._span = self._opened.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None) -> None:
        if self._opened is not None:
            if fault is not None:
                self.failed(str(getattr(fault, "code", type(fault).__name__)))
            self._opened.__exit__(None, None, None)  # not told of the fault: it would record its text

    def failed(self, code: str) -> None:
        """Say that it failed. The error's text may hold a piece of a reply: only its code is told."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode

            self._span.set_attribute("error.type", code)
            self._span.set_status(StatusCode.ERROR)

    def ended(self, state: str, code: str) -> None:
        """How a candidate ended."""
        if self._span is not None:
            self._span.set_attributes({"leafmill.state": state, "leafmill.code": code})
            if state == "errored":
                self.failed(code)

    def answered(self, finish_reason: str, usage: Usage) -> None:
        """What came back from a call."""
        if self._span is not None:
            told = {
                "gen_ai.response.finish_reasons": [finish_reason] if finish_reason else None,
                "gen_ai.usage.input_tokens": usage.prompt,
                "gen_ai.usage.output_tokens": usage.completion,
                "gen_ai.usage.cache_read.input_tokens": usage.cached,
                "gen_ai.usage.reasoning.output_tokens": usage.reasoning,
            }
            self._span.set_attributes({name: value for name, value in told.items() if value is not None})

    def recorded(self) -> None:
        """A role's reply was read from the ledger: there is no call below it."""
        if self._span is not None:
            self._span.set_attribute("leafmill.recorded", True)


NOTHING = Span()
_tracer: trace.Tracer | None = None


def candidate(run: str, leaf: str, id_: str) -> Span:
    """The span of a candidate, from its brief to its end."""
    if _tracer is None:
        return NOTHING
    return _open(f"candidate {leaf}", "INTERNAL", {"leafmill.run": run, "leafmill.leaf": leaf, "leafmill.candidate": id_})


def role(name: str, variant: str, version: str) -> Span:
    """The span of a role that is asked; its version is its prompt's hash."""
    if _tracer is None:
        return NOTHING
    about = {"gen_ai.agent.name": name, "gen_ai.agent.version": version, "leafmill.variant": variant}
    return _open(f"invoke_agent {name}", "INTERNAL", {**_operation("invoke_agent"), **about})


def call(model: str, base_url: str, params: Mapping[str, Any], json: bool) -> Span:
    """The span of one try of one call; `json` where the reply is asked for as JSON."""
    if _tracer is None:
        return NOTHING
    asked = {f"gen_ai.request.{name}": params[name] for name in ("temperature", "max_tokens", "seed") if name in params}
    about = {"gen_ai.request.model": model, "gen_ai.output.type": "json" if json else "text", **_server(base_url), **asked}
    return _open(f"chat {model}", "CLIENT", {**_operation("chat"), **about})


@contextmanager
def tracing(provider: trace.TracerProvider) -> Iterator[None]:
    """Trace with this provider."""
    global _tracer
    before, _tracer = _tracer, provider.get_tracer("leafmill", leafmill.__version__)
    try:
        yield
    finally:
        _tracer = before


@contextmanager
def exporting(wanted: bool) -> Iterator[None]:
    """If wanted, trace and send the spans over OTLP/HTTP to where the OTEL_* variables say; what is left is sent at the end."""
    if not wanted:
        yield
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as fault:
        raise InputError(f"--otel needs the extra `otel` ({fault}): pip install 'leafmill[otel]'") from fault
    resource = Resource.create({"service.name": "leafmill"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    try:
        with tracing(provider):
            yield
    finally:
        provider.shutdown()


def _open(name: str, kind: Literal["INTERNAL", "CLIENT"], attributes: Mapping[str, Any]) -> Span:
    from opentelemetry.trace import SpanKind

    assert _tracer is not None
    return Span(_tracer.start_as_current_span(name, kind=SpanKind[kind], attributes=attributes))


def _operation(name: str) -> dict[str, str]:
    return {"gen_ai.operation.name": name, "gen_ai.provider.name": PROVIDER}


@cache
def _server(base_url: str) -> dict[str, str | int]:
    parts = urlsplit(base_url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or (443 if parts.scheme == "https" else 80)}
