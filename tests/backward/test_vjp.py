"""`manual.vjp`: the backward pass for any loss, by three witnesses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.check.differences import central_differences
from tests.drawing import draw

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(4, 3)), RNG.normal(size=(4, 2))  # numpy: float64 in every test
ONE = jp.Chain(jp.Linear(5), jp.Tanh(), jp.Linear(2))
OTHER = jp.Chain(jp.Linear(2), jp.Sigmoid())


def contrastive(a, b):
    """Rows of a find their own rows of b among all (InfoNCE): every row meets every other."""
    similar = a @ b.T
    return -jnp.mean(jnp.diag(similar - jax.nn.logsumexp(similar, axis=1, keepdims=True)))


@pytest.mark.slow
def test_a_contrastive_loss_of_two_encoders_by_three_witnesses():
    params = draw(ONE, X), draw(OTHER, Z, seed=1)

    def loss(params):
        return contrastive(ONE(X, params[0]), OTHER(Z, params[1]))

    @jax.jit
    def by_hand(params):
        a, pull_a = jp.manual.vjp(ONE)(X, params[0])
        b, pull_b = jp.manual.vjp(OTHER)(Z, params[1])
        da, db = jax.grad(contrastive, (0, 1))(a, b)
        return tuple(jp.gradients(pull(dy), 1.0) for pull, dy in ((pull_a, da), (pull_b, db)))

    found, by_jax = by_hand(params), jax.jit(jax.grad(loss))(params)
    assert relative(found, by_jax) <= 1e-12
    entries = {"0.0.W": np.arange(6), "0.2.b": np.arange(2), "1.0.W": np.arange(4)}
    slopes = central_differences(jax.jit(loss), params, entries)
    for path, gradient in (("0.0.W", found[0][0].W), ("0.2.b", found[0][2].b), ("1.0.W", found[1][0].W)):
        assert relative(gradient.ravel()[entries[path]], slopes[path].slopes) <= 1e-7


def test_a_pull_leaves_jit_serves_many_errors_and_gives_dx_to_what_came_before():
    params, other, traced = draw(ONE, X), draw(OTHER, Z, seed=1), []
    forward = jax.jit(lambda params: jp.manual.vjp(ONE)(X, params))
    y, pull = forward(params)

    @jax.jit
    def back(pull, dy):
        traced.append(1)
        return pull.through(dy)

    @jax.jit
    def expected(params, dy):
        return jax.vjp(lambda x, p: ONE(x, p), X, params)[1](dy)

    @jax.jit
    def sums(uses):
        return jp.gradients(uses, 1.0), jp.norms(uses)

    for seed in range(3):  # one forward pass; an equal pull compiles nothing
        dy = np.random.default_rng(seed).normal(size=y.shape)
        dx, uses = back(pull, dy)
        grads, norms = sums(uses)
        assert relative((dx, grads), expected(params, dy)) <= 1e-12
        assert relative(sums(pull(dy))[1], norms) <= 1e-14
    back(forward(jax.tree.map(lambda p: 2 * np.asarray(p), params))[1], dy)
    assert len(traced) == 1

    @jax.jit
    def behind(y, pull, params, other):  # one network behind another
        z, pull_z = jp.manual.vjp(OTHER)(y, other)
        dy, last = pull_z.through(jnp.ones_like(z))
        whole = jax.grad(lambda p, q: jnp.sum(OTHER(ONE(X, p), q)), (0, 1))(params, other)
        return (jp.gradients(pull(dy), 1.0), jp.gradients(last, 1.0)), whole

    assert relative(*behind(y, pull, params, other)) <= 1e-12


def test_a_pull_of_a_cost_is_manual_uses_with_rng_and_mask():
    net, cost, rng = jp.Chain(jp.Linear(2), jp.Dropout(0.5)), jp.HalfSquaredError(), jax.random.key(3)
    params = draw(net, X)

    @jax.jit
    def run(params):
        y, pull = jp.manual.vjp(net)(X, params, rng=rng)
        uses = jp.manual.uses(net, cost)(X, params, Z, rng=rng)[1]
        return jp.gradients(pull(cost.delta(y, Z))), jp.gradients(uses)

    assert relative(*run(params)) == 0


def test_what_vjp_refuses():
    with pytest.raises(jp.JaxpropError, match=r"manual.vjp: found .*BatchNorm.*no quantity of one example"):
        jp.manual.vjp(jp.Chain(jp.Linear(2), jp.BatchNorm()))
    with pytest.raises(jp.JaxpropError, match=r"manual.vjp needs a jaxprop Layer"):
        jp.manual.vjp(lambda x, params: x)
    pull = jax.jit(jp.manual.vjp(ONE))(X, draw(ONE, X))[1]
    with pytest.raises(jp.ShapeError, match=r"found dy of shape \(4,\), expected y's own, \(4, 2\)"):
        pull(jnp.ones(4))
    with pytest.raises(jp.JaxpropError, match="y is of int"):
        jp.manual.vjp(jp.Flatten())(jnp.arange(4).reshape(2, 2), ())
