"""What every door that reads JSON does with other encodings, and with numbers that do not fit."""

import json

import numpy as np
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door.messages import INFERENCE
from jaxprop_serve.grpc_door.tensors import read_timeout
from tests.serve.doors import a_request, acall, an_app, call
from tests.serve.explaining import serving

X = [[1.0, 2.0, 3.0, 4.0]]
INFER, PREDICT, INDEX = "/v2/models/digits/infer", "/predict/digits", "/v2/repository/index"
ASKED = {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": X[0]}]}
DOORS = [(INFER, ASKED), (PREDICT, X), (PREDICT, {"rows": X}), (INDEX, {"ready": True})]
OTHERS = ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]


def sent(path, value, encoding):
    return call(an_app(), "POST", path, json.dumps(value).encode(encoding))


@pytest.mark.parametrize(("path", "value"), DOORS)
def test_a_byte_order_mark_is_passed_over(path, value):
    assert sent(path, value, "utf-8-sig").json == sent(path, value, "utf-8").json
    spaced = call(an_app(), "POST", path, b"\xef\xbb\xbf \n" + json.dumps(value, indent=2).encode())
    assert spaced.json == sent(path, value, "utf-8").json


@pytest.mark.parametrize("encoding", OTHERS)
@pytest.mark.parametrize(("path", "value"), DOORS)
def test_another_encoding_is_named(path, value, encoding):
    answer = sent(path, value, encoding)
    assert answer.status == 400
    assert f"the request's JSON is {encoding[:6].upper()}: send it as UTF-8" in answer.error


def test_the_head_of_a_binary_request_is_read_in_the_same_way():
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
    for encoding, status in (("utf-8", 200), ("utf-8-sig", 200), ("utf-16", 400)):
        head = json.dumps({"inputs": [tensor]}).encode(encoding)
        headers = [(b"inference-header-content-length", b"%d" % len(head))]
        answer = call(an_app(), "POST", INFER, head + np.float32(X).tobytes(), headers)
        assert answer.status == status and ("UTF-16" in answer.error if status == 400 else not answer.error)


def test_large_bodies_of_another_encoding_are_named_too():
    many = {"inputs": [{"name": "x", "shape": [12_000, 4], "datatype": "FP32", "data": [0] * 48_000}]}
    app = an_app(max_rows=12_000, max_body_bytes=1 << 24)
    for path, value in ((INFER, many), (PREDICT, [[0] * 4] * 12_000)):
        plain, marked, wide = (
            call(app, "POST", path, json.dumps(value).encode(name)) for name in ("utf-8", "utf-8-sig", "utf-16")
        )
        assert plain.status == marked.status == 200 and plain.body == marked.body
        assert wide.status == 400 and "UTF-16" in wide.error


BAD = ["1" + "0" * 309, "1" + "0" * 4000, "1" + "0" * 5000, "1e400", "-1", "1.5", "9223372036854775808", '"7"', "true"]


@pytest.mark.parametrize("number", BAD)
def test_a_timeout_that_no_clock_has_is_refused(number):
    body = json.dumps(a_request(X, data=X[0])).encode()[:-1] + b', "parameters": {"timeout": %b}}' % number.encode()
    answer = call(an_app(), "POST", INFER, body)
    assert answer.status == 400 and ("timeout" in answer.error or "out of range" in answer.error)
    assert len(answer.error) < 300


@pytest.mark.parametrize("number", ["9223372036854775807", "-0", "0", "null", "1000000000"])
def test_a_timeout_that_a_clock_has_is_none_too_many(number):
    text = b"" if number == "null" else b', "parameters": {"timeout": %b}' % number.encode()
    assert call(an_app(), "POST", INFER, json.dumps(ASKED).encode()[:-1] + text + b"}").status == 200


def test_numbers_that_nobody_asks_for_are_no_fault_of_the_server():
    for name in ("priority", "sequence_id", "binary_data_output"):
        for number in (*BAD, "-0", "0.0", "1e-400"):
            body = json.dumps(ASKED).encode()[:-1] + b', "parameters": {"%b": %b}}' % (name.encode(), number.encode())
            assert call(an_app(), "POST", INFER, body).status in (200, 400), (name, number)


def test_explain_reads_what_infer_reads(folder):
    path = "/v2/models/small/explain"

    async def test(app):
        async def ask(encoding="utf-8", **parameters):
            return await acall(app, "POST", path, json.dumps(ASKED | {"parameters": parameters}).encode(encoding))

        assert (await ask("utf-8-sig")).status == 200
        assert "UTF-16" in (await ask("utf-16")).error
        for number in (10**309, 2**63):
            assert (await ask(timeout=number)).status == 400
        assert (await ask(timeout=2**63 - 1)).status == 200
        for name in ("steps", "baseline", "output"):
            answer = await ask(**{name: 10**4000}, method="integrated")
            assert answer.status == 400 and len(answer.error) < 500, answer.error

    serving(test, folder)


def test_grpc_refuses_the_timeouts_that_http_refuses():
    request = INFERENCE.ModelInferRequest()
    request.parameters["timeout"].int64_param = 2**63 - 1
    assert read_timeout(request) == 2**63 - 1
    for wrong in (
        {"int64_param": -1},
        {"double_param": 1e300},
        {"uint64_param": 2**64 - 1},
        {"string_param": "7" * 999},
    ):
        request.parameters["timeout"].Clear()
        for field, value in wrong.items():
            setattr(request.parameters["timeout"], field, value)
        with pytest.raises(ServeError, match="parameter 'timeout' must be a whole number") as refused:
            read_timeout(request)
        assert len(refused.value.text) < 300
