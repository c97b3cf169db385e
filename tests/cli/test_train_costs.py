"""Every row of the cost table, trained once through the command: on targets of its own, and on labels."""

import json
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.cli.build import choose_cost, cost_kinds, snake
from tests.cases import COSTS, exported
from tests.cli.commands import did, is_a_mistake, loaded, run

ROWS, OUTPUTS, CLASSES = 12, 4, 3
SHORT = ("--epochs", 1, "--batch-size", ROWS // 2, "--validation", 0.5, "--learning-rate", 0.01)
TABLE = {type(case.cost).__name__: case for case in reversed(COSTS)}  # the first row of each class

# run by default: a cost of classes, one of values, one of two outputs a target
TELLING = ("SoftmaxCrossEntropy", "HalfSquaredError", "GaussianNegativeLogLikelihood")
# and as slow tests: the softmax, the sigmoid, labels taken as they are; the others train on one-hot rows as well
LABELLED = ("SoftmaxCrossEntropy", "SigmoidCrossEntropy", "Hinge")


def train(folder, name, targets, outputs):
    """What a run says of itself, and its network: a Linear, trained by the cost of that name on random rows."""
    rows, out = folder / "rows.npz", folder / "run"
    x = np.random.default_rng(0).normal(size=(len(targets), 3)).astype(np.float32)
    np.savez(rows, x=x, targets=targets)
    ran = did("train", rows, "--cost", snake(name), "--layers", f"3,{outputs}", *SHORT, "--out", out, "--json")
    told = json.loads(ran.out)
    assert told["cost"] == repr(TABLE[name].cost) and np.isfinite(told["final"]["cost"])
    return told, loaded(out)[0]


def test_the_command_knows_every_cost_of_the_table():
    assert set(map(snake, TABLE)) == set(cost_kinds())


def test_the_first_row_of_every_exported_cost_has_the_default_settings():
    rows = {name: repr(case.cost) for name, case in TABLE.items()}
    lacking = [name for name in exported(jp.Cost) if rows.get(name) != f"{name}()"]
    assert not lacking, f"no row in tests/cases/costs.py, as the first, with the default settings of {lacking}"


def test_a_cost_that_needs_a_setting_is_refused_by_name(monkeypatch):
    @dataclass(frozen=True)
    class Quantile(jp.Cost):
        q: float

    monkeypatch.setattr(jp.costs, "Quantile", Quantile, raising=False)
    with pytest.raises(jp.JaxpropError, match="--cost quantile: Quantile has no default for q, and the command sets"):
        choose_cost("quantile", None, None)


@pytest.mark.parametrize(
    "name", [name if name in TELLING else pytest.param(name, marks=pytest.mark.slow) for name in TABLE]
)
def test_trained_on_targets_of_its_own(name, tmp_path):
    case = TABLE[name]
    targets = case.make_targets(np.random.default_rng(1), (ROWS, OUTPUTS))
    outputs = OUTPUTS if targets.ndim > 1 else len(set(targets.tolist()))
    _, net = train(tmp_path, name, targets if targets.ndim == 1 else targets.astype(np.float32), outputs)
    # numbers are given back in their own unit where that is what y is
    assert isinstance(net.layers[-1], jp.Unstandardize) == (case.cost.outputs == "values")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in LABELLED else pytest.mark.exhaustive)
        for name, case in TABLE.items()
        if case.cost.outputs_per_target == 1
    ],
)
def test_trained_on_labels(name, tmp_path):
    told, _ = train(tmp_path, name, np.arange(ROWS) % CLASSES, CLASSES)
    assert 0 <= told["final"]["validation_accuracy"] <= 1
    found = json.loads(did("predict", tmp_path / "run", "--rows", 0, "--json").out)["predictions"][0]
    assert ("probability" in found) == (TABLE[name].cost.applies == "softmax")


def test_two_outputs_a_target_need_numbers(tmp_path):
    np.savez(tmp_path / "rows.npz", x=np.ones((ROWS, 3), np.float32), targets=np.arange(ROWS) % CLASSES)
    ran = run("train", tmp_path / "rows.npz", "--cost", "gaussian_negative_log_likelihood", "--out", tmp_path / "run")
    is_a_mistake(ran, 1, "gaussian_negative_log_likelihood needs numbers, found labels")


@pytest.mark.parametrize("cost", [case.cost for case in TABLE.values()], ids=repr)
def test_what_a_cost_applies_is_what_it_expects(cost):
    y = jnp.array([[0.5, -1.0, 0.25, 2.0]])
    apply = {None: lambda y: y, "softmax": jp.Softmax(), "the sigmoid": jp.Sigmoid(), "the exponential": jnp.exp}
    expected = cost.expected(y)
    layer = apply[cost.applies]
    answer = layer(y, ()) if isinstance(layer, jp.Layer) else layer(y)
    assert jnp.allclose(expected, answer[:, : OUTPUTS // cost.outputs_per_target])
    if cost.takes_labels:
        cost.check(y, jnp.array([3]))
    else:
        with pytest.raises(jp.ShapeError):
            cost.check(y, jnp.array([3]))
