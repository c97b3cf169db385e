"""Straight-through estimation: what it hands on, and that a binary network learns with it and does not without."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop import JaxpropError
from jaxprop.arrays.relative import relative
from tests.drawing import draw

STRAIGHT = jp.rules.StraightThrough()


def gradient(net, rule, x, params, targets):
    return jax.jit(jp.manual.value_and_grad(net, jp.HalfSquaredError(), rule=rule))(x, params, targets)[1]


@pytest.mark.parametrize("layer", [jp.Step(), pytest.param(jp.Quantize(2, 0.0, 3.0), marks=pytest.mark.slow)], ids=repr)
@pytest.mark.parametrize("window", [0.7, pytest.param(None, marks=pytest.mark.slow)])
def test_errors_go_through_as_if_the_layer_were_not_there(layer, window):
    """By jax.grad: y + stop(f(z) − z) has f's value and the identity's slope; within a window that of a clipping."""
    net, x = jp.Chain(jp.Linear(4), layer, jp.Linear(2)), jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    params, targets = draw(net, x), jnp.ones((6, 2))

    def cost(params):
        z = x @ params[0].W + params[0].b
        through = z if window is None else jnp.clip(z, -window, window)
        y = (through + jax.lax.stop_gradient(layer(z) - through)) @ params[2].W + params[2].b
        return jnp.mean(jnp.sum((y - targets) ** 2, axis=1)) / 2

    found = gradient(net, jp.rules.StraightThrough(window), x, params, targets)
    expected = jax.jit(jax.grad(cost))(params)
    assert relative(found, expected) <= 1e-12 and float(jnp.abs(expected[0].W).max()) > 0.01
    zero = gradient(net, None, x, params, targets)[0]
    assert not zero.W.any() and not zero.b.any()


def test_the_edge_of_the_window_is_inside():
    here = jp.rules.Here(jp.Step(), "", jnp.ones((1, 3)), jnp.array([[-1.0, 1.0, 1.0 + 1e-12]]), (), (), None, None)
    np.testing.assert_array_equal(jp.rules.StraightThrough(1.0).back(here)[0], [[1, 1, 0]])


def test_it_goes_with_other_rules():
    net, x = jp.Chain(jp.Linear(4), jp.Step(), jp.Linear(2)), jnp.asarray(np.random.default_rng(1).normal(size=(5, 3)))
    params, feedback = draw(net, x), draw(net, x, 1)
    rule = jp.rules.at({jp.Step: STRAIGHT, "2": jp.rules.FeedbackAlignment()})
    feedback = (feedback[0]._replace(W=None, b=None), (), feedback[2]._replace(b=None))
    found = jax.jit(jp.manual.value_and_grad(net, jp.HalfSquaredError(), rule=rule))(
        x, params, jnp.zeros((5, 2)), feedback=feedback
    )[1]
    swapped = (params[0], (), params[2]._replace(W=feedback[2].W))  # the way back of a network that has B there
    expected = jax.jit(lambda x: x.T @ (net(x, params) @ swapped[2].W.T) / 5)(x)
    assert relative(found[0].W, expected) <= 1e-12


def test_what_it_is_not_for():
    net, x = jp.Chain(jp.Linear(2), jp.Tanh()), jnp.ones((3, 2))
    with pytest.raises(JaxpropError, match=r"StraightThrough\(.*\): is for Step or Quantize, .* found Linear, Tanh"):
        gradient(net, STRAIGHT, x, draw(net, x), jnp.zeros((3, 2)))
    for wrong in (0, -1.0, float("nan")):
        with pytest.raises(JaxpropError, match="window must be None or a number > 0"):
            jp.rules.StraightThrough(wrong)


@pytest.mark.parametrize("wrong", [{"bits": 0}, {"bits": 17}, {"low": 1.0}, {"high": float("inf")}])
def test_levels_that_there_cannot_be(wrong):
    with pytest.raises(JaxpropError, match=r"bits must be a whole number from 1 to 16|needs low < high"):
        jp.Quantize(**wrong)


def test_a_step_keeps_nan():
    assert np.isnan(jp.Step()(jnp.array([jnp.nan]))).all() and np.isnan(jp.Quantize()(jnp.array([jnp.nan]))).all()


@pytest.mark.slow
def test_a_binary_network_learns_digits_with_it_and_not_without():
    """All that reaches the last layer is bits of bits. By backpropagation only the last layer moves."""
    data = jp.data.digits()
    net = jp.Chain(
        jp.Standardize(5.0, 6.0), *(jp.Linear(48), jp.Step()), *(jp.Linear(48), jp.Step()), jp.Linear(10, init="zeros")
    )
    params = net.init(jax.random.key(0), data.x[:1])

    def accuracy(rule):
        result = jp.fit(
            net, jp.SoftmaxCrossEntropy(), optax.adam(3e-3), (data.x, data.targets), params=params, epochs=15,
            validation=data.validation, rule=rule, progress=False,
        )  # fmt: skip
        still = [
            bool(jnp.array_equal(was.W, now.W)) for was, now in zip(params[1:4:2], result.params[1:4:2], strict=True)
        ]
        return result.history[-1]["validation_accuracy"], still

    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        learned, moved = accuracy(jp.rules.StraightThrough(window=1.0))
        stuck, unmoved = accuracy(jp.rules.Backprop())
    assert moved == [False, False] and unmoved == [True, True]
    assert learned > 0.9 and learned > stuck + 0.03, (learned, stuck)
