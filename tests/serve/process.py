"""A real `jaxprop serve` in a process of its own, on free ports."""

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

JAXPROP = [str(Path(sys.executable).parent / "jaxprop")]


@contextlib.contextmanager
def hearing_signals():
    """A process that is started inside hears Ctrl-C and a hangup, though one started in the background ignores them."""
    heard = {signal.SIGINT: signal.default_int_handler, signal.SIGHUP: signal.SIG_DFL}
    before = {number: signal.signal(number, handler) for number, handler in heard.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Process:
    """`jaxprop serve ARGUMENTS` (or `command`); what it prints is gathered as it comes."""

    starts_in = 60  # seconds at most, on a busy machine

    def __init__(self, *arguments, ports=(0, 0), command="serve", **environment):
        began = time.monotonic()
        flags = [
            text for name, port in zip(("--port", "--grpc-port"), ports, strict=False) for text in (name, str(port))
        ]
        with hearing_signals():
            self.process = subprocess.Popen(
                [*JAXPROP, command, *map(str, arguments), *flags],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
                env=os.environ | {"JAX_PLATFORMS": "cpu", **environment},
            )  # fmt: skip
        self.out, self.err = [], []
        self.readers = [threading.Thread(target=self._read, args=pair, daemon=True) for pair in (
            (self.process.stdout, self.out), (self.process.stderr, self.err))]  # fmt: skip
        for reader in self.readers:
            reader.start()
        self.wait_for(lambda: any("Ctrl-C" in line for line in self.out), self.starts_in)
        self.seconds = time.monotonic() - began
        text = "".join(self.out)
        self.port = int(re.findall(r"https?://127\.0\.0\.1:(\d+)", text)[0])
        self.grpc_port = int(re.findall(r"gRPC on 127\.0\.0\.1:(\d+)", text)[0]) if len(ports) > 1 else None

    def _read(self, stream, lines):
        for line in stream:
            lines.append(line)

    def wait_for(self, condition, seconds=10):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:  # all that it printed counts, and is said
                for reader in self.readers:
                    reader.join(5)
                assert condition(), "".join(self.out + self.err)
            assert time.monotonic() < end, "".join(self.out + self.err)
            time.sleep(0.02)

    def events(self, name):
        """What was logged under this name."""
        found = [json.loads(line) for line in self.err if line.startswith("{")]
        return [event for event in found if event["event"] == name]

    def workers(self, count):
        """{worker: process id} of the first `count` workers, waited for: what they log comes beside what is printed."""
        self.wait_for(lambda: len(self.events("ready")) >= count)
        return {event["worker"]: event["pid"] for event in self.events("ready")[:count]}

    def call(self, method, path, body=None, **headers):
        """One request on a connection of its own: (status, JSON or text, headers)."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)) as connection:
            return ask(connection, method, path, body, **headers)

    def signal(self, number):
        self.process.send_signal(number)

    def ended(self, seconds=10):
        """Wait for the end; the exit code."""
        code = self.process.wait(seconds)
        for reader in self.readers:
            reader.join(5)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            stream.close()


def ask(connection, method, path, body=None, **headers):
    """One request on an open connection."""
    sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, sent, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read()
    try:
        value = json.loads(text)
    except ValueError:
        value = text.decode()
    return answer.status, value, {name.lower(): value for name, value in answer.getheaders()}
