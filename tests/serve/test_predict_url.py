"""`jaxprop predict --url`: the same rows and the same words as without it, and clear words if nobody answers."""

import contextlib
import json
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.cli.commands import did, is_a_mistake, run, strict
from tests.serve.doors import FakeModel, an_app, settings
from tests.serve.running import running

MOONS = ("moons", "--layers", "2,4,2", "--epochs", 2, "--quiet", "--out")


class Saved(FakeModel):
    """A saved model as a server has it, computed by the library."""

    def __init__(self, path, name):
        super().__init__(name, row=(2,))
        self.net, self.params = jp.load(path)
        about = jp.describe(path)
        self.loaded.classes, self.loaded.cost = about.info.classes, about.cost
        self.signature = type(self.signature)(
            self.signature.inputs, (self.signature.outputs[0].__class__("y", "FP32", (-1, 2)),), "jaxprop_saved"
        )

    async def infer(self, inputs, deadline=None, client=None):
        with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
            return {"y": np.asarray(self.net(inputs["x"], self.params))}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "moons"
    did("train", *MOONS, path)
    return path


@pytest.fixture(scope="module")
def server(folder):
    with jax.enable_x64(False):
        app = an_app(Saved(folder, "moons"), token="a-token")
    with running(app, settings()) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(autouse=True)
def token(monkeypatch):
    monkeypatch.setenv("JAXPROP_TOKEN", "a-token")


NUMBER = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?")


def assert_agree(here, there):
    """The same words, and the same numbers but for rounding: the server's programs are not the command's."""
    here, there = (one if isinstance(one, str) else json.dumps(one) for one in (here, there))
    assert NUMBER.sub("#", here).split() == NUMBER.sub("#", there).split()
    numbers = [np.array(NUMBER.findall(one), float) for one in (here, there)]
    np.testing.assert_allclose(*numbers, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("more", [(), ("--rows", "3"), ("--part", "training", "--rows", "0:4"), ("--json",)])
def test_it_says_what_the_local_model_says(folder, server, more):
    here, there = did("predict", folder, *more).out, did("predict", folder, "--url", server, *more).out
    if "--json" in more:
        here, there = strict(here), strict(there)
        assert (here.pop("model"), there.pop("model")) == (str(folder), "moons")
        assert here["predictions"][0].keys() == {"row", "prediction", "probability", "target", "right"}
    else:
        here, there = here.replace(str(folder), "moons"), there
    assert_agree(here, there)


def test_the_name_is_asked_for_or_the_only_one(folder, server, tmp_path):
    (tmp_path / "copy").mkdir()
    for file in folder.iterdir():
        (tmp_path / "copy" / file.name).write_bytes(file.read_bytes())
    rows = strict(did("predict", folder, "--json").out)["predictions"]
    assert_agree(strict(did("predict", tmp_path / "copy", "--url", server + "/", "--json").out)["predictions"], rows)
    is_a_mistake(run("predict", folder, "--url", server, "--model", "none"), 1, "404", "none")
    is_a_mistake(run("predict", folder, "--model", "moons"), 1, "--url")


def test_without_the_folder_the_data_is_named(server, folder):
    found = strict(did("predict", "moons", "--data", "moons", "--url", server, "--json").out)
    rows = strict(did("predict", folder, "--data", "moons", "--json").out)["predictions"]
    assert_agree(found["predictions"], rows)
    is_a_mistake(run("predict", "nowhere", "--url", server), 1, "nowhere")


def test_several_models_and_none_of_that_name(folder, tmp_path, monkeypatch):
    monkeypatch.delenv("JAXPROP_TOKEN")
    with running(an_app(FakeModel("a"), FakeModel("b")), settings()) as port:
        ran = run("predict", folder, "--url", f"http://127.0.0.1:{port}")
        is_a_mistake(ran, 1, "no model 'moons'", "it serves a, b", "--model")
        ran = run("predict", folder, "--url", f"http://127.0.0.1:{port}", "--model", "a")
        is_a_mistake(ran, 1, "400", "has 2 elements, expected 4")


def test_a_refusal_is_in_the_server_s_words(folder, server, monkeypatch):
    monkeypatch.setenv("JAXPROP_TOKEN", "wrong")
    ran = run("predict", folder, "--url", server)
    is_a_mistake(ran, 1, "401", "a valid token is needed")
    assert "wrong" not in ran.err


def test_what_speaks_no_http(folder):
    """The gRPC port, say."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()

        def babble():
            one, _ = listening.accept()
            one.recv(1 << 16)
            one.sendall(b"\x00\x00\x12\x04\n")
            one.close()

        threading.Thread(target=babble, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        is_a_mistake(run("predict", folder, "--url", url), 1, "does not speak HTTP")


def test_nobody_answers(folder):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        is_a_mistake(
            run("predict", folder, "--url", url), 1, "nobody answers", url, "Connection refused", "jaxprop serve"
        )
    is_a_mistake(run("predict", folder, "--url", "http://no.such.name.invalid"), 1, "nobody answers")
    for wrong in ("127.0.0.1:8000", "ftp://x", "http://"):
        is_a_mistake(run("predict", folder, "--url", wrong), 1, "--url", "http://127.0.0.1:8000")


@pytest.mark.parametrize(
    "body, says", [(b"<html>", "not answer in JSON"), (b'{"a": 1}', "list of models"), (b"[]", "no model is ready")]
)
def test_another_server_answers(folder, body, says):
    class Other(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with contextlib.closing(HTTPServer(("127.0.0.1", 0), Other)) as other:
        other.close = other.server_close
        thread = threading.Thread(target=other.serve_forever, daemon=True)
        thread.start()
        try:
            is_a_mistake(run("predict", folder, "--url", f"http://127.0.0.1:{other.server_port}"), 1, says)
        finally:
            other.shutdown()
            thread.join()
