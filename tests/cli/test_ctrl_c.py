"""Ctrl-C: what is best so far is saved, and an old model is left alone."""

import json
import os
import re
import signal

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.cli.commands import MOONS, did, is_a_mistake, program, run

pytestmark = pytest.mark.usefixtures("ctrl_c")


def press_ctrl_c_at(monkeypatch, method, number=signal.SIGINT):
    """A real signal, sent to this process the second time that training shows its progress so."""
    from jaxprop.train.progress import Progress

    shown, times = getattr(Progress, method), []

    def show(self, what):
        shown(self, what)
        times.append(what)
        if len(times) == 2:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Progress, method, show)


def test_ctrl_c_keeps_the_best_so_far(empty, monkeypatch):
    press_ctrl_c_at(monkeypatch, "epoch")
    ran = run("train", "moons", "--epochs", 1000, "--quiet")
    assert ran.code == 130 and ran.err == ""
    assert re.search(r"interrupted after [\d,]+ steps: the best parameters so far \(epoch [12]\) are saved", ran.out)
    about = jp.describe("runs/moons")
    assert about.info.training["stopped"] == "interrupted" and about.info.training["epochs"] == 2
    assert "class" in did("predict", "runs/moons").out


def test_ctrl_c_before_the_first_epoch_ends_saves_what_there_is(empty, monkeypatch):
    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)  # a step at a time
    press_ctrl_c_at(monkeypatch, "advance")
    ran = run(*MOONS, "--seed", 5)
    assert ran.code == 130
    assert "interrupted after 2 steps: the best parameters so far (within the first epoch) are saved" in ran.out
    net, params = jp.load("runs/moons")
    start = net.init(jax.random.split(jax.random.key(5), 3)[0], jp.data.moons().x)
    assert not np.array_equal(params[0].W, start[0].W)  # two steps on from where it began


def test_ctrl_c_before_the_first_step_leaves_an_old_model_alone(empty, monkeypatch):
    did(*MOONS)
    before = jp.describe("runs/moons").weights.sha256

    def stop(*_):
        os.kill(os.getpid(), signal.SIGINT)
        return np.zeros(0)  # the costs of no step

    monkeypatch.setattr("jaxprop.train.run.Run.advance", stop)
    ran = run(*MOONS, "--seed", 5)
    assert (ran.code, ran.out) == (130, "")
    assert ran.err == "jaxprop: training interrupted after 0 steps: nothing is saved\n"
    assert jp.describe("runs/moons").weights.sha256 == before


def test_sigterm_keeps_the_best_and_the_run_and_resume_goes_on(empty, monkeypatch):
    train = ("train", "moons", "--epochs", 4, "--quiet", "--json")
    whole = json.loads(did(*train, "--out", "whole").out)
    with monkeypatch.context() as patch:
        press_ctrl_c_at(patch, "epoch", signal.SIGTERM)
        ran = run(*train, "--resume")
    assert (ran.code, ran.err) == (143, "")
    assert json.loads(ran.out)["epochs"] == 2 and jp.describe("runs/moons").info.training["stopped"] == "interrupted"
    is_a_mistake(run(*train, "--checkpoints", "runs/moons/checkpoints"), 1, "keeps a run, of 2 epochs", "say --resume")
    is_a_mistake(run(*train, "--resume", "--seed", 5), 1, "keeps another run: key is")
    again = json.loads(did(*train, "--resume").out)
    assert again["final"]["cost"] == whole["final"]["cost"] and again["steps"] == whole["steps"]
    assert jp.describe("runs/moons").weights.sha256 == jp.describe("whole").weights.sha256


@pytest.mark.parametrize("where", ["jaxprop.data.load", "jaxprop.train.run.Run.__init__"])
def test_ctrl_c_elsewhere_is_one_line(where, empty, monkeypatch):
    monkeypatch.setattr(where, lambda *_, **__: os.kill(os.getpid(), signal.SIGINT))
    is_a_mistake(run(*MOONS), 130, "interrupted")


@pytest.mark.slow
def test_the_program_and_ctrl_c_in_it(empty):
    """Ctrl-C in the middle of a long training: the best so far is saved, and can be used."""
    options = "--layers 2,500,2 --batch-size 1 --epochs 100 --out run".split()
    training = program("train", "moons", *options)
    try:
        for line in training.stderr:
            if line.startswith("epoch "):
                break
        training.send_signal(signal.SIGINT)
        out, err = training.communicate(timeout=60)
    finally:
        training.kill()
    assert training.returncode == 130 and "Traceback" not in err, err
    assert re.search(r"interrupted after [\d,]+ steps: the best parameters so far \(epoch \d+\) are saved", out)
    assert "class" in did("predict", "run", "--rows", "0:3").out
