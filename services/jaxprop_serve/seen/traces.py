"""Where a request's time went, for OpenTelemetry: one span for each, with its waiting and its computing below it.

A caller's `traceparent` and `tracestate` are honoured. Where the spans go, how many of them and under which name is
said by OpenTelemetry's own variables (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_SERVICE_NAME, ...).

This file alone needs OpenTelemetry, and is imported only where the setting `tracing` is on.
"""

import os
import threading
import time
from importlib.metadata import entry_points
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop_serve.models.statistics import Step, account
from jaxprop_serve.seen.logs import PROBES, address

try:
    from opentelemetry import context
    from opentelemetry.propagate import get_global_textmap
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
    from opentelemetry.trace import (
        ProxyTracerProvider,
        Span,
        SpanKind,
        Status,
        StatusCode,
        Tracer,
        format_trace_id,
        get_tracer_provider,
        set_span_in_context,
        set_tracer_provider,
    )
except ImportError as error:
    raise JaxpropError(
        f'setting tracing needs the extra `trace` ({error.name} is missing): pip install ".[serve,trace]"'
    ) from None
except ValueError as error:  # of its variables
    raise JaxpropError(f"setting tracing: {error}") from None

EXPORTERS = "opentelemetry_traces_exporter"  # a group of entry points
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
# Of a server; the other codes are its clients' mistakes.
FAILURES = frozenset(("UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"))


class Trace:
    """The span of one request. `id` is its trace's, or "" if there is none."""

    def __init__(self, tracer: Tracer, span: Span, method: str):
        self._tracer, self._span, self._method = tracer, span, method
        found = span.get_span_context()
        self.id = format_trace_id(found.trace_id) if found.is_valid else ""
        self._steps: list[Step] = []
        if span.is_recording():
            account.set(self._steps)
            self._epoch = time.time_ns() - time.perf_counter_ns()

    def failed(self, error: BaseException) -> None:
        """Tell of an error that nobody foresaw."""
        self._span.record_exception(error)

    def answered(self, code: int | str, route: str, model: str, version: str) -> None:
        """End it with an HTTP status or a gRPC code."""
        span = self._span
        if span.is_recording():
            http = isinstance(code, int)
            found: dict[str, int | str] = {"http.response.status_code" if http else "rpc.response.status_code": code}
            if http and route:
                found["http.route"] = route
                span.update_name(f"{self._method} {route}")
            if model:
                found |= {"jaxprop.model.name": model, "jaxprop.model.version": version}
            if code >= 500 if isinstance(code, int) else code in FAILURES:
                found["error.type"] = str(code)
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(found)
            if self._steps:
                self._below()
        span.end()

    def _below(self) -> None:
        """Make the spans of waiting and computing. A large request's batches are shown as one."""
        steps, within = self._steps, set_span_in_context(self._span)
        arrived, started = min(step.arrived for step in steps), min(step.started for step in steps)
        ended = max(step.ended for step in steps)
        found = {"jaxprop.batches": len(steps), "jaxprop.batch.rows": max(step.rows for step in steps)}
        if started > arrived:
            self._tracer.start_span("queue", within, start_time=self._epoch + arrived).end(self._epoch + started)
        span = self._tracer.start_span("compute", within, attributes=found, start_time=self._epoch + started)
        span.end(self._epoch + ended)


class Traces:
    """Begins a trace for each request, and sends them away in a thread.

    Args:
        exporters: where they go; by default what the variables say.
    """

    def __init__(self, *exporters: SpanExporter):
        found = Resource.create()
        if str(found.attributes["service.name"]).startswith("unknown_service"):
            found = found.merge(Resource({"service.name": "jaxprop"}))
        self._provider = TracerProvider(resource=found, shutdown_on_exit=False)
        for exporter in exporters or _exporters():
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        if not exporters and isinstance(get_tracer_provider(), ProxyTracerProvider):
            set_tracer_provider(self._provider)  # so that plugins' spans go the same way
        self._tracer = self._provider.get_tracer("jaxprop_serve")
        self._propagator = get_global_textmap()

    def http(self, scope: dict[str, Any]) -> Trace | None:
        """Begin the trace of a request that ASGI describes; a probe has none unless its caller's is traced."""
        sent: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            sent.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        if scope["path"] in PROBES and "traceparent" not in sent:
            return None
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        host, port = scope.get("server") or ("", None)
        found = {
            "http.request.method": method,
            "url.path": scope["path"][:200],
            "url.scheme": scope.get("scheme", "http"),
            "network.protocol.version": scope.get("http_version", ""),
            "server.address": host,
            "server.port": port,
            "client.address": address(scope.get("client")),
            "user_agent.original": sent.get("user-agent", [""])[0][:200],
        }
        return self._begin(method if method in METHODS else "HTTP", sent, found, method)

    def grpc(self, method: str, metadata: Any, peer: str) -> Trace | None:
        """Begin the trace of a call, in the same way."""
        sent: dict[str, list[str]] = {}
        for name, value in metadata or ():
            if isinstance(value, str):
                sent.setdefault(name, []).append(value)
        if method.rpartition("/")[2] in PROBES and "traceparent" not in sent:
            return None
        found = {"rpc.system.name": "grpc", "rpc.method": method, "client.address": address(peer)}
        return self._begin(method, sent, found, method)

    def close(self, timeout: float = 2.0) -> None:
        """Send what is waiting, for at most `timeout` seconds: the one who takes it may be gone."""
        thread = threading.Thread(target=self._provider.shutdown, name="close traces", daemon=True)
        thread.start()
        thread.join(timeout)

    def _begin(self, name: str, sent: dict[str, list[str]], attributes: dict[str, Any], method: str) -> Trace:
        if len(sent.get("traceparent", ())) > 1:
            del sent["traceparent"]  # of two callers neither is one
        parent = self._propagator.extract(sent)
        given = {key: value for key, value in attributes.items() if value not in ("", None)}
        span = self._tracer.start_span(name, parent, SpanKind.SERVER, given)
        context.attach(set_span_in_context(span, parent))  # of this request's task: what plugins trace lies below it
        return Trace(self._tracer, span, method)


def _exporters() -> list[SpanExporter]:
    """Return what OTEL_TRACES_EXPORTER names, OTLP if it names nothing. JaxpropError for one that is not installed."""
    made: list[SpanExporter] = []
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        name = name.strip().lower() or "otlp"
        if name == "none":
            continue
        if name == "otlp":
            protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
            protocol = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol)
            name = f"otlp_proto_{protocol.partition('/')[0]}"
        offered = {one.name: one for one in entry_points(group=EXPORTERS)}
        if name not in offered:
            raise JaxpropError(
                f"setting tracing: no installed package exports traces as {name!r}; found: "
                f"{', '.join(sorted(offered)) or 'none'} (see OTEL_TRACES_EXPORTER and OTEL_EXPORTER_OTLP_PROTOCOL)"
            )
        try:
            made.append(offered[name].load()())
        except Exception as error:  # whatever an exporter says of its variables
            raise JaxpropError(f"setting tracing: exporter {name!r}: {type(error).__name__}: {error}") from None
    return made
