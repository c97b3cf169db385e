"""Bytes on a socket, for tests that say exactly what is sent."""

import contextlib
import gzip
import json
import re
import socket
import struct

import orjson

from tests.serve.doors import a_request

INFER = "/v2/models/digits/infer"
BODY = orjson.dumps(a_request(), option=orjson.OPT_SERIALIZE_NUMPY)


def zipped(body):
    """The body as gzip, the same bytes at any time: names of tests hold it."""
    return gzip.compress(body, mtime=0)


def connect(port):
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def post(body=BODY, *headers, path=INFER):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def whole(body=BODY, *headers):
    return post(body, f"Content-Length: {len(body)}", *headers)


def read(client):
    """Everything until the server closes, or one whole answer."""
    data = b""
    while True:
        try:
            part = client.recv(65536)
        except ConnectionResetError:
            return data
        data += part
        head, found, body = data.partition(b"\r\n\r\n")
        if not part or (found and b"content-length: %d\r\n" % len(body) in head + b"\r\n"):
            return data


def status(answer):
    """The status of an answer, whose body is checked to be what every error is."""
    code = int(answer.split(b" ", 2)[1])
    if code != 200:
        assert set(json.loads(answer.partition(b"\r\n\r\n")[2])) == {"error"}
    return code


def closed(client):
    """Whether the server has closed, waiting for it."""
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def read_all(client):
    """Everything until the server closes."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(65536):
            data += part
    return data


def statuses(answers):
    """The statuses of several answers, one after the other."""
    return [int(part) for part in re.findall(rb"HTTP/1\.1 (\d+) ", answers)]


def leave(client):
    """Close with a reset: nobody is there any more. (What `close` says cannot be told from "I send no more".)"""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def exchange(port, *parts):
    with connect(port) as client:
        for part in parts:
            client.sendall(part)
        return read(client)


def served(port):
    return status(exchange(port, whole())) == 200
