"""Checklist 2: each mistake is answered in milliseconds with model, input, what came and what was wanted."""

import time

import grpc
import numpy as np
import orjson
import pytest

from tests.serve.doors import FakeModel, an_app, call
from tests.serve.test_grpc import INFERENCE, grpc_running, refused

INFER = "/v2/models/digits/infer"
X = np.ones((2, 4), np.float32)
RIGHT = {"name": "x", "datatype": "FP32", "shape": [2, 4]}

# What is wrong with the inputs, and what the refusal must say beside the model's name.
MISTAKES = {
    "name": ([RIGHT | {"name": "z"}], ["'z'", "'x'"]),
    "datatype": ([RIGHT | {"datatype": "FP64"}], ["'x'", "'FP64'", "'FP32'"]),
    "no datatype": ([RIGHT | {"datatype": "float32"}], ["'x'", "'float32'", "'FP32'"]),
    "shape": ([RIGHT | {"shape": [2, 3]}], ["'x'", "[2,3]", "[-1,4]"]),
    "rank": ([RIGHT | {"shape": [2, 2, 2]}], ["'x'", "[2,2,2]", "[-1,4]"]),
    "no shape": ([RIGHT | {"shape": []}], ["'x'", "[]", "[-1,4]"]),
    "negative": ([RIGHT | {"shape": [-2, 4]}], ["'x'", "[-2,4]", "[-1,4]"]),
    "zero": ([RIGHT | {"shape": [0, 4]}], ["'x'", "[0,4]", "[-1,4]"]),
    "2^63 - 1": ([RIGHT | {"shape": [2**63 - 1, 4]}], ["'x'", str(2**63 - 1), "64"]),
    "2^62 columns": ([RIGHT | {"shape": [2, 2**62]}], ["'x'", f"[2,{2**62}]", "[-1,4]"]),
    "shape and data": ([RIGHT | {"shape": [3, 4]}], ["'x'", "3, 4"]),
    "missing": ([], ["expected 1 inputs", "got 0"]),
    "twice": ([RIGHT, RIGHT], ["expected 1 inputs", "got 2"]),
    "one more": ([RIGHT, RIGHT | {"name": "z"}], ["expected 1 inputs", "got 2"]),
}
BOTH = pytest.mark.parametrize("inputs, words", MISTAKES.values(), ids=MISTAKES)


def says(text, words):
    for word in ["'digits'", *words]:
        assert word in text, text
    assert len(text) < 300


@BOTH
@pytest.mark.parametrize("binary", [False, True])
def test_over_http(inputs, words, binary):
    given = {"parameters": {"binary_data_size": X.nbytes}} if binary else {"data": X.ravel().tolist()}
    body = orjson.dumps({"inputs": [tensor | given for tensor in inputs]})
    headers = [(b"inference-header-content-length", b"%d" % len(body))] if binary else []
    body += X.tobytes() * len(inputs) if binary else b""
    app, taken = an_app(), []
    for _ in range(5):
        began = time.perf_counter()
        answer = call(app, "POST", INFER, body, headers)
        taken.append(time.perf_counter() - began)
    assert answer.status == 400 and app.models.models["digits"].calls == 0
    says(answer.error, words)
    assert min(taken) < 5e-3


@pytest.fixture(scope="module")
def channel():
    with grpc_running(an_app(FakeModel())) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        yield channel


@BOTH
def test_over_grpc(channel, inputs, words):
    request = INFERENCE.ModelInferRequest(model_name="digits")
    for tensor in inputs:
        request.inputs.add(**tensor)
        request.raw_input_contents.append(X.tobytes())
    status, text = refused(channel, request)
    assert status == "INVALID_ARGUMENT"
    says(text, words)


@pytest.mark.parametrize(
    "data, words",
    [
        ("[1, 2, NaN, 4]", ["NaN", "binary"]), ("[1, 2, Infinity, 4]", ["binary"]),
        ("[1, 2, 1e400, 4]", ["$.inputs[0].data[2]"]), ("[1, 2, 1e39, 4]", ["$.inputs[0].data[2]", "FP32"]),
        ('[1, 2, "3", 4]', ["`float`", "`str`", "$.inputs[0].data[2]"]),
        ("[1, 2, null, 4]", ["`float`", "`null`", "$.inputs[0].data[2]"]),
        ("[1, 2, true, 4]", ["`float`", "`bool`", "$.inputs[0].data[2]"]),
        ("[[1, 2, [3], 4]]", ["`float`", "`array`", "$.inputs[0].data[0][2]"]),
        ("[[1, 2], [3, 4]]", ["$.inputs[0].data", "2", "1"]), ("[1, 2, 3]", ["3 elements", "4"]),
        ("{}", ["`array`", "`object`", "$.inputs[0].data"]),
    ],
)  # fmt: skip
def test_values_that_are_none_are_named_by_their_path(data, words):
    """Item 3, from the door's side: model, input and path; test_requests.py has the numbers at the edges."""
    body = f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": {data}}}]}}'.encode()
    answer = call(an_app(), "POST", INFER, body)
    assert answer.status == 400 and all(word in answer.error for word in words), answer.error
    if "NaN" not in data and "Infinity" not in data:  # those end the JSON: nobody knows yet whose they are
        assert "input 'x' for model 'digits'" in answer.error
