"""What a connection makes of its bytes: upgrades, clients that send no more, bytes beyond a request, much at once."""

import asyncio
import socket
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from jaxprop_serve.http1.connections import connection
from jaxprop_serve.protocol.tensors import TensorSpec
from tests.serve.doors import FakeModel, an_app, settings
from tests.serve.running import running, running_here
from tests.serve.wire import (
    BODY,
    connect,
    exchange,
    leave,
    post,
    read,
    read_all,
    served,
    status,
    statuses,
    whole,
)

SHORT = settings(header_timeout_s=1.0, body_timeout_s=1.0, idle_timeout_s=2.0)
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
OFFER = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA")
HEALTH = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n"
UPGRADES = [
    HEALTH + "\r\n".join([*OFFER, "", ""]).encode(),
    post(BODY, *OFFER, f"Content-Length: {len(BODY)}"),
    post(CHUNKED, *OFFER, "Transfer-Encoding: chunked"),
    post(BODY, *OFFER, f"Content-Length: {len(BODY)}", "X: " + "a" * 20000),
]


@pytest.fixture(scope="module")
def app():
    """Its model takes as long as `delay` says."""
    app = an_app(**vars(SHORT))
    model = app.models.models["digits"]
    model.delay, quick = 0.0, model.infer

    async def infer(*asked):
        if model.delay:
            await asyncio.sleep(model.delay)
        return await quick(*asked)

    model.infer = infer
    return app


@pytest.fixture(scope="module")
def port(app):
    with running(app, SHORT) as port:
        yield port


@pytest.fixture(params=[0.3])
def slow(app, request):
    """The model takes its time."""
    app.models.models["digits"].delay = request.param
    yield
    app.models.models["digits"].delay = 0.0


@pytest.mark.parametrize("request_", UPGRADES, ids=["GET", "POST", "chunked", "large header"])
def test_an_offer_to_upgrade_is_ignored(port, request_):
    """Java's client and `curl --http2` make it with every first request of a connection."""
    with connect(port) as client:
        for _ in range(2):
            client.sendall(request_)
            assert status(read(client)) == 200
        client.sendall(whole())
        assert status(read(client)) == 200
    with connect(port) as client:  # whatever the pieces it comes in
        for i in range(len(request_) - 30, len(request_)):
            client.sendall(request_[0 if i == len(request_) - 30 else i : i + 1])
        assert status(read(client)) == 200


def test_offers_among_pipelined_requests(port):
    last = whole(BODY, "Connection: close")
    assert statuses(exchange_all(port, *UPGRADES, whole(), *UPGRADES, last)) == [200] * 10
    many = exchange_all(port, b"".join(UPGRADES[:3] * 100), last)
    assert statuses(many) == [200] * 301


def test_another_protocol_is_refused(port):
    for request_ in (
        post(b"", "Upgrade: websocket", "Connection: Upgrade"),
        b"CONNECT example.org:80 HTTP/1.1\r\nHost: example.org:80\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ):
        assert status(exchange(port, request_)) == 400
    assert statuses(exchange_all(port, whole() + post(b"", "Upgrade: websocket", "Connection: Upgrade"))) == [200, 400]


def exchange_all(port, *parts, half_close=False):
    with connect(port) as client:
        for part in parts:
            client.sendall(part)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        return read_all(client)


@pytest.mark.parametrize("requests", [1, 3])
def test_a_client_that_sends_no_more_is_answered(port, slow, requests):
    """`nc -N`, HTTP/1.0 clients and some balancers close their sending side as soon as they have asked."""
    answers = exchange_all(port, whole() * (requests - 1) + whole(), half_close=True)
    assert statuses(answers) == [200] * requests
    assert requests > 1 or b"connection: close" in answers


@pytest.mark.parametrize("requests", [1, 2, 3])
def test_whoever_answers_hears_of_a_client_that_left(requests):
    """Also where the client had asked for more already."""

    async def test():
        heard = asyncio.Event()

        async def application(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass
            heard.set()

        async with running_here(application, SHORT) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((HEALTH + b"\r\n") * requests)
            await reader.readuntil(b"a\r\n")
            leave_now = socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(*leave_now)
            writer.transport.abort()
            await asyncio.wait_for(heard.wait(), 2)

    asyncio.run(test())


def test_a_client_that_leaves_in_the_middle_of_an_answer_is_no_failure(caplog):
    """Also behind another application, as while the server drains."""

    class Wide(FakeModel):
        async def infer(self, inputs, deadline=None, client=None):
            return {"y": np.ones((400_000, 3), np.float32)}

    async def test():
        model = Wide()
        model.signature = replace(model.signature, outputs=(TensorSpec("y", "FP32", (-1, 1 << 20)),))
        app = an_app(model)

        async def behind(scope, receive, send):
            await app(scope, receive, send)

        async with running_here(behind, SHORT) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(whole())
            assert await reader.readexactly(1000)
            writer.transport.abort()
            await asyncio.sleep(0.3)

    asyncio.run(test())
    assert not caplog.records


def test_a_client_that_stops_in_the_middle_is_not_waited_for(port):
    began = time.monotonic()
    assert exchange_all(port, whole()[:40], half_close=True) == b""
    assert statuses(exchange_all(port, whole()[:-5], half_close=True)) == [400]
    assert statuses(exchange_all(port, post(CHUNKED[:-5], "Transfer-Encoding: chunked"), half_close=True)) == [400]
    assert statuses(exchange_all(port, whole() + whole()[:40], half_close=True)) == [200]
    assert statuses(exchange_all(port, whole() + whole()[:-5], half_close=True)) == [200, 400]
    assert exchange_all(port, half_close=True) == b""
    assert time.monotonic() - began < 0.9, "no timeout ended it"


@pytest.mark.parametrize(
    "sent, found",
    [
        (whole() + b"\0", [200, 400]),
        (whole() + b"}", [200, 400]),
        (whole() + whole() + b"nonsense\r\n\r\n" + whole(), [200, 200, 400]),
        (whole() + whole(BODY, "X: " + "a" * 40000), [200, 431]),
        (whole() + whole(BODY, *(f"X-{i}: a" for i in range(200))), [200, 431]),
        (whole() + post(b"zz\r\n", "Transfer-Encoding: chunked"), [200, 400]),
        (whole() + post(CHUNKED[:-7] + b"zz\r\n", "Transfer-Encoding: chunked"), [200, 400]),
        (whole(BODY, "Connection: close") + whole(), [200]),
        (whole(BODY, "Connection: close") + b"nonsense", [200]),
        (whole().replace(b"1.1", b"1.0") + whole(), [200]),
    ],
)
@pytest.mark.parametrize("pieces", [1, 2])
def test_what_follows_a_request_does_not_replace_its_answer(port, sent, found, pieces):
    half = len(sent) if pieces == 1 else len(whole()) + 5
    assert statuses(exchange_all(port, sent[:half], sent[half:])) == found
    assert served(port)


def test_all_of_a_header_counts_that_began_behind_another_request(port):
    large = whole(BODY, "X: " + "a" * 32768)
    with connect(port) as client:
        client.sendall(whole() + large[:15000])
        time.sleep(0.1)
        client.sendall(large[15000:])
        assert statuses(read_all(client)) == [200, 431]


@pytest.mark.slow
@pytest.mark.parametrize("slow", [1.3], indirect=True)
def test_a_request_that_has_begun_waits_for_the_answer_before_it(port, slow):
    """The time of a header runs while we read it, and not while we compute what was asked before."""
    with connect(port) as client:
        client.sendall(whole() + whole()[:30])
        assert status(read(client)) == 200
        client.sendall(whole()[30:])
        assert status(read(client)) == 200
        client.sendall(whole()[:30])
        assert status(read(client)) == 408


def test_bytes_after_a_refused_body_are_no_second_answer(port):
    head = post(b"zz\r\n" * 3, "Transfer-Encoding: chunked", path="/nothing")
    with connect(port) as client:
        client.sendall(head[: head.index(b"zz")])
        found = read(client)
        client.sendall(b"zz\r\n")
        assert statuses(found + read_all(client)) == [404]


@pytest.mark.slow
def test_answers_nobody_reads_end_the_connection():
    """Also where the client has sent more requests, or no longer sends, or the last of an answer is small."""
    size = 1 << 20

    async def application(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * size})

    get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with running(application, settings(body_timeout_s=0.5), lifespan="off") as port:
        pipelining, half_closed, closing = clients = [connect(port) for _ in range(3)]
        try:
            pipelining.sendall(get * 50)
            half_closed.sendall(get * 10)
            half_closed.shutdown(socket.SHUT_WR)
            closing.sendall(get * 9 + get.replace(b"a\r\n", b"a\r\nConnection: close\r\n"))
            time.sleep(2.5)
            for client in clients:
                assert len(read_all(client)) < 10 * size
        finally:
            for client in clients:
                client.close()


def test_a_connection_that_closes_has_an_end_too():
    """Its last bytes may be few, so that nobody is told to stop writing, and never be taken."""

    class Transport:
        closing, aborted = False, False

        def get_extra_info(self, name):
            return None

        def is_closing(self):
            return self.closing

        def abort(self):
            self.aborted = True

    async def test():
        state = SimpleNamespace(connections=set(), tasks=set(), jaxprop_sweeping=True)
        config = SimpleNamespace(loaded=True, loaded_app=None)
        one, transport = connection(SHORT)(config, state, {}), Transport()
        one.connection_made(transport)
        one.phase, one.due = "answer", None
        one.close_if_overdue(100.0)
        assert one.due is None
        transport.closing = True
        one.close_if_overdue(100.0)
        one.close_if_overdue(100.9)
        assert not transport.aborted
        one.close_if_overdue(101.1)
        assert transport.aborted

    asyncio.run(test())


def test_much_at_once_from_many_lets_others_be_served(port):
    """Full reads of the smallest requests and of the smallest chunks: others are answered in between."""
    floods = [(HEALTH + b"\r\n") * 4000, post(b"", "Transfer-Encoding: chunked") + b"1\r\n \r\n" * 40000]
    took = []
    for _ in range(10):
        clients = [connect(port) for _ in range(8)]
        with connect(port) as other:
            for client, data in zip(clients, floods * 4, strict=True):
                client.setblocking(False)
                client.send(data)
            began = time.monotonic()
            other.sendall(HEALTH + b"\r\n")
            assert status(read(other)) == 200
            took.append(time.monotonic() - began)
        for client in clients:
            leave(client)
    assert min(took) < 0.1, took
