"""Compressed answers: who asks for them, what is compressed, and that nobody waits for it."""

import asyncio
import gzip
import http.client
import itertools
import zlib

import numpy as np
import orjson
import pytest
from tritonclient import http as triton
from tritonclient.http import aio

from jaxprop_serve.http1 import compression
from jaxprop_serve.http1.routes import Reply, Route
from tests.serve.doors import W, a_request, acall, an_app, call, settings
from tests.serve.running import running

INFER = "/v2/models/digits/infer"
JSON = orjson.dumps(list(range(1000)))
UNPACK = {b"gzip": gzip.decompress, b"deflate": zlib.decompress, None: bytes}


def an_answer(body, *headers):
    """An application with a path that gives this answer."""

    async def answer(request):
        return Reply(body, [(b"content-type", b"application/json"), *headers])

    return an_app(routes=[Route("GET", "/it", answer)])


def asked(accepted, body=JSON, app=None, method="GET"):
    return call(app or an_answer(body), method, "/it", headers=[(b"accept-encoding", accepted)])


@pytest.mark.parametrize(
    "accepted, coding",
    [
        (b"gzip", b"gzip"),
        (b"gzip, deflate, br, zstd", b"gzip"),
        (b"deflate", b"deflate"),
        (b"x-gzip", b"gzip"),
        (b"GZip ; Q=0.3", b"gzip"),
        (b"gzip;q=0.2, deflate;q=0.8", b"deflate"),
        (b"*", b"gzip"),
        (b"*;q=0.5, gzip;q=0", b"deflate"),
        (b"gzip;q=0.5, identity", None),
        (b"gzip;q=0", None),
        (b"*;q=0", None),
        (b"identity;q=0", None),
        (b"br", None),
        (b"", None),
        (b"gzip;q=nan", None),
        (b"gzip;q=x", None),
        (b"gzip," * 100, None),
    ],
)
def test_the_coding_is_the_one_that_the_client_likes_best(accepted, coding):
    answer = asked(accepted)
    assert answer.headers.get(b"content-encoding") == coding
    assert UNPACK[coding](answer.body) == JSON
    assert (b"vary" in answer.headers) == (coding is not None)


def test_what_does_not_become_shorter_stays_as_it_is():
    noise = np.random.default_rng(0).bytes(100_000)
    for body in (noise, b"[1]", JSON[: compression.LEAST - 1]):
        answer = asked(b"gzip", body)
        assert answer.body == body and b"content-encoding" not in answer.headers
    assert asked(b"gzip", noise).headers[b"vary"] == b"accept-encoding", "others may be compressed at this path"
    small = asked(b"gzip, identity;q=0", b"[1]")
    assert gzip.decompress(small.body) == b"[1]", "a client that takes nothing plain"


def test_an_answer_that_is_compressed_already_and_a_server_that_does_not_compress():
    mine = gzip.compress(JSON)
    assert asked(b"gzip", app=an_answer(mine, (b"content-encoding", b"gzip"))).body == mine
    app = an_app(compression=False)
    answer = call(app, "POST", INFER, a_request(np.ones((64, 4))), [(b"accept-encoding", b"gzip")])
    assert answer.status == 200 and b"content-encoding" not in answer.headers


@pytest.mark.parametrize("coding", [b"gzip", b"deflate"])
def test_the_header_length_of_binary_answers_counts_before_compression(coding):
    """tritonclient unpacks first, then splits."""
    request = a_request(np.ones((200, 4))) | {"parameters": {"binary_data_output": True}}
    answer = call(an_app(max_rows=200), "POST", INFER, request, [(b"accept-encoding", coding)])
    assert answer.headers[b"content-encoding"] == coding
    body, length = UNPACK[coding](answer.body), int(answer.headers[b"inference-header-content-length"])
    assert orjson.loads(body[:length])["outputs"][0]["parameters"] == {"binary_data_size": len(body) - length}
    np.testing.assert_array_equal(np.frombuffer(body[length:], "<f4").reshape(200, 3), np.ones((200, 4), "f4") @ W)


LARGE = orjson.dumps(np.random.default_rng(0).standard_normal(100_000).tolist())


def test_a_large_answer_is_compressed_beside_the_loop_in_pieces():
    async def main():
        turns, done = 0, asyncio.Event()

        async def turn():
            nonlocal turns
            while not done.is_set():
                turns += 1
                await asyncio.sleep(0)

        turning = asyncio.create_task(turn())
        app = an_answer(JSON * 5)
        answer = asyncio.create_task(acall(an_answer(LARGE), "GET", "/it", headers=[(b"accept-encoding", b"gzip")]))
        await asyncio.sleep(0)
        small = await acall(app, "GET", "/it", headers=[(b"accept-encoding", b"gzip")])
        assert small.status == 200 and not answer.done(), "its turn comes between two pieces of the large one"
        answer = await answer
        done.set()
        await turning
        return answer, turns

    answer, turns = asyncio.run(main())
    assert gzip.decompress(answer.body) == LARGE and len(answer.body) < 0.6 * len(LARGE)
    assert turns > 10 * len(LARGE) / compression.PIECE, "the loop turned meanwhile"


def test_an_answer_in_pieces_is_compressed_in_pieces_which_are_let_go():
    pieces = [LARGE[i : i + 1000] for i in range(0, len(LARGE), 1000)]
    answer = asked(b"gzip", app=an_answer(pieces))
    assert gzip.decompress(answer.body) == LARGE and pieces == []
    assert asked(b"gzip", app=an_answer([memoryview(JSON)[:500], JSON[500:]])).headers[b"content-encoding"] == b"gzip"
    noise = np.random.default_rng(0).bytes(100_000)
    assert asked(b"deflate", app=an_answer([JSON[:100], memoryview(noise)])).body == JSON[:100] + noise
    assert zlib.decompress(asked(b"deflate;q=1, *;q=0", app=an_answer([b"1", b"2"])).body) == b"12"


def test_who_leaves_while_an_answer_is_compressed_is_gone():
    async def answer(request):
        request.cancel_if_gone()
        asyncio.get_running_loop().call_later(0.001, asyncio.current_task().cancel)  # as its connection does
        return Reply(LARGE, [])

    assert asked(b"gzip", app=an_app(routes=[Route("GET", "/it", answer)])).status is None


def test_clients_read_what_a_server_compressed():
    """tritonclient's way to ask for it, and HEAD, which says what GET does."""
    x = np.arange(2000, dtype=np.float32).reshape(500, 4)
    app = an_app(max_rows=500)
    with running(app, settings()) as port, triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for coding, binary in itertools.product(("gzip", "deflate"), (True, False)):
            given = triton.InferInput("x", [500, 4], "FP32")
            given.set_data_from_numpy(x)
            wanted = [triton.InferRequestedOutput("y", binary_data=binary)]
            found = client.infer(
                "digits", [given], outputs=wanted, request_compression_algorithm=coding,
                response_compression_algorithm=coding,
            )  # fmt: skip
            np.testing.assert_array_equal(found.as_numpy("y"), x @ W)

            async def once(given=given, wanted=wanted, coding=coding):
                async with aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
                    return await client.infer(
                        "digits", [given], outputs=wanted, response_compression_algorithm=coding
                    )  # fmt: skip

            np.testing.assert_array_equal(asyncio.run(once()).as_numpy("y"), x @ W)
    with running(an_answer(JSON), settings()) as port:
        heads = []
        for method in ("GET", "HEAD"):
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.request(method, "/it", headers={"Accept-Encoding": "gzip"})
            answer = connection.getresponse()
            heads.append(answer.getheaders())
            body = answer.read()
            connection.close()
        assert heads[0] == heads[1] and ("content-encoding", "gzip") in heads[0] and body == b""
