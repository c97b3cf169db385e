"""A page that is run as a reader would: its blocks in order, in a scratch folder, and what they print as it is shown.

- An indented block is for bash. A `jaxprop serve` that goes on serving is waited for and left running; it stops when
  the page starts another one on its port.
- A `python` block is run as a script.
- A block after "`NAME`:" is a file of this name.
- A `text` block is what the last commands before it printed, one or more of their block. `...` stands for anything,
  and numbers with a point may differ by what training on another machine changes.

The ports of the page are those of free ones, and places of the system (`/opt/...`) lie in the scratch folder.
"""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

BLOCK = re.compile(
    r"(?:`(?P<file>\w+\.\w+)`:\n\n)?^```(?P<kind>\w+)\n(?P<fenced>[\s\S]*?)^```$"
    r"|(?<=\n\n)(?P<shell>(?: {4}.+\n|\n(?= {4}))+)",
    re.M,
)
NUMBER = re.compile(r"-?\d+\.\d+")
PORT = re.compile(r"\b(?:8000|8001|9000)\b")
PLACE = re.compile(r"(?<![\w.])(?=/(?:opt|etc|srv)/)")


def blocks(page):
    """[(kind, text, file)] of a page; kind `shell` for what is indented."""
    return [
        ("shell", re.sub(r"^ {4}", "", m["shell"], flags=re.M).strip(), None)
        if m["shell"]
        else (m["kind"], m["fenced"], m["file"])
        for m in BLOCK.finditer(page)
    ]


def commands(text):
    """The commands of a block, one for each line that ends one: not in quotes, not before a backslash."""
    found, held = [], ""
    for line in text.splitlines():
        held += line + "\n"
        quotes = re.sub(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", "", held)
        if not re.search(r"['\"]|\\\n$", quotes) and not held.endswith("\\\n"):
            found.append(held.strip())
            held = ""
    assert not held, f"no end: {held}"
    return found


def is_shown(shown, said):
    """Whether what was said is what is shown, spaces aside."""

    def plain(text):
        return " ".join(re.sub(r"\s*,\s*", ", ", text).split())

    pattern, numbers = "", []
    for part in re.split(r"( ?\.\.\. ?|-?\d+\.\d+)", plain(shown)):
        if NUMBER.fullmatch(part):
            pattern += r"(-?\d+\.\d+(?:e-?\d+)?)"
            numbers.append(float(part))
        else:
            pattern += r".*?" if part.strip() == "..." else re.escape(part)
    match = re.fullmatch(pattern, plain(said))
    return bool(match) and [float(n) for n in match.groups()] == pytest.approx(numbers, rel=0.02, abs=0.02)


class Reader:
    """`with Reader(folder) as reader`: types what pages say, in this folder; in the end its servers are stopped."""

    def __init__(self, folder, **environment):
        self.folder, self.said, self.last, self.failed = Path(folder), [], "", False
        self.servers, self.ports = {}, {shown: free_port() for shown in ("8000", "8001", "9000")}
        (self.folder / ".curlrc").write_text("silent\nshow-error\n")
        if not shutil.which("grpcurl"):
            (self.folder / "grpcurl").write_text(
                f'#!/bin/sh\nexec python {Path(__file__).with_name("grpcurl.py")} "$@"\n'
            )
            (self.folder / "grpcurl").chmod(0o755)
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:{folder}",
            "PYTHONPATH": os.pathsep.join(sys.path),
            "CURL_HOME": str(folder),
            "JAX_PLATFORMS": "cpu",
            "JAXPROP_PORT": self.ports["8000"],
            "JAXPROP_GRPC_PORT": self.ports["8001"],
            **environment,
        }

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for port in list(self.servers):
            self.stop(port)

    def read(self, page, *elsewhere, files="."):
        """Run a page; its files go into this folder. Commands that begin with `elsewhere` are left to other tests."""
        self.last = ""
        for kind, text, file in blocks(Path(page).read_text("utf-8")):
            assert not self.failed or kind == "text", f"{self.last}\nfails:\n{self.said}"
            if file:
                (self.folder / files).mkdir(exist_ok=True)
                (self.folder / files / file).write_text(text, "utf-8")
            elif kind == "shell":
                typed = [one for one in commands(text) if not one.startswith(elsewhere)]
                self.said = [self.run(one) for one in typed]
            elif kind == "python":
                (self.folder / "asked.py").write_text(self.here(text), "utf-8")
                self.said = [self.run("python asked.py")]
            elif kind == "text":
                self.failed = False
                assert self.last, f"{Path(page).name} shows this before any command:\n{text}"
                ends = ["".join(self.said[i:]) for i in range(len(self.said))]
                found = any(is_shown(text, end) for end in ends)
                assert found, f"{self.last}\nprints\n{ends[0]}\nand is shown to print\n{text}"
        assert not self.failed, f"{self.last}\nfails:\n{self.said}"

    def run(self, command):
        """Run one command; return what it prints, as the page would have it."""
        assert not self.failed, f"{self.last}\nfails:\n{self.said}"
        self.last, typed = command, self.here(command)
        if command.startswith("export "):
            self.environment |= dict(pair.split("=", 1) for pair in shlex.split(typed)[1:])
            return ""
        if re.search(r"\bjaxprop serve\b", command) and "--check-config" not in command:
            said = self.serve(typed, "9000" if "9000" in command else "8000")
        else:
            done = subprocess.run(
                ["bash", "-c", typed], cwd=self.folder, env=self.environment, text=True, timeout=120,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            said, self.failed = done.stdout, bool(done.returncode)
            self.said = [said]
        return self.there(said if said.endswith("\n") else said + "\n")

    def serve(self, command, port):
        """Start a server in place of the one on this port; return what it prints until it is ready, or ends."""
        self.stop(port)
        with (self.folder / f"{port}.log").open("w") as log:
            process = self.servers[port] = subprocess.Popen(
                ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True, start_new_session=True,
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        said = ""
        for line in process.stdout:
            said += line
            if "Ctrl-C stops" in line:
                return said
        self.failed = bool(process.wait())
        return said + (self.folder / f"{port}.log").read_text()

    def stop(self, port):
        if process := self.servers.pop(port, None):
            with process, contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)

    def here(self, text):
        """What is typed on this machine: free ports, and the scratch folder for places of the system."""
        return PLACE.sub(str(self.folder), PORT.sub(lambda port: self.ports[port[0]], text))

    def there(self, text):
        """What the page says for it."""
        for shown, port in self.ports.items():
            text = re.sub(rf"\b{port}\b", shown, text)
        return text.replace(f"{self.folder}/", "/")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])
