"""Too much, too slow, too many, too clever: each is refused before it costs anything, and the next client is served."""

import asyncio
import gzip
import random
import resource
import select
import socket
import threading
import time
import tracemalloc
import zlib

import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.limits import BODIES, decompress, read_body
from tests.serve.doors import W, acall, an_app, call, settings
from tests.serve.running import running
from tests.serve.wire import (
    BODY,
    INFER,
    closed,
    connect,
    exchange,
    leave,
    post,
    read,
    read_all,
    served,
    status,
    whole,
    zipped,
)
from tests.waiting import until

LIMIT = 1 << 20
TWICE = zipped(zlib.compress(BODY))
SHORT = settings(header_timeout_s=1.0, body_timeout_s=1.0, idle_timeout_s=1.0, max_connections=40)


def test_a_declared_length_over_the_limit_is_refused_unread():
    for declared in (LIMIT + 1, 10**12, 10**40):
        answer = call(an_app(), "POST", INFER, BODY, [(b"content-length", b"%d" % declared)])
        assert (answer.status, answer.read) == (413, 0) and str(LIMIT) in answer.error
    assert call(an_app(), "POST", INFER, BODY, [(b"content-length", b"-5")]).status == 400


def test_chunks_are_counted_and_no_more_than_the_limit_is_kept():
    chunks = [b"x" * (LIMIT // 4)] * 100
    tracemalloc.start()
    answer = call(an_app(), "POST", INFER, chunks=chunks)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (answer.status, answer.read) == (413, 5) and peak < 3 * LIMIT
    assert call(an_app(), "POST", INFER, chunks=[b" " * LIMIT]).status == 400  # as much as allowed: read, and no JSON


@pytest.mark.parametrize("encoding, compress", [(b"gzip", gzip.compress), (b"deflate", zlib.compress)])
def test_a_bomb_is_refused_at_the_limit(encoding, compress):
    bomb = compress(b"\0" * (200 * LIMIT))
    assert len(bomb) < LIMIT
    tracemalloc.start()
    answer = call(an_app(), "POST", INFER, bomb, [(b"content-encoding", encoding)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answer.status == 413 and peak < 5 * LIMIT
    for broken in (compress(BODY)[:-3], compress(BODY) + b"x", BODY, b""):
        assert call(an_app(), "POST", INFER, broken, [(b"content-encoding", encoding)]).status == 400
    for unknown in (b"br", b"gzip, gzip, gzip", b"gzip, br", b"zstd"):
        assert call(an_app(), "POST", INFER, BODY, [(b"content-encoding", unknown)]).status == 415
    assert decompress(compress(b"a" * LIMIT), [encoding], LIMIT) == b"a" * LIMIT
    with pytest.raises(ServeError, match="at least"):
        decompress(compress(b"a" * (LIMIT + 1)), [encoding], LIMIT)


def test_gzip_of_several_members_is_one_body():
    """RFC 1952, 2.2: what `cat a.gz b.gz` and parallel compressors write."""

    def ask(body):
        return call(an_app(), "POST", INFER, body, [(b"content-encoding", b"gzip")])

    empty, half = gzip.compress(b""), len(BODY) // 2
    for split in (0, 1, half, len(BODY)):
        assert ask(gzip.compress(BODY[:split]) + gzip.compress(BODY[split:])).status == 200
    assert ask(empty * 500 + gzip.compress(BODY) + empty * 400).status == 200
    noise = random.Random(0).randbytes(LIMIT // 4)  # several windows of compressed bytes
    members = [noise[i : i + 5000] for i in range(0, len(noise), 5000)]
    assert decompress(b"".join(map(gzip.compress, members)), [b"gzip"], LIMIT) == noise
    for broken in (gzip.compress(BODY) + BODY, gzip.compress(BODY) + empty[:-1], gzip.compress(BODY) + b"\0"):
        answer = ask(broken)
        assert answer.status == 400 and "gzip" in answer.error
    assert ask(gzip.compress(b" " * (LIMIT // 2)) * 3).status == 413
    assert "gzip" in ask(empty * 1001).error, "as many members as there are bytes would be much work"
    two = call(
        an_app(), "POST", INFER, zlib.compress(BODY[:9]) + zlib.compress(BODY[9:]), [(b"content-encoding", b"deflate")]
    )
    assert two.status == 400 and "deflate" in two.error, "deflate has one"


def test_the_end_of_a_member_costs_no_copy_of_what_follows():
    large = gzip.compress(bytes(15 << 20), 0)
    took = []
    for body in (large, gzip.compress(b"") * 999 + large):
        began = time.monotonic()
        assert decompress(body, [b"gzip"], 16 << 20) == bytes(15 << 20)
        took.append(time.monotonic() - began)
    assert took[1] < 10 * took[0] + 0.2, took


@pytest.mark.parametrize(
    "body, headers, code",
    [
        (zipped(BODY), {b"transfer-encoding": b"gzip, chunked"}, 200),
        (zlib.compress(BODY), {b"transfer-encoding": b"Deflate , chunked"}, 200),
        (zipped(BODY), {b"transfer-encoding": b"x-gzip,chunked"}, 200),
        (TWICE, {b"content-encoding": b"deflate, gzip"}, 200),
        (TWICE, {b"content-encoding": b"gzip, deflate"}, 400),
        (TWICE, {b"content-encoding": b"deflate", b"transfer-encoding": b"gzip, chunked"}, 200),
        (BODY, {b"content-encoding": b"identity", b"transfer-encoding": b"chunked"}, 200),
        (BODY, {b"transfer-encoding": b"br, chunked"}, 501),
        (BODY, {b"transfer-encoding": b"gzip, chunked"}, 400),
        (zipped(b" " * (LIMIT + 1)), {b"transfer-encoding": b"gzip, chunked"}, 413),
        (zipped(zipped(b" " * (100 * LIMIT))), {b"content-encoding": b"gzip, gzip"}, 413),
    ],
)  # fmt: skip
def test_every_encoding_of_a_body_is_undone(body, headers, code):
    answer = call(an_app(), "POST", INFER, body, list(headers.items()))
    assert answer.status == code, answer.error


def test_transfer_codings_on_the_wire(port):
    packed = gzip.compress(BODY)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(packed), packed)
    assert status(exchange(port, post(chunks, "Transfer-Encoding: gzip, chunked"))) == 200
    twice = exchange(port, post(chunks, "Transfer-Encoding: gzip", "Transfer-Encoding: chunked"))
    assert status(twice) == 400 and b"2 times" in twice
    for nonsense in ("gzip", "chunked, gzip", "chunked, chunked"):
        assert status(exchange(port, post(chunks, f"Transfer-Encoding: {nonsense}"))) == 400


def test_a_body_in_the_smallest_pieces_is_no_larger_in_memory():
    sent = iter(range(20000))

    async def receive():
        i = next(sent)
        return {"type": "http.request", "body": i.to_bytes(2, "big"), "more_body": i < 19999}

    tracemalloc.start()
    body = asyncio.run(read_body(receive, {}, LIMIT))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert body == b"".join(i.to_bytes(2, "big") for i in range(20000)) and peak < 500_000


def test_a_slow_body_is_answered_408_by_the_application_under_any_server():
    started = time.monotonic()
    answer = call(an_app(body_timeout_s=0.1), "POST", INFER, chunks=[lambda: asyncio.sleep(5), BODY])
    assert answer.status == 408 and time.monotonic() - started < 2


@pytest.fixture(scope="module")
def port():
    app = an_app(**vars(SHORT))
    with running(app, SHORT, max_header_bytes=8192, max_headers=50) as port:
        yield port


def test_keep_alive_and_pipelining(port):
    with connect(port) as client:
        for _ in range(3):
            client.sendall(whole())
            assert status(read(client)) == 200
        client.sendall(whole() + whole() + whole(b"{"))
        answers = b""
        while answers.count(b"HTTP/1.1 ") < 3 or not answers.endswith(b"}"):
            answers += client.recv(65536)
        assert [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"400"]


@pytest.mark.parametrize(
    "request_, expected",
    [
        (post(BODY, f"Content-Length: {len(BODY)}", "Transfer-Encoding: chunked"), {400}),
        (post(BODY, f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY)}"), {400}),
        (post(BODY, f"Content-Length: {len(BODY)}", f"Content-Length: {len(BODY) - 1}"), {400}),
        (post(BODY, f"Content-Length: +{len(BODY)}"), {400}),
        (post(BODY, "Transfer-Encoding: chunked, identity"), {400}),
        (post(BODY, "Transfer-Encoding : chunked"), {400}),
        (whole().replace(b"\r\n", b"\n"), {400}),
        (whole(BODY, "X: " + "a" * 65536), {431}),
        (whole(BODY, *(f"X-{i}: a" for i in range(1000))), {431}),
        (post(b"", path="/" + "a" * 9000), {431}),
        (b"nonsense\r\n\r\n", {400}),
        (b"GET / HTTP/9.9\r\n\r\n", {400}),
        (post(b"zz\r\n", "Transfer-Encoding: chunked"), {400}),
        (whole(BODY, "X-A: a\x00b"), {400}),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", {400}),
        (post(b"", path="/\xe9"), {400}),
    ],
)
def test_smuggling_and_oversized_headers_are_refused_and_the_connection_closed(port, request_, expected):
    with connect(port) as client:
        client.sendall(request_)
        answer = read(client)
        assert status(answer) in expected and b"connection: close" in answer
        assert closed(client)
    assert served(port)


def test_only_http_1_0_may_leave_out_the_host(port):
    assert status(exchange(port, whole().replace(b"1.1", b"1.0").replace(b"Host: localhost\r\n", b""))) == 200
    assert status(exchange(port, whole().replace(b"Host: localhost\r\n", b""))) == 400


def test_a_header_that_never_ends_is_cut_off_before_its_end(port):
    with connect(port) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: ")
        for _ in range(100):
            try:
                client.sendall(b"a" * 1000)
            except OSError:
                break
            time.sleep(0.001)
        else:
            pytest.fail("100 kB of one header were taken")


def test_a_trailer_is_no_header(port):
    chunked = b"%x\r\n%s\r\n0\r\nAuthorization: Bearer user\r\nX-Request-Id: trailer\r\n\r\n" % (len(BODY), BODY)
    answer = exchange(port, post(chunked, "Transfer-Encoding: chunked"))
    assert status(answer) == 200 and b"trailer" not in answer


def test_a_body_over_the_limit_is_answered_at_once_and_the_next_request_served(port):
    with connect(port) as client:
        client.sendall(post(b"", f"Content-Length: {3 * LIMIT}"))
        assert status(read(client)) == 413
        client.sendall(b"x" * (3 * LIMIT))  # a client that had begun: what it sends is dropped
        client.sendall(whole())
        assert status(read(client)) == 200
    chunk = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
    with connect(port) as client:
        client.sendall(post(b"", "Transfer-Encoding: chunked") + chunk * 17)
        assert status(read(client)) == 413
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with connect(port) as client:
        client.sendall(post(b"", f"Content-Length: {10**12}"))
        assert status(read(client)) == 413
        try:
            for _ in range(200):
                client.sendall(b"x" * LIMIT)
        except OSError:
            pass
        else:
            pytest.fail("200 MB of a refused body were read")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 36 * 1024
    assert served(port)


def test_a_body_shorter_or_longer_than_declared(port):
    with connect(port) as client:
        client.sendall(post(BODY, f"Content-Length: {len(BODY) + 5}"))
        assert status(read(client)) == 408 and closed(client)
    with connect(port) as client:
        client.sendall(post(BODY, f"Content-Length: {len(BODY) - 1}"))
        answers = read_all(client)  # cut short it is no JSON; the rest is no request
        assert answers.count(b"HTTP/1.1 400 ") == 2 and b"not JSON" in answers
    assert served(port)


def test_slow_and_idle_clients_are_closed_while_others_are_served(port):
    """Headers dripping, bodies dripping, connections that say nothing: all gone at the timeout plus one sweep."""
    slow_header, slow_body, silent, idle = ([connect(port) for _ in range(8)] for _ in range(4))
    started = time.monotonic()
    for client in slow_header:
        client.sendall(b"POST / HTTP/1.1\r\nHost: loc")
    for client in slow_body:
        client.sendall(post(BODY[:9], f"Content-Length: {len(BODY)}"))
    for client in idle:
        client.sendall(whole())
        assert status(read(client)) == 200
    stop = threading.Event()

    def drip():
        while not stop.wait(0.1):
            for client in (*slow_header, *slow_body):
                try:
                    client.sendall(b"a")
                except OSError:
                    pass

    dripping = threading.Thread(target=drip)
    dripping.start()
    try:
        worst = 0.0
        while time.monotonic() - started < 0.8:
            asked = time.monotonic()
            assert served(port)
            worst = max(worst, time.monotonic() - asked)
        assert worst < 0.5
        for client in (*slow_header, *slow_body):
            assert status(read(client)) == 408 and closed(client)
        for client in (*silent, *idle):
            assert closed(client)
        assert time.monotonic() - started < 4
    finally:
        stop.set()
        dripping.join()
        for client in (*slow_header, *slow_body, *silent, *idle):
            client.close()
    assert served(port)


def test_connections_beyond_the_limit_are_told_so(port):
    time.sleep(0.1)  # those of the tests before are gone
    clients = [connect(port) for _ in range(40)]
    try:
        time.sleep(0.2)
        with connect(port) as surplus:
            answer = read(surplus)
            assert status(answer) == 503 and b"40 connections" in answer and closed(surplus)
    finally:
        for client in clients:
            client.close()
    until(lambda: served(port), 10)  # once the server has heard that they are gone


def test_a_client_with_every_connection_gives_way_to_others():
    """Silent ones are closed first, then those with a request that is not whole, which are told."""

    def another(address):
        one = socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(address, 0))
        clients.append(one)
        one.sendall(whole())
        return status(read(one))

    with running(an_app(), settings(max_connections=8), "off") as port:
        clients = [connect(port) for _ in range(8)]
        try:
            unfinished = clients[:5]
            for client in unfinished:
                client.sendall(post(b"", "Content-Length: 5"))
            time.sleep(0.2)
            assert [another("127.0.0.2") for _ in range(4)] == [200] * 4
            assert all(closed(client) for client in clients[5:8])
            (told,), _, _ = select.select(unfinished, [], [], 5)
            assert status(read(told)) == 503 and closed(told)
            assert another("127.0.0.2") == 503  # both have as many
            assert another("127.0.0.3") == 200
        finally:
            for client in clients:
                client.close()
        until(lambda: served(port), 10)


def test_streams_heads_and_mistakes_of_any_application():
    """What the connection makes of applications other than ours: mounted plugins may do all of this."""

    async def application(scope, receive, send):
        path = scope["path"]
        if path == "/fails":
            raise RuntimeError("on purpose")
        if path == "/silent":
            return
        if path == "/slow":
            await asyncio.sleep(0.1)
        injected = [(b"x", b"a\nset-cookie: b")]
        headers = {"/injects": injected, "/returns": [(b"x", b"a\rb")], "/lies": [(b"content-length", b"3")]}.get(
            path, []
        )
        if path == "/late":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            body = (await receive())["body"]
            return await send({"type": "http.response.body", "body": body})
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for part in (b"one", b"", b"three"):
            await send({"type": "http.response.body", "body": part, "more_body": part != b"three"})

    with running(application, settings(), lifespan="off") as port:
        assert exchange(port, b"GET /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").endswith(
            b"transfer-encoding: chunked\r\nconnection: close\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n"
        )
        head = exchange(port, b"HEAD /stream HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\n") and head.endswith(b"\r\n\r\n")
        with connect(port) as client:  # curl waits for this before it sends a large body
            client.sendall(post(b"", "Content-Length: 2", "Expect: 100-continue", path="/late"))
            assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.sendall(b"ok")
            assert read(client).endswith(b"content-length: 2\r\n\r\nok")
        for path in (b"/fails", b"/silent", b"/injects", b"/returns", b"/lies"):
            answer = exchange(port, b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % path)
            assert b"set-cookie" not in answer and b"three" not in answer and b"on purpose" not in answer
        with connect(port) as client:  # pipelined: answered in order, however long each takes
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
            client.sendall(post(b"ok", "Content-Length: 2", "Connection: close", path="/late"))
            answers = b""
            while part := client.recv(65536):
                answers += part
            assert answers.index(b"three") < answers.index(b"content-length: 2") and answers.endswith(b"ok")
        upgrade = exchange(port, post(b"", "Upgrade: websocket", "Connection: Upgrade"))
        assert status(upgrade) == 400 and b"WebSocket" in upgrade


def test_an_answer_nobody_reads_is_cut_off():
    async def application(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(1000):
                began = time.monotonic()
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
                took.append(time.monotonic() - began)
            ended.set()

    took, ended = [], threading.Event()
    with running(application, settings(body_timeout_s=0.5), lifespan="off") as port:
        with connect(port) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert ended.wait(5)  # it was cut off: what it sends goes nowhere
    assert max(took) > 0.4 and took.index(max(took)) < 500, "the application waits for the client"


def test_work_of_a_client_that_went_away_is_cancelled():
    app, cancelled, begun = an_app(), threading.Event(), threading.Event()

    async def slow(*_):
        begun.set()
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    quick = app.models.models["digits"].infer
    app.models.models["digits"].infer = slow
    with running(app, settings()) as port:
        for half_closes_before in (False, True):
            begun.clear()
            cancelled.clear()
            client = connect(port)
            client.sendall(whole())
            assert begun.wait(5)
            if half_closes_before:
                client.shutdown(socket.SHUT_WR)
                time.sleep(0.1)
                assert not cancelled.is_set()  # it may still read
            leave(client)
            assert cancelled.wait(5)
        app.models.models["digits"].infer = quick
        assert served(port)


def test_the_bodies_of_all_requests_are_bounded_together():
    """A body of a few kB may become a MiB, and waits in memory for its turn: 1000 clients would be a GiB."""
    limit = 1 << 17
    app = an_app(max_body_bytes=limit)
    model = app.models.models["digits"]

    async def infer(*_):
        held.append(BODIES.total)
        await pause.wait()
        return {"y": W[:2]}

    model.infer = infer
    body = BODY.ljust(limit)
    packed = {"body": gzip.compress(body), "headers": [(b"content-encoding", b"gzip")]}

    async def test(how):
        asked = [asyncio.create_task(acall(app, "POST", INFER, client="10.0.0.1", **how)) for _ in range(40)]
        while sum(task.done() for task in asked) + len(held) < 40:
            await asyncio.sleep(0.01)
        first = len(held)
        assert 14 <= first <= 15 and max(held) <= 16 * limit
        refused = [task.result() for task in asked if task.done()]
        assert {answer.status for answer in refused} == {429} and b"retry-after" in refused[0].headers
        other = asyncio.create_task(acall(app, "POST", INFER, client="10.0.0.2", **how))
        while len(held) == first:
            assert not other.done(), "room is left for others"
            await asyncio.sleep(0.01)
        pause.set()
        await asyncio.wait([*asked, other])
        assert BODIES.total == 0

    for how in ({"chunks": [body[:-9], body[-9:]]}, packed):
        held, pause = [], asyncio.Event()
        asyncio.run(test(how))
