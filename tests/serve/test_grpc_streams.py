"""gRPC calls without an end: `Watch` of the health protocol, and reflection, from which clients make their messages."""

import contextlib
import queue
import threading
import time

import grpc
import pytest
from google.protobuf import descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from jaxprop_serve.errors import ServeError
from jaxprop_serve.grpc_door import service
from jaxprop_serve.grpc_door.messages import HEALTH, INFERENCE
from jaxprop_serve.grpc_door.reflection import ALPHA, MESSAGES, STABLE
from tests.serve.doors import FakeModel, an_app
from tests.serve.test_grpc import Counts, grpc_running

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3


@contextlib.contextmanager
def serving(**changed):
    """A server's application, its gRPC door and a channel to it."""
    app = an_app(FakeModel(), metrics=Counts(), **changed)
    with grpc_running(app) as door, grpc.insecure_channel(f"127.0.0.1:{door.port}") as channel:
        yield app, door, channel


class Loading(FakeModel):
    @property
    def version(self):
        raise ServeError(503, "model 'digits' is not ready: LOADING")

    @version.setter
    def version(self, _):
        pass


class Watcher:
    """One call of Watch; `next()` is the next status, `end()` the code that it ended with."""

    def __init__(self, channel, name=""):
        watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
        self.call = watch(HEALTH.HealthCheckRequest(service=name).SerializeToString(), timeout=20)
        self.heard = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        try:
            for data in self.call:
                self.heard.put(HEALTH.HealthCheckResponse.FromString(data).status)
        except grpc.RpcError as error:
            self.heard.put(error.code().name)

    def next(self):
        return self.heard.get(timeout=5)

    def end(self):
        while not isinstance(found := self.next(), str):
            pass
        return found


def test_a_watcher_hears_of_each_change_and_of_the_drain():
    with serving() as (app, door, channel):
        everything, model = Watcher(channel), Watcher(channel, "digits")
        assert everything.next() == model.next() == SERVING
        digits = app.models.models.pop("digits")
        assert model.next() == SERVICE_UNKNOWN, "the watch goes on: the model may come back"
        app.models.models["digits"] = Loading()
        assert model.next() == NOT_SERVING
        app.models.models["digits"] = digits
        assert model.next() == SERVING
        app.models.is_ready = False
        assert everything.next() == NOT_SERVING and everything.heard.empty() and model.heard.empty()
        began = time.monotonic()
        door.stop(10).result(5)
        assert time.monotonic() - began < 3, "no watcher holds up the drain"
        assert model.next() == NOT_SERVING
        assert (model.next(), everything.next()) == ("UNAVAILABLE", "UNAVAILABLE")


@pytest.mark.parametrize("bound", ["WATCHERS", "WATCHERS_EACH"])
def test_watchers_are_bounded_and_those_that_left_are_forgotten(monkeypatch, bound):
    monkeypatch.setattr(service, bound, 3)
    with serving() as (app, _, channel):
        watchers = [Watcher(channel, name) for name in ("", "digits", "none")]
        assert [watcher.next() for watcher in watchers] == [SERVING, SERVING, SERVICE_UNKNOWN]
        assert Watcher(channel).next() == "RESOURCE_EXHAUSTED"
        watchers[0].call.cancel()
        assert watchers[0].end() == "CANCELLED"
        end = time.monotonic() + 5
        while (found := Watcher(channel).next()) != SERVING:  # its place is free as soon as the server has heard of it
            assert found == "RESOURCE_EXHAUSTED" and time.monotonic() < end
        assert "CANCELLED" in [code for *_, code in app.metrics.requests]


@pytest.fixture(scope="module")
def channel():
    with serving() as (_, _, channel):
        yield channel


def test_a_client_lists_the_services_and_makes_a_call_from_what_it_is_told(channel):
    """As grpcurl does, in a pool that knows nothing of us."""
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == {"inference.GRPCInferenceService", "grpc.health.v1.Health", ALPHA, STABLE}
    pool = descriptor_pool.DescriptorPool(database)
    for name in database.get_services():
        for method in pool.FindServiceByName(name).methods:
            assert pool.FindMessageTypeByName(method.input_type.full_name), method.full_name
    method = pool.FindServiceByName("inference.GRPCInferenceService").FindMethodByName("ModelReady")
    request, response = map(message_factory.GetMessageClass, (method.input_type, method.output_type))
    call = channel.unary_unary(f"/{method.containing_service.full_name}/{method.name}")
    assert response.FromString(call(request(name="digits").SerializeToString())).ready
    with pytest.raises(KeyError):
        pool.FindMessageTypeByName("inference.None")


def test_what_is_described_is_what_is_answered():
    handlers = service.Service(an_app()).handlers()
    for found in (INFERENCE.services | HEALTH.services).values():
        for method in found.methods:
            path = f"/{found.full_name}/{method.name}"
            (handler,) = (h for one in handlers if (h := one.service(CallDetails(path))))
            assert handler.response_streaming == method.server_streaming, path


class CallDetails(grpc.HandlerCallDetails):
    def __init__(self, method):
        self.method = method


@pytest.mark.parametrize("name", [STABLE, ALPHA])
def test_one_call_asks_several_things_and_a_symbol_may_be_a_method(channel, name):
    ask = channel.stream_stream(f"/{name}/ServerReflectionInfo")
    symbols = ["inference.GRPCInferenceService.ModelInfer", name, f"{name}.No"]
    wanted = [*({"file_containing_symbol": symbol} for symbol in symbols), {"file_by_filename": "no"}, {}]
    requests = [MESSAGES.ServerReflectionRequest(**one).SerializeToString() for one in wanted]
    answers = [MESSAGES.ServerReflectionResponse.FromString(data) for data in ask(iter(requests), timeout=5)]
    assert b"ModelInferRequest" in answers[0].file_descriptor_response.file_descriptor_proto[0]
    assert name.rpartition(".")[0].encode() in answers[1].file_descriptor_response.file_descriptor_proto[0]
    assert [one.error_response.error_code for one in answers[2:]] == [5, 5, 3]
    with pytest.raises(grpc.RpcError) as caught:
        list(ask(iter([requests[0], b"\xff\xff"]), timeout=5))
    assert caught.value.code().name == "INVALID_ARGUMENT"


def test_reflection_needs_the_token_and_ends_when_nothing_is_asked():
    with serving(token="t" * 20, idle_timeout_s=0.2) as (_, _, channel):
        ask = channel.stream_stream(f"/{STABLE}/ServerReflectionInfo")
        request = MESSAGES.ServerReflectionRequest(list_services="").SerializeToString()
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([request]), timeout=5))
        assert caught.value.code().name == "UNAUTHENTICATED"
        silent = threading.Event()

        def asked():
            yield request
            silent.wait(10)

        found = list(ask(asked(), timeout=5, metadata=[("authorization", "Bearer " + "t" * 20)]))
        silent.set()
        assert len(found) == 1


def test_a_deadline_ends_a_watch(channel):
    call = channel.unary_stream("/grpc.health.v1.Health/Watch")(b"", timeout=0.2)
    assert HEALTH.HealthCheckResponse.FromString(next(call)).status == SERVING
    with pytest.raises(grpc.RpcError) as caught:
        next(call)
    assert caught.value.code().name == "DEADLINE_EXCEEDED"
