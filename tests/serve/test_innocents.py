"""Checklist 9 and 10: whoever asks beside a bad request, or beside clients that go away, is answered as if alone."""

import asyncio
import random
import socket
import struct
import threading
import time
from types import SimpleNamespace

import numpy as np
import orjson
import pytest
from tritonclient import grpc as triton, utils
from tritonclient.grpc import aio

from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.grpc_door.service import Call
from jaxprop_serve.http1.request import HttpRequest
from tests.serve.doors import W, a_request, acall
from tests.serve.numbers import POISON, Numbers, queue_rows, serving_numbers
from tests.serve.running import running_here

INFER = "/v2/models/digits/infer"
LANES = pytest.mark.parametrize("seconds", [0.0, 3e-4], ids=["in the loop", "in the thread"])


def row(i):
    return np.array([[i, 1, 2, 3]], np.float32)


def answer(x):
    return (x[:, :, None] * W).sum(1)


def is_answered(found, i):
    np.testing.assert_allclose(np.float32(found["outputs"][0]["data"]), answer(row(i))[0], rtol=1e-6)


POISONED = a_request(np.full((1, 4), POISON, np.float32))
INVALID = [
    a_request(row(0)[:, :3]),
    a_request(row(0), datatype="FP64"),
    a_request(row(0), data=[1, 2, 3]),
    a_request(row(0), name="z"),
    b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, NaN, 4]}]}',
    b'{"inputs": [{"name": "x"',
    b"[" * 1000,
]


@LANES
@pytest.mark.parametrize("bad, status", [(INVALID, 400), ([POISONED], 500)], ids=["invalid", "fails in the model"])
@pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.exhaustive)])
def test_one_bad_request_in_sixteen(times, seconds, bad, status):
    rng = random.Random(0)

    async def test(app, runtime):
        for _ in range(times):
            bodies = [a_request(row(i)) for i in range(16)]
            guilty = rng.randrange(16)
            bodies[guilty] = rng.choice(bad)
            answers = await asyncio.gather(*(acall(app, "POST", INFER, body) for body in bodies))
            for i, got in enumerate(answers):
                if i == guilty:
                    assert got.status == status and got.error
                else:
                    assert got.status == 200, got.error
                    is_answered(got.json, i)
        assert max(runtime.rows) >= 15, "nothing was batched: nobody could have been harmed"
        assert app.models._served["digits"]["1"].statistics.queue_rows == 0

    serving_numbers(test, seconds)


def test_one_bad_call_in_sixteen_over_grpc():
    async def test(app, runtime):
        door = await grpc_server.start(app, app.settings, 0)
        async with aio.InferenceServerClient(f"127.0.0.1:{door.port}") as client:

            async def infer(x):
                tensor = triton.InferInput("x", list(x.shape), "FP32")
                tensor.set_data_from_numpy(x)
                return (await client.infer("digits", [tensor])).as_numpy("y")

            for n in range(60):
                rows = [row(i) for i in range(16)]
                guilty, rows[n % 16] = n % 16, row(0)[:, :3] if n % 2 else np.full((1, 4), POISON, np.float32)
                answers = await asyncio.gather(*map(infer, rows), return_exceptions=True)
                refused = answers.pop(guilty)
                assert isinstance(refused, utils.InferenceServerException)
                assert refused.status() == f"StatusCode.{'INVALID_ARGUMENT' if n % 2 else 'INTERNAL'}"
                np.testing.assert_array_equal(
                    np.concatenate(answers), answer(np.concatenate(rows[:guilty] + rows[guilty + 1 :]))
                )
        await door.stop()
        assert max(runtime.rows) > 1

    serving_numbers(test, 3e-4)


def test_a_model_that_is_slow_for_its_largest_batch_alone_leaves_the_loop_free(monkeypatch):
    threads = []

    def execute(self, inputs):
        x = inputs["x"]
        if len(x) > 8:
            threads.append(threading.current_thread())
            time.sleep(3e-3)
        return {"y": answer(x)}

    async def test(app, runtime):
        threads.clear()
        assert (await acall(app, "POST", INFER, a_request(np.repeat(row(1), 12, 0)))).status == 200
        assert threads and threading.main_thread() not in threads

    monkeypatch.setattr(Numbers, "_execute", execute)
    serving_numbers(test)


@LANES
def test_one_large_request_beside_small_ones(seconds):
    """One request of more rows than the queue holds: others are answered while it is computed, and soon."""

    async def test(app, runtime):
        x = np.arange(4 * 2048, dtype=np.float32).reshape(-1, 4)
        large = asyncio.create_task(acall(app, "POST", INFER, a_request(x)))
        while not runtime.rows:
            await asyncio.sleep(0.001)
        for i in range(10):
            before = len(runtime.rows)
            got = await acall(app, "POST", INFER, a_request(row(i)))
            assert got.status == 200, got.error
            is_answered(got.json, i)
            assert len(runtime.rows) - before < 10 and not large.done(), "it waited for the large one"
        got = await large
        np.testing.assert_allclose(np.float32(got.json["outputs"][0]["data"]).reshape(-1, 3), answer(x), rtol=1e-6)
        assert sum(runtime.rows) >= 2048 + 10 and app.models._served["digits"]["1"].statistics.queue_rows == 0

    serving_numbers(test, seconds, max_queue_rows=1024)


@pytest.mark.parametrize(
    "peer, address",
    [
        ("ipv4:192.0.2.7:50051", "192.0.2.7"),
        ("ipv6:%5B2001:db8::7%5D:50051", "2001:db8::8"),  # of the same network
        ("ipv6:[::ffff:192.0.2.7]:50051", "192.0.2.7"),
        ("unix:", None),
        ("unix:/run/jaxprop", None),
    ],
)
def test_both_doors_say_who_asks(peer, address):
    at_grpc = Call(SimpleNamespace(peer=lambda: peer)).client()
    at_http = HttpRequest(None, None, None, {"client": address and (address, 5)}, None).client()
    assert at_grpc == at_http and bool(at_grpc) == (address is not None)


def whole(body):
    body = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def asks(port, i, leaves=None, bad=None):
    """One client, with row i or a bad body; or one that is gone (`leaves` says how) before it is answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(whole(bad or a_request(row(i)))[: 200 if leaves == "in its body" else None])
    await writer.drain()
    if leaves:
        if leaves == "by a reset":
            option = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, option)
        writer.close()
        return
    text = await reader.readuntil(b"\r\n\r\n")
    size = int(next(line for line in text.split(b"\r\n") if line.startswith(b"content-length")).split()[1])
    found = orjson.loads(await reader.readexactly(size))
    writer.close()
    if bad is None:
        assert text.startswith(b"HTTP/1.1 200"), found
        is_answered(found, i)
    else:
        assert text.startswith(b"HTTP/1.1 400"), found


async def half_of_them_leave(port, rounds):
    """16 clients at once, 8 of which go away; then a good one; how long the slowest good one took."""
    slowest = 0.0
    for _ in range(rounds):
        leaves = ("at once", "by a reset", "in its body", None, None, None, "at once", None) * 2
        await asyncio.gather(*(asks(port, i, how) for i, how in enumerate(leaves)))
        began = time.monotonic()
        await asks(port, 99)
        slowest = max(slowest, time.monotonic() - began)
    return slowest


@LANES
@pytest.mark.parametrize("rounds", [30, pytest.param(100, marks=pytest.mark.exhaustive)])
def test_half_of_the_clients_leave_again_and_again(rounds, seconds):
    async def test(app, runtime):
        async with running_here(app, app.settings) as port:
            assert await half_of_them_leave(port, rounds) < 1
            assert queue_rows((await acall(app, "GET", "/metrics")).body.decode()) == 0
            while app.models._served["digits"]["1"].refs:  # those that left hold nothing
                await asyncio.sleep(0.01)

    serving_numbers(test, seconds)
