"""Large bodies: what they mean is what it would be if they were small, and nobody waits while they are read."""

import asyncio
import json
import random

import numpy as np
import pytest

from jaxprop.columns import Category, Number, Table
from jaxprop_serve.errors import ServeError
from jaxprop_serve.http1 import endpoints
from jaxprop_serve.protocol import again, checks, data, large_json, requests
from jaxprop_serve.protocol.aside import LARGE, GivenUp, aside, breathe
from jaxprop_serve.protocol.by_column import encoded
from jaxprop_serve.protocol.large_json import Content, count, marks, pieces, skeleton
from jaxprop_serve.protocol.requests import decode
from jaxprop_serve.protocol.tensors import Signature, TensorSpec
from tests.serve.doors import FakeModel, acall, an_app, settings, signature
from tests.serve.lag import lag
from tests.serve.mutations import mutated

MIB = 1 << 20


@pytest.fixture
def everything_is_large(monkeypatch):
    """Every body is read in pieces, of a few bytes each."""
    monkeypatch.setattr(requests, "LARGE", 0)
    monkeypatch.setattr(again, "_MOST_BYTES", 0)
    monkeypatch.setattr(large_json, "WINDOW", 8)
    for module in (data, large_json):
        monkeypatch.setattr(module, "LONGEST", 24)


def outcome(read, *arguments):
    """What is read, as something that can be compared; 400 if it is refused."""
    try:
        found = read(*arguments)
    except ServeError as error:
        return error.status
    if isinstance(found, np.ndarray):
        return found.dtype, found.tolist()
    return found.id, found.outputs, found.parameters, found.timeout_us, {
        name: (x.dtype, x.tolist()) for name, x in found.inputs.items()
    }  # fmt: skip


TEXTS = ["", "a", '", [1', '"', 'say "hi"', "\\", "[1,2]", "ü\n", "a\\\\", "{", "]" * 30, "x" * 60]


def a_body(rng, datatype, row):
    """A valid request as a client might write it: flat or nested, compact or with space, any text in strings."""
    shape = [rng.randrange(1, 5), *row]
    values = rng.choices(TEXTS, k=64) if datatype == "BYTES" else [rng.randrange(100) for _ in range(64)]
    x = np.array(values, object)[: np.prod(shape)].reshape(shape)
    tensor = {
        "name": "x",
        "shape": shape,
        "datatype": datatype,
        "data": (x if rng.random() < 0.5 else x.ravel()).tolist(),
    }
    if rng.random() < 0.3:
        tensor["unknown"] = [[1, "]"], {"data": [3]}]
    items = list({"inputs": [tensor], "id": rng.choice(TEXTS), "parameters": {"timeout": 7, "a": "[["}}.items())
    rng.shuffle(items)
    return json.dumps(dict(items), indent=rng.choice([None, 1]), ensure_ascii=rng.random() < 0.5).encode()


@pytest.mark.parametrize("datatype", ["FP32", "INT8", "BYTES"])
def test_in_pieces_a_request_is_what_it_is_in_one(datatype, everything_is_large, monkeypatch):
    rng, model = random.Random(0), signature(datatype=datatype, row=(2, 3))
    seen = set()
    for turn in range(60):
        body = a_body(rng, datatype, (2, 3))
        if turn % 3:
            body = mutated(rng, body)
        in_pieces = outcome(decode, {}, body, model, "m")
        with monkeypatch.context() as patched:
            patched.setattr(requests, "LARGE", 1 << 30)
            whole = outcome(decode, {}, body, model, "m")
        assert in_pieces == whole, body
        seen.add(type(whole))
    assert seen == {int, tuple}


@pytest.mark.parametrize(
    "values", ["1,2,,3", ",1,2,3", "1,2,3,", "1 2,3,4", "[1],2,3,4", "1],[2,3,4", "1,2,3,4]", "1,2,3,4},{", '1,"2",3,4']
)
def test_in_pieces_what_is_no_list_of_numbers_is_none(values, everything_is_large):
    for space in ("", " " * 30):
        text = values.replace(",", f"{space},{space}").encode()
        assert outcome(decode, {}, infer(b"[%b]" % text), signature(), "m") == 400
        assert outcome(endpoints._large_rows_of, b"[[%b]]" % text, signature(), settings()) == 400


def test_in_pieces_rows_are_what_they_are_in_one(everything_is_large):
    rng, limits = random.Random(1), settings(max_rows=9)
    for turn in range(80):
        model = signature(datatype=rng.choice(["FP32", "INT8", "FP16"]), row=rng.choice([(4,), (2, 2)]))
        rows = np.arange(4 * rng.randrange(1, 12)).reshape(-1, *rng.choice([(4,), model.inputs[0].shape[1:]])).tolist()
        body = json.dumps(rng.choice([rows, {"rows": rows}]), indent=rng.choice([None, 1])).encode()
        if turn % 2:
            body = mutated(rng, body)
        in_pieces = outcome(endpoints._large_rows_of, body, model, limits)
        assert in_pieces == outcome(endpoints._rows_of, body, model, limits), body


TABLE = Table((Number("age", fill=30.0), Category("sex", ("female", "male"))))
BY_NAME = Signature((TensorSpec("x", "FP32", (-1, 3)),), signature().outputs, "jaxprop_saved", TABLE)


def by_name(read, body):
    """x and the unknown categories, or why there are none."""
    try:
        rows = read(body, BY_NAME, settings(max_rows=9))
        found = asyncio.run(encoded(rows, len(rows if isinstance(rows, list) else rows["age"]), BY_NAME, "m"))
        return found.x.tolist(), found.unknown
    except ServeError as error:
        text = error.text.removeprefix("rows for model 'm': ")
        return text if text.startswith("row ") else 400


def test_in_pieces_rows_by_column_name_are_what_they_are_in_one(everything_is_large):
    rng, seen = random.Random(3), set()
    for turn in range(80):
        rows = [
            {
                "age": rng.choice([1, 2.5, "3", None, "old"] if turn % 5 == 4 else [1, 2.5, "3", None]),
                "ü": rng.choice(TEXTS),
            }
            | ({} if turn % 7 == 6 and rng.random() < 0.3 else {"sex": rng.choice(["male", "x]", None])})
            for _ in range(rng.randrange(1, 11))
        ]
        body = json.dumps(rng.choice([rows, {"rows": rows}]), indent=rng.choice([None, 1])).encode()
        if turn % 2:
            body = mutated(rng, body)
        in_pieces = by_name(endpoints._large_rows_of, body)
        assert in_pieces == by_name(endpoints._rows_of, body), body
        seen.add(str(in_pieces)[:5])
    assert len(seen) > 4


def test_a_row_of_a_table_has_an_end():
    row = "{" + ",".join(f'"{i}": 1' for i in range(60_000)) + "}"
    with pytest.raises(ServeError, match=r"row 1 has [0-9,]+ bytes, at most 132,096 are read of a row"):
        endpoints._large_rows_of(f'[{{"age": 1, "sex": "male"}}, {row}]'.encode(), BY_NAME, settings())


def test_brackets_and_commas_in_strings_are_none(everything_is_large):
    rng = random.Random(2)
    for _ in range(60):
        text = json.dumps(rng.choices([*TEXTS, 1, [2, "],"], {"[": ","}], k=12)).encode()
        at = [int(i) for places, _, _ in marks(text) for i in places]
        plain, inside, i = [], False, 0
        while i < len(text):  # as a book would say it, one character after the other
            if inside and text[i] == ord("\\"):
                i += 2
                continue
            if text[i] == ord('"'):
                inside = not inside
            elif not inside and text[i] in b"[]{},":
                plain.append(i)
            i += 1
        assert at == plain
        content = Content(text, 1, len(text) - 1)
        assert count(content) == 12
        assert [v for piece in pieces(content) for v in json.loads(b"[%b]" % piece)] == json.loads(text)


def test_the_skeleton_of_a_request_has_its_lists_taken_out():
    text = b'{"inputs":[{"shape":[2],"data":[[1],[2]]}],"parameters":{"a":"[["}}'
    head, lists = skeleton(text, 4, 1000, 10)
    assert head == b'{"inputs":[{"shape":[0],"data":[1]}],"parameters":{"a":"[["}}'
    assert [bytes(content) for content in lists] == [b"2", b"[1],[2]"]


def test_an_error_names_the_place_in_the_whole_body():
    values = ["0"] * 200_000
    for at, wrong, text in (
        (150_000, '"a"', "Expected `float`, got `str` - at `$.inputs[0].data[150000]`"),
        (150_000, "1e39", "`$.inputs[0].data[150000]` does not fit into FP32"),
        (199_999, "NaN", "JSON has no NaN or Infinity"),
    ):
        given = ",".join([*values[:at], wrong, *values[at + 1 :]])
        body = b'{"inputs":[{"name":"x","shape":[50000,4],"datatype":"FP32","data":[%b]}]}' % given.encode()
        with pytest.raises(ServeError) as refused:
            decode({}, body, signature(), "m", max_rows=50_000)
        assert text in refused.value.text and "(byte" not in refused.value.text


def test_strings_have_a_number_and_long_ones_no_escapes(everything_is_large, monkeypatch):
    model = signature(datatype="BYTES", row=(2,))
    asked = {"inputs": [{"name": "x", "shape": [2, 2], "datatype": "BYTES", "data": ["a"] * 3 + ["é" * 50]}]}
    plain, escaped = (json.dumps(asked, ensure_ascii=way).encode() for way in (False, True))
    monkeypatch.setattr(data, "_LONGEST_ESCAPED", 150)
    assert decode({}, plain, model, "m").inputs["x"][1, 1] == ("é" * 50).encode()
    with pytest.raises(ServeError, match=r"data\[3\]` is a long string with escapes in it: send it as binary data"):
        decode({}, escaped, model, "m")
    monkeypatch.setattr(checks, "MOST_STRINGS", 3)
    with pytest.raises(ServeError, match="the inputs for model 'm' are 4 strings, at most 3 are taken at once"):
        decode({}, plain, model, "m")


def infer(data=b"[1,2,3,4]", shape=b"[1,4]", datatype=b"FP32", more=b"", after=b""):
    return b'{"inputs":[{"name":"x","shape":%b,"datatype":"%b","data":%b%b}]%b}' % (shape, datatype, data, more, after)


def many(part, size):
    return b",".join([part] * (size // (len(part) + 1)))


def bodies(size):
    """What a greedy client may send, by what it is: the path, the body, and what is said of it (None: an answer)."""
    ask, rows = "/v2/models/digits/infer", "/predict/digits"
    beside = "beside the values of tensors"
    return {
        "rows": (rows, b"[%b]" % many(b"[0]", size), f"expected 1 to 64 rows at once, got {size // 4}"),
        "rows by name": (rows, b'{"rows":[%b]}' % many(b'{"a":1}', size), "expected a list of lists"),
        "deep rows": (rows, b"[%b]" % many(b"[" * 40 + b"1" + b"]" * 40, size), "expected a list of lists"),
        "parameters": (ask, infer(after=b',"parameters":{%b}' % many(b'"abc":1', size)), beside),
        "inputs": (ask, b'{"inputs":[%b]}' % many(infer()[11:-2], size), beside),
        "outputs": (ask, infer(after=b',"outputs":[%b]' % many(b'{"name":"y"}', size)), beside),
        "id": (ask, infer(after=b',"id":"%b"' % (b"a" * size)), beside),
        "escapes": (ask, infer(after=b',"id":"%b"' % (b"\\n" * (size // 2))), beside),
        "quotes": (ask, infer(after=b',"id":"%b"' % (b'\\"' * (size // 2))), beside),
        "space": (ask, b" " * size + infer(), beside),
        "shape": (ask, infer(shape=b"[%b]" % many(b"1", size)), beside),
        "unknown field": (ask, infer(more=b',"more":[%b]' % many(b"[0]", size)), beside),
        "values": (ask, infer(b"[%b]" % many(b"0", size)), f"got {size // 2} elements"),
        "long number": (ask, infer(b"[1,2,3,%b]" % (b"1" * size)), "out of range"),
        "long fraction": (ask, infer(b"[1,2,3,0.%b]" % (b"1" * size)), None),
        "strings": ("/v2/models/text/infer", infer(
            b"[%b]" % many(b'"abcdefghij"', size // 16 * 13), b"[1,%d]" % (size // 16), b"BYTES"), None),
        "one string": ("/v2/models/text/infer", infer(
            b'["%b"]' % (b"a" * size), b"[1,1]", b"BYTES"), "unexpected shape"),
        "legal": ("/v2/models/wide/infer", infer(b"[%b]" % many(b"0.5", size), b"[1,%d]" % (size // 4)), None),
        "legal, nested": ("/v2/models/wide/infer", infer(
            b"[[%b]]" % many(b"0.5", size), b"[1,%d]" % (size // 4)), None),
        "legal rows": ("/predict/wide", b"[[%b]]" % many(b"0.5", size), None),
        "repository": ("/v2/repository/index", b"{%b}" % many(b'"a":1', size), "at most 131,072 are read"),
    }  # fmt: skip


class Constant(FakeModel):
    async def infer(self, inputs, deadline=None, client=""):
        return {name: np.zeros((len(inputs["x"]), 3), np.float32) for name in ("y", "twice")}


def an_app_for(size):
    wide, text = Constant("wide", row=(size // 4,)), Constant("text", datatype="BYTES", row=(size // 16,))
    return an_app(FakeModel(), wide, text, max_body_bytes=size + 1000)


async def measured(app, path, body, *headers):
    """The answer, and how long the event loop was held up meanwhile."""
    async with lag() as worst:
        answer = await acall(app, "POST", path, body, headers)
    return answer, worst[0]


@pytest.mark.parametrize("kind", bodies(LARGE))
def test_a_large_body_gets_the_right_answer_or_a_clear_one(kind):
    path, body, text = bodies(2 * LARGE)[kind]
    answer = asyncio.run(acall(an_app_for(2 * LARGE), "POST", path, body))
    assert (answer.status, answer.error) == (200, None) if text is None else text in answer.error


@pytest.mark.slow
def test_health_waits_for_no_body():
    async def main():
        app = an_app_for(6 * MIB)
        for kind, (path, body, text) in bodies(6 * MIB).items():
            for _ in range(3):  # others use this machine too
                answer, worst = await measured(app, path, body)
                assert (answer.status == 200) if text is None else text in answer.error, (kind, answer.error)
                if worst < 0.1:
                    break
            assert worst < 0.1, kind

    asyncio.run(main())


def test_what_nobody_waits_for_ends_at_its_next_breath():
    async def main():
        ended = []

        def work():
            try:
                for _ in range(10_000):
                    breathe()
            except GivenUp:
                ended.append(True)
                raise

        task = asyncio.create_task(aside(1, work))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await aside(1, lambda: ended) == [True]

    asyncio.run(main())
