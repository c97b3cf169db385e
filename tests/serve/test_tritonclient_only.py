"""The calls of `tritonclient` that belong to Triton alone: all four clients understand that they are not here."""

import asyncio
import contextlib
import inspect
import queue

import numpy as np
import pytest
from grpc import RpcError
from tritonclient import grpc, http, utils
from tritonclient.grpc import aio as grpc_aio
from tritonclient.http import aio as http_aio

from tests.serve.doors import an_app, settings
from tests.serve.running import running, running_granian
from tests.serve.test_grpc import given, grpc_running

TRITON_ONLY = {
    "get_trace_settings": (), "update_trace_settings": ("digits", {"trace_level": "OFF"}),
    "get_log_settings": (), "update_log_settings": ({"log_info": True},),
    "get_system_shared_memory_status": (), "get_cuda_shared_memory_status": ("region",),
    "register_system_shared_memory": ("region", "/key", 64),
    "register_cuda_shared_memory": ("region", b"aGFuZGxl", 0, 64),
    "unregister_system_shared_memory": ("region",), "unregister_cuda_shared_memory": (),
}  # fmt: skip
# Called with success in test_tritonclient_http.py and test_grpc.py, or without a server.
OURS = {
    "async_infer", "close", "generate_request_body", "get_inference_statistics", "get_model_config",
    "get_model_metadata", "get_model_repository_index", "get_server_metadata", "infer", "is_model_ready",
    "is_server_live", "is_server_ready", "load_model", "parse_response_body", "plugin", "register_plugin",
    "unload_model", "unregister_plugin",
}  # fmt: skip
STREAMS = {"async_stream_infer", "start_stream", "stop_stream", "stream_infer"}


@pytest.mark.parametrize("module", [http, http_aio, grpc, grpc_aio])
def test_every_call_is_known_to_be_here_or_triton_s_alone(module):
    calls = {name for name, _ in inspect.getmembers(module.InferenceServerClient, inspect.isfunction) if name[0] != "_"}
    assert calls <= OURS | STREAMS | set(TRITON_ONLY), "a call without a test"


async def refused_by_all(client):
    """The statuses of the calls that are Triton's alone."""
    found = set()
    for name, arguments in TRITON_ONLY.items():
        with pytest.raises(utils.InferenceServerException) as caught:
            told = getattr(client, name)(*arguments)
            await told if inspect.isawaitable(told) else None
        assert caught.value.message() and "decoding the response" not in caught.value.message()
        found.add(caught.value.status())
    return found


@pytest.mark.parametrize("server", ["uvicorn", "granian"])
def test_over_http(server):
    app = an_app()

    async def run(port):
        async with http_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            return await refused_by_all(client)

    with running(app, settings()) if server == "uvicorn" else running_granian(app) as port:
        with http.InferenceServerClient(f"127.0.0.1:{port}") as client:
            assert asyncio.run(refused_by_all(client)) <= {"404", "405"}
        assert asyncio.run(run(port)) <= {"404", "405"}


def test_over_grpc_streams_included():
    async def run(port):
        async with grpc_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            # grpc.aio may meet the end of the stream before it has sent anything, and then says INTERNAL itself
            with pytest.raises((utils.InferenceServerException, RpcError), match=r"UNIMPLEMENTED|execute_batch"):
                async for _ in client.stream_infer(one_request()):
                    pass
            return await refused_by_all(client)

    async def one_request():
        yield {"model_name": "digits", "inputs": given(np.ones((1, 4), np.float32), module=grpc_aio)}

    with grpc_running(an_app()) as server:
        with grpc.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            assert asyncio.run(refused_by_all(client)) == {"StatusCode.UNIMPLEMENTED"}
            answers = queue.Queue()
            client.start_stream(lambda result, error: answers.put(error))
            with contextlib.suppress(utils.InferenceServerException):  # the stream may be over already
                client.async_stream_infer("digits", given(np.ones((1, 4), np.float32)))
            assert answers.get(timeout=5).status() == "StatusCode.UNIMPLEMENTED"
            client.stop_stream()
            assert client.infer("digits", given(np.ones((1, 4), np.float32))).as_numpy("y").shape == (1, 3)
        assert asyncio.run(run(server.port)) == {"StatusCode.UNIMPLEMENTED"}
