"""What a command prints arrives on every terminal, or its absence is told in one line."""

import io
import os
import subprocess
import sys

import pytest

from jaxprop.cli.encoding import speak_any_encoding
from tests.cli.commands import JAXPROP, run

LETTERS, POWERS = "σ(z) → ∂C/∂w · 3 ☃", "2² x⁻¹² W⁽¹⁾ᵀ Δ x̂ ░▒▓█"


@pytest.mark.parametrize(
    ("encoding", "text", "seen"),
    [
        ("ascii", LETTERS, "sigma(z) -> dC/dw * 3 ?"),
        ("cp1252", LETTERS, "sigma(z) -> dC/dw · 3 ?"),
        ("utf-8", LETTERS, LETTERS),
        ("ascii", POWERS, "2^2 x^-12 W^(1)^T Delta x_hat .:*#"),
        ("cp1252", POWERS, "2² x^-¹² W^(¹)^T Delta x_hat .:*#"),
    ],
)
def test_what_a_terminal_lacks_is_spelled_and_powers_keep_their_sense(monkeypatch, encoding, text, seen):
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    monkeypatch.setattr(sys, "stdout", terminal)
    speak_any_encoding()
    print(text, end="", flush=True)
    assert terminal.buffer.getvalue() == seen.encode(encoding)


@pytest.mark.slow
def test_explain_on_a_terminal_without_greek():
    command = [JAXPROP, "explain", "sigmoid(3*x)", "--at", "2"]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"}, timeout=100)
    assert done.returncode == 0 and b"d" in done.stdout and done.stderr == b"", done


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
@pytest.mark.parametrize("args", [["--version"], ["train", "--help"], ["explain", "sin(x)", "--at", "2"]])
def test_a_full_disk_is_one_line_and_a_code(args):
    with open("/dev/full", "w") as full:
        done = subprocess.run([JAXPROP, *args], stdout=full, stderr=subprocess.PIPE, text=True, timeout=100)
    assert (done.returncode, done.stderr) == (1, "jaxprop: the output cannot be written: No space left on device\n")


@pytest.mark.slow
def test_a_reader_that_leaves_ends_it_quietly():
    """As `jaxprop ... | head -1` does, which reads a line and goes."""
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([JAXPROP, "--version"], stdout=write, stderr=subprocess.PIPE, timeout=100)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_summary_fits_in_a_terminal_and_is_whole_in_a_pipe(runs, monkeypatch):
    runs["moons"]
    whole = run("summary", "runs/moons").out
    monkeypatch.setattr("jaxprop.tables.terminal_room", lambda: 60)
    fitted = run("summary", "runs/moons").out
    assert "float32[1, 32]" in whole and max(map(len, whole.splitlines()[1:6])) > 60
    assert "float32[1, 32]" not in fitted and all(len(line) <= 60 for line in fitted.splitlines()[1:6])
