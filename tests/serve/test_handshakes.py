"""Connections over TLS: silent and broken handshakes are counted, end in time, and hold up nobody."""

import asyncio
import contextlib
import shutil
import ssl
import subprocess
import time

import pytest
import uvloop

from tests.serve.doors import an_app, settings
from tests.serve.running import running_here
from tests.serve.wire import whole

LIMITS = settings(header_timeout_s=0.5, max_connections=5)

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not on this machine")


@pytest.fixture(scope="module")
def contexts(tmp_path_factory):
    """The server's context and a client's that trusts it."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -keyout {key} -out {cert}"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*make.split(), *names], check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(cert, key)
    return server, ssl.create_default_context(cafile=str(cert))


async def asks(port, trusting, address="127.0.0.1"):
    """The status of one request over TLS."""
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=trusting, server_hostname="localhost", local_addr=(address, 0)
    )
    writer.write(whole())
    status = int((await reader.readuntil(b"\r\n\r\n")).split()[1])
    await closed(writer)
    return status


async def closed(writer):
    """Close it, and wait until it is."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_handshakes_are_counted_and_end_in_time(contexts, loop):
    async def test():
        told = []
        async with running_here(an_app(**vars(LIMITS)), LIMITS, contexts[0], lambda: told.append(1)) as port:
            for _ in range(3):
                assert await asks(port, contexts[1]) == 200
            began = time.monotonic()
            silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]
            silent[0][1].write(b"\x16\x03\x01")  # the beginning of a handshake
            await asyncio.sleep(0.05)
            reader, _ = surplus = await asyncio.open_connection("127.0.0.1", port)
            assert await reader.read() == b"" and time.monotonic() - began < 0.4, "closed at once"
            assert told == [1]
            assert await asks(port, contexts[1], "127.0.0.2") == 200, "a client that has most gives one up"
            assert await silent[0][0].read() == b"" and time.monotonic() - began < 0.4, "its oldest"
            for reader, _ in silent:
                assert await reader.read() == b""
            assert 0.4 < time.monotonic() - began < 5
            broken = [await asyncio.open_connection("127.0.0.1", port) for _ in range(4)]
            for _, writer in broken:
                writer.write(b"GET / HTTP/1.1\r\n\r\n")
            for reader, _ in broken:
                await reader.read()
            assert await asks(port, contexts[1]) == 200
            left = await asyncio.open_connection("127.0.0.1", port)  # silent while the server stops
            await asyncio.sleep(0.05)
            began = time.monotonic()
        assert time.monotonic() - began < 4
        for _, writer in (*silent, *broken, surplus, left):
            await closed(writer)

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test())
