"""Large gRPC messages: what they hold beside tensors is counted before protobuf reads them."""

import asyncio
import contextlib

import grpc
import numpy as np
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door import limits, server as grpc_server
from jaxprop_serve.grpc_door.limits import check_message, varint
from jaxprop_serve.grpc_door.messages import INFERENCE
from jaxprop_serve.protocol.aside import LARGE
from tests.serve.doors import FakeModel, an_app, settings
from tests.serve.lag import lag

MIB = 1 << 20
MANY = "beside its raw_input_contents, fp32_contents and fp64_contents: send tensors in raw_input_contents"


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def tensor(contents=b"", shape=(1, 4), datatype=b"FP32"):
    shape = b"".join(b"\x18" + varint(size) for size in shape)
    return field(5, field(1, b"x") + field(2, datatype) + shape + (field(5, contents) if contents else b""))


def messages(size):
    """What a greedy client may send, by what it is, and what is said of it (None: an answer)."""
    digits, wide = field(1, b"digits"), field(1, b"wide")
    parameters = (field(4, field(1, b"%07d" % i) + field(2, b"\x08\x01")) for i in range(size // 15))
    return {
        "inputs": (digits + tensor() * (size // len(tensor())), MANY),
        "empty inputs": (digits + field(5, b"") * (size // 2), MANY),
        "outputs": (digits + tensor() + field(6, field(1, b"y")) * (size // 5), MANY),
        "parameters": (digits + b"".join(parameters), MANY),
        "an input's parameters": (digits + field(5, field(4, field(1, b"a") + field(2, b"")) * (size // 8)), MANY),
        "shape": (digits + field(5, field(3, b"\1" * size)), MANY),
        "whole numbers": (digits + tensor(field(2, b"\1" * size)), MANY),
        "strings": (digits + tensor(field(8, b"") * (size // 2), datatype=b"BYTES"), MANY),
        "raw tensors": (digits + tensor() + field(7, b"") * (size // 2), MANY),
        "unknown fields": (digits + b"\xf8\x01\x01" * (size // 3), MANY),
        "unknown groups": (digits + b"\xfb\x01\xfc\x01" * (size // 4), MANY),
        "id": (digits + field(3, b"a" * size), MANY),
        "floats": (wide + tensor(field(6, b"\0" * size), (1, size // 4)), None),
        "raw floats": (wide + tensor(shape=(1, size // 4)) + field(7, b"\0" * size), None),
        "cut short": (digits + field(7, b"\0" * size)[:-1], "what came is not a inference.ModelInferRequest"),
    }


class Constant(FakeModel):
    async def infer(self, inputs, deadline=None, client=""):
        return {"y": np.full((len(inputs["x"]), 3), inputs["x"].size, np.float32)}


@contextlib.asynccontextmanager
async def asking(size):
    app = an_app(FakeModel(), Constant("wide", row=(size // 4,)), max_body_bytes=size + 1000)
    door = await grpc_server.start(app, settings(max_queue_rows=64, max_body_bytes=size + 1000), 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{door.port}") as channel:
            yield channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    finally:
        await door.stop()


async def said(ask, message):
    try:
        return INFERENCE.ModelInferResponse.FromString(await ask(message)), None
    except grpc.aio.AioRpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT
        return None, error.details()


def test_a_large_message_gets_the_right_answer_or_a_clear_one(monkeypatch):
    monkeypatch.setattr(limits, "MOST", LARGE)
    size = 2 * LARGE

    async def main():
        async with asking(size) as ask:
            for kind, (message, text) in messages(size).items():
                answer, error = await said(ask, message)
                if text is None:
                    assert np.frombuffer(answer.raw_output_contents[0], np.float32)[0] == size // 4, kind
                else:
                    assert text in error, kind

    asyncio.run(main())


@pytest.mark.slow
def test_health_waits_for_no_message():
    size = 15 * MIB

    async def main():
        async with asking(size) as ask:
            for kind, (message, text) in messages(size).items():
                for _ in range(3):  # others use this machine too
                    async with lag() as worst:
                        _, error = await said(ask, message)
                    assert error is None if text is None else text in error, kind
                    if worst[0] < 0.1:
                        break
                assert worst[0] < 0.1, kind

    asyncio.run(main())


def test_typed_contents_are_read_a_few_at_a_time(monkeypatch):
    from jaxprop_serve.grpc_door import tensors

    monkeypatch.setattr(tensors, "_AT_ONCE", 3)
    for datatype, name, values in (
        ("FP32", "fp32_contents", [0.5, float("nan"), *range(6)]),
        ("INT8", "int_contents", list(range(-4, 4))),
        ("BYTES", "bytes_contents", [b"%d" % i for i in range(8)]),
    ):
        model, message = FakeModel(datatype=datatype), INFERENCE.ModelInferRequest()
        message.inputs.add(name="x", datatype=datatype, shape=[2, 4])
        getattr(message.inputs[0].contents, name).extend(values)
        found = tensors.read_inputs(message, model.signature, "m", 10)["x"]
        assert found.shape == (2, 4)
        np.testing.assert_array_equal(found.reshape(-1), np.array(values, model.signature.inputs[0].dtype))
    message.inputs[0].datatype = "INT8"
    message.inputs[0].contents.Clear()
    message.inputs[0].contents.int_contents.extend([0, 0, 0, 0, 0, 1000, 0, 0])
    with pytest.raises(ServeError, match=r"\[5\]` does not fit into INT8"):
        tensors.read_inputs(message, FakeModel(datatype="INT8").signature, "m", 10)


def test_what_the_walk_counts_is_what_is_not_a_tensor():
    request = INFERENCE.ModelInferRequest(model_name="m" * 1000)
    for _ in range(3):
        request.inputs.add(name="x", datatype="FP32", shape=[1]).contents.fp32_contents.extend([0.0] * 10_000)
    request.raw_input_contents.append(bytes(LARGE))
    data = request.SerializeToString()
    walk = limits._Walk(data)
    walk.fields(0, len(data), ())
    assert walk.counted == len(data) - LARGE - 3 * 40_000
    check_message(data)
    check_message(data[:-1])  # what is cut short, protobuf refuses
    check_message(bytes(range(256)) * 100)
