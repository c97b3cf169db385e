"""Every call of `tritonclient.grpc` and `tritonclient.grpc.aio`, and what only a hand-made message can get wrong."""

import asyncio
import contextlib
import threading
import time
from types import SimpleNamespace

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pool
from tritonclient import grpc as triton, utils
from tritonclient.grpc import aio, model_config_pb2, service_pb2

from jaxprop.errors import JaxpropError
from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.grpc_door.messages import HEALTH, INFERENCE, read_proto
from tests.serve.doors import FakeModel, W, an_app, settings

X = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
LIMIT = 1 << 20


class Counts:
    """What metrics.py is told."""

    def __init__(self):
        self.requests, self.refused = [], []

    def request(self, model, version, protocol, route, code, seconds):
        assert protocol == "grpc" and route and seconds >= 0
        self.requests.append((model, version, code))

    def rejected(self, reason, protocol, route):
        self.refused.append(reason)


class Slow(FakeModel):
    """Waits as long as its version of time allows, and knows when it is cancelled."""

    cancelled = 0
    deadline = None

    async def infer(self, inputs, deadline=None, client=None):
        self.deadline = deadline
        try:
            await asyncio.sleep(5)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return {}


class Failing(FakeModel):
    async def infer(self, inputs, deadline=None, client=None):
        raise RuntimeError("the secret path /home/me")


@contextlib.contextmanager
def grpc_running(app, **changed):
    """Yield the port of a gRPC server for the application, in a loop and a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    limits = settings(**(dict(max_queue_rows=64, workers=1, tls_cert=None, max_body_bytes=LIMIT) | changed))
    started = asyncio.run_coroutine_threadsafe(grpc_server.start(app, limits, 0), loop)
    door = started.result(10)
    try:
        yield SimpleNamespace(port=door.port, stop=lambda s: asyncio.run_coroutine_threadsafe(door.stop(s), loop))
    finally:
        asyncio.run_coroutine_threadsafe(door.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


@pytest.fixture(scope="module")
def app():
    models = [FakeModel("digits"), FakeModel("ints", datatype="INT64"), FakeModel("small", datatype="INT8"),
              FakeModel("half", datatype="FP16", answer="BF16"), FakeModel("yes", datatype="BOOL"), Slow("slow"),
              Failing("failing"), FakeModel("full")]  # fmt: skip
    models[-1].full = True
    return an_app(*models, metrics=Counts())


@pytest.fixture(scope="module")
def url(app):
    with grpc_running(app) as running:
        yield f"127.0.0.1:{running.port}"


@pytest.fixture(scope="module")
def client(url):
    with triton.InferenceServerClient(url) as client:
        yield client


@pytest.fixture(scope="module")
def channel(url):
    with grpc.insecure_channel(url, [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


def given(x=X, name="x", datatype="FP32", module=triton):
    tensor = module.InferInput(name, list(x.shape), datatype)
    tensor.set_data_from_numpy(x)
    return [tensor]


def refused(channel, request, path="/inference.GRPCInferenceService/ModelInfer", timeout=5, **how):
    """Send a message as it is and return the refusal: its status and text."""
    with pytest.raises(grpc.RpcError) as caught:
        send(channel, request, path, timeout=timeout, **how)
    return caught.value.code().name, caught.value.details()


def send(channel, request, path="/inference.GRPCInferenceService/ModelInfer", timeout=5, **how):
    return channel.unary_unary(path)(request.SerializeToString(), timeout=timeout, **how)


def a_message(model="digits", x=X, raw=True, **tensor):
    request = INFERENCE.ModelInferRequest(model_name=model)
    request.inputs.add(**({"name": "x", "datatype": "FP32", "shape": x.shape} | tensor))
    if raw:
        request.raw_input_contents.append(x.tobytes())
    return request


def test_the_server_and_the_model_describe_themselves(client):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("digits") and client.is_model_ready("digits", "1")
    assert not client.is_model_ready("digits", "9") and not client.is_model_ready("none")
    assert "model_repository" in client.get_server_metadata().extensions
    metadata = client.get_model_metadata("digits", "1")
    assert (metadata.inputs[0].name, metadata.inputs[0].datatype, list(metadata.inputs[0].shape)) == (
        "x",
        "FP32",
        [-1, 4],
    )
    assert list(metadata.versions) == ["1"] and metadata.platform == "jaxprop_saved"
    config = client.get_model_config("digits").config
    assert config.max_batch_size == 64 and config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert config.backend == "jaxprop" and config.version_policy.WhichOneof("policy_choice") == "all"
    assert config.parameters["bit_exact"].string_value == "true"
    assert client.get_inference_statistics("digits", "1").model_stats[0].name == "digits"
    assert len(client.get_inference_statistics().model_stats) == 8
    assert client.get_model_metadata("digits", as_json=True)["outputs"][0]["name"] == "y"


@pytest.mark.parametrize(
    "versions, policy",
    [
        ("latest:2", {"latest": {"num_versions": 2}}),
        ("1,3", {"specific": {"versions": ["1", "3"]}}),
        ("all", {"all": {}}),
    ],
)
def test_the_configuration_has_the_policy_of_versions(versions, policy):
    with grpc_running(an_app(versions=versions)) as door:
        with triton.InferenceServerClient(f"127.0.0.1:{door.port}") as client:
            assert client.get_model_config("digits", as_json=True)["config"]["version_policy"] == policy


def test_the_repository(client, app):
    states = {model.name: model.state for model in client.get_model_repository_index().models}
    assert states["digits"] == "READY" and states["broken"] == "UNAVAILABLE"
    client.load_model("digits")
    client.unload_model("digits", unload_dependents=True)
    assert app.models.asked[-2:] == [("load", "digits"), ("unload", "digits")]
    with pytest.raises(utils.InferenceServerException, match="takes no parameters") as caught:
        client.load_model("digits", config="{}", files={"file:1/model": b"\xff"})
    assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"


@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_the_answer_is_the_model_s(client, compression):
    result = client.infer(
        "digits", given(), model_version="1", request_id="r 7", outputs=[triton.InferRequestedOutput("y")],
        timeout=10_000_000, client_timeout=10, headers={"mine": "1"}, compression_algorithm=compression,
        parameters={"mine": 1},
    )  # fmt: skip
    assert result.as_numpy("y").tobytes() == (X @ W).tobytes()
    assert (result.get_response().id, result.get_response().model_version) == ("r 7", "1")


def test_the_default_call_and_many_at_once(client):
    assert client.infer("digits", given()).as_numpy("y").tobytes() == (X @ W).tobytes()
    assert np.isnan(client.infer("digits", given(X * np.nan)).as_numpy("y")).all()
    integers = np.arange(8).reshape(2, 4)
    found = client.infer("ints", given(integers, datatype="INT64"))
    np.testing.assert_array_equal(found.as_numpy("y"), integers.astype(np.float32) @ W)
    done, answers = threading.Event(), {}

    def answered(i, result, error):
        answers[i] = error or result.as_numpy("y")
        if len(answers) == 8:
            done.set()

    for i in range(8):
        client.async_infer("digits", given(X + i), lambda result, error, i=i: answered(i, result, error))
    assert done.wait(10)
    for i in range(8):
        np.testing.assert_array_equal(answers[i], (X + np.float32(i)) @ W)


def test_half_precision_travels_in_raw_bytes(client):
    x = X.astype(np.float16)
    found = client.infer("half", given(x, datatype="FP16"))
    assert found.get_output("twice").datatype == "BF16"
    np.testing.assert_allclose(found.as_numpy("y"), x.astype(np.float32) @ W, rtol=2**-8, atol=0.02)


@pytest.mark.parametrize(
    "model, inputs, version, status, says",
    [
        ("none", given(), "", "NOT_FOUND", "none"),
        ("digits", given(), "9", "NOT_FOUND", "digits"),
        ("../digits", given(), "", "NOT_FOUND", "cannot be the name"),
        ("%2e%2e", given(), "", "NOT_FOUND", "unknown model '%2e%2e'"),
        ("a\0b", given(), "", "NOT_FOUND", "cannot be the name"),
        ("digits", given(name="z"), "", "INVALID_ARGUMENT", "unexpected inference input 'z' for model 'digits'"),
        ("digits", given(X[:, :3]), "", "INVALID_ARGUMENT", "Expected [-1,4], got [3,3]"),
        ("digits", given(X.astype(np.float64), datatype="FP64"), "", "INVALID_ARGUMENT", "data-type is 'FP64'"),
        ("digits", given() + given(), "", "INVALID_ARGUMENT", "expected 1 inputs but got 2"),
        ("digits", [], "", "INVALID_ARGUMENT", "expected 1 inputs but got 0"),
        ("full", given(), "", "RESOURCE_EXHAUSTED", "queue is full"),
        ("digits", given(np.zeros((65, 4), np.float32)), "", "INVALID_ARGUMENT", "65 rows"),
    ],
)
def test_every_refusal_reaches_the_caller(client, model, inputs, version, status, says):
    with pytest.raises(utils.InferenceServerException) as caught:
        client.infer(model, inputs, model_version=version)
    assert caught.value.status() == f"StatusCode.{status}" and says in caught.value.message()


def test_failures_of_the_model_tell_nothing_and_deadlines_are_kept(client, app):
    with pytest.raises(utils.InferenceServerException, match="internal error, request") as caught:
        client.infer("failing", given())
    assert caught.value.status() == "StatusCode.INTERNAL" and "secret" not in caught.value.message()
    with pytest.raises(utils.InferenceServerException, match="deadline") as caught:
        client.infer("digits", given(), timeout=1)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    slow = app.models.models["slow"]
    before = time.monotonic()
    with pytest.raises(utils.InferenceServerException) as caught:
        client.infer("slow", given(), client_timeout=0.3)
    assert caught.value.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert 0 < slow.deadline - before < 0.5
    for _ in range(100):
        if slow.cancelled:
            break
        time.sleep(0.02)
    assert slow.cancelled == 1, "work for a client that is gone goes on"


@pytest.mark.parametrize("call", ["get_trace_settings", "get_log_settings", "get_system_shared_memory_status"])
def test_what_only_triton_has_is_unimplemented(client, call):
    with pytest.raises(utils.InferenceServerException) as caught:
        getattr(client, call)()
    assert caught.value.status() == "StatusCode.UNIMPLEMENTED"
    with pytest.raises(utils.InferenceServerException, match="classification"):
        client.infer("digits", given(), outputs=[triton.InferRequestedOutput("y", class_count=2)])


def test_raw_bytes_must_be_as_many_as_the_shape_says_and_one_for_each_input(channel):
    short = a_message()
    short.raw_input_contents[0] = short.raw_input_contents[0][:-1]
    assert refused(channel, short)[0] == "INVALID_ARGUMENT" and "47 bytes" in refused(channel, short)[1]
    long = a_message()
    long.raw_input_contents[0] += b"\0"
    assert "49 bytes" in refused(channel, long)[1]
    two = a_message()
    two.raw_input_contents.append(b"")
    assert "expected 1 raw_input_contents but got 2" in refused(channel, two)[1]
    for shape in ([-1, 4], [0, 4], [1 << 62, 4], [4], [3, 2, 2], []):
        status, text = refused(channel, a_message(shape=shape))
        assert status == "INVALID_ARGUMENT" and ("shape" in text or "rows" in text)
    mixed = a_message()
    mixed.inputs[0].contents.fp32_contents.extend(X.ravel())
    assert "must not be set" in refused(channel, mixed)[1]
    assert "elements" in refused(channel, a_message(raw=False))[1], "nothing at all is not twelve zeros"
    nameless = INFERENCE.ModelInferRequest()
    assert refused(channel, nameless)[0] in ("INVALID_ARGUMENT", "NOT_FOUND")
    assert refused(channel, INFERENCE.ModelMetadataRequest(), "/inference.GRPCInferenceService/ModelMetadata") == (
        "INVALID_ARGUMENT", "the request names no model")  # fmt: skip


@pytest.mark.parametrize(
    "model, datatype, field, values",
    [
        ("digits", "FP32", "fp32_contents", X.ravel().tolist()),
        ("digits", "FP32", "fp32_contents", [float("nan")] * 12),
        ("ints", "INT64", "int64_contents", list(range(12))),
        ("small", "INT8", "int_contents", list(range(-6, 6))),
        ("yes", "BOOL", "bool_contents", [True, False] * 6),
    ],
)
def test_typed_contents_are_taken_too(channel, model, datatype, field, values):
    request = a_message(model, raw=False, datatype=datatype)
    getattr(request.inputs[0].contents, field).extend(values)
    answer = INFERENCE.ModelInferResponse.FromString(send(channel, request))
    y = np.array(values, np.float32).reshape(3, 4) @ W
    assert answer.raw_output_contents[0] == y.tobytes() and not answer.outputs[0].HasField("contents")
    getattr(request.inputs[0].contents, field).append(values[0])
    assert "13 elements" in refused(channel, request)[1]


def test_typed_contents_of_another_kind_or_size_are_refused(channel):
    wrong = a_message(raw=False)
    wrong.inputs[0].contents.fp64_contents.extend(X.ravel())
    assert "fill fp32_contents, not fp64_contents" in refused(channel, wrong)[1]
    large = a_message("small", raw=False, datatype="INT8")
    large.inputs[0].contents.int_contents.extend([0] * 11 + [128])
    assert "does not fit into INT8" in refused(channel, large)[1]
    half = a_message("half", raw=False, datatype="FP16")
    half.inputs[0].contents.fp32_contents.extend(X.ravel())
    assert "raw_input_contents" in refused(channel, half)[1]


def test_messages_beyond_the_limit_are_refused_also_when_compressed(channel):
    big = a_message()
    big.raw_input_contents.append(bytes(LIMIT))
    assert refused(channel, big)[0] == "RESOURCE_EXHAUSTED"
    big.raw_input_contents.append(bytes(64 << 20))
    status, _ = refused(channel, big, timeout=30, compression=grpc.Compression.Gzip)
    assert status == "RESOURCE_EXHAUSTED", "a gzip bomb"


def test_garbage_is_not_a_message(channel):
    call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    for garbage in (b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x0f", bytes(1000)):
        with pytest.raises(grpc.RpcError) as caught:
            call(garbage, timeout=5)
        assert caught.value.code().name == "INVALID_ARGUMENT" and "ModelInferRequest" in caught.value.details()


def test_health(channel, app):
    def health(service=""):
        answer = send(channel, HEALTH.HealthCheckRequest(service=service), "/grpc.health.v1.Health/Check")
        return HEALTH.HealthCheckResponse.FromString(answer).status

    assert health() == 1 and health("digits") == 1
    none = refused(channel, HEALTH.HealthCheckRequest(service="none"), "/grpc.health.v1.Health/Check")
    assert none[0] == "NOT_FOUND"
    app.models.is_ready = False
    try:
        assert health() == 2
        live = send(channel, INFERENCE.ServerReadyRequest(), "/inference.GRPCInferenceService/ServerReady")
        assert not INFERENCE.ServerReadyResponse.FromString(live).ready
    finally:
        app.models.is_ready = True


def test_tokens():
    app = an_app(metrics=Counts(), token="user-token", admin_token="admin-token")
    with grpc_running(app) as running, triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        assert client.is_server_live() and client.is_server_ready(), "what load balancers ask is open"

        def status(call, *arguments, token=None):
            headers = {} if token is None else {"authorization": token}
            try:
                call(*arguments, headers=headers)
            except utils.InferenceServerException as error:
                assert "user-token" not in error.message() and "admin-token" not in error.message()
                return error.status().removeprefix("StatusCode.")
            return "OK"

        for wrong in (None, "user-token", "Bearer user-toke", "Bearer ", "Basic user-token"):
            assert status(client.infer, "digits", given(), token=wrong) == "UNAUTHENTICATED"
            assert status(client.get_server_metadata, token=wrong) == "UNAUTHENTICATED"
        assert status(client.infer, "digits", given(), token="Bearer user-token") == "OK"
        assert status(client.load_model, "digits", token="Bearer user-token") == "PERMISSION_DENIED"
        assert status(client.load_model, "digits", token="Bearer admin-token") == "OK"
    assert app.metrics.refused == ["auth"] * 11, "with the admin's call that the user tried"
    assert [code for *_, code in app.metrics.requests].count("UNAUTHENTICATED") == 10


def test_stopping_answers_what_is_under_way_and_refuses_what_comes():
    class Half(FakeModel):
        async def infer(self, inputs, deadline=None, client=None):
            begun.set()
            while not go.is_set():
                await asyncio.sleep(0.01)
            return await super().infer(inputs, deadline, client)

    begun, go, app = threading.Event(), threading.Event(), an_app(Half(), metrics=Counts())
    with grpc_running(app) as running, triton.InferenceServerClient(f"127.0.0.1:{running.port}") as client:
        answers = []
        thread = threading.Thread(target=lambda: answers.append(client.infer("digits", given()).as_numpy("y")))
        client.is_server_live()
        thread.start()
        assert begun.wait(5)
        stopped = running.stop(5)
        time.sleep(0.1)
        with pytest.raises(utils.InferenceServerException, match="stopping") as caught:
            client.infer("digits", given())
        assert caught.value.status() == "StatusCode.UNAVAILABLE"
        go.set()
        thread.join(5)
        stopped.result(5)
        assert answers[0].tobytes() == (X @ W).tobytes()


def test_each_call_is_counted_once(client, app):
    before = len(app.metrics.requests)
    client.infer("digits", given())
    with contextlib.suppress(utils.InferenceServerException):
        client.infer("digits", given(X[:, :3]))
    assert app.metrics.requests[before:] == [("digits", "1", "OK"), ("digits", "1", "INVALID_ARGUMENT")]


def test_the_asyncio_client(url):
    async def run():
        async with aio.InferenceServerClient(url) as client:
            assert await client.is_server_live() and await client.is_server_ready()
            assert await client.is_model_ready("digits") and not await client.is_model_ready("none")
            assert (await client.get_server_metadata()).name == "jaxprop"
            assert (await client.get_model_metadata("ints")).inputs[0].datatype == "INT64"
            assert (await client.get_model_config("digits")).config.max_batch_size == 64
            assert (await client.get_inference_statistics("digits")).model_stats
            assert len((await client.get_model_repository_index()).models) == 9
            await client.load_model("digits")
            await client.unload_model("digits")
            for compression in (None, "gzip", "deflate"):
                result = await client.infer("digits", given(module=aio), compression_algorithm=compression)
                assert result.as_numpy("y").tobytes() == (X @ W).tobytes()
            with pytest.raises(utils.InferenceServerException, match="unexpected shape"):
                await client.infer("digits", given(X[:, :3], module=aio))

    asyncio.run(run())


def test_our_messages_are_upstream_s_and_stay_out_of_the_shared_pool():
    """Every message and field here has the name, number and kind that tritonclient's has; both live in one process."""

    def check(ours, theirs):
        for field in ours.fields:
            other = theirs.fields_by_number[field.number]
            assert (field.name, field.type, field.is_repeated) == (other.name, other.type, other.is_repeated)
            assert (field.containing_oneof and field.containing_oneof.name) == (
                other.containing_oneof and other.containing_oneof.name)  # fmt: skip
            assert (field.message_type and field.message_type.full_name) == (
                other.message_type and other.message_type.full_name)  # fmt: skip
            if field.enum_type:
                assert field.enum_type.values_by_name.keys() == other.enum_type.values_by_name.keys()
        for nested in ours.nested_types:
            check(nested, theirs.nested_types_by_name[nested.name])

    messages = [m for name, m in vars(INFERENCE).items() if name != "services"]
    assert len(messages) > 30
    for message in messages:
        name = message.DESCRIPTOR.name
        theirs = getattr(service_pb2, name, None) or getattr(model_config_pb2, name)
        check(message.DESCRIPTOR, theirs.DESCRIPTOR)
        assert message is not theirs
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("grpc.health.v1.HealthCheckRequest")


def test_the_reader_of_proto_files_resolves_names_from_the_inside_out():
    text = """package p; message A { message B { int32 n = 1; } enum E { X = 0; } B b = 1; E e = 2; C c = 3; // no
              map<string, B> m = 4; oneof one { bool t = 5; B u = 6; } bytes last = 7; }
              message B {} message C { B b = 1; }"""
    a, _, c = read_proto(text, "p.proto").message_type
    kinds = {field.name: (field.type_name, field.HasField("oneof_index")) for field in a.field}
    assert kinds == {"b": (".p.A.B", False), "e": (".p.A.E", False), "c": (".p.C", False), "m": (".p.A.MEntry", False),
                     "t": ("", True), "u": (".p.A.B", True), "last": ("", False)}  # fmt: skip
    assert c.field[0].type_name == ".p.B" and a.nested_type[1].field[1].type_name == ".p.A.B"


def test_a_taken_port_is_an_error_and_not_shared(url):
    async def run():
        app = an_app()
        taken = int(url.rpartition(":")[2])
        with pytest.raises(JaxpropError, match="--grpc-port"):
            await grpc_server.start(app, settings(max_queue_rows=64, workers=1, tls_cert=None), taken)

    asyncio.run(run())
