"""Requests as they come without a client library, on uvicorn and on granian: the bytes on the wire decide, no more."""

import json
import socket
import time

import numpy as np
import pytest

from tests.serve.doors import W, an_app, settings
from tests.serve.running import running, running_granian
from tests.serve.wire import zipped

X = np.arange(8, dtype=np.float32).reshape(2, 4)
INFER = "/v2/models/digits/infer"
JSON = json.dumps({"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": X.ravel().tolist()}]}).encode()
GIVEN = {"name": "x", "shape": [2, 4], "datatype": "FP32", "parameters": {"binary_data_size": 32}}
HEAD = json.dumps({"inputs": [GIVEN], "outputs": [{"name": "y"}]}).encode()
BINARY = HEAD + X.tobytes()
LIMIT = 1 << 16


@pytest.fixture(scope="module", params=["uvicorn", "granian"])
def port(request):
    limits = dict(max_body_bytes=LIMIT, body_timeout_s=1.0)
    app = an_app(**limits)
    with running_granian(app) if request.param == "granian" else running(app, settings(**limits)) as port:
        yield port


def ask(port, path, body=b"", *headers, method="POST", length=True, version="1.1"):
    """(status, JSON) of a request with these headers and no others than Host and Content-Length."""
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *headers]
    lines += [f"Content-Length: {len(body)}"] if length else []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall("\r\n".join([*lines, "", ""]).encode() + body)
        answer = b""
        while True:
            part = client.recv(65536)
            answer += part
            head, found, rest = answer.partition(b"\r\n\r\n")
            if not part or (found and b"content-length: %d\r\n" % len(rest) in head.lower() + b"\r\n"):
                return int(head.split()[1]), json.loads(rest)


def chunked(body):
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    "body, headers, how",
    [
        (JSON, [], {}),
        (JSON, ["Content-Type: application/x-www-form-urlencoded", "Accept: */*", "User-Agent: curl/8"], {}),  # curl -d
        (JSON, ["Content-Type: text/html; charset=ebcdic", "Accept: image/png"], {}),
        (JSON, ["content-type: application/json", "Accept-Encoding: gzip, br"], {}),
        (chunked(JSON), ["Transfer-Encoding: chunked"], {"length": False}),
        (JSON, ["Connection: close"], {}),
        (JSON, [], {"version": "1.0"}),
        (zipped(JSON), ["Content-Encoding: gzip"], {}),
        (BINARY, [f"Inference-Header-Content-Length: {len(HEAD)}"], {}),
        (BINARY, [f"inference-header-content-length: {len(HEAD)}", "Content-Type: application/json"], {}),
    ],
    ids=["bare", "curl", "nonsense", "json", "chunked", "close", "1.0", "gzip", "binary", "binary called JSON"],
)  # fmt: skip
def test_the_same_answer_whatever_surrounds_the_body(port, body, headers, how):
    status, found = ask(port, INFER, body, *headers, **how)
    assert status == 200, found
    np.testing.assert_array_equal(np.float32(found["outputs"][0]["data"]).reshape(2, 3), X @ W)


def test_people_s_own_requests(port):
    status, found = ask(port, "/predict/digits", json.dumps({"rows": X.tolist()}).encode())
    assert status == 200 and np.array_equal(np.float32(found["rows"]), X @ W)
    assert ask(port, "/v2/repository/index", b"")[0] == 200  # as tritonclient sends it
    assert ask(port, "/v2", method="GET", length=False)[1]["name"] == "jaxprop"


@pytest.mark.parametrize(
    "name", ["..%2f..%2fetc%2fpasswd", "%2e%2e", "..", "a%00b", "%C3%A9", "x" * 5000, "a%5cb", "a%2Fb"]
)
def test_no_name_in_a_path_is_a_path(port, name):
    """Item 22, also where a server decodes the path before we see it."""
    for path in ("/v2/models/{}/infer", "/predict/{}", "/v2/models/digits/versions/{}/infer"):
        status, found = ask(port, path.format(name), JSON)
        assert status in (400, 404) and set(found) == {"error"}


@pytest.mark.parametrize(
    "path, body, headers, status",
    [
        (INFER, b"{", [], 400), ("/nothing", JSON, [], 404), ("/v2", JSON, [], 405),
        (INFER, JSON, ["Origin: http://evil.example"], 403), (INFER, JSON, ["Content-Encoding: br"], 415),
        (INFER, b" " * (LIMIT + 1), [], 413), (INFER, zipped(bytes(2 * LIMIT)), ["Content-Encoding: gzip"], 413),
        (INFER, BINARY, ["Inference-Header-Content-Length: -1"], 400),
        (INFER, BINARY, [f"Inference-Header-Content-Length: {len(HEAD)}"] * 2, 400),
    ],
)  # fmt: skip
def test_every_refusal_is_the_same_json(port, path, body, headers, status):
    found, answer = ask(port, path, body, *headers)
    assert found == status and set(answer) == {"error"} and isinstance(answer["error"], str)


def test_a_body_that_does_not_come_is_a_408(port):
    began = time.monotonic()
    assert ask(port, INFER, JSON[:-9], f"Content-Length: {len(JSON)}", length=False)[0] == 408
    assert time.monotonic() - began < 5
