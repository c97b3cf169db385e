"""`jaxprop explore`: one plain sentence for what cannot be, Ctrl-C, and what the server never answers."""

import builtins
import http.client
import signal
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError
from jaxprop_explorer import watch
from jaxprop_explorer.application import LARGEST_BODY
from jaxprop_explorer.command import command
from jaxprop_explorer.listening import HOST, bound
from tests.cli import commands
from tests.drawing import draw
from tests.explorer.conftest import started


def test_what_cannot_be_opened_is_told_in_one_sentence(tmp_path):
    with pytest.raises(JaxpropError, match=r"nowhere: is not there; expected a folder that jaxprop\.save"):
        command(run=tmp_path / "nowhere", port=0, browser=False)
    with pytest.raises(JaxpropError, match=r"has no model\.json"):
        command(run=tmp_path, port=0, browser=False)
    with pytest.raises(JaxpropError, match=r"x\.csv: cannot be read"):
        command(data="x.csv", port=0, browser=False)
    with pytest.raises(JaxpropError, match=r"unknown ending of --html '\.txt'"):
        command(lesson=1, html=tmp_path / "x.txt")
    (tmp_path / "file").touch()
    with pytest.raises(JaxpropError, match=r"x\.html: cannot be written"):
        command(lesson=1, html=tmp_path / "file" / "x.html")
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            JaxpropError, match=f"cannot serve on {HOST}:{port}: Address already in use; choose another"
        ):
            command(port=port, browser=False)
        with bound(port, or_any=True) as other:
            assert other.getsockname()[1] != port


@pytest.mark.parametrize(
    "use",
    [lambda: command(port=0, browser=False), lambda: watch.start(watch.Watched(None, None, None, 1, 1, 1))],
    ids=["command", "fit"],
)
def test_a_missing_extra_is_named(monkeypatch, use):
    for name in [name for name in sys.modules if name.startswith(("jaxprop_explorer.listening", "uvicorn"))]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name, *rest):
        if name == "uvicorn":
            raise ModuleNotFoundError("No module named 'uvicorn'", name="uvicorn")
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        JaxpropError, match=r'needs the extra `explore` \(uvicorn is missing\): pip install "\.\[explore\]"'
    ):
        use()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A saved convolution."""
    net, x = jp.Chain(jp.Conv(2, (3, 3)), jp.ReLU(), jp.Flatten(), jp.Linear(2)), np.ones((1, 5, 5, 1), np.float32)
    with jax.enable_x64(False):
        return jp.save(tmp_path_factory.mktemp("run"), net, draw(net, x), inputs=x, cost=jp.SoftmaxCrossEntropy())


@pytest.mark.slow
def test_a_saved_model_is_opened_and_ctrl_c_ends_it_though_a_page_is_open(saved: Path):
    running, process = started(str(saved))
    try:
        _, opened = running.post("api/sessions")
        assert opened["frame"]["opened"] == {"name": str(saved), "chain": False, "fixed": ""}
        status, table = running.post(f"api/sessions/{opened['session']}/model/table")
        assert status == 200 and [row["kind"] for row in table["layers"]] == ["Conv", "ReLU", "Flatten", "Linear"]
        connection = http.client.HTTPConnection(HOST, urlsplit(running.address).port, timeout=30)
        connection.request("GET", f"/api/sessions/{opened['session']}/events")
        events = connection.getresponse()
        assert events.readline() == b": welcome\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        connection.close()
    finally:
        if process.poll() is None:
            process.kill()
        process.stdout.close()


def raw(server, method, path, body=b"", **headers):
    """One request as it is written, no path made plain on the way."""
    where = urlsplit(server.address)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_nothing_but_the_pages_files_is_sent(server):
    for path in ("/../command.py", "/%2e%2e/command.py", "/..%2fcommand.py", "/panels/../../mount.py", "//etc/passwd"):
        status, _, text = raw(server, "GET", path)
        assert status == 404 and b"import" not in text


def test_no_other_page_may_read_or_ask(server):
    status, headers, _ = raw(server, "OPTIONS", "/api/sessions", origin="http://evil.example",
                             access_control_request_method="POST")  # fmt: skip
    assert status == 403 and not any(name.lower().startswith("access-control") for name in headers)
    assert raw(server, "GET", "/", host="evil.example")[0] == 403
    assert raw(server, "GET", "/", host="localhost")[0] == 200
    assert raw(server, "POST", "/api/sessions", b"{}", origin=server.address.rstrip("/"))[0] == 200


def test_what_is_too_large_or_no_json_is_refused(server):
    status, _, text = raw(server, "POST", "/api/sessions", b" " * (LARGEST_BODY + 1))
    assert status == 400 and b"larger than 8 MB" in text
    for body in (b"[1]", b"{", b"\xff\xfe", b'{"settings": [1]}'):
        status, _, text = raw(server, "POST", "/api/sessions", body)
        assert status == 400 and b"error" in text, (body, text)


def test_sessions_have_names_that_nobody_guesses(server):
    names = {server.post("api/sessions")[1]["session"] for _ in range(3)}
    assert len(names) == 3 and all(len(name) >= 22 for name in names)
    assert server.post("api/sessions/guess/model/about")[1] == {
        "error": "this page's session has ended; load the page again"
    }


def test_only_this_machine_can_reach_it():
    refused = commands.run("explore", "--host", "0.0.0.0")
    assert refused.code == 2 and "--host" in refused.err
