"""`jaxprop serve` as it is run: a process that starts, answers, counts, drains, dies and comes back."""

import contextlib
import http.client
import json
import os
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tritonclient import grpc as triton, utils

import jaxprop as jp
from tests.cli.commands import is_a_mistake, run
from tests.serve import certificates
from tests.serve.load import Load, post
from tests.serve.process import JAXPROP, Process, ask, hearing_signals
from tests.waiting import until

X = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
READY, INFER = "/v2/health/ready", "/v2/models/small/infer"


def request(x=X):
    return {"inputs": [{"name": "x", "shape": list(x.shape), "datatype": "FP32", "data": x.ravel().tolist()}]}


@pytest.fixture(scope="module")
def y(folder):
    """What the model says of X."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        net, params = jp.load(folder)
        return np.asarray(jax.jit(net)(X, params))


def metrics(server):
    """{(name, labels without the worker's): value}."""
    text = server.call("GET", "/metrics")[1]
    return {
        (sample.name, tuple(sorted((k, v) for k, v in sample.labels.items() if k != "worker"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples, name, **labels):
    return sum(v for (n, at), v in samples.items() if n == name and labels.items() <= dict(at).items())


def test_both_doors_answer_as_the_library_does(server, y):
    assert server.call("GET", READY)[:2] == (200, {"ready": True})
    status, metadata, _ = server.call("GET", "/v2/models/small")
    assert status == 200 and metadata["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]
    status, answer, _ = server.call("POST", INFER, request())
    assert status == 200
    np.testing.assert_allclose(np.reshape(answer["outputs"][0]["data"], (5, 3)), y, rtol=0, atol=1e-6)
    status, answer, _ = server.call("POST", "/predict/small", {"rows": X.tolist()})
    np.testing.assert_allclose(answer["rows"], y, rtol=0, atol=1e-6)
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        assert client.is_server_ready()
        tensor = triton.InferInput("x", [5, 4], "FP32")
        tensor.set_data_from_numpy(X)
        np.testing.assert_allclose(client.infer("small", [tensor]).as_numpy("y"), y, rtol=0, atol=1e-6)


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not on this machine")


@needs("curl")
def test_what_it_prints_can_be_pasted(server):
    shown = "".join(server.out)
    assert f"http://127.0.0.1:{server.port}/v2/models/small/infer" in shown and "x FP32 [-1,4]" in shown
    command = next(line.partition("try: ")[2] for line in server.out if "try: " in line)
    assert command.startswith("curl ")
    ran = subprocess.run(command.replace("curl", "curl -sS", 1), shell=True, capture_output=True, text=True, timeout=20)
    assert ran.returncode == 0 and '"rows"' in ran.stdout, ran


def test_a_taken_port_is_said_in_one_line(server, folder):
    is_a_mistake(run("serve", folder, "--port", server.port), 1, str(server.port), "--port")
    is_a_mistake(run("serve", folder, "--port", 0, "--grpc-port", server.grpc_port), 1, str(server.grpc_port), "gRPC")


def test_metrics_add_up(server):
    """Item 28: what was sent is what was counted, by both doors, and rows, batches and times agree with each other."""
    before, stats_before = metrics(server), _stats(server)
    for rows in (1, 2, 5, 5):
        assert server.call("POST", INFER, request(X[:rows]))[0] == 200
    assert server.call("POST", INFER, request(X[:, :3]))[0] == 400
    assert server.call("POST", INFER, b"not JSON")[0] == 400
    assert server.call("POST", INFER, bytes(17 << 20))[0] == 413
    assert server.call("POST", "/v2/models/none/infer", request())[0] == 404
    with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
        tensor = triton.InferInput("x", [3, 4], "FP32")
        tensor.set_data_from_numpy(X[:3])
        client.infer("small", [tensor])
        with pytest.raises(utils.InferenceServerException):
            client.infer("small", [])
    after, stats = metrics(server), _stats(server)

    def more(name, **labels):
        return total(after, name, **labels) - total(before, name, **labels)

    http_small = {"protocol": "http", "model": "small"}
    assert more("jaxprop_requests_total", **http_small, code="200") == 4
    assert more("jaxprop_requests_total", **http_small, code="400") == 2
    assert (
        more("jaxprop_requests_total", **http_small, code="413") == 1 == more("jaxprop_rejected_total", reason="body")
    )
    assert more("jaxprop_requests_total", protocol="http", model="", code="404") == 1
    assert more("jaxprop_requests_total", protocol="grpc", code="OK") == 1
    assert more("jaxprop_requests_total", protocol="grpc", code="INVALID_ARGUMENT") == 1
    for samples in (before, after):
        assert total(samples, "jaxprop_requests_total") == total(samples, "jaxprop_request_seconds_count")

    rows, executions = 1 + 2 + 5 + 5 + 3, 5
    assert more("jaxprop_batch_rows_sum") == rows == stats["inference_count"] - stats_before["inference_count"]
    assert more("jaxprop_batch_rows_count") == executions == stats["execution_count"] - stats_before["execution_count"]
    assert more("jaxprop_padded_rows_total") == 3 + 3 + 1, "5 rows run in a bucket of 8, 3 in one of 4"
    assert more("jaxprop_queue_seconds_count") == 5 and more("jaxprop_compute_seconds_count") == executions
    spent = more("jaxprop_queue_seconds_sum") + more("jaxprop_compute_seconds_sum")
    assert 0 < spent <= more("jaxprop_request_seconds_sum", model="small")
    assert total(after, "jaxprop_queue_rows") == 0
    assert more("jaxprop_compile_total") == 0 and total(after, "jaxprop_compile_total") > 0
    states = {dict(labels)["state"]: value for (name, labels), value in after.items() if name == "jaxprop_model_state"}
    assert states["READY"] == 1 and sum(states.values()) == 1


def _stats(server):
    return server.call("GET", "/v2/models/small/stats")[1]["model_stats"][0]


def load(server, y, connections):
    """Clients who ask for all of X, each answer compared with y."""

    def check(i, status, head, body):
        assert status == 200, body
        np.testing.assert_allclose(np.reshape(json.loads(body)["outputs"][0]["data"], y.shape), y, rtol=0, atol=1e-6)

    return Load(server.port, [post(INFER, request())] * connections, check)


@pytest.mark.slow
def test_kill_under_load_a_restart_and_ctrl_c(folder, y):
    """Item 18: back in seconds after kill -9, on the same ports; and gone as soon by Ctrl-C."""
    with Process(folder, "--set", "max_batch=8") as first, load(first, y, 4) as lost:
        first.wait_for(lambda: lost.answered > 50)
        first.signal(signal.SIGKILL)
        assert first.ended() == -signal.SIGKILL
    assert all("no answer" in why for *_, why in lost.failed), "what was answered was right"
    with Process(folder, ports=(first.port, first.grpc_port)) as server:
        assert server.seconds < 5 * (4 / min(4, os.cpu_count() or 1)) + 5, "start-up with every bucket compiled"
        assert server.port == first.port
        assert server.call("POST", INFER, request())[0] == 200
        server.signal(signal.SIGINT)
        began = time.monotonic()
        assert server.ended() == 130 and time.monotonic() - began < 3
        assert "Traceback" not in "".join(server.err)


@pytest.mark.slow
def test_sigterm_under_load(folder, y):
    """Item 19: on SIGTERM not ready, nothing lost, gone in time, code 0; a SIGHUP before or meanwhile costs nothing."""
    with Process(folder, "--set", "max_batch=8") as server:
        idle = socket.create_connection(("127.0.0.1", server.port))
        kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        assert "connection" not in ask(kept, "POST", INFER, request())[2]
        with load(server, y, 16) as clients:
            server.signal(signal.SIGHUP)
            server.wait_for(lambda: clients.answered > 200 and server.events("reloaded"))
            server.signal(signal.SIGTERM)
            began = time.monotonic()
            server.wait_for(lambda: server.events("draining"))
            server.signal(signal.SIGHUP)
            status, answer, headers = server.call("GET", READY)
            assert (status, answer, headers["connection"]) == (503, {"ready": False}, "close")
            status, _, headers = ask(kept, "POST", INFER, request())
            assert (status, headers["connection"]) == (200, "close"), "a connection that did nothing at that moment"
            kept.close()
            assert server.ended() == 0 and time.monotonic() - began < 10
        assert clients.failed == [] and clients.closed == 16, (clients.failed[:3], clients.closed)
        assert clients.sent == clients.answered == clients.statuses.total()
        assert idle.recv(1) == b"", "an idle connection is closed"
        idle.close()
        assert [event["event"] for event in server.events("stopped")] == ["stopped"]
        assert "Traceback" not in "".join(server.err)


@pytest.mark.slow
@needs("openssl")
def test_tls_with_the_certificate_passed_through(folder, tmp_path, monkeypatch):
    cert, key = certificates.make(tmp_path)
    admin = tmp_path / "admin"
    admin.write_text("an-admin-token-in-a-file\n")
    flags = ("--tls-cert", cert, "--tls-key", key, "--set", "max_batch=1", "--set", f"admin_token_file={admin}")
    with Process(folder, *flags, JAXPROP_TOKEN="a-token") as server, contextlib.ExitStack() as opened:

        def connect():
            trusting = ssl.create_default_context(cafile=str(cert))
            return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=10, context=trusting)

        connection = opened.enter_context(contextlib.closing(connect()))
        assert ask(connection, "POST", INFER, request())[0] == 401
        assert ask(connection, "POST", INFER, request(), authorization="Bearer a-token")[0] == 200
        with pytest.raises((OSError, http.client.HTTPException)):
            server.call("GET", READY)
        where = f"localhost:{server.grpc_port}"
        with triton.InferenceServerClient(where, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_ready()
            assert client.get_server_metadata(headers={"authorization": "Bearer a-token"}).name == "jaxprop"
        command = next(line.partition("try: ")[2] for line in server.out if "try: " in line)
        monkeypatch.setenv("JAXPROP_TOKEN", "a-token")
        ran = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=20)
        assert ran.returncode == 0 and '"rows"' in ran.stdout, (command, ran)

        load, old, new = "/v2/repository/models/small/load", "an-admin-token-in-a-file", "a-new-admin-token-in-it"
        stranger = opened.enter_context(contextlib.closing(connect()))
        certificates.make(tmp_path)
        admin.write_text(new)
        server.wait_for(lambda: all(server.events(f"the {what} renewed") for what in ("certificate is", "tokens are")))
        with pytest.raises(ssl.SSLCertVerificationError):
            stranger.connect()  # it trusts the old one
        statuses = [ask(connection, "POST", load, b"", authorization=f"Bearer {token}")[0] for token in (old, new)]
        assert statuses == [401, 200], "the old connection goes on, the old token does not"
        with contextlib.closing(connect()) as connection:
            assert ask(connection, "GET", READY)[0] == 200
        with triton.InferenceServerClient(where, ssl=True, root_certificates=str(cert)) as client:
            assert client.is_server_ready()
        assert "-token" not in "".join(server.out + server.err)


@pytest.mark.slow
@needs("curl")
def test_a_server_ends_with_its_terminal_and_not_by_another_hangup(folder, tmp_path):
    """It listens on a Unix socket, and tells a service manager; SIGHUP reloads until the terminal is closed."""
    path, manager = tmp_path / "s.sock", socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(str(tmp_path / "notify"))
    manager.settimeout(30)
    flags = ("--set", f"unix_socket={path}", "--grpc-port", "off", "--set", "max_batch=1")
    terminal, theirs = os.openpty()
    command = shlex.join([*JAXPROP, "serve", str(folder), *flags])
    name = os.ttyname(theirs)  # the first that a session opens is its terminal
    with hearing_signals():
        server = subprocess.Popen(
            ["sh", "-c", f"exec <{name} >{name} 2>{tmp_path}/log; exec {command}"],
            start_new_session=True,
            env=os.environ | {"NOTIFY_SOCKET": str(tmp_path / "notify"), "JAX_PLATFORMS": "cpu"},
        )
    os.close(theirs)
    try:
        assert manager.recv(100) == b"READY=1"
        shown = os.read(terminal, 4096).decode()
        command = next(line.partition("try: ")[2] for line in shown.splitlines() if "try: " in line)
        ran = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=20)
        assert ran.returncode == 0 and '"rows"' in ran.stdout and str(path) in command, (command, ran)
        server.send_signal(signal.SIGHUP)
        assert manager.recv(100).startswith(b"RELOADING=1\n") and manager.recv(100) == b"READY=1"
        os.close(terminal)
        assert manager.recv(100) == b"STOPPING=1"
        assert server.wait(10) == 0 and not path.exists()
        assert f'"event":"ready","unix_socket":"{path}"' in (tmp_path / "log").read_text()
    finally:
        manager.close()
        server.kill()
        server.wait()


def alive(pid):
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return not Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return False


@pytest.mark.slow
def test_several_workers_one_of_which_dies(folder):
    """Each worker answers for itself; a dead one is replaced; none outlives a parent that is killed."""
    with Process(folder, "--workers", 2, "--set", "max_batch=4") as server:
        pids = server.workers(2)
        assert pids.keys() == {0, 1}

        def workers():
            text = "".join(server.call("GET", "/metrics")[1] for _ in range(20))
            return {n for n in (0, 1) if f'worker="{n}"' in text}

        assert workers() == {0, 1}
        os.kill(pids[0], signal.SIGKILL)
        server.wait_for(lambda: len(server.events("ready")) == 3, 30)
        replaced = server.events("a worker died and is replaced")
        assert [event["worker"] for event in replaced] == [0] and server.events("ready")[-1]["pid"] != pids[0]
        for _ in range(5):
            assert server.call("POST", INFER, request())[0] == 200
        assert workers() == {0, 1}
        running = pids[1], server.events("ready")[-1]["pid"]
        assert all(map(alive, running))
        server.signal(signal.SIGKILL)
        server.process.wait(10)
        until(lambda: not any(map(alive, running)), 10)


@pytest.mark.slow
def test_load_unload_and_sigterm_reach_every_worker_and_those_that_come(folder, tmp_path):
    for name in ("kept", "left"):
        shutil.copytree(folder, tmp_path / name / "1")
    with Process(tmp_path, "--workers", 2, "--set", "max_batch=1") as server:

        def everywhere(path):
            """What the workers answer, asked often enough to meet both."""
            found = [server.call("GET", path) for _ in range(16)]
            return [list(one) for one in {(status, answer.get("error", str(answer))) for status, answer, _ in found}]

        def do(what, name):
            return server.call("POST", f"/v2/repository/models/{name}/{what}")[:2]

        shutil.copytree(folder, tmp_path / "kept" / "2")
        assert do("load", "kept") == (200, {})
        ((status, answer),) = everywhere("/v2/models/kept")
        assert status == 200 and "['1', '2']" in answer
        assert do("load", "none") == (404, {"error": "unknown model 'none': the store has no such model"})
        assert do("unload", "left") == (200, {})
        with triton.InferenceServerClient(f"127.0.0.1:{server.grpc_port}") as client:
            client.load_model("left")
            assert [status for status, _ in everywhere("/v2/models/left")] == [200]
            client.unload_model("left")
        unloaded = [503, "model 'left', version 1, is not ready: UNLOADED"]
        assert everywhere("/v2/models/left") == [unloaded]

        (tmp_path / "left" / "1" / "model.json").write_text("what nobody loads may be broken")
        shutil.copytree(folder, tmp_path / "kept" / "3")  # published, and not loaded yet
        os.kill(server.workers(2)[0], signal.SIGKILL)
        server.wait_for(lambda: server.events("a worker died and is replaced"))

        def all_ready():
            assert server.call("GET", READY)[0] == 200, "the new one is not met before it can answer"
            return len(server.events("ready")) == 3

        server.wait_for(all_ready, 60)
        ((status, answer),) = everywhere("/v2/models/kept")
        assert status == 200 and "['1', '2']" in answer
        assert everywhere("/v2/models/left") == [unloaded]
        server.signal(signal.SIGHUP)
        server.wait_for(lambda: len(server.events("reloaded")) == 2)
        ((status, answer),) = everywhere("/v2/models/kept")
        assert status == 200 and "['1', '2', '3']" in answer
        assert everywhere("/v2/models/left") == [unloaded]
        pids = [event["pid"] for event in server.events("ready")]
        server.signal(signal.SIGTERM)
        assert server.ended(15) == 0
        assert len(server.events("stopped")) == 2 and not any(map(alive, pids))
