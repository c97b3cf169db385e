"""What `jaxprop` offers: help with examples, and the commands and layers of other packages."""

import re
import subprocess
import sys
from importlib import metadata
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import cli
from jaxprop.cli import build, choices
from jaxprop.layers.initializers import initializers
from tests.cli.commands import Ran, did, is_a_mistake, run


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help_with_an_example(command):
    ran = did(command, "--help")
    assert ran.err == "" and "Example" in ran.out and f"jaxprop {command} " in ran.out


def test_choices_in_help_are_those_of_the_library():
    assert set(choices.ACTIVATIONS) == set(build.activations()) and set(choices.COSTS) == set(build.cost_kinds())
    assert set(choices.INITIALIZERS) == set(initializers())
    assert set(choices.SOURCES) | {"mnist", "csv", "parquet", "npz"} == set(jp.data.SOURCES)
    assert choices.MONITORED == tuple(build.MONITORED)
    out = did("train", "--help").out
    assert "leaky_relu" in out and "kl_divergence" in out and "spirals" in out and "he_normal" in out


def test_help_imports_no_jax():
    """Help is to be there at once: neither JAX nor NumPy nor Optax is imported for it."""
    code = (
        "import sys; from jaxprop import cli; sys.argv = ['jaxprop', 'train', '--help']\n"
        "try: cli.main()\n"
        "except SystemExit: print(sorted({'jax', 'numpy', 'optax'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.endswith("[]\n"), found.stdout[-200:]


def test_the_version_is_one():
    assert did("--version").out == f"jaxprop {jp.__version__}\n" and jp.__version__ == metadata.version("jaxprop-nn")


def test_completion_of_the_shell(monkeypatch):
    monkeypatch.setenv("_JAXPROP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "jaxprop ev")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert did().out.split() == ["evaluate"]


def test_help_lists_every_command_and_is_what_no_arguments_give():
    ran = did("--help")
    assert all(re.search(rf"^\W+{command} ", ran.out, re.M) for command in cli.COMMANDS)
    assert "jaxprop demo" in ran.out and run() == ran


def offer(monkeypatch, group, *entries):
    """Let installed packages offer these entry points."""

    def entry_points(**chosen):
        return list(entries) if chosen == {"group": group} else []

    monkeypatch.setattr(metadata, "entry_points", entry_points)


def entry(name, load):
    return SimpleNamespace(name=name, value=f"other_package:{name}", group="jaxprop.these", load=load)


def broken():
    raise ImportError("No module named 'uvicorn'")


def test_commands_of_other_packages_work_and_broken_ones_are_said(monkeypatch):
    import typer

    def greet(name: str) -> None:
        """Say hello."""
        print(f"hello, {name}")

    several = typer.Typer()
    several.command("one")(lambda: print("first"))
    several.command("two")(lambda: sys.exit(3))
    own = [entry("greet", lambda: greet), entry("several", lambda: several)]
    bad = [entry("serve", broken), entry("train", lambda: greet), entry("number", lambda: 3)]
    offer(monkeypatch, "jaxprop.commands", *bad, *own)
    ran = run("greet", "you")
    assert ran.code == 0 and ran.out == "hello, you\n"
    assert ran.err.splitlines() == [
        "jaxprop: 'serve' of jaxprop.these (other_package:serve) cannot be loaded: "
        "ImportError: No module named 'uvicorn'; it is left out",
        "jaxprop: a command is left out: the name 'train' is jaxprop's own",
        "jaxprop: a command is left out: 3 is not a function",
    ]


def test_a_group_of_commands_and_its_exit_code(monkeypatch):
    import typer

    several = typer.Typer()
    several.command("one")(lambda: print("first"))
    several.command("two")(lambda: sys.exit(3))
    several.command("three")(lambda: (_ for _ in ()).throw(typer.Exit(4)))
    offer(monkeypatch, "jaxprop.commands", entry("several", lambda: several))
    assert run("several", "one") == Ran(0, "first\n", "")
    assert run("several", "two").code == 3
    assert run("several", "three").code == 4


class Twice(jp.Layer):
    """A layer of another package."""

    def forward(self, x, params, env=None):
        return 2 * x, ()


def test_layers_of_other_packages_are_found_and_broken_ones_are_said(empty, monkeypatch):
    with jax.enable_x64(False):
        net = jp.Chain(Twice(), jp.Linear(1))
        x = np.ones((1, 2), np.float32)
        jp.save("m", net, net.init(jax.random.key(0), x), inputs=x)
    is_a_mistake(run("summary", "m"), 1, "kind 'Twice' is not known", "entry points jaxprop.layers")
    offer(monkeypatch, "jaxprop.layers", entry("gone", broken), entry("Twice", lambda: Twice))
    ran = run("summary", "m")
    assert ran.code == 0 and "Twice()" in ran.out
    assert "'gone' of jaxprop.these (other_package:gone) cannot be loaded" in ran.err and "is left out" in ran.err
