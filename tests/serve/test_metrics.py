"""What `/metrics` says, and that counting is cheap, complete and its own."""

import asyncio
import io
import json
import platform
import threading
import time

import grpc
import jax
import numpy as np
import orjson
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from jaxprop_serve.http1.routes import Mount
from jaxprop_serve.models.statistics import Statistics
from jaxprop_serve.seen import exposition
from jaxprop_serve.seen.exposition import SECONDS
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.seen.metrics import Metrics
from tests.serve.doors import FakeModel, FakeModels, a_request, an_app, call, settings
from tests.serve.running import running_here
from tests.serve.test_grpc import a_message, grpc_running, refused


def counting_model(name="digits"):
    """A model whose statistics say: batches of 1, 5 and 64 rows."""
    model = FakeModel(name)
    statistics = model.statistics = Statistics()
    for rows, bucket in ((1, 1), (1, 1), (5, 8), (64, 64)):
        statistics.batch(rows, bucket, 5, 2_000_000, 7)
    for ns in (3_000_000, *8 * [0]):
        statistics.queue.add(ns)
    statistics.compile_count, statistics.explain_compile_count, statistics.queue_rows = 7, 5, 2
    statistics.expired, statistics.cancelled = 1, 6
    return model


def samples(metrics):
    """{name{labels}: value}, as a scraper reads it."""
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "worker")): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_what_the_statistics_say_is_what_is_scraped():
    models = FakeModels(counting_model())
    models.statistics["gone", "3"] = counting_model().statistics  # unloaded: what it answered stays counted
    found = samples(Metrics(models))
    assert found["jaxprop_batch_rows_count", "model=gone", "version=3"] == 4
    model = ("model=digits", "version=1")
    assert found["jaxprop_queue_seconds_count", *model] == 9 and found["jaxprop_queue_seconds_sum", *model] == 0.003
    assert found["jaxprop_compute_seconds_count", *model] == 4 and found["jaxprop_compute_seconds_sum", *model] == 0.008
    assert found["jaxprop_padded_rows_total", *model] == 3 and found["jaxprop_compile_total", *model] == 7
    assert found["jaxprop_queue_rows", *model] == 2
    assert found["jaxprop_expired_total", *model] == 1 and found["jaxprop_cancelled_total", *model] == 6
    buckets = {
        edge: found["jaxprop_batch_rows_bucket", f"le={edge}", *model] for edge in ("1", "4", "8", "32", "64", "+Inf")
    }
    assert buckets == {"1": 2, "4": 2, "8": 3, "32": 3, "64": 4, "+Inf": 4}
    assert found["jaxprop_batch_rows_sum", *model] == 71 and found["jaxprop_batch_rows_count", *model] == 4
    assert found["jaxprop_model_state", "model=digits", "state=READY", "version=1"] == 1
    assert found["jaxprop_model_state", "model=broken", "state=READY", "version=1"] == 0
    assert found["jaxprop_model_state", "model=broken", "state=UNAVAILABLE", "version=1"] == 1


def test_requests_are_counted_once_under_what_they_were_answered():
    metrics = Metrics(FakeModels())
    app = an_app(counting_model(), metrics=metrics)
    metrics.models = app.models
    for body, code in ((a_request(), 200), (a_request(), 200), (b"no", 400), (bytes(2 << 20), 413)):
        assert call(app, "POST", "/v2/models/digits/infer", body).status == code
    for i in range(50):
        assert call(app, "POST", f"/v2/models/unknown{i}/infer", a_request()).status == 404
    found = samples(metrics)
    route = "route=/v2/models/{model}/infer"
    http = ("protocol=http", route, "version=1")
    assert found["jaxprop_requests_total", "code=200", "model=digits", *http] == 2
    assert found["jaxprop_requests_total", "code=400", "model=digits", *http] == 1
    assert found["jaxprop_requests_total", "code=404", "model=", "protocol=http", route, "version="] == 50
    assert found["jaxprop_rejected_total", "protocol=http", "reason=body", route] == 1
    assert not any("unknown" in part for key in found for part in key), "names from requests are no labels"
    assert found["jaxprop_request_seconds_count", "model=digits", *http] == 4
    assert call(app, "GET", "/metrics").body.startswith(b"# HELP")


@pytest.mark.parametrize("most", [1, 7, 64, 100, 256, 65536])
def test_every_batch_is_in_the_histogram(most):
    sizes = {size for size in (1, 2, 3, 5, 64, 65, 70, 100, 255, 256, 65535, 65536) if size <= most}
    model = FakeModel("digits")
    statistics = model.statistics = Statistics()
    for size in sizes:
        statistics.batch(size, size, 0, 1, 0)
    found = samples(Metrics(FakeModels(model), max_batch=most))
    edges = {key[1][3:]: n for key, n in found.items() if key[0] == "jaxprop_batch_rows_bucket"}
    assert edges["+Inf"] == edges[str(most)] == len(sizes) == statistics.execution_count
    assert found["jaxprop_batch_rows_count", "model=digits", "version=1"] == len(sizes)
    assert all(edges[str(1 << i)] == sum(size <= 1 << i for size in sizes) for i in range((most - 1).bit_length()))


def test_a_route_is_the_pattern_of_a_path_and_never_the_path():
    async def mounted(scope, receive, send):
        await send({"type": "http.response.start", "status": 203, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    metrics = Metrics(None)
    app = an_app(metrics=metrics, routes=[Mount("/ui", mounted)], token="user")
    allowed = [(b"authorization", b"Bearer user")]
    for path in ("/v2/models/digits", "/v2/models/other/versions/7", "/no/such/path", "/v2/health/live"):
        call(app, "GET", path, headers=allowed)
    call(app, "GET", "/ui/a/b?c", headers=allowed)
    call(app, "GET", "/v2/models/digits")
    call(app, "GET", "/v2/models/digits", headers=[*allowed, (b"origin", b"http://elsewhere")])
    found = {(key[4][6:], key[1][5:]): n for key, n in samples(metrics).items() if key[0] == "jaxprop_requests_total"}
    assert found == {
        ("/v2/models/{model}", "200"): 1,
        ("/v2/models/{model}", "401"): 1,
        ("/v2/models/{model}/versions/{version}", "404"): 1,
        ("/v2/health/live", "200"): 1,
        ("/ui", "203"): 1,
        ("", "404"): 1,
        ("/v2/models/{model}", "403"): 1,
    }


async def _answer(port, sent):
    """What a server says to these bytes until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    said = await reader.read()
    writer.close()
    return said[9:12].decode()


def test_what_is_refused_at_the_connection_is_counted_like_any_request():
    metrics = Metrics(None)
    app = an_app(metrics=metrics, max_connections=2)
    limits = settings(header_timeout_s=0.2, body_timeout_s=0.2, max_connections=2)
    late = b"POST /v2/models/digits/infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"

    async def test():
        async with running_here(app, limits, refused=app.refused) as port:
            assert await _answer(port, b"not HTTP at all\r\n\r\n") == "400"
            assert await _answer(port, b"GET / HTTP/1.1\r\nx: " + bytes(1 << 16)) in ("431", "400")
            assert await _answer(port, b"GET / HTTP/1.1\r\nx: " + b"x" * (1 << 16)) == "431"
            assert await asyncio.gather(*(_answer(port, sent) for sent in (b"GET / HT", late))) == ["408", "408"]
            open_ones = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
            assert await _answer(port, b"") == "503"
            for _, writer in open_ones:
                writer.close()

    asyncio.run(test())
    found = samples(metrics)
    model = ("model=", "protocol=http")
    assert sum(n for key, n in found.items() if key[0] == "jaxprop_requests_total") == 6
    assert found["jaxprop_requests_total", "code=503", *model, "route=", "version="] == 1
    assert found["jaxprop_requests_total", "code=408", *model, "route=", "version="] == 1
    infer = "route=/v2/models/{model}/infer"
    assert found["jaxprop_requests_total", "code=408", "model=digits", "protocol=http", infer, "version=1"] == 1
    assert found["jaxprop_request_seconds_sum", "model=digits", "protocol=http", infer, "version=1"] > 0.15
    reasons = {key[2]: n for key, n in found.items() if key[0] == "jaxprop_rejected_total" and key[3] == "route="}
    assert reasons["reason=connections"] == reasons["reason=timeout"] == 1 and reasons["reason=header"] >= 1
    assert found["jaxprop_rejected_total", "protocol=http", "reason=timeout", infer] == 1


@pytest.mark.parametrize(
    "reason, path, body, limits",
    [
        ("body", "infer", bytes(3000), {}),
        ("rows", "infer", a_request(np.ones((3, 4))), {}),
        ("rows", "predict", [[0, 0, 0, 0]] * 3, {}),
        ("depth", "infer", b'{"inputs":' + b"[" * 30, {}),
        ("depth", "predict", b'{"rows":' + b"[" * 30, {}),
        ("answer", "infer", a_request(), {"max_answer_bytes": 9}),
        ("answer", "predict", [[0, 0, 0, 0]], {"max_answer_bytes": 9}),
        ("queue", "infer", a_request(), {"full": True}),
        ("deadline", "infer", a_request() | {"parameters": {"timeout": 1}}, {}),
        ("auth", "infer", a_request(), {"token": "user"}),
    ],
)
def test_a_refusal_for_a_limit_is_counted_by_which(reason, path, body, limits):
    metrics, model, limits = Metrics(None), FakeModel(), dict(limits)
    model.full = limits.pop("full", False)
    app = an_app(model, metrics=metrics, **{"max_body_bytes": 2000, "max_rows": 2, "max_json_depth": 20} | limits)
    where = {"infer": "/v2/models/digits/infer", "predict": "/predict/digits"}[path]
    assert call(app, "POST", where, body).status >= 400
    route = f"route={where.replace('digits', '{model}')}"
    found = {key: n for key, n in samples(metrics).items() if key[0] == "jaxprop_rejected_total"}
    assert found == {("jaxprop_rejected_total", "protocol=http", f"reason={reason}", route): 1}


def test_messages_that_are_too_large_for_grpc_are_counted_as_what_the_client_was_told():
    metrics, stream = Metrics(None), io.StringIO()
    app = an_app(metrics=metrics, log=(log := Log("info", (), stream)))
    with grpc_running(app) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        large = a_message(x=np.ones((100_000, 4), np.float32))
        for how in ({}, {"compression": grpc.Compression.Gzip}):
            assert refused(channel, large, **how)[0] == "RESOURCE_EXHAUSTED"
        assert refused(channel, a_message(x=np.ones((65, 4), np.float32)))[0] == "INVALID_ARGUMENT"
    log.close()
    found = samples(metrics)
    route = ("protocol=grpc", "route=ModelInfer")
    assert found["jaxprop_requests_total", "code=RESOURCE_EXHAUSTED", "model=", *route, "version="] == 2
    assert found["jaxprop_requests_total", "code=INVALID_ARGUMENT", "model=digits", *route, "version=1"] == 1
    assert found["jaxprop_rejected_total", "protocol=grpc", "reason=body", "route=ModelInfer"] == 2
    assert [(line["client"], line["code"]) for line in lines(stream)] == [
        ("127.0.0.1", code) for code in ("RESOURCE_EXHAUSTED", "RESOURCE_EXHAUSTED", "INVALID_ARGUMENT")
    ]


def test_scrapes_are_written_beside_the_loop_and_together():
    metrics, texts, go = Metrics(None), [], threading.Event()

    class Slow:
        def beside(self, counts):
            texts.append(threading.current_thread())
            assert go.wait(5)
            return b"%d" % sum(sum(buckets) for _, (buckets, _) in counts.requests)

    metrics._exposition = Slow()

    async def test():
        found = []
        for _ in range(10):
            metrics.request("m", "1", "http", "/r", 200, 0.1)
            found.append(asyncio.create_task(metrics.scrape()))
            await asyncio.sleep(0.002)
        while not texts:
            await asyncio.sleep(0.001)
        assert not any(scrape.done() for scrape in found)
        go.set()
        said = [int(await scrape) for scrape in found]
        assert all(n > i for i, n in enumerate(said)), "nobody is told of counts from before he asked"
        assert len(texts) <= 3 and threading.current_thread() not in texts
        gone = asyncio.create_task(metrics.scrape())
        await asyncio.sleep(0)
        gone.cancel()
        assert await metrics.scrape() == b"10", "one who leaves takes no answer from others"

    asyncio.run(test())


def test_the_text_of_many_models_is_written_in_short_steps(monkeypatch):
    breaths = []
    monkeypatch.setattr(exposition, "breathe", lambda: breaths.append(1))
    metrics = Metrics(FakeModels(*(counting_model(f"m{i}") for i in range(20))))
    for i in range(20):
        metrics.request(f"m{i}", "1", "http", "/r", 200, 0.1)
    lines = metrics.render().count(b"\n")
    assert len(breaths) > lines / 100 > 10


def test_the_process_its_loop_and_its_versions_are_shown():
    metrics = Metrics(None, worker=3)
    metrics.gauge("connections", "Open now.", lambda: 5)

    async def stall():
        metrics.watch(asyncio.get_running_loop())
        await asyncio.sleep(0.05)
        time.sleep(0.5)
        await asyncio.sleep(0.05)

    asyncio.run(stall())
    text = metrics.render().decode()
    found = samples(metrics)
    assert found["process_resident_memory_bytes",] > 1e6 and found["process_cpu_seconds_total",] > 0
    assert found["process_open_fds",] > 2 and abs(time.time() - found["process_start_time_seconds",]) < 1e5
    assert found["jaxprop_connections",] == 5
    assert found["jaxprop_loop_lag_seconds_count",] == 1 and found["jaxprop_loop_lag_seconds_bucket", "le=0.25"] == 0
    assert 0.3 < found["jaxprop_loop_lag_seconds_sum",]
    (build,) = [key for key in found if key[0] == "jaxprop_build_info"]
    assert f"python={platform.python_version()}" in build and f"jax={jax.__version__}" in build
    assert all('worker="3"' in line for line in text.splitlines() if line[0] != "#")


def test_times_fall_into_the_buckets_up_to_and_with_their_edge():
    metrics = Metrics(None)
    for seconds in (0.0, SECONDS[0], SECONDS[1], 99.0):
        metrics.request("m", "1", "http", "/r", 200, seconds)
    found = samples(metrics)
    model = ("model=m", "protocol=http", "route=/r", "version=1")
    edges = {
        edge: found["jaxprop_request_seconds_bucket", f"le={edge}", *model]
        for edge in ("0.0001", "0.00025", "10.0", "+Inf")
    }
    assert edges == {"0.0001": 2, "0.00025": 3, "10.0": 3, "+Inf": 4}
    assert found["jaxprop_request_seconds_sum", *model] == pytest.approx(99 + SECONDS[0] + SECONDS[1])


def test_each_server_has_its_own_counts_and_the_shared_registry_has_none():
    first, second = Metrics(None, worker=0), Metrics(None, worker=1)
    first.request("m", "1", "grpc", "ModelInfer", "OK", 0.1)
    assert 'worker="0"' in first.render().decode() and "jaxprop_requests_total{" not in second.render().decode()
    assert not any(name.startswith("jaxprop") for name in REGISTRY._names_to_collectors)


def test_counting_a_request_costs_a_microsecond():
    metrics = Metrics(None)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            metrics.request("digits", "1", "http", "/v2/models/{model}/infer", 200, 0.001)
        best = min(best, time.perf_counter() - began)
    assert best / 2000 < 5e-6, "three to ten times what it takes on an idle machine"


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_log_line_is_json_with_its_fields_and_without_tokens():
    stream = io.StringIO()
    log = Log("info", ['s3cret"x'], stream, worker=1)
    log("debug", "not written")
    log("info", "request", id="a\nb", code=200, seconds=0.12345678, path='/s3cret"x', other=None)
    try:
        raise RuntimeError('token s3cret"x leaked')
    except RuntimeError as error:
        log("error", "unforeseen", id="7", exception=error)
    log.close()
    first, second = lines(stream)
    assert first | {"time": 0} == {
        "time": 0, "level": "info", "event": "request", "worker": 1, "id": "a\nb", "code": 200, "seconds": 0.123457,
        "path": "/***", "other": None,
    }  # fmt: skip
    assert first["time"].endswith("Z") and second["exception"].startswith("Traceback")
    assert "s3cret" not in stream.getvalue() and "***" in second["exception"]
    assert log.requests and not Log("warning", stream=stream).requests and not Log("debug", access=False).requests


def test_a_log_that_cannot_be_written_neither_blocks_nor_stops_anything():
    class Stuck(io.StringIO):
        free = threading.Event()

        def write(self, text):
            self.free.wait(10)
            return super().write(text)

    stream = Stuck()
    log = Log("info", (), stream)
    began = time.monotonic()
    for i in range(12_000):
        log("info", "n", i=i)
    assert time.monotonic() - began < 2 and log.dropped > 1000
    stream.free.set()
    log.close(5)
    written = lines(stream)
    lost = [line["n"] for line in written if line["event"] == "lines lost"]
    assert lost[-1] == log.dropped and len(written) - len(lost) == 12_000 - log.dropped

    class Broken(io.StringIO):
        def write(self, text):
            raise OSError(28, "No space left on device")

    broken = Log("info", (), Broken())
    broken("info", "a")
    broken("info", "b")
    broken.close()
    assert broken.dropped == 2


def logged(level, *sent, **more):
    """What is logged of these requests, each the bytes of one, over a socket."""
    stream = io.StringIO()
    log = Log(level, ["s3cret"], stream, **more)

    async def ask():
        async with running_here(app := an_app(log=log), settings(), refused=app.refused) as port:
            for one in sent:
                await _answer(port, one)

    asyncio.run(ask())
    log.close()
    return [line for line in lines(stream) if line["event"] == "request"]


def _get(path, *headers):
    return b"\r\n".join((b"GET %b HTTP/1.1" % path, b"Host: localhost", b"Connection: close", *headers, b"", b""))


def test_a_request_is_one_line_at_info_with_its_client():
    body = orjson.dumps(a_request(), option=orjson.OPT_SERIALIZE_NUMPY)
    head = b"POST /v2/models/digits/infer?x=s3cret HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: mine\r\n"
    sent = b"%bContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (head, len(body), body)
    (found,) = logged("info", sent, worker=2)
    assert found.pop("time").endswith("Z") and 0 < found.pop("seconds") < 5 and found.pop("bytes") > 50
    assert found == {
        "level": "info", "event": "request", "client": "127.0.0.1", "method": "POST", "id": "mine", "worker": 2,
        "path": "/v2/models/digits/infer", "route": "/v2/models/{model}/infer", "code": 200, "model": "digits",
        "version": "1",
    }  # fmt: skip


def test_probes_are_logged_only_at_debug_unless_they_fail_and_requests_at_no_higher_level():
    sent = [_get(b"/v2/health/live"), _get(b"/v2/models/digits/ready"), _get(b"/v2/models/none/ready"), b"no HTTP"]
    assert [line["code"] for line in logged("info", *sent)] == [404, 400]
    assert [(line["level"], line["code"]) for line in logged("debug", *sent)] == [
        ("debug", 200), ("debug", 200), ("info", 404), ("info", 400),
    ]  # fmt: skip
    assert logged("warning", *sent) == logged("debug", *sent, access=False) == []
    refused = logged("info", b"no HTTP")[0]
    assert refused["client"] == "127.0.0.1" and "path" not in refused and "route" not in refused


@pytest.mark.parametrize("half", ["", "\ud800"], ids=["", "with half of a surrogate pair"])
def test_nobody_writes_lines_or_commands_of_a_terminal_into_the_log(half):
    stream = io.StringIO()
    log = Log("info", (), stream)
    bad = "/a\n{}\x1b[2J\x9b2J\u202e\u2028\x7fé" + half
    log.request(("::1", 1), "GET", bad * 99, "", 404, 0.1, 9)
    log("info", "é\n", path=bad, n=1 << 63, broken=Broken())
    log.close()
    text = stream.getvalue()
    assert text.count("\n") == 2 and not any(c in text for c in "\x1b\x9b\u202e\u2028\x7f")
    first, second = lines(stream)
    assert (first["path"], first["client"]) == ((bad * 99)[:200], "::1")
    assert (second["path"], second["n"], second["broken"]) == (bad, 1 << 63, "<Broken>")


def test_a_number_of_any_size_can_be_logged():
    stream = io.StringIO()
    log = Log("info", (), stream)
    log("info", "large", n=1 << 70)
    log.close()
    assert lines(stream)[0]["n"] == 1 << 70


class Broken:
    def __str__(self):
        raise RuntimeError


def test_logging_a_request_costs_it_a_microsecond():
    log = Log("info", (), io.StringIO())
    best = np.inf
    for _ in range(5):
        began = time.thread_time()
        for _ in range(500):
            log.request(("127.0.0.1", 1), "POST", "/v2/models/m/infer", "/v2/models/{model}/infer", 200, 0.001, 99)
        best = min(best, time.thread_time() - began)
        time.sleep(0.06)
    log.close()
    assert best / 500 < 5e-6, "three to ten times what it takes on an idle machine"


def test_the_watchdog_says_where_the_loop_is_stuck():
    from jaxprop_serve.server import Watchdog

    stream = io.StringIO()
    log = Log("info", (), stream)

    async def stuck_for_a_while():
        watchdog = Watchdog(asyncio.get_running_loop(), log, limit=0.2)
        await asyncio.sleep(0.3)
        assert stream.getvalue() == ""
        time.sleep(0.5)
        await asyncio.sleep(0.01)
        watchdog.stop()

    asyncio.run(stuck_for_a_while())
    log.close()
    (line,) = lines(stream)
    assert line["level"] == "error" and "stuck" in line["event"] and "stuck_for_a_while" in line["stack"]
