"""A process killed at any instant of `jp.save` leaves the old model or the new one, whole."""

import random
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.drawing import draw

WRITER = Path(__file__).with_name("killed_writer.py")
X = np.ones((1, 64), np.float32)
NETS = [jp.Chain(jp.Linear(width), jp.Tanh(), jp.Linear(3)) for width in (512, 500)]


def bits(params):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(params)]


def save_both(place):
    """{net: bits of θ}, and the folders."""
    known, folders = {}, []
    with jax.enable_x64(False):
        for i, net in enumerate(NETS):
            params = draw(net, X, i)
            folders.append(jp.save(place / f"model{i}", net, params, inputs=X))
            known[net] = bits(params)
    return known, folders


def kill_while_saving(target, folders, rng):
    """Start a writer, and kill it at some instant while it replaces one model by the other."""
    writer = subprocess.Popen([sys.executable, "-I", WRITER, target, *folders], stdout=subprocess.PIPE)
    try:
        assert writer.stdout.readline() == b"saving\n"
        time.sleep(rng.uniform(0, 0.02))
        assert writer.poll() is None, "the writer ended by itself"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def outcomes(times, place, seed=0):
    """Kill so many writers of one folder; for each the model found then, and whether a save had been cut in two."""
    known, folders = save_both(place)
    target, rng = place / "target", random.Random(seed)
    for _ in range(times):
        kill_while_saving(target, folders, rng)
        with jax.enable_x64(False):
            net, params = jp.load(target)
        assert bits(params) == known[net], "torn"
        yield net, len(list(target.iterdir())) > 2


@pytest.mark.slow
def test_killed_forty_times_while_saving_the_model_is_the_old_or_the_new_one(tmp_path):
    found = list(outcomes(40, tmp_path))
    assert {net for net, _ in found} == set(NETS)
    assert any(cut for _, cut in found), "no writer was ever killed in the middle: this proves nothing"
    with jax.enable_x64(False):
        jp.save(tmp_path / "target", NETS[0], draw(NETS[0], X, 7), inputs=X)
    assert len(list((tmp_path / "target").iterdir())) == 2, "what the killed writers left was not removed"


@pytest.mark.slow
def test_a_server_is_ready_from_what_a_killed_writer_left(tmp_path):
    from tests.serve.process import Process

    ((net, _),) = outcomes(1, tmp_path)
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        y = np.asarray(net(X, jp.load(tmp_path / "target")[1]))
    with Process(tmp_path / "target", "--set", "max_batch=1") as server:
        status, answer, _ = server.call("POST", "/predict/target", {"rows": X.tolist()})
    assert status == 200
    np.testing.assert_allclose(answer["rows"], y, rtol=0, atol=1e-6)
