"""Checklist 20: where nothing can be written, saving says so and leaves the old model, and serving goes on."""

import contextlib
import http.client
import os
import resource
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import ModelError
from tests.drawing import draw
from tests.serve.load import rows_request
from tests.serve.oracle import X, is_answer, publish
from tests.serve.process import JAXPROP, Process, ask

INFER, LOAD = "/v2/models/m/infer", "/v2/repository/models/m/load"


def save_large(folder):
    """Half a megabyte."""
    net, x = jp.Linear(2**15), np.ones((1, 4), np.float32)
    with jax.enable_x64(False):
        jp.save(folder, net, draw(net, x), inputs=x)


def unchanged(folder, y, before):
    """The model of `publish` is there, and nothing else."""
    assert sorted(file.name for file in folder.iterdir()) == before
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        net, params = jp.load(folder)
        np.testing.assert_array_equal(np.asarray(net(X, params)), y)


@contextlib.contextmanager
def files_of_at_most(size):
    """The system refuses to write longer files (EFBIG), in the middle of a write as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_save_that_is_cut_off_in_the_middle_of_a_write(tmp_path):
    y = publish(tmp_path / "m")
    before = sorted(file.name for file in (tmp_path / "m").iterdir())
    with files_of_at_most(1 << 16), pytest.raises(ModelError, match="cannot be written: File too large"):
        save_large(tmp_path / "m")
    unchanged(tmp_path / "m", y, before)


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.slow
def test_a_full_disk_under_a_server(tiny_disk):
    folder = tiny_disk / "m"
    y = publish(folder)
    before = sorted(file.name for file in folder.iterdir())
    with Process(folder, "--set", "max_batch=1") as server:
        with pytest.raises(ModelError, match="cannot be written: No space left on device; choose another folder"):
            save_large(folder)
        unchanged(folder, y, before)
        with contextlib.suppress(OSError), open(tiny_disk / "rest", "wb", buffering=0) as rest:
            while True:
                rest.write(bytes(1024))
        assert server.call("POST", LOAD)[0] == 200, "reading needs no room"
        status, answer, _ = server.call("POST", INFER, rows_request(X))
        assert status == 200
        is_answer(answer, y)


def test_a_folder_where_we_may_not_write():
    with tempfile.TemporaryDirectory() as place:  # not below tmp_path, which nobody else may enter
        Path(place).chmod(0o755)
        folder = Path(place) / "m"
        y = publish(folder)
        before = sorted(file.name for file in folder.iterdir())
        folder.chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)  # root may write anywhere
        try:
            with pytest.raises(ModelError, match="cannot be written: Permission denied; choose another folder"):
                save_large(folder)
            unchanged(folder, y, before)
        finally:
            if root:
                os.seteuid(0)
            folder.chmod(0o755)


@pytest.mark.slow
def test_a_server_whose_output_and_log_cannot_be_written(tmp_path):
    y = publish(tmp_path / "m")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [*JAXPROP, "serve", str(tmp_path / "m"), "--set", "max_batch=1", "--log-level", "debug"]
    with open("/dev/full", "w") as full:
        server = subprocess.Popen([*command, "--port", str(port), "--grpc-port", "off"], stdout=full, stderr=full)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as one:
                if ask(one, "GET", "/v2/health/ready")[0] == 200:
                    break
            assert server.poll() is None and time.monotonic() < end, server.returncode
            time.sleep(0.05)
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
            for _ in range(20):
                status, answer, _ = ask(client, "POST", INFER, rows_request(X))
                assert status == 200
                is_answer(answer, y)
        server.terminate()
        assert server.wait(15) == 0
    finally:
        server.kill()
        server.wait()
