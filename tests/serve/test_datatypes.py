"""A model of any datatype, strings among them, is warmed and served: a plugin's runtime, over JSON, binary and gRPC."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from tritonclient import grpc as over_grpc, http as over_http
from tritonclient.grpc import aio

from jaxprop.errors import ModelError
from jaxprop_serve.api import DATATYPES, Loaded, Signature, TensorSpec
from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.models.warming import warm
from jaxprop_serve.settings import Settings
from tests.serve.doors import acall
from tests.serve.plain import serving

INFER = "/v2/models/all/infer"
VALUES = {name: np.array([[0, 1], [1, 1], [1, 0]]).astype(dtype) for name, dtype in DATATYPES.items()} | {
    "BYTES": np.array([["héllo".encode(), b""], [b"a\0b", b"c"], [b"12", b"x" * 999]], object)
}


def loaded(f=lambda inputs: {f"y {name}": x for name, x in inputs.items()}, names=tuple(DATATYPES)):
    inputs = tuple(TensorSpec(name, name, (-1, 2)) for name in names)
    return Loaded(Signature(inputs, tuple(TensorSpec(f"y {n}", n, (-1, 2)) for n in names), "echo"), lambda rows: f)


class Echo:
    name = "echo"

    def accepts(self, path):
        return (path / "echo.txt").is_file()

    def load(self, path):
        return loaded(names=(path / "echo.txt").read_text().split())


def asked(client):
    """The inputs as a client of Triton has them."""
    found = []
    for name, values in VALUES.items():
        given = client.InferInput(name, [3, 2], name)
        given.set_data_from_numpy(values)
        found.append(given)
    return found


def is_echo(name, values):
    np.testing.assert_array_equal(values, VALUES[name], strict=True)


def test_every_datatype_over_every_door(tmp_path):
    plain = [name for name in DATATYPES if name not in ("FP16", "BF16")]  # what JSON can say
    for model, names in (("all", DATATYPES), ("plain", plain)):
        (tmp_path / model).mkdir()
        (tmp_path / model / "echo.txt").write_text(" ".join(names))

    async def test(models):
        with models.pin("all") as served:
            assert served.bit_exact and set(served.batcher.executables) == {1, 2, 4}
        app = create_app(models, Settings())

        body, size = over_http.InferenceServerClient.generate_request_body(asked(over_http))
        header = [(b"inference-header-content-length", b"%d" % size)]
        answer = await acall(app, "POST", INFER, body, header)
        assert answer.status == 200, answer.error
        length = int(answer.headers[b"inference-header-content-length"])
        found = over_http.InferenceServerClient.parse_response_body(answer.body, header_length=length)
        for name in DATATYPES:
            is_echo(name, found.as_numpy(f"y {name}"))

        door = await grpc_server.start(app, Settings(), 0)
        try:
            async with aio.InferenceServerClient(f"127.0.0.1:{door.port}") as client:
                found = await client.infer("all", asked(over_grpc))
                for name in DATATYPES:
                    is_echo(name, found.as_numpy(f"y {name}"))
        finally:
            await door.stop()

        sent = [
            dict(name=n, shape=[3, 2], datatype=n, data=[] if n == "BYTES" else VALUES[n].reshape(-1).tolist())
            for n in plain
        ]
        sent[-1]["data"] = ["héllo", "", "a", "b", "c", "d"]
        answer = await acall(app, "POST", "/v2/models/plain/infer", {"inputs": sent})
        assert [output["data"] for output in answer.json["outputs"]] == [one["data"] for one in sent]

    serving(test, tmp_path, kinds=(Echo(),))


def test_strings_in_json_and_for_people(tmp_path):
    (tmp_path / "words").mkdir()
    (tmp_path / "words/echo.txt").touch()

    class Upper(Echo):
        def load(self, path):
            return loaded(lambda inputs: {"y BYTES": upper(inputs["BYTES"])}, ("BYTES",))

    async def test(models):
        app = create_app(models, Settings())
        tensor = {"name": "BYTES", "shape": [1, 2], "datatype": "BYTES", "data": ["héllo", "12"]}
        answer = await acall(app, "POST", "/v2/models/words/infer", {"inputs": [tensor]})
        (output,) = answer.json["outputs"]
        assert (output["datatype"], output["shape"], output["data"]) == ("BYTES", [1, 2], ["HÉLLO", "12"])
        answer = await acall(app, "POST", "/predict/words", {"rows": [["a", "é"], ["", "b"]]})
        assert answer.json["rows"] == [["A", "É"], ["", "B"]]
        tasks = [acall(app, "POST", "/predict/words", {"rows": [[f"a{i}", "b"]]}) for i in range(9)]
        assert [one.json["rows"] for one in await asyncio.gather(*tasks)] == [[[f"A{i}", "B"]] for i in range(9)]

    serving(test, tmp_path, kinds=(Upper(),))


def upper(texts):
    return np.array([[text.decode().upper().encode() for text in row] for row in texts], object)


def test_strings_that_depend_on_other_rows_or_are_not_as_described():
    def first_row(inputs):
        return {"y BYTES": np.broadcast_to(inputs["BYTES"][:1], inputs["BYTES"].shape)}

    def fixed(inputs):
        return {"y BYTES": inputs["BYTES"].astype("S")}

    with pytest.raises(ModelError, match="'y BYTES': a row's answer depends on the other rows"):
        warm(loaded(first_row, ("BYTES",)), 4)
    with pytest.raises(ModelError, match=r"'y BYTES': found \|S1 \[1, 2\] for 1 rows, expected object \[1, 2\]"):
        warm(loaded(fixed, ("BYTES",)), 4)
    _, _, exact = warm(loaded(lambda inputs: {"y BYTES": inputs["BYTES"] + b" words"}, ("BYTES",)), 4)
    assert exact, "though the objects are others"


def test_strings_that_must_be_of_some_form_are_tried_with_the_models_own_rows():
    def length(inputs):
        assert all(text.startswith(b"\x89PNG") for text in inputs["BYTES"].reshape(-1))
        return {"y BYTES": inputs["BYTES"] + b"!"}

    with pytest.raises(AssertionError):
        warm(loaded(length, ("BYTES",)), 4)
    pictures = np.array([[b"\x89PNG1", b"\x89PNG2"], [b"\x89PNG3", b"\x89PNG4"], [b"\x89PNG5", b"\x89PNG6"]], object)
    executables, _, exact = warm(replace(loaded(length, ("BYTES",)), example={"BYTES": pictures}), 4)
    assert set(executables) == {1, 2, 4} and exact
