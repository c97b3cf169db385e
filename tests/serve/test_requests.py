"""The codec: what it takes, what it refuses and how it says so, and that nothing is lost on the way."""

import struct
import tracemalloc

import hypothesis
import hypothesis.strategies as st
import ml_dtypes
import numpy as np
import orjson
import pytest

from jaxprop_serve.errors import ServeError
from jaxprop_serve.protocol import requests
from jaxprop_serve.protocol.json_reading import check_depth
from jaxprop_serve.protocol.requests import decode, encode
from jaxprop_serve.protocol.tensors import DATATYPES, Signature, TensorSpec
from tests.serve.doors import a_request, signature

INFINITE = 10**400
NUMERIC = [name for name in DATATYPES if name not in ("BYTES", "BOOL", "FP16", "BF16")]


def read(body, kinds=None, headers=None, **limits):
    body = body if isinstance(body, bytes) else orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return decode(headers or {}, body, kinds or signature(), "digits", **limits)


def binary(request, *tails, length=None):
    text = orjson.dumps(request)
    headers = {b"inference-header-content-length": b"%d" % len(text) if length is None else length}
    return text + b"".join(tails), headers


def refusal(body, kinds=None, headers=None, **limits):
    with pytest.raises(ServeError) as caught:
        read(body, kinds, headers, **limits)
    assert caught.value.status == 400
    return caught.value.text


def sent(datatype, text, shape=(1, 4)):
    """A request whose data is this JSON text, verbatim."""
    start = f'{{"inputs": [{{"name": "x", "shape": {list(shape)}, "datatype": "{datatype}", "data": '
    return (start + text + "}]}").encode()


def test_flat_and_nested_json_are_the_same_rows():
    x = np.random.default_rng(0).standard_normal((3, 2, 2)).astype(np.float32)
    kinds = signature(row=(2, 2))
    for data in (x.ravel(), x):
        found = read(a_request(x, data=data), kinds)
        np.testing.assert_array_equal(found.inputs["x"], x)
        assert found.inputs["x"].dtype == np.float32 and found.rows == 3


@pytest.mark.parametrize("datatype", NUMERIC)
def test_every_numeric_datatype_travels_exactly_in_json_and_binary(datatype):
    dtype = DATATYPES[datatype]
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    x = np.array([[info.min, info.max, 1, 0]], dtype)
    kinds = signature(datatype)
    np.testing.assert_array_equal(read(a_request(x, datatype=datatype), kinds).inputs["x"], x)
    request = {"inputs": [dict(name="x", shape=[1, 4], datatype=datatype, parameters={"binary_data_size": x.nbytes})]}
    body, headers = binary(request, x.tobytes())
    found = read(body, kinds, headers).inputs["x"]
    assert found.dtype == dtype and found.tobytes() == x.tobytes()


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_travels_only_in_binary(datatype):
    x = np.array([[1.5, -2, np.nan, np.inf]], np.float32).astype(DATATYPES[datatype])
    kinds = Signature((TensorSpec("x", datatype, (-1, 4)),), (TensorSpec("y", datatype, (-1, 4)),), "p")
    assert "binary" in refusal(sent(datatype, "[1, 2, 3, 4]"), kinds)
    given = dict(name="x", shape=[1, 4], datatype=datatype, parameters={"binary_data_size": 8})
    body, headers = binary({"inputs": [given]}, x.tobytes())
    assert "ask for binary" in refusal(body, kinds, headers)
    body, headers = binary({"inputs": [given], "parameters": {"binary_data_output": True}}, x.tobytes())
    request = read(body, kinds, headers)
    assert request.inputs["x"].tobytes() == x.tobytes()
    answer, _ = encode(request, {"y": request.inputs["x"]}, "digits", "1")
    assert answer.endswith(x.tobytes())


def test_strings_travel_both_ways():
    kinds = Signature((TensorSpec("x", "BYTES", (-1, 2)),), (TensorSpec("y", "BYTES", (-1, 2)),), "p")
    words = ["é", "", "long " * 9, "[[["]
    raw = b"".join(struct.pack("<I", len(w.encode())) + w.encode() for w in words)
    given = dict(name="x", shape=[2, 2], datatype="BYTES", parameters={"binary_data_size": len(raw)})
    body, headers = binary({"inputs": [given]}, raw)
    from_binary = read(body, kinds, headers)
    from_json = read({"inputs": [dict(name="x", shape=[2, 2], datatype="BYTES", data=words)]}, kinds)
    for request in (from_binary, from_json):
        assert request.inputs["x"].ravel().tolist() == [w.encode() for w in words]
        answer, _ = encode(request, {"y": request.inputs["x"]}, "digits", "1")
        assert orjson.loads(answer)["outputs"][0]["data"] == words
    for broken in (raw[:-1], raw + b"\0", raw[:2] + b"\xff\xff" + raw[4:]):
        given["parameters"] = {"binary_data_size": len(broken)}
        body, headers = binary({"inputs": [given]}, broken)
        assert "strings" in refusal(body, kinds, headers)
    not_text = np.array([[b"\xff", b""]], object)
    with pytest.raises(ServeError, match="UTF-8"):
        encode(from_json, {"y": not_text}, "digits", "1")


def test_booleans_are_true_and_false_or_bytes_0_and_1():
    kinds = signature("BOOL")
    assert read(sent("BOOL", "[true, false, true, true]"), kinds).inputs["x"].tolist() == [[True, False, True, True]]
    assert "Expected `bool`, got `int` - at `$.inputs[0].data[0]`" in refusal(sent("BOOL", "[1, 0, 1, 1]"), kinds)
    given = dict(name="x", shape=[1, 4], datatype="BOOL", parameters={"binary_data_size": 4})
    assert "BOOL" in refusal(*_kinds_between(binary({"inputs": [given]}, b"\0\1\2\0"), kinds))


def _kinds_between(pair, kinds):
    return pair[0], kinds, pair[1]


@pytest.mark.parametrize(
    "value, says",
    [
        ("NaN", "binary"), ("Infinity", "binary"), ("-Infinity", "binary"),
        ("1e400", "$.inputs[0].data[2]"), ("1e39", "$.inputs[0].data[2]"), (str(INFINITE), "$.inputs[0].data[2]"),
        ('"1"', "got `str` - at `$.inputs[0].data[2]`"), ("null", "got `null` - at `$.inputs[0].data[2]`"),
        ("true", "got `bool` - at `$.inputs[0].data[2]`"), ("[1]", "got `array` - at `$.inputs[0].data[2]`"),
        ("{}", "got `object` - at `$.inputs[0].data[2]`"), ("01", "not JSON"), ("1.", "not JSON"), ("0x1", "not JSON"),
    ],
)  # fmt: skip
def test_a_value_that_is_no_number_of_the_datatype_is_named(value, says):
    assert says in refusal(sent("FP32", f"[1, 2, {value}, 4]"))


def test_numbers_at_the_edges():
    found = read(sent("FP32", "[1e-400, -0.0, 9007199254740993, 3.4028235e38]")).inputs["x"]
    assert found.tolist() == [[0.0, 0.0, 2.0**53, np.finfo(np.float32).max]] and np.signbit(found[0, 1])
    int64 = read(sent("INT64", "[9007199254740993, 0, 0, -9223372036854775808]"), signature("INT64")).inputs["x"]
    assert int64.tolist() == [[2**53 + 1, 0, 0, -(2**63)]]
    for datatype, value in (("INT8", "128"), ("UINT8", "-1"), ("INT64", str(2**63)), ("UINT64", str(2**64))):
        assert f"`$.inputs[0].data[3]` does not fit into {datatype}" in refusal(
            sent(datatype, f"[0, 0, 0, {value}]"), signature(datatype)
        )
    assert "Expected `int`, got `float`" in refusal(sent("INT32", "[0, 0, 0, 1.5]"), signature("INT32"))


@pytest.mark.parametrize("shape", [[-1, 4], [0, 4], [2**63, 4], [1, 5], [4], [], [1, 4, 1], [2**40, 2**40], [1] * 200])
def test_a_wrong_shape_is_named_with_the_wanted_one(shape):
    text = refusal(a_request(shape=shape))
    assert "'x'" in text and "'digits'" in text and len(text) < 400
    if shape[1:] != [4] or shape[0] < 1:
        assert "Expected [-1,4], got [" + ",".join(map(str, shape[:20])) in text


def test_data_and_shape_must_agree():
    assert "got 3 elements, but shape [1, 4] holds 4" in refusal(sent("FP32", "[1, 2, 3]"))
    assert "`$.inputs[0].data[1]` has 3 elements, expected 4" in refusal(sent("FP32", "[[1,2,3,4],[1,2,3]]", (2, 4)))
    assert "`$.inputs[0].data` has 2 elements, expected 3" in refusal(sent("FP32", "[[1,2,3,4],[1,2,3,4]]", (3, 4)))
    assert "`$.inputs[0].data[0][1]`" in refusal(sent("FP32", "[[1,[2],3,4]]"))
    assert "at most 64 are taken" in refusal(a_request(np.ones((65, 4), np.float32)), max_rows=64)


@pytest.mark.parametrize(
    "change, says",
    [
        ({"name": "z"}, "unexpected inference input 'z' for model 'digits', expected 'x'"),
        ({"datatype": "FP64"}, "inference input 'x' data-type is 'FP64', but model 'digits' expects 'FP32'"),
        ({"datatype": 5}, "$.inputs[0].datatype"),
        ({"shape": "2,4"}, "$.inputs[0].shape"),
        ({"shape": [2.5, 4]}, "$.inputs[0].shape[0]"),
        ({"name": None}, "$.inputs[0].name"),
        ({"parameters": {"binary_data_size": 32}}, "both 'data' and 'binary_data_size'"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared_memory_region"),
        ({"parameters": {"a": [1]}}, "$.inputs[0].parameters"),
        ({"data": "AAAA"}, "$.inputs[0].data"),
        ({"data": None}, "$.inputs[0].data"),
    ],
)
def test_every_mistake_in_an_input_is_named(change, says):
    assert says in refusal(a_request(**change))


@pytest.mark.parametrize(
    "change, says",
    [
        ({"inputs": []}, "expected 1 inputs but got 0 inputs for model 'digits'"),
        ({"inputs": {}}, "$.inputs"),
        ({"id": 5}, "$.id"),
        ({"parameters": {"timeout": -1}}, "timeout"),
        ({"parameters": {"timeout": "1"}}, "timeout"),
        ({"parameters": {"timeout": True}}, "timeout"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output"),
        ({"outputs": [{"name": "z"}]}, "unexpected inference output 'z' for model 'digits'"),
        ({"outputs": [{"name": "y"}, {"name": "y"}]}, "asked for twice"),
        ({"outputs": [{"name": "y", "parameters": {"classification": 3}}]}, "classification"),
        ({"outputs": [{"name": "y", "parameters": {"binary_data": "yes"}}]}, "binary_data"),
    ],
)
def test_every_mistake_around_the_inputs_is_named(change, says):
    assert says in refusal(a_request() | change)


def test_two_inputs_must_both_come_once_with_as_many_rows():
    kinds = Signature((TensorSpec("a", "FP32", (-1, 1)), TensorSpec("b", "INT32", (-1, 1))), signature().outputs, "p")
    a = dict(name="a", shape=[2, 1], datatype="FP32", data=[1.5, 2.5])
    b = dict(name="b", shape=[2, 1], datatype="INT32", data=[[1], [2]])
    found = read({"inputs": [b, a]}, kinds)
    assert found.inputs["a"].tolist() == [[1.5], [2.5]] and found.inputs["b"].tolist() == [[1], [2]]
    assert "expected 2 inputs but got 1" in refusal({"inputs": [a]}, kinds)
    assert "given twice" in refusal({"inputs": [a, a]}, kinds)
    assert "has 1 rows, the others 2" in refusal({"inputs": [a, b | dict(shape=[1, 1], data=[1])]}, kinds)
    with_binary = a | {"parameters": {"binary_data_size": 8}}
    del with_binary["data"]
    body, headers = binary({"inputs": [b, with_binary]}, np.float32([7, 8]).tobytes())
    assert read(body, kinds, headers).inputs["a"].tolist() == [[7], [8]]


@pytest.mark.parametrize("length", [b"-1", b"abc", b"", b"1e3", b" 5", b"99999", b"9" * 30, "²".encode("latin-1")])
def test_an_impossible_header_length_is_refused(length):
    assert "Inference-Header-Content-Length" in refusal(a_request(), None, {b"inference-header-content-length": length})


def test_binary_sizes_must_add_up():
    x = np.ones((2, 4), np.float32).tobytes()
    wrong = [(31, x), (33, x), (32, x + b"\0"), (32, x[:-1]), (0, b""), (-32, x), (2**63, x)]
    for declared, tail in (*wrong, (True, x), (32.0, x), ("32", x)):
        given = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": declared}}
        body, headers = binary({"inputs": [given]}, tail)
        refusal(body, None, headers)
    given["parameters"] = {"binary_data_size": 32}
    body, headers = binary({"inputs": [given]}, x)
    assert read(body, None, headers).rows == 2
    assert "send the header" in refusal(orjson.dumps({"inputs": [given]}))
    body, headers = binary(orjson.loads(orjson.dumps(a_request(), option=orjson.OPT_SERIALIZE_NUMPY)), b"x")
    assert "1 bytes of binary data follow" in refusal(body, None, headers)


def test_a_remembered_head_takes_new_values_and_forgets_no_check():
    given = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
    kinds, others = signature(), Signature((TensorSpec("x", "FP32", (-1, 5)),), (), "p")
    for i in range(3):
        x = np.full((2, 4), i, np.float32)
        body, headers = binary({"inputs": [given]}, x.tobytes())
        np.testing.assert_array_equal(read(body, kinds, headers).inputs["x"], x)
    head = body[: -x.nbytes]
    assert [key for key in requests._remembered if key[:2] == (head, id(kinds))], "every head is parsed anew"
    assert "Expected [-1,5]" in refusal(body, others, headers)
    assert "at most 1 are taken" in refusal(body, kinds, headers, max_rows=1)
    assert "31 bytes of binary data follow" in refusal(body[:-1], kinds, headers)
    for i in range(1500):
        body, headers = binary({"id": str(i), "inputs": [given]}, x.tobytes())
        assert read(body, kinds, headers).id == str(i)
    assert len(requests._remembered) <= 512


def test_a_raw_binary_request_is_one_row_and_answers_in_binary():
    x = np.arange(4, dtype=np.float32)
    raw = {b"inference-header-content-length": b"0"}
    found = read(x.tobytes(), None, raw)
    np.testing.assert_array_equal(found.inputs["x"], x[None])
    assert [output.binary for output in found.outputs] == [True]
    for body in (x.tobytes() + b"\0", x.tobytes()[:-1], b""):
        assert "needs 16" in refusal(body, None, raw)


def test_the_answer_echoes_the_id_and_the_flag_of_an_output_wins():
    kinds = signature(answer="FP64")
    y = np.array([[0.1, 1e300, -0.0]])
    request = read(
        a_request(np.ones((1, 4), np.float32))
        | {"id": "é", "parameters": {"binary_data_output": True}}
        | {"outputs": [{"name": "twice"}, {"name": "y", "parameters": {"binary_data": False}}]},
        kinds,
    )
    body, headers = encode(request, {"y": y, "twice": 2 * y}, "digits", "3")
    length = int(dict(headers)[b"inference-header-content-length"])
    answer = orjson.loads(body[:length])
    assert answer["id"] == "é" and (answer["model_name"], answer["model_version"]) == ("digits", "3")
    assert [output["name"] for output in answer["outputs"]] == ["twice", "y"]
    assert answer["outputs"][0] == dict(
        name="twice", datatype="FP64", shape=[1, 3], parameters={"binary_data_size": 24}
    )
    assert answer["outputs"][1]["data"] == y.ravel().tolist()
    assert np.frombuffer(body[length:]).tolist() == (2 * y).ravel().tolist()
    plain, headers = encode(read(a_request()), {"y": np.ones((2, 3), np.float32)}, "digits", "3")
    assert "id" not in orjson.loads(plain) and b"inference-header-content-length" not in dict(headers)


def test_float32_survives_json_bit_for_bit():
    x = np.random.default_rng(1).integers(0, 2**32, 4000, np.uint32).view(np.float32)
    x = x[np.isfinite(x)][:3000].reshape(-1, 3)
    body, _ = encode(read(a_request()), {"y": x}, "digits", "1")
    back = np.array(orjson.loads(body)["outputs"][0]["data"], np.float64).astype(np.float32)
    assert back.tobytes() == x.tobytes()
    kinds = signature(row=(3,))
    assert read(a_request(x), kinds).inputs["x"].tobytes() == x.tobytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_non_finite_answer_is_an_error_in_json_and_kept_in_binary(value):
    y = np.array([[1, value, 2]], np.float32)
    with pytest.raises(ServeError, match="ask for binary") as caught:
        encode(read(a_request()), {"y": y}, "digits", "1")
    assert caught.value.status == 400
    request = read(a_request() | {"parameters": {"binary_data_output": True}})
    assert encode(request, {"y": y}, "digits", "1")[0].endswith(y.tobytes())


def test_depth_is_counted_outside_strings_before_parsing():
    check_depth(b"[" * 100 + b"]" * 100, 100)
    with pytest.raises(ServeError, match="100"):
        check_depth(b"[" * 101 + b"]" * 101, 100)
    check_depth(b'["' + b"[" * 500 + b'\\\\\\"[[[' + b'"]', 100)
    with pytest.raises(ServeError):
        check_depth(b'["\\\\"' + b"," + b"[" * 500, 100)
    long = b"[" + b"[1]," * 50_000 + b'"' + b"x" * 70_000 + b"[" * 200 + b'"' + b"]"  # over chunks
    check_depth(long, 2)
    tracemalloc.start()
    for hostile in (
        b"[" * 100_000,
        b'{"inputs":' + b"[" * 100_000,
        b'{"inputs": [{"name":"x","data":' + b"[" * 100_000,
    ):
        refusal(hostile)
    assert refusal(b'{"other":' + b"[" * 100_000) == "the JSON is nested deeper than 100 levels"
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"inputs"', b'{"inputs": [{}]}', b"5"])
def test_what_is_no_request_is_refused(body):
    refusal(body)


def test_unknown_fields_are_allowed():
    assert (
        read(a_request(note="n") | {"more": {"of": ["it"]}, "id": None, "parameters": None, "outputs": None}).rows == 2
    )


@hypothesis.settings(max_examples=25, deadline=None)
@hypothesis.given(
    st.lists(st.recursive(st.floats(width=32) | st.integers() | st.none() | st.text(max_size=3), st.lists), max_size=6)
)
def test_any_data_is_taken_whole_or_refused(data):
    body = sent("FP32", repr(data).replace("'", '"').replace("None", "null"))
    try:
        found = read(body)
    except ServeError as error:
        assert error.status == 400
    else:
        assert found.inputs["x"].shape == (1, 4) and np.isfinite(found.inputs["x"]).all()
        np.testing.assert_array_equal(found.inputs["x"].ravel(), np.ravel(data).astype(np.float32))


def test_ml_dtypes_is_the_bfloat16_of_the_wire():
    assert DATATYPES["BF16"] == ml_dtypes.bfloat16
