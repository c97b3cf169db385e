"""What came before is not read again: headers of HTTP and the words of JSON around the numbers. What is answered must
not depend on it."""

import asyncio
import gzip
import json
import socket
import struct
import time
from dataclasses import replace

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from jaxprop.columns import Number, Table
from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1.connections import connection
from jaxprop_serve.http1.routes import Mount
from jaxprop_serve.protocol import again
from jaxprop_serve.protocol.requests import decode
from jaxprop_serve.seen.metrics import Metrics
from tests.serve.doors import FakeModel, W, an_app, settings, signature
from tests.serve.running import running, running_here

KINDS = {datatype: signature(datatype) for datatype in ("FP32", "FP64")}
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["1e38", "3.4e38", "-3.5e38", "1e39", "1e400", "-0", "1e-400", "01", "1.", "+1", "NaN", "1E5"]),
    st.sampled_from(["null", "true", '"1"', "[1]", "[]", "1 2", "\\u0031", "1]", "[1", "", "/*1*/1", "\x00"]),
)  # fmt: skip


def words(numbers, datatype="FP32", before="", after=""):
    data = "[" + ",".join(str(number) for number in numbers) + "]"
    given = f'"name":"x","shape":[1,4],"datatype":"{datatype}"'
    return f'{{{before}"inputs":[{{{given},"data":{data}}}]{after}}}'.encode()


def outcome(body, kinds):
    """The inputs' bits, or the refusal."""
    try:
        found = decode({}, body, kinds, "digits")
    except ServeError as error:
        return error.status, error.text
    return found.inputs["x"].dtype.name, found.inputs["x"].shape, found.inputs["x"].tobytes(), found.parameters


@pytest.mark.parametrize("datatype", KINDS)
@hypothesis.given(st.lists(NUMBERS, min_size=3, max_size=5))
@hypothesis.example([1, 2, 3, "1e39"])
@hypothesis.example([1, 2, 3, "-3.5e38"])
@hypothesis.example([1, 2, 3])
def test_numbers_between_known_words_are_what_they_are_between_new_ones(datatype, numbers):
    kinds, body = KINDS[datatype], words(numbers, datatype)
    again._remembered.clear()
    new = outcome(body, kinds)
    again._remembered.clear()
    outcome(words([1, 2, 3, 4], datatype), kinds)
    assert len(again._remembered) == 1  # the next one is between known words
    assert outcome(body, kinds) == new


def test_only_the_numbers_are_read_again(monkeypatch):
    """The fast way is taken: with the general one gone, numbers are read and other words are not."""
    kinds = KINDS["FP32"]
    outcome(words([1, 2, 3, 4]), kinds)
    monkeypatch.setattr("jaxprop_serve.protocol.requests._read", None)
    assert outcome(words([5, 6.5, -7, 8e0]), kinds)[2] == np.float32([5, 6.5, -7, 8]).tobytes()
    with pytest.raises(TypeError):
        outcome(words([1, 2, 3, 4], after=',"parameters":{"a":1}'), kinds)


def test_words_in_which_the_list_is_not_the_input_are_not_remembered():
    again._remembered.clear()
    kinds = KINDS["FP32"]
    first = words([1, 2, 3, 4], before='"parameters":{"\\"data\\"":1},')
    assert outcome(first, kinds)[0] == "float32"
    twice = first.replace(b'"data":', b'"data":[0],"data":')  # of two the last counts
    assert outcome(twice, kinds) == outcome(twice, kinds) == outcome(first, kinds)
    found = [(before, after, again.read((before, b"[9,9,9,9]", after), kinds, 8192))
             for before, _, after in (again.split(first), again.split(twice))]  # fmt: skip
    again._remembered.clear()
    for before, after, known in found:
        assert known is None or outcome(before + b"[9,9,9,9]" + after, kinds)[2] == np.float32([9] * 4).tobytes()


@pytest.mark.parametrize(
    "datatype, first, second",
    [("INT64", "1", "1.5"), ("BYTES", '"a"', "1"), ("BOOL", "true", "1"), ("FP64", "1", "0.1")],
)
def test_the_words_of_a_column_are_not_those_of_x(datatype, first, second):
    """A table of one column has one input too, of whatever type it comes in."""
    table = Table((Number("age", fill=1.0),))
    kinds = replace(signature(row=(1,)), table=table)
    bodies = [
        b'{"inputs":[{"name":"age","shape":[1,1],"datatype":"%b","data":[%b]}]}' % (datatype.encode(), cell.encode())
        for cell in (first, second)
    ]

    def found(body):
        try:
            cells = decode({}, body, kinds, "digits").inputs["age"]
        except ServeError as error:
            return error.text
        return cells.dtype, cells.tolist()

    again._remembered.clear()
    new = found(bodies[1])
    again._remembered.clear()
    assert isinstance(found(bodies[0]), tuple)
    assert found(bodies[1]) == new


INFER = "/v2/models/digits/infer"


def message(numbers, *headers, path=INFER, body=None):
    body = words(numbers) if body is None else body
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def answers(client, count):
    """The next `count` answers: (status, body)."""
    found, data = [], b""
    while len(found) < count:
        part = client.recv(1 << 16)
        assert part, "the server has closed"
        data += part
        while b"\r\n\r\n" in data:
            head, _, rest = data.partition(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if len(rest) < size:
                break
            found.append((int(head.split()[1]), rest[:size]))
            data = rest[size:]
    return found


def y(numbers):
    return (np.float32([numbers]) @ W).ravel()


def test_a_known_header_is_answered_as_a_new_one_is(monkeypatch):
    app = an_app()
    again_called = []
    original = connection(settings())._again  # of the class all servers' connections are made from
    monkeypatch.setattr(
        connection(settings()).__mro__[1], "_again", lambda *a: (again_called.append(1), original(*a))[1]
    )
    with running(app, settings()) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for i in range(5):  # the same header, other numbers
            client.sendall(message([i, 2, 3, 4]))
            ((status, body),) = answers(client, 1)
            assert status == 200
            np.testing.assert_allclose(json.loads(body)["outputs"][0]["data"], y([i, 2, 3, 4]), rtol=1e-6)
        assert len(again_called) == 4
        one = message([1, 2, 3, 4])
        for pieces in ([one[:20], one[20:]], [one[:-7], one[-7:]], [one + one], [one + one[:50], one[50:]]):
            for piece in pieces:
                client.sendall(piece)
                time.sleep(0.05)
            count = sum(map(len, pieces)) // len(one)
            assert [status for status, _ in answers(client, count)] == [200] * count
        assert len(again_called) == 4, "what comes in pieces, or with another request, is parsed"
        client.sendall(message([], body=b"?" * len(words([1, 2, 3, 4]))))
        assert answers(client, 1)[0][0] == 400
        client.sendall(one)
        assert answers(client, 1)[0][0] == 200


def test_blank_lines_before_a_request_are_no_header():
    """Else what one client sends behind them would stand for whatever others send behind them."""
    blank, asked = b"\r\n\r\n", message([1, 2, 3, 4])
    head = message([], body=b"").replace(b": 0", b": %d" % len(asked))
    with running(an_app(), settings()) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(blank + head + b"x" * (len(asked) - len(head)))
            time.sleep(0.1)
            client.sendall(b"x" * len(head))
            assert answers(client, 1)[0][0] == 400
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(blank + asked)
            assert answers(client, 1)[0][0] == 200


@pytest.mark.parametrize("mounted", [True, False])
def test_what_an_application_writes_into_a_request_is_not_in_the_next_one(mounted):
    found = []

    async def application(scope, receive, send):
        scope["headers"].append((b"x-user", b"alice"))
        scope["user"] = "alice"
        found.append((len(scope["headers"]), "again" if "jaxprop.body" in scope else "first"))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    async def bare(scope, receive, send):
        assert "user" not in scope
        await application(scope, receive, send)

    app = an_app(routes=[Mount("/mine", bare)]) if mounted else bare
    with (
        running(app, settings(), lifespan="off") as port,
        socket.create_connection(("127.0.0.1", port), timeout=5) as client,
    ):
        for _ in range(3):
            client.sendall(message([1, 2, 3, 4], path="/mine/x"))
            assert answers(client, 1)[0][0] == 200
    assert found == [(3, "first"), (3, "again"), (3, "again")]


def test_a_token_that_is_no_longer_valid_is_refused_under_a_known_header():
    app = an_app(token="first")
    header = "Authorization: Bearer first"
    with running(app, settings()) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for _ in range(2):
            client.sendall(message([1, 2, 3, 4], header))
            assert answers(client, 1)[0][0] == 200
        app.access = an_app(token="second").access
        client.sendall(message([1, 2, 3, 4], header))
        assert answers(client, 1)[0][0] == 401


def test_a_body_under_a_known_header_is_within_the_limits():
    app, limits = an_app(max_body_bytes=2000), settings(max_body_bytes=2000)
    plain = words([1, 2, 3, "4" + " " * 5000])
    small, large = gzip.compress(words([1, 2, 3, 4])), gzip.compress(words([1, 2, 3, "4" + " " * 5000]))
    large += b"\0" * max(0, len(small) - len(large))
    with running(app, limits) as port, socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        for body, expected in ((small, 200), (small, 200), (large, 413), (large, 413)):
            client.sendall(message([], "Content-Encoding: gzip", body=body))
            assert answers(client, 1)[0][0] == expected
        for _ in range(3):
            client.sendall(message([], body=plain))
            assert answers(client, 1)[0][0] == 413


def test_a_client_that_leaves_cancels_what_it_waited_for_under_a_known_header():
    class Slow(FakeModel):
        def __init__(self):
            super().__init__()
            self.slow, self.waiting, self.cancelled = False, 0, 0

        async def infer(self, inputs, deadline=None, client=None):
            if self.slow:
                self.waiting += 1
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    self.cancelled += 1
                    raise
            return await super().infer(inputs, deadline, client)

    async def main():
        model, metrics = Slow(), Metrics(None)
        async with running_here(an_app(model, metrics=metrics), settings()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(message([1, 2, 3, 4]))
            assert (await reader.readline()).split()[1] == b"200"
            await asyncio.sleep(0.05)
            model.slow = True
            writer.write(message([1, 2, 3, 4]))
            while not model.waiting:
                await asyncio.sleep(0.01)
            reset = struct.pack("ii", 1, 0)  # it is gone, and does not only send no more
            writer.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
            while not model.cancelled:
                await asyncio.sleep(0.01)
            while 'code="499"' not in metrics.render().decode():
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(main(), 10))
