"""Checklist 1: whatever is done to a request, the client is told what is wrong with it, at once, and never by a 5xx."""

import asyncio
import gzip
import random
import re
import socket
import zlib

import grpc
import jax
import numpy as np
import orjson
import pytest

import jaxprop as jp
from jaxprop_serve.assembly import assemble
from jaxprop_serve.grpc_door.messages import INFERENCE
from jaxprop_serve.http1.application import create_app
from jaxprop_serve.settings import Settings
from tests.drawing import draw
from tests.serve.doors import a_request, acall, an_app, settings
from tests.serve.mutations import mutated
from tests.serve.running import running
from tests.serve.test_grpc import a_message, grpc_running

INFER = "/v2/models/digits/infer"
X = np.ones((2, 4), np.float32)


def text(value):
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)


EXPLAIN = [
    text(a_request(x) | {"parameters": parameters})
    for x in (X, X[:1])
    for parameters in ({"method": "integrated", "steps": 3, "output": 1}, {"layers": True})
]
# Valid bodies for every route that takes one; a route that is added without any fails the test below.
SEEDS = {
    "/v2/models/{model}/infer": [text(a_request()), text(a_request() | {"id": "a", "outputs": [{"name": "y"}]})],
    "/v2/models/{model}/versions/{version}/infer": [text(a_request() | {"parameters": {"timeout": 10**9}})],
    "/v2/models/{model}/explain": EXPLAIN,
    "/v2/models/{model}/versions/{version}/explain": EXPLAIN,
    "/predict/{model}": [b'{"rows": [[1, 2, 3, 4], [5.5, -6e3, 7, 8]]}', b"[[1, 2, 3, 4]]"],
    "/v2/repository/index": [b'{"ready": true}', b""],
    "/v2/repository/models/{model}/load": [b'{"parameters": {}}', b'{"parameters": {"config": "{}"}}'],
    "/v2/repository/models/{model}/unload": [b'{"parameters": {"unload_dependents": false}}'],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "digits"
    with jax.enable_x64(False):
        net = jp.Chain(jp.Linear(5), jp.Tanh(), jp.Linear(3))
        return jp.save(path, net, draw(net, X), inputs=X)


def serving(folder, test):
    """Run test(app) on the application as `jaxprop serve` makes it, but for loads and unloads, which do nothing."""

    async def main():
        settings = Settings(max_batch=2)
        models, routes = assemble(settings, [str(folder)])
        await models.start()

        async def nothing(name):
            assert type(name) is str

        models.load = models.unload = nothing
        try:
            return await test(create_app(models, settings, routes=routes))
        finally:
            await models.stop()

    return asyncio.run(asyncio.wait_for(main(), 300))


def post_routes(folder):
    async def paths(app):
        found, nodes = [], [app.router.root]
        while nodes:
            node = nodes.pop()
            nodes += [*node.literal.values(), *([node.variable] if node.variable else [])]
            found += [route.path for method, route in node.ends.items() if method == "POST"]
        return sorted(found)

    return serving(folder, paths)


def a_body(rng, path):
    """A mutated body and its headers: JSON or with binary data, sometimes (not really) compressed."""
    headers = []
    if path.endswith(("infer", "explain")) and rng.random() < 0.4:
        given = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": 16}}
        head = mutated(rng, text({"inputs": [given]})) if rng.random() < 0.5 else text({"inputs": [given]})
        length = len(head) + rng.choice((-1, 0, 0, 0, 1, 99, -98))
        headers = [(b"inference-header-content-length", b"%d" % length)]
        body = head + bytes(16)
        body = mutated(rng, body) if rng.random() < 0.3 else body
    else:
        body = mutated(rng, rng.choice(SEEDS[path]))
    if rng.random() < 0.1:
        body = rng.choice((gzip.compress, zlib.compress, bytes))(body)[: rng.randrange(10, 400)]
        headers.append((b"content-encoding", rng.choice((b"gzip", b"deflate", b"br", b"identity"))))
    return body, headers


def test_a_thousand_mutated_bodies_on_every_route_are_never_the_servers_fault(folder):
    paths = post_routes(folder)

    async def test(app):
        for path in paths:
            rng, codes = random.Random(path), []
            where = path.format(model="digits", version="1")
            for body in SEEDS[
                path
            ]:  # so that what an explanation compiles is compiled: the limit below is not for that
                await acall(app, "POST", where, body)
            for _ in range(1000):
                body, headers = a_body(rng, path)
                answer = await asyncio.wait_for(acall(app, "POST", where, body, headers), 5)
                codes.append(answer.status)
                assert answer.status < 500, (where, answer.error, body)
                assert answer.status == 200 or (set(answer.json) == {"error"} and isinstance(answer.error, str)), body
            assert 20 < codes.count(200) < 900 and {400, 415} <= set(codes), (path, codes.count(200))

    serving(folder, test)


def test_a_thousand_mutated_requests_on_a_socket_are_answered_or_closed():
    """Request line, headers and body alike; half of a request is one whose client sends no more."""
    rng, codes = random.Random(0), []
    whole = f"POST {INFER} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ".encode()
    whole += b"%d\r\nX-Request-Id: r\r\n\r\n%s" % (len(text(a_request())), text(a_request()))
    with running(an_app(), settings()) as port:
        for _ in range(1000):
            with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                client.sendall(mutated(rng, whole))
                client.shutdown(socket.SHUT_WR)
                answer = b""
                while part := client.recv(65536):  # until closed, within the timeout
                    answer += part
            for one in re.split(rb"HTTP/1.1 (?=\d{3} )", answer)[
                1:
            ]:  # what follows a body cut short is another request
                codes.append(int(one[:3]))
                assert codes[-1] < 500, answer
                assert codes[-1] == 200 or set(orjson.loads(one.partition(b"\r\n\r\n")[2])) == {"error"}, answer
    assert codes.count(200) > 20 and {400, 404} <= set(codes)


CALLS = {
    "ModelInfer": a_message(x=X),
    "ModelReady": INFERENCE.ModelReadyRequest(name="digits", version="1"),
    "ModelMetadata": INFERENCE.ModelMetadataRequest(name="digits", version="1"),
    "ModelConfig": INFERENCE.ModelConfigRequest(name="digits", version="1"),
    "ModelStatistics": INFERENCE.ModelStatisticsRequest(name="digits", version="1"),
    "RepositoryIndex": INFERENCE.RepositoryIndexRequest(repository_name="r", ready=True),
    "RepositoryModelLoad": INFERENCE.RepositoryModelLoadRequest(repository_name="r", model_name="digits"),
    "RepositoryModelUnload": INFERENCE.RepositoryModelUnloadRequest(repository_name="r", model_name="digits"),
}
TOLD = {"OK", "INVALID_ARGUMENT", "NOT_FOUND"}


def test_mutated_messages_on_every_grpc_call_are_the_client_s_mistake():
    """1000 for inference, 200 for each other call."""
    with grpc_running(an_app()) as server, grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        for name, message in CALLS.items():
            rng, codes = random.Random(name), []
            call = channel.unary_unary(f"/inference.GRPCInferenceService/{name}")
            for _ in range(1000 if name == "ModelInfer" else 200):
                try:
                    call(mutated(rng, message.SerializeToString()), timeout=5)
                    codes.append("OK")
                except grpc.RpcError as error:
                    codes.append(error.code().name)
                    assert codes[-1] in TOLD and error.details(), error
            assert "INVALID_ARGUMENT" in codes, (name, set(codes))
