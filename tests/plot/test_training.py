"""The history of a training run, and the size of the gradient at every layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot
from tests.plot.pictures import ROWS, made, said


def test_history_draws_costs_and_marks_the_best_epoch():
    ax = plot.history(ROWS)
    assert ax.get_yscale() == "log"  # 2¹¹ is more than two decades
    labels = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert labels == ["training cost", "validation cost"]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("_")]
    assert rings == [6, 6] and "least validation cost: epoch 6" in said(ax)
    assert plot.history(ROWS, log=False).get_yscale() == "linear"
    assert plot.history(ROWS[:4]).get_yscale() == "linear"
    assert "least cost: epoch 12" in said(plot.history([{"cost": row["cost"]} for row in ROWS]))


def test_history_puts_a_metric_on_its_own_axis():
    ax = plot.history(ROWS, keys=["cost", "accuracy"])
    (twin,) = [other for other in ax.figure.axes if other is not ax]
    assert twin.lines[0].get_label() == "training accuracy"
    assert (ax.get_ylabel(), twin.get_ylabel()) == ("cost", "accuracy")
    assert plot.history(ROWS, keys=["accuracy"]).get_ylabel() == "accuracy"


def test_history_of_broken_runs():
    rows = [*ROWS[:3], {"epoch": 4, "cost": float("nan"), "validation_cost": None}]
    ax = plot.history(rows)
    assert "not finite from epoch 4" in said(ax)
    assert len(ax.lines[0].get_xdata()) == 3
    assert len(plot.history([{"cost": 1.0, "validation_cost": None}]).lines) == 2  # the curve and its ring
    for rows, message in (([], "no rows"), ([{"epoch": 1}], "no rows"), ([{"cost": float("inf")}], "never finite")):
        with pytest.raises(JaxpropError, match=message):
            plot.history(rows)
    with pytest.raises(JaxpropError, match="did you mean 'cost'"):
        plot.history(ROWS, keys=["costs"])
    with pytest.raises(JaxpropError, match="no logarithm"):
        plot.history([{"cost": 1.0}, {"cost": 0.0}], log=True)


def test_gradient_sizes_are_those_of_the_tape_and_the_gradient():
    net, params, _ = made(8, 8, 8, 2, inputs=5)
    x, targets = np.random.default_rng(3).normal(size=(10, 5)), np.zeros((10, 2))
    cost = jp.HalfSquaredError()
    tape = jax.jit(jp.manual.trace(net, cost))(x, params, targets)
    grads = jax.jit(jp.auto.value_and_grad(net, cost))(x, params, targets)[1]
    ax = plot.gradient_sizes(tape, grads)
    deltas, weights, biases = (container.patches for container in ax.containers)
    rms = [float(np.sqrt(np.mean(np.square(record.dy)))) for record in tape.values()]
    assert np.allclose([bar.get_height() for bar in deltas], rms)
    norms = [float(np.linalg.norm(grads[i].W)) for i in (0, 2, 4, 6)]
    assert np.allclose([bar.get_height() for bar in weights], norms)
    assert np.allclose([bar.get_height() for bar in biases], [np.linalg.norm(grads[i].b) for i in (0, 2, 4, 6)])
    assert ax.get_yscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == list(tape)
    assert f"shrinks {float(f'{rms[-1] / rms[0]:.3g}'):,.10g}-fold" in said(ax) and rms[0] < rms[-1]  # vanishing


def test_gradient_sizes_of_nothing():
    net, params, _ = made(4, 2, inputs=3, activation=jp.ReLU)
    dead = (params[0]._replace(b=jnp.full(4, -1e3)), (), params[2])
    tape = jax.jit(jp.manual.trace(net, jp.HalfSquaredError()))(jnp.ones((2, 3)), dead, jnp.ones((2, 2)))
    ax = plot.gradient_sizes(tape)
    assert len(ax.patches) == 2 and said(ax).count("0\n") >= 1  # layer 0 receives exactly nothing, and is told
    with pytest.raises(JaxpropError, match="no errors"):
        plot.gradient_sizes({})
    with pytest.raises(JaxpropError, match="the same network"):
        plot.gradient_sizes(tape, {"9": params[0]})
    with pytest.raises(JaxpropError, match="finite"):
        plot.gradient_sizes({"0": tape["0"]._replace(dy=jnp.array([jnp.nan]))})
