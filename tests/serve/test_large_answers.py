"""Large answers: refused before they are computed where they would be too large, else made and sent in pieces."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys

import grpc
import numpy as np
import orjson
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door import server as grpc_server, service
from jaxprop_serve.grpc_door.messages import INFERENCE
from jaxprop_serve.http1 import endpoints, exchange
from jaxprop_serve.http1.routes import send_reply
from jaxprop_serve.protocol import answers
from jaxprop_serve.protocol.checks import Wanted
from jaxprop_serve.protocol.requests import InferRequest, encode, encode_large
from jaxprop_serve.protocol.tensors import DATATYPES, Signature, TensorSpec
from tests.serve.doors import FakeModel, a_request, an_app, call, settings, signature
from tests.serve.explaining import explain, serving
from tests.serve.lag import lag
from tests.serve.running import running_here

FOUR = np.ones((4, 4), np.float32)  # 12 outputs of FP32: 192 bytes of JSON at most, 48 in binary
MIB = 1 << 20


class Wide(FakeModel):
    """Gives as many outputs a row as it is told to."""

    def __init__(self, name, wide, rows=4):
        super().__init__(name)
        self.y = np.resize(np.random.default_rng(0).standard_normal(1000, np.float32), (rows, wide))
        self.signature = Signature(signature().inputs, (TensorSpec("y", "FP32", (-1, wide)),), "jaxprop_saved")

    async def infer(self, inputs, deadline=None, client=""):
        self.calls += 1
        return {"y": self.y[: len(inputs["x"])]}


class Words(FakeModel):
    """Gives words, of which nobody knows the length before."""

    def __init__(self):
        super().__init__("words")
        self.signature = Signature(signature().inputs, (TensorSpec("y", "BYTES", (-1, 1)),), "jaxprop_saved")

    async def infer(self, inputs, deadline=None, client=""):
        return {"y": np.array([[b"a" * 100_000]] * len(inputs["x"]), object)}


@pytest.mark.parametrize(("binary", "row"), [(False, 48), (True, 12)])
@pytest.mark.parametrize("most", [4, 3])
def test_an_answer_that_would_be_too_large_is_refused_before_it_is_computed(binary, row, most):
    model = FakeModel()
    app = an_app(model, max_answer_bytes=most * row)
    asked = a_request(FOUR) | {"parameters": {"binary_data_output": binary}}
    answer = call(app, "POST", "/v2/models/digits/infer", asked)
    if most == 4:
        assert (answer.status, model.calls) == (200, 1)
    else:
        assert answer.error == (
            f"model 'digits': the answer to 4 rows may have {4 * row} bytes, {row} for each, and at most {3 * row} are "
            "sent (max_answer_bytes): ask for at most 3 at once"
        )
        assert (answer.status, model.calls) == (400, 0)


def test_predict_counts_labels_and_probabilities_too():
    model = FakeModel()
    app = an_app(model, max_answer_bytes=4 * 48)
    answer = call(app, "POST", "/predict/digits", FOUR.tolist())
    assert answer.status == 400 and "(max_answer_bytes): ask for at most 2 at once" in answer.error and not model.calls
    many = json.loads(call(an_app(model), "POST", "/predict/digits", FOUR.tolist()).body)
    assert len(orjson.dumps(many)) <= 4 * endpoints._answer_row_bytes(model) + 100


def test_a_row_that_is_too_large_alone():
    answer = call(an_app(Wide("wide", 100), max_answer_bytes=1000), "POST", "/v2/models/wide/infer", a_request(FOUR))
    assert answer.error.endswith("one row is too many: ask for less of it")


def test_words_are_counted_once_they_are_there():
    for limit, status in ((390_000, 400), (500_000, 200)):
        for binary in (False, True):
            app = an_app(Words(), max_answer_bytes=limit)
            asked = a_request(np.ones((8, 4), np.float32)[: 4 if status == 200 else 8])
            asked |= {"parameters": {"binary_data_output": binary}}
            answer = call(app, "POST", "/v2/models/words/infer", asked)
            assert answer.status == status and (status == 200 or "more than 390,000 bytes" in answer.error)


def test_an_explanation_is_counted_before_it_is_computed(folder):
    async def test(app):
        x = np.ones((2, 4), np.float32)
        assert "gradient" in await explain(app, "small", x)
        with app.models.pin("small") as served:
            compiled = served.statistics.explain_compile_count
        status, text = await explain(app, "small", x, layers=True)
        assert served.statistics.explain_compile_count == compiled  # nothing was even compiled
        assert status == 400 and "model 'small'" in text and "(max_answer_bytes): ask for at most 1 at once" in text
        assert "0.y" in await explain(app, "small", x[:1], layers=True)

    # a row: 4 gradients; with the layers 2·(8 + 8 + 3) values more
    serving(test, folder, max_answer_bytes=42 * 16 + 28)


@pytest.mark.parametrize("datatype", list(DATATYPES))
def test_in_pieces_an_answer_is_what_it_is_in_one(datatype, monkeypatch):
    for name in ("_PIECE_VALUES", "_PIECE_BYTES"):
        monkeypatch.setattr(answers, name, 7)
    x = np.arange(60).reshape(5, 12) % 2
    if datatype == "BYTES":
        x = np.array([[f"{i}ü\n".encode() for i in row] for row in x], object)
    outputs = {"y": x.astype(DATATYPES[datatype]), "twice": np.arange(10).reshape(5, 2) / 3}
    for binary in (True, False) if datatype not in ("FP16", "BF16") else (True,):
        wanted = Wanted("y", binary, datatype), Wanted("twice", False, "FP64")
        request = InferRequest("an id", {}, wanted, {}, None)
        whole, headers = encode(request, outputs, "m", "1")
        pieces, same = encode_large(request, outputs, "m", "1", MIB)
        assert b"".join(pieces) == whole and len(pieces) > 10
        assert same == headers


def test_json_in_pieces_is_json(monkeypatch):
    monkeypatch.setattr(answers, "_PIECE_VALUES", 4)
    for value in (
        {"a": np.arange(24.0).reshape(2, 3, 4), "b": ["x"] * 9, "c": {}, "d": [], "e": None, "f": [{"g": 1}, {"h": 2}]},
        {"outputs": [{"data": np.zeros(9)}]}, np.zeros((1, 9)),
        np.zeros((0, 3)), np.zeros((3, 0)), [], {}, "text", [[1], [2]], np.zeros((9, 1)),
    ):  # fmt: skip
        pieces = list(answers.in_json(value))
        assert b"".join(pieces) == answers.written(value)
        assert max(piece.count(b".") for piece in pieces) <= 4


def test_values_that_json_cannot_say_are_refused_in_pieces_too():
    request = InferRequest(None, {}, (Wanted("y", False, "FP32"),), {}, None)
    with pytest.raises(ServeError, match="holds NaN or Infinity"):
        encode_large(request, {"y": np.full((2, 2), np.nan, np.float32)}, "m", "1", MIB)


@pytest.mark.parametrize("accept", [b"", b"gzip"])
def test_what_is_sent_in_pieces_is_the_same_answer(accept, monkeypatch):
    app, headers = an_app(), [(b"accept-encoding", accept)] if accept else []
    asks = [("/v2/models/digits/infer", a_request(FOUR)), ("/predict/digits", FOUR.tolist())]
    whole = [call(app, "POST", path, body).body for path, body in asks]
    monkeypatch.setattr(endpoints, "LARGE_ANSWER", 0)
    for (path, body), expected in zip(asks, whole, strict=True):
        answer = call(app, "POST", path, body, headers)
        assert answer.body == expected or answer.headers[b"content-encoding"] == accept


async def ask(reader, writer, path, body):
    writer.write(
        b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(size)


def test_a_large_answer_is_read_from_a_connection_that_stays_open():
    async def main():
        app = an_app(Wide("wide", 50_000))
        async with running_here(app, settings()) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for rows in (4, 1, 4):
                body = orjson.dumps(a_request(FOUR[:rows]), option=orjson.OPT_SERIALIZE_NUMPY)
                head, answer = await ask(reader, writer, "/v2/models/wide/infer", body)
                assert head.startswith(b"HTTP/1.1 200") and b"chunked" not in head
                assert len(json.loads(answer)["outputs"][0]["data"]) == rows * 50_000
            writer.close()

    asyncio.run(main())


def test_a_client_that_does_not_read_holds_a_piece_and_no_more(monkeypatch):
    sending, sent = [], []

    async def watched(answer, send):
        sending.append(answer.body)
        await send_reply(answer, send)
        sent.append(True)

    async def main():
        async with running_here(an_app(Wide("wide", 4 * MIB)), settings(body_timeout_s=0.6)) as port:
            asked = a_request(FOUR) | {"parameters": {"binary_data_output": True}}
            body = orjson.dumps(asked, option=orjson.OPT_SERIALIZE_NUMPY)
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(b"POST /v2/models/wide/infer HTTP/1.1\r\nhost: localhost\r\n")
                client.sendall(b"content-length: %d\r\n\r\n%b" % (len(body), body))
                await asyncio.sleep(0.5)
                assert len(sending[0]) > 128 and not sent  # of 257 pieces; the others are in the system's buffers
                await asyncio.sleep(1.2)
                assert not sending[0] and sent  # it was cut off after body_timeout_s

    monkeypatch.setattr(exchange, "send_reply", watched)
    asyncio.run(main())


CLIENT = """
import http.client, sys, grpc
door, port, path, body = sys.argv[1], int(sys.argv[2]), sys.argv[3], open(sys.argv[4], "rb").read()
if door == "http":
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, body)
    print(len(connection.getresponse().read()))
else:
    channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", -1)])
    print(len(channel.unary_unary(path)(body)))
"""


async def read_elsewhere(*arguments):
    """How many bytes another process reads as the answer."""
    client = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, *map(str, arguments), stdout=subprocess.PIPE
    )
    out, _ = await client.communicate()
    return int(out)


@contextlib.asynccontextmanager
async def both_doors(app):
    limits = settings(max_queue_rows=64, max_body_bytes=MIB)
    door = await grpc_server.start(app, limits, 0)
    try:
        async with running_here(app, limits) as port:
            yield port, door.port
    finally:
        await door.stop()


@pytest.mark.slow
def test_health_waits_for_no_answer(tmp_path):
    wide, rows = 15 * MIB // 16, 16

    async def main():
        async with both_doors(
            an_app(Wide("wide", wide, rows), Wide("half", wide // 2, rows), Wide("fewer", wide // 4, rows))
        ) as (port, grpc_port):
            asked = a_request(np.ones((rows, 4), np.float32))
            message = INFERENCE.ModelInferRequest(model_name="half")  # gRPC itself copies a message in one call
            message.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
            message.raw_input_contents.append(np.ones((rows, 4), np.float32).tobytes())
            infer = "/v2/models/{}/infer".format
            for door, at, path, body, least in (
                ("http", port, infer("wide"), asked | {"parameters": {"binary_data_output": True}}, 60 * MIB),
                ("http", port, infer("fewer"), asked, 30 * MIB),
                ("http", port, "/predict/fewer", np.ones((rows, 4)).tolist(), 30 * MIB),
                ("grpc", grpc_port, "/inference.GRPCInferenceService/ModelInfer", message, 30 * MIB),
            ):
                is_message = isinstance(body, type(message))
                (tmp_path / "body").write_bytes(
                    message.SerializeToString() if is_message else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
                )
                for _ in range(3):  # others use this machine too
                    async with lag() as worst:
                        assert await read_elsewhere(door, at, path, tmp_path / "body") > least
                    if worst[0] < 0.1:
                        break
                assert worst[0] < 0.1, (door, path)

    asyncio.run(main())


def test_grpc_refuses_and_answers_in_the_same_way(monkeypatch):
    def asked(rows):
        message = INFERENCE.ModelInferRequest(model_name="digits", id="7")
        message.inputs.add(name="x", datatype="FP32", shape=[rows, 4])
        message.raw_input_contents.append(FOUR[:rows].tobytes())
        return message.SerializeToString()

    async def main():
        app = an_app(max_answer_bytes=3 * 12)
        async with (
            both_doors(app) as (_, port),
            grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            small = await infer(asked(3))
            monkeypatch.setattr(service, "LARGE_ANSWER", 0)
            assert INFERENCE.ModelInferResponse.FromString(await infer(asked(3))) == (
                INFERENCE.ModelInferResponse.FromString(small)
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await infer(asked(4))
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert "ask for at most 3 at once" in refused.value.details()

    asyncio.run(main())
