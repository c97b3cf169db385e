"""`jaxprop ray`: the same answers from replicas that are killed and deployed anew, on a real Ray of this machine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from tritonclient import http as triton, utils

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop_ray import build
from jaxprop_ray.application import from_root, here_only, scaling
from tests.cli.commands import Ran, is_a_mistake, run
from tests.drawing import draw
from tests.serve.doors import an_app, call
from tests.serve.process import Process

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
LARGE = np.random.default_rng(1).standard_normal((8192, 4)).astype(np.float32)
INFER, MODEL = "/v2/models/small/infer", "/v2/models/small"


def save(path, seed, width=8):
    """A new model at this path; what it says of X."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        net = jp.Chain(jp.Linear(width), jp.Sigmoid(), jp.Linear(width), jp.Sigmoid(), jp.Linear(3))
        params = draw(net, X, seed)
        jp.save(path, net, params, inputs=X)
        return np.asarray(jax.jit(net)(X, params))


def json_request(x=X):
    return {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}


def binary(port, x=X, name="small"):
    """The default call of tritonclient."""
    with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{port}", network_timeout=30)) as client:
        tensor = triton.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x)
        return client.infer(name, [tensor]).as_numpy("y")


class Asking:
    """`with Asking(server)`: the same request again and again, on a connection each; what came back, by status."""

    def __init__(self, server):
        self.server, self.rows, self.refused, self.stopped = server, [], [], threading.Event()
        self.thread = threading.Thread(target=self._ask, daemon=True)

    def _ask(self):
        while not self.stopped.wait(0.02):
            status, answer, _ = self.server.call("POST", INFER, json_request())
            if status == 200:
                self.rows.append(np.reshape(answer["outputs"][0]["data"], (5, 3)))
            else:
                self.refused.append((status, answer))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join(20)
        assert not self.thread.is_alive()


def ray_environment(folder):
    """Everything that Ray writes goes into this folder."""
    memory = str(100 << 20)
    return {"HOME": folder, "RAY_TMPDIR": folder, "RAY_DEFAULT_OBJECT_STORE_MAX_MEMORY_BYTES": memory}


class Cluster(Process):
    """`jaxprop ray ARGUMENTS`."""

    starts_in = 180  # Ray starts a dozen processes

    def __init__(self, folder, *arguments):
        self.folder = folder
        super().__init__(*arguments, command="ray", ports=(0,), **ray_environment(folder))

    def processes(self):
        """{pid: its title} of all that Ray has started."""
        mark, found = f"RAY_TMPDIR={self.folder}".encode(), {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0") and int(folder.name) != self.process.pid:
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().split(b"\0")[0].decode()
        return {pid: title for pid, title in found.items() if title}  # a zombie has none

    def replicas(self):
        return {pid for pid, title in self.processes().items() if title.startswith("ray::ServeReplica")}

    def workers(self):
        """The replicas' numbers that answer, each asked what it counted: {number: answers of the model}."""
        found = {}
        for _ in range(100):
            text = self.call("GET", "/metrics")[1]
            lines = [line for line in text.splitlines() if line.startswith("jaxprop_requests_total{")]
            for line in lines:
                number = line.partition('worker="')[2].partition('"')[0]
                found[number] = found.get(number, 0) or int('model="small"' in line)
            if len(found) == 2 and all(found.values()):
                break
        return found


@pytest.fixture
def scratch():
    """A short path: Ray's sockets lie below it."""
    folder = tempfile.mkdtemp(prefix="ray")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_replicas_are_told_of_links_and_not_of_what_they_lead_to_now(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "release-1").mkdir()
    (tmp_path / "current").symlink_to("release-1")
    assert from_root("current") == f"{tmp_path}/current" and from_root("m=current") == f"m={tmp_path}/current"


@pytest.mark.slow
def test_a_cluster_from_start_to_stop(scratch, tmp_path):
    """One Ray for all of it: to start one takes longer than to ask it everything."""
    y, folder = save(tmp_path / "small", 0), tmp_path / "small"
    save(tmp_path / "large", 0, width=1024)
    with Cluster(scratch, tmp_path, "--replicas", 2, "--set", "max_body_bytes=1MiB", "--set", "max_batch=16") as server:
        answers_as_the_server_does(server, y)
        both_replicas_answer(server, y)
        a_killed_replica_is_replaced(server, y)
        a_model_that_cannot_be_loaded_is_said_in_one_line(server, tmp_path / "small")
        new_models_without_a_failed_request(server, y, folder)
        is_stopped_without_cutting_off(server)


def answers_as_the_server_does(server, y):
    assert server.call("GET", "/v2/health/live")[0] == server.call("GET", "/v2/health/ready")[0] == 200
    status, metadata, _ = server.call("GET", MODEL)
    assert status == 200 and metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    index = server.call("POST", "/v2/repository/index", b"")[1]
    assert [(entry["name"], entry["state"]) for entry in index] == [("large", "READY"), ("small", "READY")]
    status, answer, _ = server.call("POST", INFER, json_request())
    assert status == 200
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (5, 3)), y, rtol=0, atol=1e-6)
    np.testing.assert_allclose(binary(server.port), y, rtol=0, atol=1e-6)
    rows = server.call("POST", "/predict/small", {"rows": X.tolist()})[1]["rows"]
    np.testing.assert_allclose(rows, y, rtol=0, atol=1e-6)

    status, answer, _ = server.call("POST", INFER, json_request(X[:, :3]))
    assert status == 400 and list(answer) == ["error"] and "Expected [-1,4], got [5,3]" in answer["error"]
    with pytest.raises(utils.InferenceServerException, match=r"Expected \[-1,4\], got \[5,3\]"):
        binary(server.port, X[:, :3])
    assert server.call("POST", INFER, b"not JSON")[0] == 400
    assert server.call("POST", INFER, bytes(2 << 20))[0] == 413
    assert server.call("GET", "/v2/models/none")[0] == 404
    assert server.call("GET", MODEL, Host="elsewhere.example")[0] == 403
    status, answer, _ = server.call("POST", "/v2/repository/models/small/load", b"")
    assert status == 501 and "deploy again" in answer["error"]


def both_replicas_answer(server, y):
    assert len(server.replicas()) == 2
    for _ in range(30):
        np.testing.assert_allclose(binary(server.port), y, rtol=0, atol=1e-6)
    assert server.workers() == {"0": 1, "1": 1}


def a_killed_replica_is_replaced(server, y):
    """What its clients wait for is lost with it; every answer that is given is whole, and soon two replicas answer."""
    before = server.replicas()
    with Asking(server) as asking:
        os.kill(min(before), signal.SIGKILL)
        server.wait_for(lambda: len(server.replicas() - before) == 1, 120)
        server.wait_for(lambda: server.workers() == {"0": 1, "1": 1}, 120)
    assert min(before) not in server.replicas() and len(server.replicas()) == 2
    assert all(status >= 500 for status, _ in asking.refused), asking.refused
    np.testing.assert_allclose(asking.rows, np.broadcast_to(y, (len(asking.rows), 5, 3)), rtol=0, atol=1e-6)


IN_THIS_RAY = """
import ray
from jaxprop import cli
start = ray.init
ray.init = lambda *_, **__: start("auto", log_to_driver=False, logging_level="ERROR")
cli.main()
"""


def a_model_that_cannot_be_loaded_is_said_in_one_line(server, folder):
    """`jaxprop ray` once more, in the Ray that runs instead of one of its own."""
    broken = shutil.copytree(folder, folder.parent.with_name("broken") / "small")
    (weights,) = broken.glob("*.safetensors")
    weights.write_bytes(weights.read_bytes()[:-4])
    ran = subprocess.run(
        [sys.executable, "-c", IN_THIS_RAY, "ray", broken, "--port", "0", "--replicas", "2"],
        env=os.environ | ray_environment(server.folder), capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    is_a_mistake(Ran(ran.returncode, ran.stdout, ran.stderr), 1, "do not hash")
    assert ran.stderr.startswith("jaxprop: model 'small', version 1: "), ran.stderr  # nothing of Ray's


def new_models_without_a_failed_request(server, y, folder):
    """`serve run`, Ray's own command, from another process: each answer is the old model's or the new one's."""
    later, before = save(folder, 1), server.replicas()
    assert np.abs(later - y).max() > 0.01
    with Asking(server) as asking:
        ran = subprocess.run(
            [Path(sys.executable).parent / "serve", "run", "--non-blocking", "--name", "jaxprop", "jaxprop_ray:build",
             f"paths={folder.parent}", "min_replicas=1", "max_replicas=2", "max_batch=8"],
            env=os.environ | ray_environment(server.folder) | {"RAY_ADDRESS": "auto"},
            cwd="/", capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout + ran.stderr
        server.wait_for(lambda: server.replicas() and not server.replicas() & before, 120)
    assert not asking.refused, asking.refused
    for rows in asking.rows:
        assert min(np.abs(rows - y).max(), np.abs(rows - later).max()) <= 1e-6
    np.testing.assert_allclose(binary(server.port), later, rtol=0, atol=1e-6)
    assert server.call("GET", f"{MODEL}/config")[1]["max_batch_size"] == 8
    assert 1 <= len(server.replicas()) <= 2


def is_stopped_without_cutting_off(server):
    """A request under way at SIGTERM is answered; then no process of this Ray is left."""
    found = []
    thread = threading.Thread(target=lambda: found.append(binary(server.port, LARGE, "large")))
    thread.start()
    time.sleep(0.1)
    assert not found, "the model is too small for this test: it has answered already"
    server.signal(signal.SIGTERM)
    assert server.ended(30) == 0, server.err
    thread.join(10)
    assert found and found[0].shape == (8192, 3)
    end = time.monotonic() + 20
    while server.processes() and time.monotonic() < end:
        time.sleep(0.1)
    assert not server.processes()
    assert not [line for line in server.err if "Traceback" in line], server.err


# Without Ray


def test_without_ray_it_says_what_to_install(monkeypatch, tmp_path):
    save(tmp_path / "small", 0)
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    is_a_mistake(run("ray", tmp_path / "small"), 1, "extra `ray`", 'pip install ".[ray]"')


def test_counts_of_replicas():
    assert scaling(64) == {"num_replicas": 1}
    assert scaling(8, min_replicas=3)["autoscaling_config"] | {"target_ongoing_requests": 8} == {
        "min_replicas": 3, "max_replicas": 3, "target_ongoing_requests": 8,
    }  # fmt: skip
    with pytest.raises(JaxpropError, match="one or the other"):
        scaling(64, replicas=2, max_replicas=4)
    with pytest.raises(JaxpropError, match="min_replicas 3 and max_replicas 2"):
        scaling(64, min_replicas=3, max_replicas=2)
    with pytest.raises(JaxpropError, match="replicas: found 'two'"):
        build({"replicas": "two"})
    with pytest.raises(JaxpropError, match="did you mean 'max_batch'"):
        build({"max_batches": "8"})


def test_what_is_meant_for_this_machine_answers_no_other():
    """Whatever address the proxies are bound to."""
    door = an_app()

    def asked_by(client):
        async def proxied(scope, receive, send):
            await here_only(door)(scope | {"client": client}, receive, send)

        return call(proxied, "GET", "/v2")

    assert asked_by(("127.0.0.1", 1)).status == asked_by(("::1", 1)).status == 200
    assert asked_by(("192.0.2.7", 1)).status == asked_by(None).status == 403
    assert "tokens" in asked_by(("192.0.2.7", 1)).error
