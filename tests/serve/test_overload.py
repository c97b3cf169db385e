"""Checklist 11, 13, 28, 29: a slow model (tests/serve/slow.py: its forward sleeps) behind a real server, asked for more
than it can do, too late, by clients that go away: everybody is told, everything is counted."""

import contextlib
import http.client
import socket
import struct
import threading
import time

import pytest
from tritonclient import grpc as triton, utils

from tests.serve import slow
from tests.serve.load import Load, post, rows_request
from tests.serve.oracle import X, publish
from tests.serve.process import Process, ask
from tests.serve.test_server import metrics, total

pytestmark = pytest.mark.slow
INFER = "/v2/models/m/infer"
BATCH, QUEUE, WAITING = 4, 18, 16  # of the queue's rows, one client may have so many waiting


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of at most 4 rows at once and 18 waiting, 16 of one client; `server.takes(seconds)` says how long a
    forward lasts."""
    place = tmp_path_factory.mktemp("slow")
    folder = place / "models/m"
    publish(folder)
    slow.takes(folder, 0.003)
    limits = ("--set", f"max_batch={BATCH}", "--set", f"max_queue_rows={QUEUE}")
    with Process(folder, *limits, **slow.installed(place / "plugin")) as server:
        server.takes = lambda seconds: slow.takes(folder, seconds)
        server.computes = lambda: slow.computes(folder)
        yield server


def counted(before, after):
    """more(name, **labels): by how much a count has grown."""
    return lambda name, **labels: total(after, name, **labels) - total(before, name, **labels)


def idle(server):
    """Wait until nothing is queued or computed any more; the metrics then."""
    server.wait_for(lambda: not total(metrics(server), "jaxprop_queue_rows"))
    time.sleep(0.05)
    return metrics(server)


def test_twice_what_it_can_do(server):
    """What does not fit is refused at once with Retry-After, the rest is answered, and nothing stays behind."""
    seconds = 0.02
    server.takes(seconds)
    before, refusals = metrics(server), []

    def check(i, status, head, body):
        assert status in (200, 429), body
        if status == 429:
            assert b"\r\nretry-after: 1\r\n" in head + b"\r\n" and b"rows" in body
            refusals.append(i)

    capacity = BATCH / seconds
    with Load(server.port, [post(INFER, rows_request(X[:1]))] * 64, check, rate=2 * capacity) as load:
        ends, waiting_rows = time.monotonic() + 2, []
        while time.monotonic() < ends:
            waiting_rows.append(total(metrics(server), "jaxprop_queue_rows"))
            time.sleep(0.05)
    more = counted(before, after := idle(server))
    assert load.failed == []
    assert load.sent == load.statuses[200] + load.statuses[429] and load.statuses[429] == len(refusals) > 0
    assert more("jaxprop_requests_total", model="m", code="200") == load.statuses[200] == more("jaxprop_batch_rows_sum")
    assert more("jaxprop_requests_total", code="429") == load.statuses[429]
    assert more("jaxprop_rejected_total", reason="queue") == load.statuses[429]
    assert total(after, "jaxprop_queue_rows") == 0
    assert load.statuses[200] > 0.3 * 2 * capacity, "a server that only refuses does no work"
    assert 0 < max(waiting_rows) <= WAITING, "what waits is bounded, and so is for how long"
    assert server.call("POST", INFER, rows_request(X[:1]))[0] == 200


class Busy:
    """One request that takes `seconds` is under way; on leaving it has been answered."""

    def __init__(self, server, seconds=0.5):
        self.server, self.seconds, self.answered = server, seconds, threading.Event()

    def _ask(self):
        self.status = self.server.call("POST", INFER, rows_request(X[:1]))[0]
        self.answered.set()

    def __enter__(self):
        self.server.takes(0.003)
        assert self.server.call("POST", INFER, rows_request(X[:1]))[0] == 200
        self.server.takes(self.seconds)
        self.thread = threading.Thread(target=self._ask)
        self.thread.start()
        self.server.wait_for(self.server.computes)
        assert not self.answered.is_set()
        return self

    def __exit__(self, *_):
        self.thread.join(10)
        self.server.takes(0.003)
        assert self.status == 200


def grpc_infer(client, x=X[:1], **how):
    """The status code of a gRPC call."""
    tensor = triton.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    try:
        client.infer("m", [tensor], **how)
    except utils.InferenceServerException as error:
        return error.status().removeprefix("StatusCode.")
    return "OK"


@contextlib.contextmanager
def waiting(server, count, payload, address="127.0.0.1"):
    """`count` requests that are sent from an address and not yet answered."""
    clients = [
        socket.create_connection(("127.0.0.1", server.port), timeout=10, source_address=(address, 0))
        for _ in range(count)
    ]
    for client in clients:
        client.sendall(payload)
    yield clients
    for client in clients:  # by a reset: who only closes may be somebody that still reads, and is answered
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()


def test_what_is_too_late_is_dropped_before_it_is_computed(server):
    before = idle(server)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client, Busy(server):
        assert client.is_server_live()
        codes = {}
        calls = {
            "HTTP": lambda: server.call("POST", INFER, rows_request(X[:2], timeout=50_000))[0],
            "gRPC timeout": lambda: grpc_infer(client, X[:2], timeout=50_000),
            "gRPC deadline": lambda: grpc_infer(client, X[:2], client_timeout=0.05),
        }
        threads = [
            threading.Thread(target=lambda name=name, one=one: codes.update({name: one()}))
            for name, one in calls.items()
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
    assert codes == {"HTTP": 504, "gRPC timeout": "DEADLINE_EXCEEDED", "gRPC deadline": "DEADLINE_EXCEEDED"}
    more = counted(before, idle(server))
    assert more("jaxprop_batch_rows_count") == more("jaxprop_batch_rows_sum") == 2, "only those that kept it busy"
    assert more("jaxprop_rejected_total", reason="deadline") == 3
    assert more("jaxprop_requests_total", protocol="http", code="504") == 1
    assert more("jaxprop_requests_total", protocol="grpc", code="DEADLINE_EXCEEDED") == 2


def test_counts_add_up_after_good_bad_refused_late_and_abandoned_requests(server):
    """What came is what was counted, by door and outcome; rows are the batches'; times are parts of the whole."""
    before = idle(server)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert grpc_infer(client) == "OK"
        assert grpc_infer(client, X[:1, :3]) == "INVALID_ARGUMENT"
        assert server.call("POST", INFER, rows_request(X[:5]))[0] == 200
        assert server.call("POST", INFER, rows_request(X[:1, :3]))[0] == 400
        assert server.call("POST", "/v2/models/none/infer", b"")[0] == 404
        with Busy(server, 2.0):  # long enough for all to arrive on a loaded machine
            with waiting(server, 3, post(INFER, rows_request(X[:2]))):
                server.wait_for(lambda: total(metrics(server), "jaxprop_queue_rows") == 6)
            abandoned = 3  # gone before their turn
            late = post(INFER, rows_request(X[:2], timeout=1000))
            with waiting(server, 2, late), waiting(server, 6, post(INFER, rows_request(X[:1]))) as good:
                server.wait_for(lambda: total(metrics(server), "jaxprop_queue_rows") >= WAITING)
                refused = [server.call("POST", INFER, rows_request(X[:1])) for _ in range(4)]
                assert [status for status, *_ in refused] == [429] * 4
                assert grpc_infer(client) == "RESOURCE_EXHAUSTED"
                for one in good:
                    assert one.recv(65536).startswith(b"HTTP/1.1 200")
    more = counted(before, after := idle(server))
    outcomes = {code: more("jaxprop_requests_total", protocol="http", model="m", code=code)
                for code in ("200", "400", "429", "499", "504")}  # fmt: skip
    assert outcomes == {"200": 1 + 2 + 6, "400": 1, "429": 4, "499": abandoned, "504": 2}, outcomes
    assert sum(outcomes.values()) == more("jaxprop_requests_total", protocol="http", model="m")
    assert more("jaxprop_requests_total", protocol="http", model="", code="404") == 1
    grpc = {code: more("jaxprop_requests_total", protocol="grpc", model="m", code=code)
            for code in ("OK", "INVALID_ARGUMENT", "RESOURCE_EXHAUSTED")}  # fmt: skip
    assert grpc == {"OK": 1, "INVALID_ARGUMENT": 1, "RESOURCE_EXHAUSTED": 1}
    assert (
        more("jaxprop_rejected_total", reason="queue") == 5 and more("jaxprop_rejected_total", reason="deadline") == 2
    )
    assert more("jaxprop_batch_rows_sum") == 1 + 5 + 2 + 6
    assert total(after, "jaxprop_requests_total") == total(after, "jaxprop_request_seconds_count")
    spent = more("jaxprop_queue_seconds_sum") + more("jaxprop_compute_seconds_sum")
    assert 0 < spent <= more("jaxprop_request_seconds_sum", model="m")
    stats = server.call("GET", "/v2/models/m/stats")[1]["model_stats"][0]
    assert stats["inference_count"] == total(after, "jaxprop_batch_rows_sum")
    assert stats["execution_count"] == total(after, "jaxprop_batch_rows_count")


def test_one_client_with_many_connections_leaves_room_for_others(server):
    one = post(INFER, rows_request(X[:1]))
    with (
        triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client,
        Busy(server),
        waiting(server, 2 * QUEUE, one) as greedy,
    ):
        server.wait_for(lambda: total(metrics(server), "jaxprop_queue_rows") == WAITING)
        assert grpc_infer(client) == "RESOURCE_EXHAUSTED"  # the same client at the other door
        with waiting(server, 1, one, "127.0.0.2") as polite:
            assert polite[0].recv(65536).startswith(b"HTTP/1.1 200")
        found = [connection.recv(65536) for connection in greedy]
        assert sum(answer.startswith(b"HTTP/1.1 200") for answer in found) == WAITING
        refused = next(answer for answer in found if answer.startswith(b"HTTP/1.1 429"))
        assert b"16 of them (256 bytes) are this client's" in refused and b"retry-after" in refused


def test_health_and_metrics_are_answered_while_a_forward_runs(server):
    with Busy(server, 1.0) as busy, contextlib.closing(http.client.HTTPConnection("127.0.0.1", server.port)) as client:
        answered = 0
        while not busy.answered.is_set():
            for path in ("/v2/health/live", "/v2/health/ready", "/metrics"):
                assert ask(client, "GET", path)[0] == 200
                answered += not busy.answered.is_set()
        assert answered > 9, "they waited for the model"
