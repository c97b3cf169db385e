"""Checklist 5, 6, 7, 9 and 10 on a process as it is run: what a request costs it at most, as the kernel counts."""

import asyncio
import contextlib
import socket
import zlib
from pathlib import Path

import grpc
import pytest

from jaxprop_serve.grpc_door.messages import INFERENCE
from tests.serve.doors import a_request
from tests.serve.test_innocents import INFER, INVALID, asks, half_of_them_leave, queue_rows, row

MB = 1 << 20
LIMIT = 16 * MB  # of a body, by default
POSTS = (INFER, "/predict/digits", "/v2/repository/index", "/v2/repository/models/digits/load")


@pytest.fixture(scope="module", autouse=True)
def made(server):
    """What is made once, is made."""
    for _ in range(20):
        assert server.call("POST", INFER, b"[" * 1000)[0] == 400


@contextlib.contextmanager
def growth(server, most):
    """The process's peak of resident memory inside is at most `most` bytes above what it had before."""
    proc = Path(f"/proc/{server.process.pid}")

    def kilobytes(name):
        return next(int(line.split()[1]) for line in (proc / "status").read_text().splitlines() if name in line)

    (proc / "clear_refs").write_text("5")  # forget the peak
    before = kilobytes("VmRSS")
    yield
    grown = 1024 * (kilobytes("VmHWM") - before)
    print(f"resident memory grew by {grown / MB:.1f} MB, allowed {most / MB:.0f}")
    assert grown < most


def test_json_100_000_deep(server):
    with growth(server, 10 * MB):
        for path in POSTS:
            for text in (
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b'{"rows":' + b"[" * 100_000,
                b"[" * 50_000 + b"]" * 50_000,
            ):
                status, answer, _ = server.call("POST", path, text)
                assert status == 400 and set(answer) == {"error"}, (path, text[:9])


def send(port, head, parts):
    """Send a request for as long as the server takes it; the status of its answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        with contextlib.suppress(OSError):
            client.sendall(f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\n{head}\r\n\r\n".encode())
            for part in parts:
                client.sendall(part)
        with contextlib.suppress(ConnectionResetError):
            return int(client.recv(65536)[9:12])


@pytest.mark.parametrize(
    "head, parts, status",
    [
        (f"Content-Length: {200 * MB}", [bytes(MB)] * 200, 413),
        ("Transfer-Encoding: chunked", [b"100000\r\n%b\r\n" % bytes(MB)] * 200, 413),
        (f"Content-Length: {10**15}", [bytes(MB)] * 200, 413),
        ("Content-Length: 10", [bytes(MB)] * 200, 400),  # ten bytes of no JSON; the rest is no request
        (f"Content-Length: {LIMIT}", [bytes(MB)] * 200, 400),
    ],
    ids=["declared", "chunked", "declared without end", "declared too short", "as much as is taken, and more"],
)
def test_bodies_beyond_the_limit(server, head, parts, status):
    with growth(server, LIMIT + 20 * MB):
        assert send(server.port, head, parts) in (status, None)  # None: cut off while it still sent
    assert server.call("POST", INFER, a_body())[0] == 200


def test_the_refusal_comes_before_the_body(server):
    for head, parts in (
        (f"Content-Length: {LIMIT + 1}", []),
        ("Transfer-Encoding: chunked", [b"1100000\r\n", bytes(17 * MB)]),
    ):
        assert send(server.port, head, parts) == 413


def bomb(bits):
    """10 MB that become 10 GB: a deflated megabyte of zeros that ends on a byte, over and over."""
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    start = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(MB)) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + again * 10_000


@pytest.mark.parametrize("encoding, bits", [("gzip", 31), ("deflate", 15)])
def test_a_bomb_of_10_gb(server, encoding, bits):
    body = bomb(bits)
    assert 9 * MB < len(body) < 12 * MB
    with growth(server, 6 * LIMIT):  # the body twice while it is put together, and what is unpacked of it twice
        status, answer, _ = server.call("POST", INFER, body, content_encoding=encoding)
        assert status == 413 and str(LIMIT) in answer["error"]
    assert server.call("POST", INFER, a_body())[0] == 200


def a_body():
    return {"inputs": [a_request(row(1))["inputs"][0] | {"data": row(1).ravel().tolist()}]}


def test_bad_requests_and_clients_that_leave_harm_nobody(server):
    """A smaller number of what test_innocents.py does with the application alone."""

    async def poisoned():
        for n in range(60):
            bad = INVALID[n % len(INVALID)]
            await asyncio.gather(*(asks(server.port, i, bad=bad if i == n % 16 else None) for i in range(16)))

    asyncio.run(poisoned())
    assert asyncio.run(half_of_them_leave(server.port, 30)) < 1
    assert queue_rows(server.call("GET", "/metrics")[1]) == 0


@pytest.mark.slow
def test_refused_messages_are_let_go(server):
    """40 of 15 MB over gRPC, one after the other: what is raised for one must not keep it."""
    rows = 15 * MB // 16
    shape = {"name": "x", "shape": [rows, 4], "datatype": "FP32"}
    message = INFERENCE.ModelInferRequest(model_name="digits", inputs=[shape], raw_input_contents=[bytes(16 * rows)])
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel, growth(server, 300 * MB):
        ask = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        for _ in range(40):
            with pytest.raises(grpc.RpcError, match="at most 8192 are taken"):
                ask(message.SerializeToString(), timeout=20)
