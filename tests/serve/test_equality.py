"""Checklist 27: whatever a row was batched with, through whichever door, its answer is f(x, θ)."""

import json
import threading

import numpy as np
import pytest
from tritonclient import grpc as triton, http as triton_http

from jaxprop_serve.models import runtimes
from tests.serve.load import Load, post, rows_request
from tests.serve.oracle import X, publish
from tests.serve.process import Process

pytestmark = pytest.mark.slow
INFER = "/v2/models/m/infer"
SIZES = [1, 1, 2, 3, 5, 8, 13]  # rows in one request; the largest batch has 8


def some_rows(rng):
    size = int(rng.choice(SIZES))
    start = int(rng.integers(0, len(X) - size))
    return slice(start, start + size)


def by_client(library, port, check, calls, seed):
    """Ask by tritonclient, in raw bytes, for different numbers of rows."""
    rng = np.random.default_rng(seed)
    with library.InferenceServerClient(f"127.0.0.1:{port}") as client:
        for _ in range(calls):
            at = some_rows(rng)
            tensor = library.InferInput("x", [at.stop - at.start, 4], "FP32")
            tensor.set_data_from_numpy(X[at])
            check(at, client.infer("m", [tensor]).as_numpy("y"))


@pytest.mark.parametrize("flags", [("--set", "max_batch=8"), ("--no-batching",)], ids=["batching", "no batching"])
def test_every_answer_is_the_library_s(flags, tmp_path):
    folder = tmp_path / "m"
    y, wrong, sizes = publish(folder), [], set()
    alone = runtimes.saved.load(folder).compile(1)
    bits = np.concatenate([alone({"x": X[i : i + 1]})["y"] for i in range(len(X))])

    def check(at, found):
        sizes.add(len(found))
        right = (
            found.tobytes() == bits[at].tobytes()
            if flags == ("--no-batching",)
            else np.abs(found - y[at]).max() <= 1e-6
        )
        if not (right and found.dtype == np.float32 and found.shape == y[at].shape):
            wrong.append((at, found))

    rng = np.random.default_rng(0)
    asked = [some_rows(rng) for _ in range(24)]

    def json_check(i, status, head, body):
        assert status == 200, body
        (output,) = json.loads(body)["outputs"]
        check(asked[i], np.array(output["data"], np.float32).reshape(output["shape"]))

    with Process(folder, *flags) as server:
        with Load(server.port, [post(INFER, rows_request(X[at])) for at in asked], json_check) as load:
            threads = [
                threading.Thread(target=by_client, args=(library, port, check, 20, seed))
                for seed, (library, port) in enumerate([(triton, server.grpc_port), (triton_http, server.port)] * 2)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
        stats = server.call("GET", "/v2/models/m/stats")[1]["model_stats"][0]
    assert load.failed == [] and load.answered > 24 and wrong == []
    assert sizes == set(SIZES)
    batches = {batch["batch_size"] for batch in stats["batch_stats"]}
    assert batches == {1} if flags == ("--no-batching",) else len(batches) > 4, "rows were not mixed"
