"""The server: what it sends, whom it answers, and what it refuses."""

import json
import socket
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest


def test_a_session_begins_with_a_frame_and_steps(server):
    status, opened = server.post("api/sessions")
    assert status == 200 and opened["frame"]["step"] == 0
    status, frame = server.post(f"api/sessions/{opened['session']}/network/step", {"steps": 3})
    assert status == 200 and frame["step"] == 3


def test_the_page_keeps_to_itself(server):
    with urllib.request.urlopen(server.address) as answer:
        policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    "headers", [{"host": "evil.example"}, {"origin": "http://evil.example"}, {"origin": "null"}], ids=str
)
def test_a_foreign_page_is_refused(server, headers):
    status, answer = server.post("api/sessions", headers=headers)
    assert status == 403 and "error" in answer


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"9" * 5000, b"[1]"], ids=len)
def test_what_is_no_json_object_is_refused_in_words(server, body):
    asked = urllib.request.Request(server.address + "api/sessions", body, {"content-type": "application/json"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=60)
    with refused.value as answer:
        assert answer.code == 400 and "JSON" in json.load(answer)["error"]


def test_pages_that_went_before_they_were_answered_leave_no_work_behind(server):
    long = {"settings": {"data": "digits", "layers": [64, 64], "batch_size": 500}, "steps": 1_000_000}
    body = json.dumps(long).encode()
    host, port = urllib.parse.urlsplit(server.address).netloc.split(":")
    for _ in range(9):  # one more than there are threads
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /api/sessions HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
            connection.sendall(head.encode() + body)
            time.sleep(0.05)
    status, opened = server.post("api/sessions")
    assert status == 200 and opened["frame"]["step"] == 0
