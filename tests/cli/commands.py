"""What the tests of the commands share: a command run in this process, the files that it reads, the runs it made."""

import contextlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import cli

JAXPROP = str(Path(sys.executable).parent / "jaxprop")


class Ran(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


@contextlib.contextmanager
def as_a_user():
    """32 bits and JAX's own promotion."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        yield


def run(*args):
    """Run a command in this process."""
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    registered = list(cli.app.registered_commands), list(cli.app.registered_groups)
    sys.argv = ["jaxprop", *map(str, args)]
    try:
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            as_a_user(),
            pytest.raises(SystemExit) as stopped,
        ):
            cli.main()
    finally:
        sys.argv = before
        # a process adds the commands of other packages once; here each run would, and the next be slower for them
        cli.app.registered_commands, cli.app.registered_groups = registered
        jax.config.update("jax_enable_x64", False)  # what a command turns on for its process is not for this one
    return Ran(stopped.value.code, out.getvalue(), err.getvalue())


def did(*args):
    """Run a command that must succeed."""
    ran = run(*args)
    assert ran.code == 0, ran
    return ran


def strict(text):
    """One line of JSON without NaN or infinity."""

    def refuse(name):
        raise AssertionError(f"{name} is not JSON")

    assert text.endswith("\n") and text.count("\n") == 1
    return json.loads(text, parse_constant=refuse)


def is_a_mistake(ran, code, *words):
    """One line on stderr that says all of these words, nothing on stdout, no traceback."""
    assert ran.code == code and ran.out == "", ran
    assert ran.err.startswith("jaxprop: ") and ran.err.count("\n") == 1 and ran.err.endswith("\n"), ran.err
    assert all(word in ran.err for word in words), ran.err


def loaded(folder):
    """The network and parameters of a saved run."""
    with jax.enable_x64(False):
        return jp.load(folder)


def numbers_csv(file, rows, more=""):
    """price = 2000 · area + 30000 · rooms, in columns of very different scales."""
    lines = [f"{2000 * (20 + i) + 30000 * (i % 4)},{i % 4},{20 + i}{more}" for i in range(rows)]
    file.write_text("\n".join(["price,rooms,area", *lines]) + "\n", "utf-8")


def write_files(folder):
    """The files that the commands below read."""
    numbers_csv(folder / "my.csv", 40)
    kinds = [f"{i + i // 20 * 40},{7 * i % 5},{'große' if i < 20 else 'kleine'} Blüte" for i in range(40)]
    (folder / "kinds.csv").write_text("\n".join(["a,b,kind", *kinds]) + "\n", "utf-8")
    new = ["area,colour,rooms", "25,red,1", "50,blue,2"]
    (folder / "new.csv").write_text("\n".join(new) + "\n", "utf-8")
    (folder / "nan.csv").write_text("a,b\n1,2\nnan,3\n4,5\n")
    (folder / "text.csv").write_text("a,b\n1,2\nx,3\n4,5\n6,7\n")
    (folder / "bits.csv").write_text("a,b\n1,0\n2,1\n3,1\n")
    (folder / "typo.csv").write_text("a,b\n1,2\n2,x\n3,4\n")
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("a,b\n")
    (folder / "one.csv").write_text("a,b\n1,2\n")
    (folder / "oneclass.csv").write_text("a,b\n" + "1,x\n" * 10)
    (folder / "tulip.csv").write_text("a,b,kind\n1,2,tulip\n")
    (folder / "broken.npz").write_bytes(b"PK not a zip")
    (folder / "file").write_text("not a folder")
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 4, 4)).astype(np.uint8)
    np.savez(folder / "images.npz", x=images, targets=(images[:, 0, 0] > 128).astype(int))


TRAIN = {
    "digits": "train digits --layers 64,32,10 --activation sigmoid --out runs/digits",
    "square": "train square --layers 1,16,1 --activation tanh --epochs 200 --learning-rate 0.05",
    "line": "train line --slope 2 --epochs 400",
    "my": "train my.csv --target price",
    "kinds": "train kinds.csv --target kind --epochs 60",
    "images": "train images.npz --layers 16,2 --epochs 3",
    "moons": "train moons --epochs 3 --seed 0 --grad auto",
}


MOONS = ("train", "moons", "--epochs", 3, "--quiet")


class Runs:
    """The commands of `TRAIN`, each run when it is first asked for: `runs["digits"]` is what it did."""

    def __init__(self, folder):
        self.folder, self.done = folder, {}

    def __getitem__(self, name):
        if name not in self.done:
            self.done[name] = did(*TRAIN[name].split())
            assert (self.folder / "runs" / name / "model.json").exists()
        return self.done[name]


def program(*args, **options):
    """Start the installed program."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    return subprocess.Popen([JAXPROP, *map(str, args)], **pipes, **options)
