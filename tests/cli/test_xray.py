"""`jaxprop xray`: a function of the user's, from a file or a module, with arguments from a .npz."""

import json
import sys

import numpy as np
import pytest

from tests.cli.commands import did, is_a_mistake, run

MODEL = """
import jax.numpy as jnp

def loss(params, x):
    h = jnp.tanh(x @ params["Dense_0"]["kernel"])
    return jnp.sum(h ** 2)

def steep(params, x):
    h = jnp.tanh(x @ params["Dense_0"]["kernel"])
    return jnp.sum(1.5 * h ** 2)

def root(params, x):
    return jnp.sum(jnp.where(x > 0, jnp.sqrt(x), 0.0)) + params["Dense_0"]["kernel"].sum()

def several(params, x):
    return x

def talks(params, x):
    print("traced")
    return loss(params, x)

def wrong(params, x):
    return x @ x @ x
"""


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "mine.py").write_text(MODEL)
    (tmp_path / "broken.py").write_text("import jax\n\njax.nothing_of_this_name\n")
    x, kernel = np.array([[1.0, 0.0, 2.0]], np.float32), np.ones((3, 2), np.float32)
    np.savez(tmp_path / "batch.npz", **{"params/Dense_0/kernel": kernel, "x": x})
    np.savez(tmp_path / "numbered.npz", **{"arg0/Dense_0/kernel": kernel, "arg1": x})
    (tmp_path / "text.npz").write_text("nothing")


def test_the_report_and_its_table():
    ran = did("xray", "mine.py:loss", "--args", "batch.npz")
    assert "X-ray: value" in ran.out and "mine.py:5 (loss)" in ran.out and "norm of the gradient" in ran.out
    assert did("xray", "mine:loss", "--args", "numbered.npz", "--plot", "p.png").out == ran.out


def test_what_is_not_finite_is_explained_and_the_exit_code_is_1():
    ran = run("xray", "mine.py:root", "--args", "batch.npz", "--argnums", "1")
    assert ran.code == 1 and "0 · ∞ under a where" in ran.out and "mine.py:13 (root)" in ran.out, ran


def test_against_a_report_of_another_time():
    with open("here.json", "w") as file:
        file.write(did("xray", "mine.py:talks", "--args", "batch.npz", "--json").out)
    assert "They agree" in did("xray", "mine.py:loss", "--args", "batch.npz", "--against", "here.json").out
    ran = run("xray", "mine.py:steep", "--args", "batch.npz", "--against", "here.json", "--json")
    found = json.loads(ran.out)
    assert ran.code == 1 and not found["agree"] and found["first"]["kind"] == "value"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("mine.py:none --args batch.npz", ["mine.py has no none", "loss"]),
        ("mine.py", ["expected module:function"]),
        ("missing.py:loss", ["missing.py: there is no such file"]),
        ("missing.module:loss", ["no such module"]),
        ("broken.py:loss", ["cannot be imported: AttributeError", "(broken.py:3)"]),
        ("mine.py:loss --args none.npz", ["none.npz: there is no such file"]),
        ("mine.py:loss --args text.npz", ["expected an .npz"]),
        ("mine.py:loss", ["missing a required argument: 'params'", "arg0"]),
        ("mine.py:several --args batch.npz", ["expected one real number", "--forward"]),
        ("mine.py:wrong --args batch.npz", ["mine.py:wrong does not run: TypeError", "(mine.py:23)"]),
        ("mine.py:loss --args batch.npz --argnums x", ["--argnums", "expected numbers"]),
        ("mine.py:loss --args batch.npz --against mine.py", ["mine.py: expected what"]),
    ],
)
def test_mistakes_are_one_line(args, words):
    is_a_mistake(run("xray", *args.split()), 1, *words)


def test_values_alone():
    assert "X-ray" in did("xray", "mine.py:several", "--args", "batch.npz", "--forward").out
