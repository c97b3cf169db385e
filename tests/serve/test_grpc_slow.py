"""A gRPC client that begins calls and never ends them: refused in time, and in nobody's way meanwhile."""

import contextlib
import socket
import struct
import time

import numpy as np
from tritonclient import grpc as triton, utils

from tests.serve.doors import FakeModel, W, an_app
from tests.serve.test_grpc import X, given, grpc_running
from tests.waiting import until

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


def half_a_call(stream, *headers):
    """POST over http, its headers, and five of the many bytes of the message that they announce."""
    names = b"\x83\x86" + literal(b":path", b"/inference.GRPCInferenceService/ModelInfer")
    names += literal(b":authority", b"localhost") + literal(b"content-type", b"application/grpc")
    names += literal(b"te", b"trailers") + b"".join(literal(*header) for header in headers)
    return frame(HEADERS, 4, stream, names) + frame(DATA, 0, stream, b"\0\0\1\0\0" + b"\x0a\x06dig")


@contextlib.contextmanager
def half_calls(port, count, *headers):
    """A connection on which `count` calls are begun."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        client.sendall(b"".join(half_a_call(2 * i + 1, *headers) for i in range(count)))
        yield client


def ended(client, count):
    """Read frames until so many calls are over, by trailers or a reset."""
    data, over = b"", set()
    while len(over) < count:
        data += client.recv(65536)
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            size, kind, flags, stream = int.from_bytes(data[:3], "big"), data[3], data[4], data[5:9]
            assert kind != GOAWAY
            if kind == RST_STREAM or (kind == HEADERS and flags & 1):
                over.add(stream)
            data = data[9 + size :]


def infer(port):
    with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        return client.infer("digits", given(), client_timeout=5).as_numpy("y")


def test_calls_that_never_end_are_over_in_time_and_make_room():
    with grpc_running(an_app(FakeModel(), body_timeout_s=1.0)) as server, half_calls(server.port, 64) as client:
        began = time.monotonic()
        ended(client, 64)
        assert 0.8 < time.monotonic() - began < 5
        np.testing.assert_array_equal(infer(server.port), X @ W)


def test_one_connection_cannot_take_all_there_is():
    with grpc_running(an_app(FakeModel()), max_queue_rows=1000) as server, half_calls(server.port, 1000):
        time.sleep(0.2)
        np.testing.assert_array_equal(infer(server.port), X @ W)


def test_a_token_is_asked_for_before_the_message_is_read():
    with grpc_running(an_app(FakeModel(), token="user-token")) as server, half_calls(server.port, 8) as client:
        began = time.monotonic()
        ended(client, 8)
        assert time.monotonic() - began < 5  # not after body_timeout_s, 30


def test_connections_beyond_the_limit_are_closed():
    """Silent ones, and ones that have begun to speak; when they are gone, there is room again."""
    with grpc_running(an_app(FakeModel()), max_connections=8) as server, contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=5)) for _ in range(16)
        ]
        for client in clients[::2]:
            client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        until(lambda: sum(map(is_open, clients)) <= 8, 10)
        stack.close()
        until(lambda: has_room(server.port), 10)


def has_room(port):
    with contextlib.suppress(utils.InferenceServerException):
        np.testing.assert_array_equal(infer(port), X @ W)
        return True


def is_open(client):
    client.settimeout(0.01)
    try:
        while client.recv(65536):
            pass
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    return False
