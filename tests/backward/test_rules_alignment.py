"""The angle between a rule's gradient and the true one: exact cases, per block, of feedback, and as a quantity."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop import JaxpropError
from jaxprop.backward.rules.alignment import angle
from tests.drawing import draw

FA = jp.rules.FeedbackAlignment()
COST = jp.HalfSquaredError()
X = np.random.default_rng(0).normal(size=(6, 3))
TARGETS = np.random.default_rng(1).normal(size=(6, 2))


ANGLE = jax.jit(angle)


def cosine(u, v):
    u, v = (np.concatenate([np.ravel(a) for a in jax.tree.leaves(tree)]) for tree in (u, v))
    return np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 45.0, 90.0, 179.999999, 180.0])
def test_an_angle_is_exact_at_both_ends(degrees):
    t = np.radians(degrees)
    for scale in (1e-200, 1.0, 1e200):
        found = ANGLE([np.array([scale, 0.0]), np.zeros(2)], [np.array([np.cos(t), np.sin(t)]), np.zeros(2)])
        np.testing.assert_allclose(found, degrees, rtol=1e-9, atol=1e-13)


def test_0_has_no_angle():
    assert np.isnan(ANGLE([np.zeros(2), np.zeros(2)], [np.ones(2), np.zeros(2)]))


def test_angles_of_layers_in_total_and_of_feedback():
    net = jp.Chain(jp.Linear(5), jp.Tanh(), jp.Repeat(jp.Chain(jp.Linear(5), jp.Tanh()), 3), jp.Linear(2))
    params = draw(net, X)
    feedback = FA.init(jax.random.key(1), net, params)
    weights = jnp.asarray(np.random.default_rng(2).uniform(0.1, 1, 6))
    found = jax.jit(jp.rules.alignment(net, COST, FA))(X, params, TARGETS, weights=weights, feedback=feedback)
    rules = ((FA, feedback), (None, None))
    ours, true = jax.device_get(
        jax.jit(
            lambda params: [
                jp.manual.value_and_grad(net, COST, rule=rule)(X, params, TARGETS, weights=weights, feedback=given)[1]
                for rule, given in rules
            ]
        )(params)
    )
    params, feedback = jax.device_get((params, feedback))
    assert list(found.layers) == ["0", "2.inner.0", "3"] and found.layers["2.inner.0"].shape == (3,)
    block = [jax.tree.map(lambda a: a[1], grads[2].inner[0]) for grads in (ours, true)]
    for measured, expected in (
        (found.layers["0"], cosine(ours[0], true[0])),
        (found.layers["2.inner.0"][1], cosine(*block)),
        (found.total, cosine(ours, true)),
        (found.feedback["0.W"], cosine(params[0].W, feedback[0].W)),
        (found.feedback["2.inner.0.W"][2], cosine(params[2].inner[0].W[2], feedback[2].inner[0].W[2])),
    ):
        np.testing.assert_allclose(measured, expected, rtol=1e-9)
    assert found.layers["3"] < 1e-12 and found.total > 1


@pytest.mark.slow
def test_feedback_is_what_errors_come_back_through():
    net = jp.Chain(jp.Linear(2, bias=False), jp.Linear(2, bias=False))  # square: B of any rule has the shape of W
    params = draw(net, X)

    def found(rule):
        given = rule.init(jax.random.key(1), net, params, X)
        return given, jax.jit(jp.rules.alignment(net, COST, rule))(X, params, TARGETS, feedback=given).feedback

    M, angles = found(jp.rules.SignSymmetry("fixed"))
    W = params[1].W
    np.testing.assert_allclose(angles["1.W"], cosine(W, np.abs(M[1].W) * np.sign(W)), rtol=1e-9)
    assert found(jp.rules.DirectFeedbackAlignment())[1] == {}
    B, angles = found(jp.rules.Clip(9.0, then=FA))
    np.testing.assert_allclose(angles["0.W"], cosine(params[0].W, B[0].W), rtol=1e-9)


def test_a_step_has_no_true_gradient_to_point_along():
    net = jp.Chain(jp.Linear(4), jp.Step(), jp.Linear(2))
    found = jax.jit(jp.rules.alignment(net, COST, jp.rules.StraightThrough()))(X, draw(net, X), TARGETS)
    assert jnp.isnan(found.layers["0"]) and found.layers["2"] < 1e-12


def test_what_has_no_angle():
    with pytest.raises(JaxpropError, match="has no parameters"):
        jp.rules.alignment(jp.Tanh(), COST, FA)(X, (), X)
    with pytest.raises(JaxpropError, match="mix the examples"):
        jp.rules.alignment(jp.Chain(jp.Linear(2), jp.BatchNorm()), COST, FA)


@pytest.mark.slow
def test_as_a_quantity_it_is_the_same():
    net = jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(2))
    params = draw(net, X)
    feedback = FA.init(jax.random.key(1), net, params)

    @jax.jit
    def run(params, feedback):
        collected = jp.stats.collect(net, COST, [jp.stats.Alignment()], rule=FA)(X, params, TARGETS, feedback=feedback)
        return collected.found[0], jp.rules.alignment(net, COST, FA)(X, params, TARGETS, feedback=feedback)

    found, expected = run(params, feedback)
    np.testing.assert_allclose(found.layers["0"], expected.layers["0"], rtol=1e-9)
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-9)


@pytest.mark.slow
def test_the_angle_falls_as_training_goes():
    net = jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(2))
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        x, targets = np.asarray(X, np.float32), np.asarray(TARGETS, np.float32)
        result = jp.fit(
            net, COST, optax.sgd(0.1), (x, targets), epochs=300, batch_size=6, rule=FA, progress=False,
            monitor={"angle": jp.stats.Alignment()}, every=100,
        )  # fmt: skip
    first, last = (result.monitor["angle"].layers["0"][i] for i in (0, -1))
    assert 0 < last < first, "W has not turned towards B"
