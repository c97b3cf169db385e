"""Traces: one span for each request under its caller's, what is below it, and that nothing of it is there when off."""

import asyncio
import gzip
import http.server
import io
import json
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
from opentelemetry import trace as otel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from jaxprop.errors import JaxpropError
from jaxprop_serve.grpc_door.service import INFERENCE
from jaxprop_serve.http1.routes import Reply, Route
from jaxprop_serve.models.batcher import Batcher, Lane
from jaxprop_serve.models.statistics import Statistics
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.seen.traces import Traces
from tests.serve.doors import FakeModel, W, a_request, acall, an_app, settings
from tests.serve.running import running_here
from tests.serve.test_grpc import a_message, grpc_running

INFER = "/v2/models/digits/infer"
TRACE, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def parent(flags="01", version="00"):
    return (b"traceparent", f"{version}-{TRACE}-{CALLER}-{flags}".encode())


class Batching(FakeModel):
    """A model behind the real batcher."""

    def __init__(self, name="digits"):
        super().__init__(name)
        executables = {rows: lambda inputs: {"y": inputs["x"] @ W} for rows in (1, 2, 4)}
        limits = dict(max_queue_rows=64, max_queue_bytes=1 << 20)
        batcher = Batcher(name, executables, dict.fromkeys(executables, 0.001), Lane(), Statistics(), **limits)
        self.infer, self.admit = batcher.infer, batcher.admit


class Failing(FakeModel):
    async def infer(self, inputs, deadline=None, client=None):
        raise ZeroDivisionError("nobody foresaw it")


def traced(test, *models, **more):
    """Run test(app); return the spans it made and the lines it logged."""
    spans, stream = InMemorySpanExporter(), io.StringIO()
    traces, log = Traces(spans), Log("info", (), stream)
    result = test(an_app(*models, log=log, traces=traces, **more))
    if asyncio.iscoroutine(result):
        asyncio.run(result)
    traces.close()
    log.close()
    return spans.get_finished_spans(), [json.loads(line) for line in stream.getvalue().splitlines()]


def under(span):
    return span.parent and format(span.parent.span_id, "016x")


def test_a_request_is_a_span_under_its_callers_and_the_log_names_its_trace():
    headers = [parent(), (b"tracestate", b"a=1,b=2"), (b"user-agent", b"curl/8")]
    spans, lines = traced(lambda app: acall(app, "POST", INFER + "?x=secret", a_request(), headers))
    (span,) = spans
    assert (span.name, span.kind) == ("POST /v2/models/{model}/infer", otel.SpanKind.SERVER)
    assert format(span.context.trace_id, "032x") == TRACE == lines[0]["trace"] and under(span) == CALLER
    assert span.context.trace_state.to_header() == "a=1,b=2"
    assert dict(span.attributes) == {
        "http.request.method": "POST", "url.path": INFER, "url.scheme": "http", "user_agent.original": "curl/8",
        "http.route": "/v2/models/{model}/infer", "http.response.status_code": 200,
        "jaxprop.model.name": "digits", "jaxprop.model.version": "1",
    }  # fmt: skip
    assert span.status.status_code == otel.StatusCode.UNSET and span.resource.attributes["service.name"] == "jaxprop"
    assert span.end_time > span.start_time


@pytest.mark.parametrize(
    "headers, is_parent, is_recorded",
    [
        ([parent()], True, True),
        ([parent("00")], True, False),
        ([], False, True),
        ([parent(), parent("00")], False, True),
        ([parent(version="ff")], False, True),
        ([(b"traceparent", b"00-\xff")], False, True),
        ([(b"traceparent", b"")], False, True),
    ],
)
def test_who_decides_about_a_trace(headers, is_parent, is_recorded):
    spans, lines = traced(lambda app: acall(app, "POST", INFER, a_request(), headers))
    assert len(spans) == is_recorded and (lines[0]["trace"] == TRACE) == is_parent
    assert len(lines[0]["trace"]) == 32, "what is not sampled has an id too"


def test_probes_have_no_traces_but_their_callers():
    async def test(app):
        for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
            await acall(app, "GET", path)
        await acall(app, "GET", "/v2/health/live", headers=[parent()])

    (span,), _ = traced(test)
    assert under(span) == CALLER


def test_waiting_and_computing_are_below_it_each_request_its_own():
    async def test(app):
        async with running_here(app, settings()) as port:
            await asyncio.gather(*(ask(port, rows) for rows in (1, 1, 2, 9)))

    async def ask(port, rows):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = json.dumps(a_request(np.ones((rows, 4))), default=lambda array: array.tolist()).encode()
        head = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        assert (await reader.read()).startswith(b"HTTP/1.1 200")
        writer.close()

    spans, _ = traced(test, Batching())
    servers = [span for span in spans if span.kind == otel.SpanKind.SERVER]
    assert len(servers) == 4 == len({span.context.trace_id for span in servers})
    batches = []
    for server in servers:
        assert server.attributes["client.address"] == "127.0.0.1" and server.attributes["server.port"] > 0
        below = {span.name: span for span in spans if under(span) == format(server.context.span_id, "016x")}
        compute = below["compute"]
        batches.append(compute.attributes["jaxprop.batches"])
        assert server.start_time - 1e6 <= compute.start_time < compute.end_time <= server.end_time + 1e6
        if "queue" in below:
            assert below["queue"].start_time < below["queue"].end_time == compute.start_time
    assert sorted(batches) == [1, 1, 1, 3], "nine rows are three batches of four, and one span"


def test_errors_of_the_server_are_errors_of_the_span_and_those_of_clients_are_not():
    async def test(app):
        assert (await acall(app, "POST", INFER, a_request(), [parent()])).status == 500
        assert (await acall(app, "POST", INFER, b"{", [parent()])).status == 400
        assert (await acall(app, "BREW", "/tea", headers=[parent()])).status == 404

    (failed, refused, strange), lines = traced(test, Failing())
    assert failed.status.status_code == otel.StatusCode.ERROR and failed.attributes["error.type"] == "500"
    assert failed.events[0].attributes["exception.type"] == "ZeroDivisionError"
    assert refused.status.status_code == strange.status.status_code == otel.StatusCode.UNSET
    assert (strange.name, strange.attributes["http.request.method"]) == ("HTTP", "_OTHER")
    assert [line["trace"] for line in lines] == [TRACE] * 4 and lines[0]["event"] == "unforeseen"


def test_what_a_plugin_traces_lies_below_the_request():
    async def plugin(request):
        otel.get_tracer("plugin").start_span("ignored").end()
        return Reply(format(otel.get_current_span().get_span_context().trace_id, "032x").encode(), [])

    async def test(app):
        assert (await acall(app, "GET", "/plugin", headers=[parent()])).body == TRACE.encode()

    traced(test, routes=[Route("GET", "/plugin", plugin)])


def test_calls_of_grpc_are_traced_too():
    def test(app):
        with grpc_running(app) as running, grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            metadata = [(name.decode(), value.decode()) for name, value in (parent(), (b"tracestate", b"a=1"))]
            infer(a_message().SerializeToString(), metadata=metadata)
            for model in ("none", "failing"):
                with pytest.raises(grpc.RpcError):
                    infer(a_message(model).SerializeToString(), metadata=metadata)
            live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
            live(INFERENCE.ServerLiveRequest().SerializeToString(), metadata=metadata)

    spans, lines = traced(test, Batching(), Failing("failing"))
    assert {format(span.context.trace_id, "032x") for span in spans} == {TRACE} == {line["trace"] for line in lines}
    answered, unknown, failed, live = [span for span in spans if span.kind == otel.SpanKind.SERVER]
    method = "inference.GRPCInferenceService/ModelInfer"
    assert dict(answered.attributes) == {
        "rpc.system.name": "grpc", "rpc.method": method, "rpc.response.status_code": "OK",
        "client.address": "127.0.0.1", "jaxprop.model.name": "digits", "jaxprop.model.version": "1",
    }  # fmt: skip
    assert answered.name == method and under(answered) == CALLER and live.name.endswith("/ServerLive")
    assert unknown.attributes["rpc.response.status_code"] == "NOT_FOUND" and not unknown.events
    assert unknown.status.status_code == otel.StatusCode.UNSET
    assert failed.status.status_code == otel.StatusCode.ERROR and failed.attributes["error.type"] == "INTERNAL"
    assert [span.name for span in spans if under(span) == format(answered.context.span_id, "016x")] == ["compute"]


def test_an_exporter_is_named_by_the_standards_variables_and_one_that_is_missing_is_said(monkeypatch):
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "none")
    Traces().close()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console,pigeon")
    with pytest.raises(JaxpropError, match="no installed package exports traces as 'pigeon'; found: console, otlp_"):
        Traces()
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "morse")
    with pytest.raises(JaxpropError, match="'otlp_proto_morse'"):
        Traces()


def test_spans_reach_a_collector_over_otlp(monkeypatch):
    got = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, gzip.decompress(body) if self.headers.get("content-encoding") else body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "digits-in-production")
        traces = Traces()
        asyncio.run(acall(an_app(traces=traces), "POST", INFER, a_request(), [parent()]))
        traces.close()
        collector.shutdown()
    ((path, body),) = got
    (found,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (span,) = found.scope_spans[0].spans
    assert path == "/v1/traces" and span.name == "POST /v2/models/{model}/infer" and span.trace_id.hex() == TRACE
    named = {one.key: one.value.string_value for one in found.resource.attributes}
    assert named["service.name"] == "digits-in-production"


def test_spans_that_nobody_takes_hold_up_neither_the_requests_nor_the_end():
    class Stuck(InMemorySpanExporter):
        def export(self, spans):
            free.wait(30)
            return super().export(spans)

    free = threading.Event()
    traces = Traces(Stuck())
    app, began = an_app(traces=traces), time.monotonic()

    async def many():
        for _ in range(1000):
            await acall(app, "GET", "/v2")

    asyncio.run(many())
    traces.close(0.1)
    assert time.monotonic() - began < 20
    free.set()


CHECK = """
import contextlib, io, runpy, sys
sys.modules["opentelemetry"] = None  # as where it is not installed
given = sys.argv[1:]
for flags in [], ["--set", "tracing=true"]:
    sys.argv = ["jaxprop_serve", *given, *flags]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            code = runpy.run_module("jaxprop_serve", run_name="__main__") and 0
        except SystemExit as end:
            code = end.code
    print(code or 0)
"""


@pytest.mark.slow
def test_without_the_extra_it_is_one_line_and_without_the_setting_nothing_is_imported(folder):
    command = [sys.executable, "-c", CHECK, str(folder), "--check-config", "--port", "0", "--grpc-port=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["0", "1"], done.stderr
    (line,) = done.stderr.splitlines()
    assert 'setting tracing needs the extra `trace` (opentelemetry is missing): pip install ".[serve,trace]"' in line
