"""docs/examples/autoencoder.py: K-FAC is ahead on small images too, and the figures are read right."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import jaxprop as jp

SCRIPT = Path(__file__).parents[2] / "docs" / "examples" / "autoencoder.py"


@pytest.fixture(scope="module")
def autoencoder():
    spec = importlib.util.spec_from_file_location("autoencoder", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_report_says_when_each_was_where_the_worst_ended(autoencoder, capsys):
    def run(*costs):
        return [{"steps": 10 * e, "cost": cost, "seconds": 2.0 * e} for e, cost in enumerate(costs, 1)]

    autoencoder.report({"SGD": {"rate": 0.1, "run": run(9, 8, 7)}, "K-FAC": {"rate": 1.0, "run": run(8, 6, 5)}})
    slow, fast = capsys.readouterr().out.splitlines()
    assert "cost 7.0 by step 30 (6.0 s), 7.0 at step 30" in slow
    assert "cost 7.0 by step 20 (4.0 s), 5.0 at step 30" in fast


@pytest.mark.slow
def test_k_fac_needs_fewer_steps_on_small_digits(autoencoder, tmp_path):
    x = (jp.data.digits().x[:512] / 16).astype(np.float32)
    net = jp.models.mlp((64, 32, 8, 32, 64), jp.Tanh())
    found = autoencoder.compare({"SGD": (0.01, 100.0), "Adam": (0.01,), "K-FAC": (0.1,)}, net, x, 8, 64)
    ends = {name: one["run"][-1]["cost"] for name, one in found.items()}
    assert ends["K-FAC"] < min(ends["SGD"], ends["Adam"]) - 0.5
    assert found["SGD"]["rate"] == 0.01
    autoencoder.draw(found, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000
