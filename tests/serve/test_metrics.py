"""What `/metrics` says, and that counting is cheap, complete and its own."""

import asyncio
import io
import json
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from jaxprop_serve.seen.logs import Log
from jaxprop_serve.seen.metrics import SECONDS, Metrics
from tests.serve.doors import FakeModel, FakeModels, a_request, an_app, call


def spent(count, ns):
    return {"count": count, "ns": ns}


def counting_model():
    """A model whose statistics say: batches of 1, 5 and 64 rows."""
    model = FakeModel("digits")
    stats = {"queue": spent(9, 3_000_000), "compute_infer": spent(4, 8_000_000)}
    batches = [{"batch_size": size, "compute_infer": spent(n, 0)} for size, n in ((1, 2), (5, 1), (64, 1))]
    described = {"inference_count": 71, "execution_count": 4, "inference_stats": stats, "batch_stats": batches}
    model.statistics = SimpleNamespace(
        describe=lambda name, version: described, padded_rows=3, compile_count=7, explain_compile_count=5, queue_rows=2
    )
    return model


def samples(metrics):
    """{name{labels}: value}, as a scraper reads it."""
    return {
        (sample.name, *(f"{k}={v}" for k, v in sorted(sample.labels.items()) if k != "worker")): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_what_the_statistics_say_is_what_is_scraped():
    found = samples(Metrics(FakeModels(counting_model())))
    model = ("model=digits", "version=1")
    assert found["jaxprop_queue_seconds_count", *model] == 9 and found["jaxprop_queue_seconds_sum", *model] == 0.003
    assert found["jaxprop_compute_seconds_count", *model] == 4 and found["jaxprop_compute_seconds_sum", *model] == 0.008
    assert found["jaxprop_padded_rows_total", *model] == 3 and found["jaxprop_compile_total", *model] == 7
    assert found["jaxprop_queue_rows", *model] == 2
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
    http = ("protocol=http", "version=1")
    assert found["jaxprop_requests_total", "code=200", "model=digits", *http] == 2
    assert found["jaxprop_requests_total", "code=400", "model=digits", *http] == 1
    assert found["jaxprop_requests_total", "code=404", "model=", "protocol=http", "version="] == 50
    assert found["jaxprop_rejected_total", "reason=body"] == 1
    assert not any("unknown" in part for key in found for part in key), "names from requests are no labels"
    assert found["jaxprop_request_seconds_count", "model=digits", *http] == 4
    assert call(app, "GET", "/metrics").body.startswith(b"# HELP")


def test_times_fall_into_the_buckets_up_to_and_with_their_edge():
    metrics = Metrics(None)
    for seconds in (0.0, SECONDS[0], SECONDS[1], 99.0):
        metrics.request("m", "1", "http", 200, seconds)
    found = samples(metrics)
    model = ("model=m", "protocol=http", "version=1")
    edges = {
        edge: found["jaxprop_request_seconds_bucket", f"le={edge}", *model]
        for edge in ("0.0001", "0.00025", "10.0", "+Inf")
    }
    assert edges == {"0.0001": 2, "0.00025": 3, "10.0": 3, "+Inf": 4}
    assert found["jaxprop_request_seconds_sum", *model] == pytest.approx(99 + SECONDS[0] + SECONDS[1])


def test_each_server_has_its_own_counts_and_the_shared_registry_has_none():
    first, second = Metrics(None, worker=0), Metrics(None, worker=1)
    first.request("m", "1", "grpc", "OK", 0.1)
    assert 'worker="0"' in first.render().decode() and "jaxprop_requests_total{" not in second.render().decode()
    assert not any(name.startswith("jaxprop") for name in REGISTRY._names_to_collectors)


def test_counting_a_request_costs_a_microsecond():
    metrics = Metrics(None)
    best = np.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(2000):
            metrics.request("digits", "1", "http", 200, 0.001)
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
    assert not log.requests and Log("debug", stream=stream).requests


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


def test_requests_are_logged_with_their_id_at_debug():
    stream = io.StringIO()
    log = Log("debug", (), stream)
    app = an_app(log=log)
    call(app, "POST", "/v2/models/digits/infer?x=1", a_request(), [(b"x-request-id", b"mine")])
    log.close()
    (found,) = [line for line in lines(stream) if line["event"] == "request"]
    assert (found["id"], found["method"], found["path"], found["code"]) == (
        "mine",
        "POST",
        "/v2/models/digits/infer",
        200,
    )
    assert found["seconds"] > 0


def test_the_watchdog_says_where_the_loop_is_stuck():
    from jaxprop_serve.server import Watchdog

    stream = io.StringIO()
    log = Log("info", (), stream)

    async def stuck_for_a_while():
        watchdog = Watchdog(asyncio.get_running_loop(), log, limit=0.1)
        await asyncio.sleep(0.3)
        assert stream.getvalue() == ""
        time.sleep(0.5)
        await asyncio.sleep(0.01)
        watchdog.stop()

    asyncio.run(stuck_for_a_while())
    log.close()
    (line,) = lines(stream)
    assert line["level"] == "error" and "stuck" in line["event"] and "stuck_for_a_while" in line["stack"]
