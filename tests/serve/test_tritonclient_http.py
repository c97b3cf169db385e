"""Every call of `tritonclient.http` and `tritonclient.http.aio`, the default one included; on uvicorn and granian."""

import asyncio

import numpy as np
import pytest
from tritonclient import http, utils
from tritonclient.http import aio

from tests.serve.doors import FakeModel, W, an_app, settings
from tests.serve.running import running, running_granian

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
UNSUPPORTED = "such calls belong to Triton alone: 404 with a text the client understands"


@pytest.fixture(scope="module")
def app():
    return an_app(FakeModel(), FakeModel("ints", datatype="INT64"))


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def url(app, request):
    with running_granian(app) if request.param == "granian" else running(app, settings()) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def client(url):
    with http.InferenceServerClient(url, concurrency=4) as client:
        yield client


def given(x=X, name="x", datatype="FP32", binary=True, module=http):
    tensor = module.InferInput(name, list(x.shape), datatype)
    tensor.set_data_from_numpy(x, binary_data=binary)
    return [tensor]


def test_the_server_and_the_model_describe_themselves(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits") and client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "9") and not client.is_model_ready("none")
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.get_model_metadata("digits")["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    assert client.get_model_metadata("digits", "1")["versions"] == ["1"]
    assert client.get_model_config("digits")["input"][0]["data_type"] == "TYPE_FP32"
    assert client.get_inference_statistics("digits")["model_stats"][0]["name"] == "digits"
    assert client.get_inference_statistics("digits", "1")["model_stats"][0]["version"] == "1"
    assert len(client.get_inference_statistics()["model_stats"]) == 2


def test_the_repository(client, app):
    assert {entry["name"]: entry["state"] for entry in client.get_model_repository_index()} == {
        "digits": "READY", "ints": "READY", "broken": "UNAVAILABLE"}  # fmt: skip
    client.load_model("digits")
    client.unload_model("digits", unload_dependents=True)
    assert app.models.asked[-2:] == [("load", "digits"), ("unload", "digits")]
    with pytest.raises(utils.InferenceServerException, match="takes no parameters") as caught:
        client.load_model("digits", config="{}")
    assert caught.value.status() == "400"


def test_the_default_call_is_binary_both_ways(client):
    result = client.infer("digits", given())
    assert result.as_numpy("y").tobytes() == (X @ W).tobytes()
    assert result.get_output("y")["parameters"] == {"binary_data_size": 36}


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_json_and_binary_in_and_out_compressed_or_not(client, binary_in, binary_out, compression):
    result = client.infer(
        "digits", given(binary=binary_in), model_version="1", request_id="r 7", headers={"x-request-id": "7"},
        outputs=[http.InferRequestedOutput("y", binary_data=binary_out)], timeout=10_000_000,
        parameters={"mine": 1}, request_compression_algorithm=compression, response_compression_algorithm=compression,
    )  # fmt: skip
    assert result.as_numpy("y").tobytes() == (X @ W).tobytes()
    assert (result.get_response()["id"], result.get_response()["model_version"]) == ("r 7", "1")


def test_many_at_once(client):
    pending = [client.async_infer("digits", given(X + i)) for i in range(8)]
    for i, request in enumerate(pending):
        np.testing.assert_array_equal(request.get_result().as_numpy("y"), (X + np.float32(i)) @ W)


def test_a_body_made_and_an_answer_read_elsewhere(client, url):
    import urllib.request

    body, length = http.InferenceServerClient.generate_request_body(given())
    request = urllib.request.Request(f"http://{url}/v2/models/digits/infer", body)
    request.add_header("Inference-Header-Content-Length", str(length))
    with urllib.request.urlopen(request) as answer:
        found = http.InferenceServerClient.parse_response_body(
            answer.read(), header_length=int(answer.headers["Inference-Header-Content-Length"])
        )
    assert found.as_numpy("y").tobytes() == (X @ W).tobytes()


@pytest.mark.parametrize(
    "model, inputs, version, status, says",
    [
        ("none", given(), "", "404", "none"),
        ("digits", given(), "9", "404", "digits"),
        ("digits", given(name="z"), "", "400", "unexpected inference input 'z' for model 'digits'"),
        ("digits", given(X[:, :3]), "", "400", "Expected [-1,4], got [3,3]"),
        ("digits", given(X.astype(np.float64), datatype="FP64"), "", "400", "data-type is 'FP64'"),
        ("digits", given() + given(), "", "400", "expected 1 inputs but got 2"),
        ("digits", given(X * np.nan, binary=False), "", "400", "binary data"),
        ("ints", given(), "", "400", "expects 'INT64'"),
    ],
)
def test_every_refusal_reaches_the_caller_as_text(client, model, inputs, version, status, says):
    with pytest.raises(utils.InferenceServerException) as caught:
        client.infer(model, inputs, model_version=version)
    assert caught.value.status() == status and says in caught.value.message()


def test_nan_in_binary_is_answered_in_binary_and_refused_in_json(client):
    assert np.isnan(client.infer("digits", given(X * np.nan)).as_numpy("y")).all()
    with pytest.raises(utils.InferenceServerException, match="ask for binary"):
        client.infer("digits", given(X * np.nan), outputs=[http.InferRequestedOutput("y", binary_data=False)])
    with pytest.raises(utils.InferenceServerException, match="classification"):
        client.infer("digits", given(), outputs=[http.InferRequestedOutput("y", class_count=2)])
    with pytest.raises(utils.InferenceServerException, match="deadline") as caught:
        client.infer("digits", given(), timeout=1)
    assert caught.value.status() == "504"


@pytest.mark.parametrize("call", ["get_trace_settings", "get_log_settings", "get_system_shared_memory_status"])
def test_what_only_triton_has_is_a_404_the_client_can_read(client, call):
    with pytest.raises(utils.InferenceServerException, match="no such path") as caught:
        getattr(client, call)()
    assert caught.value.status() == "404", UNSUPPORTED


def test_the_asyncio_client(url):
    async def run():
        async with aio.InferenceServerClient(url) as client:
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready("digits") and not await client.is_model_ready("none")
            assert (await client.get_server_metadata())["name"] == "jaxprop"
            assert (await client.get_model_metadata("ints"))["inputs"][0]["datatype"] == "INT64"
            assert (await client.get_model_config("digits"))["max_batch_size"] == 64
            assert (await client.get_inference_statistics("digits"))["model_stats"]
            assert len(await client.get_model_repository_index()) == 3
            await client.load_model("digits")
            await client.unload_model("digits")
            for compression in (None, "gzip", "deflate"):
                for binary in (True, False):
                    result = await client.infer(
                        "digits", given(binary=binary, module=aio), request_compression_algorithm=compression
                    )
                    assert result.as_numpy("y").tobytes() == (X @ W).tobytes()
            integers = np.arange(8).reshape(2, 4)
            found = await client.infer("ints", given(integers, datatype="INT64", module=aio))
            np.testing.assert_array_equal(found.as_numpy("y"), integers.astype(np.float32) @ W)
            with pytest.raises(utils.InferenceServerException, match="unexpected shape"):
                await client.infer("digits", given(X[:, :3], module=aio))

    asyncio.run(run())
