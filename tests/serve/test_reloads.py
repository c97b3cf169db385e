"""Checklist 14, 15 and 16: a real server whose models are replaced, broken, taken away and brought back under load."""

import json
import os
import random
import shutil
import socket
import threading
import time

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.drawing import draw
from tests.serve.load import Load, post, rows_request
from tests.serve.oracle import NET, X, is_answer, publish
from tests.serve.process import Process

pytestmark = pytest.mark.slow
INFER, LOAD, UNLOAD = "/v2/models/m/infer", "/v2/repository/models/m/load", "/v2/repository/models/m/unload"
FEW = ("--set", "max_batch=2")


def payloads(connections):
    """Connection i asks for row i."""
    return [post(INFER, rows_request(X[i : i + 1])) for i in range(connections)]


def test_seven_new_versions_under_64_connections(tmp_path):
    """Every answer is 200, names its version, and is what that version says of this row."""
    y = {str(number): publish(tmp_path / f"new/{number}", number) for number in range(1, 9)}
    (tmp_path / "models/m").mkdir(parents=True)
    os.rename(tmp_path / "new/1", tmp_path / "models/m/1")
    seen = set()

    def check(i, status, head, body):
        assert status == 200, body
        version = json.loads(body)["model_version"]
        is_answer(body, y[version][i : i + 1])
        seen.add(version)

    with Process(tmp_path / "models", *FEW) as server, Load(server.port, payloads(64), check) as load:
        for number in range(2, 9):
            os.rename(tmp_path / f"new/{number}", tmp_path / f"models/m/{number}")
            shutil.rmtree(tmp_path / f"models/m/{number - 1}")
            before = load.answered
            assert server.call("POST", LOAD)[0] == 200
            status, answer, _ = server.call("POST", INFER, rows_request(X[:1]))
            assert (status, answer["model_version"]) == (200, str(number)), "who asks after the load meets the new one"
            server.wait_for(lambda before=before: load.answered > before + 64 or load.failed, 60)
        index = server.call("POST", "/v2/repository/index")[1]
    assert load.failed == [] and load.statuses.keys() == {200} and load.answered == load.sent
    assert seen == y.keys()
    assert {entry["version"]: entry["state"] for entry in index} == {"8": "READY"}, "the rest is gone and forgotten"


def test_releases_by_a_link_under_16_connections(tmp_path):
    """Nobody is refused, each answer is of one release, and whoever asks after the load meets the new one."""
    y = [publish(tmp_path / f"release-{number}", number) for number in range(3)]
    link = tmp_path / "m"
    link.symlink_to("release-0")

    def check(i, status, head, body):
        assert status == 200, body
        assert any(np.allclose(json.loads(body)["outputs"][0]["data"], one[i], rtol=0, atol=1e-6) for one in y)

    with Process(link, *FEW) as server, Load(server.port, payloads(16), check) as load:
        for number in (1, 2, 0):
            (tmp_path / "next").symlink_to(f"release-{number}")
            os.replace(tmp_path / "next", link)
            before = load.answered
            assert server.call("POST", LOAD)[0] == 200
            is_answer(server.call("POST", INFER, rows_request(X[:1]))[1], y[number][:1])
            server.wait_for(lambda before=before: load.answered > before + 16 or load.failed)
        assert server.call("POST", LOAD)[0] == 200
        server.wait_for(lambda: (len(server.events("loaded")), len(server.events("unchanged"))) == (4, 1))
    assert load.failed == [] and load.statuses.keys() == {200} and load.answered == load.sent


def test_the_last_of_ten_concurrent_loads_and_unloads_is_what_counts(tmp_path):
    """Ten clients load and unload without end while others ask: nothing breaks, and the last operation is in force."""
    y = publish(tmp_path / "m")
    rng, stop, said = random.Random(0), threading.Event(), []

    def check(i, status, head, body):
        if status == 200:
            is_answer(body, y[i : i + 1])
        else:
            assert status == 503 and b"not ready" in body, (status, body)

    def operate(server):
        while not stop.is_set():
            said.append(server.call("POST", rng.choice((LOAD, UNLOAD)))[:2])

    with Process(tmp_path, *FEW, "--log-level", "debug") as server:
        with Load(server.port, payloads(8), check) as load:
            threads = [threading.Thread(target=operate, args=(server,)) for _ in range(10)]
            for thread in threads:
                thread.start()
            server.wait_for(lambda: len(said) > 20, 60)
            stop.set()
            for thread in threads:
                thread.join(60)
        assert load.failed == [] and load.statuses[200] and load.statuses[503]
        assert all(one == (200, {}) for one in said), said[:3]

        def operations():  # in the order in which the server ended them
            return [event["path"] for event in server.events("request") if event["path"] in (LOAD, UNLOAD)]

        server.wait_for(lambda: len(operations()) == len(said))
        last = operations()[-1]
        status = server.call("POST", INFER, rows_request(X))[0]
        (entry,) = server.call("POST", "/v2/repository/index")[1]
        assert (status, entry["state"]) == ((200, "READY") if last == LOAD else (503, "UNLOADED"))
        for _ in range(3):  # an unload while a load runs that came before it
            with socket.create_connection(("127.0.0.1", server.port), timeout=30) as loading:
                loading.sendall(post(LOAD, b""))
                time.sleep(0.02)
                assert server.call("POST", UNLOAD)[0] == 200
                assert loading.recv(65536).startswith(b"HTTP/1.1 200")
            assert server.call("POST", INFER, rows_request(X))[0] == 503
        assert server.call("POST", LOAD)[0] == 200
        is_answer(server.call("POST", INFER, rows_request(X))[1], y)
        assert server.events("unforeseen") == []


def truncated(folder):
    weights = next(folder.glob("params-*"))
    weights.write_bytes(weights.read_bytes()[:-1])
    return "truncated or was altered"


def flipped(folder):
    weights = next(folder.glob("params-*"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    return "do not hash to the sha256"


def missing(folder):
    next(folder.glob("params-*")).unlink()
    return "is missing"


def other_hash(folder):
    about = json.loads((folder / "model.json").read_text())
    about["weights"]["sha256"] = "0" * 64
    (folder / "model.json").write_text(json.dumps(about))
    return "do not hash to the sha256"


def half_a_description(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text[: len(text) // 2])
    return "model.json"


def not_a_number(folder):
    with jax.enable_x64(False):
        params = draw(NET, X)
        broken = jax.tree.map(lambda array: array.at[(0,) * array.ndim].set(np.nan), params)
        jp.save(folder, NET, broken, inputs=X)
    return "found NaN or infinity"


def wrong_shape(folder):
    """The whole, hashed weights of another network."""
    about, other = json.loads((folder / "model.json").read_text()), jp.Chain(jp.Linear(5), jp.Sigmoid(), jp.Linear(3))
    with jax.enable_x64(False):
        jp.save(folder, other, draw(other, X), inputs=X)
    about["weights"] = json.loads((folder / "model.json").read_text())["weights"]
    (folder / "model.json").write_text(json.dumps(about))
    return "0.W: found float32[4, 5], expected float32[4, 8]"


def test_a_broken_reload_changes_nothing_and_the_index_says_why(tmp_path):
    folder = tmp_path / "m"
    y = publish(folder)

    def check(i, status, head, body):
        assert status == 200, body
        is_answer(body, y[i : i + 1])

    with Process(folder, *FEW) as server, Load(server.port, payloads(8), check) as load:
        for damage in (truncated, flipped, missing, other_hash, half_a_description, not_a_number, wrong_shape):
            reason = damage(folder)
            before = load.answered
            status, answer, _ = server.call("POST", LOAD)
            assert status == 400 and reason in answer["error"], (damage, answer)
            (entry,) = server.call("POST", "/v2/repository/index")[1]
            assert entry["state"] == "READY" and reason in entry["reason"], (damage, entry)
            assert server.call("GET", "/v2/health/ready")[0] == 200
            server.wait_for(lambda before=before: load.answered > before + 16 or load.failed)
            shutil.rmtree(folder)
            publish(folder)
        assert server.call("POST", LOAD)[0] == 200
        assert server.call("POST", "/v2/repository/index")[1][0]["reason"] == ""
    assert load.failed == [] and load.answered == load.sent
