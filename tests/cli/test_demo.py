"""`jaxprop demo`: the whole path once."""

import contextlib
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

import jaxprop as jp
from jaxprop import cli
from tests.cli.commands import run, strict


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The one whole run of the demo: what it did, and where."""
    folder = tmp_path_factory.mktemp("demo")
    with contextlib.chdir(folder):
        ran = run("demo")
    return ran, folder


@pytest.mark.slow
def test_demo(demo):
    ran, folder = demo
    assert ran.code == 0
    found = re.search(r"reloaded: ([\d.]+) % of the held-out digits are right", ran.out)
    assert found and float(found[1]) >= 95
    assert "three witnesses agree on 16 rows" in ran.out and "█" in ran.out
    assert "drawn: runs/demo/demo.png" in ran.out
    assert (folder / "runs/demo/demo.png").read_bytes().startswith(b"\x89PNG")
    for command in re.findall(r"^  jaxprop (\w+) ", ran.out, re.M):
        assert command in {*cli.COMMANDS, "serve"}
    assert len(re.findall(r"^  jaxprop", ran.out, re.M)) >= 4


@pytest.mark.slow
@pytest.mark.parametrize("right, agree, code", [(True, True, 0), (True, False, 1), (False, True, 1)])
def test_demo_exits_with_what_it_found(right, agree, code, demo, empty, monkeypatch):
    def train_digits(out, seed, progress):
        assert not progress  # with --json
        shutil.copytree(demo[1] / "runs/demo", out)
        if not right:
            net, params = jp.load(out)
            about = jp.describe(out)
            params = jax.tree.map(jnp.zeros_like, params)
            jp.save(out, net, params, inputs=jnp.zeros((1, 64)), cost=about.cost, info=about.info.model_dump())
        return 1.5

    report = SimpleNamespace(ok=agree)
    monkeypatch.setattr("jaxprop.cli.demo.train_digits", train_digits)
    monkeypatch.setattr("jaxprop.cli.demo.compare", lambda *_: lambda *_: report)
    monkeypatch.setattr("jaxprop.cli.demo.draw", lambda saved, x, targets, file: file)
    ran = run("demo", "--out", "d", "--json")
    told = strict(ran.out)
    assert ran.code == code and ran.err == ""
    assert told["gradients_agree"] == agree and (told["accuracy"] >= 0.95) == right and told["seconds"] == 1.5
    assert told["out"] == "d" and told["picture"] == "d/demo.png" and len(told["predictions"]) == 6


def test_demo_needs_no_matplotlib(monkeypatch):
    from jaxprop.cli.demo import draw

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert draw(None, None, None, Path("x.png")) is None
