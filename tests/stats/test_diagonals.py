"""GGNDiagonal and FisherDiagonal beyond the table: against dense matrices, in the mean over draws, and refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.stats import visits
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(5, 4))
LABELS = np.array([0, 2, 1, 2, 0])
NET = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(3))
COST = jp.SoftmaxCrossEntropy()


def collected(net, cost, quantities, targets, x=X, params=None, **given):
    params = draw(net, x) if params is None else params
    return jax.jit(lambda: jp.stats.collect(net, cost, quantities)(x, params, targets, **given).found)()


@pytest.mark.parametrize(
    "cost, targets",
    [(COST, LABELS), (jp.SoftmaxCrossEntropy(0.1, (1, 2, 3), 0), LABELS), (jp.MeanSquaredError(), X[:, :3])],
    ids=["labels", "weighted", "numbers"],
)
@pytest.mark.slow
def test_the_exact_diagonal_is_that_of_the_products(cost, targets):
    params, weights = draw(NET, X), np.linspace(0.1, 0.5, 5)
    flat, tree = ravel_pytree(params)
    product = functools.partial(jp.stats.ggn_product(NET, cost), X, params, targets)

    @jax.jit
    def diagonal():
        each = jax.vmap(lambda e: e @ ravel_pytree(product(tree(e), weights=weights))[0])
        return tree(each(jnp.eye(flat.size)))

    (found,) = collected(NET, cost, [jp.stats.GGNDiagonal()], targets, weights=weights)
    assert jax.tree.structure(found) == jax.tree.structure(params) and relative(found, diagonal()) <= 1e-12


@pytest.mark.slow
@pytest.mark.parametrize("held", [1, 3], ids=["one by one", "in groups of 3 after one of 1"])
def test_columns_in_groups(monkeypatch, held):
    net, x = jp.Chain(jp.Linear(4), jp.Repeat(jp.Linear(4), 2), jp.Tanh(), jp.Linear(7)), X
    params = draw(net, x)
    (together,) = collected(net, COST, [jp.stats.GGNDiagonal()], LABELS, params=params)
    cache = jp.network.Walk().push(net, x, params, None, "")[1]
    monkeypatch.setattr(visits, "COLUMNS_HOLD", held * sum(leaf.nbytes for leaf in jax.tree.leaves((cache, params))))
    (apart,) = collected(net, COST, [jp.stats.GGNDiagonal()], LABELS, params=params)
    assert relative(apart, together) <= 1e-14


@pytest.mark.slow
def test_sampled_diagonals_are_the_exact_one_in_the_mean():
    """Every entry of a mean over 4000 draws lies within 5 of its standard errors of the exact one: for a right formula
    a failure has a chance below 10⁻⁴ over all 27 entries, and the keys are fixed.
    """
    params = draw(NET, X)
    (exact,) = collected(NET, COST, [jp.stats.GGNDiagonal()], LABELS)
    run = jp.stats.collect(NET, COST, [jp.stats.GGNDiagonal("sampled"), jp.stats.FisherDiagonal()])
    both = jax.jit(jax.vmap(lambda key: run(X, params, LABELS, rng=key).found))(
        jax.random.split(jax.random.key(0), 4000)
    )
    assert relative(both[0], both[1]) <= 1e-14  # the same targets are drawn
    for draws, expected in zip(jax.tree.leaves(both[0]), jax.tree.leaves(exact), strict=True):
        error = np.std(draws, axis=0) / np.sqrt(4000)
        assert np.all(np.abs(np.mean(draws, axis=0) - expected) <= 5 * error) and np.max(error) < 0.05 * np.max(
            expected
        )


@pytest.mark.slow
def test_more_samples_are_means_of_more_draws():
    quantities = [jp.stats.GGNDiagonal("sampled", samples=400), jp.stats.GGNDiagonal()]
    many, exact = collected(NET, COST, quantities, LABELS, rng=jax.random.key(0))
    assert 0 < relative(many, exact) <= 0.2


def test_the_empirical_fisher_is_the_second_moment_and_no_curvature():
    """Where the network is right and sure of it, the empirical one is far from the true one: its errors are squared."""
    net, x, targets = jp.Linear(1, bias=False), np.ones((1, 1)), np.ones((1, 1))
    params = draw(net, x)._replace(W=jnp.array([[3.0]]))
    empirical, exact = collected(
        net, jp.SigmoidCrossEntropy(), [jp.stats.FisherDiagonal("cost"), jp.stats.GGNDiagonal()], targets, x, params
    )
    p = 1 / (1 + np.exp(-3.0))
    assert abs(empirical.W[0, 0] - (1 - p) ** 2) <= 1e-15 and abs(exact.W[0, 0] - p * (1 - p)) <= 1e-15


def test_half_precision_adds_up_in_float32(monkeypatch):
    """2000 columns one by one: each adds 1/2000, of which bfloat16 would lose all from a sum of about 1/4 on."""
    monkeypatch.setattr(visits, "COLUMNS_HOLD", 1)
    x = jnp.ones((4, 1), jnp.bfloat16)
    params = draw(jp.Linear(1, bias=False), x)
    sampled = [jp.stats.GGNDiagonal("sampled", samples=2000)]
    (found,) = collected(jp.Linear(1, bias=False), jp.HalfSquaredError(), sampled, x, x, params, rng=jax.random.key(0))
    assert found.W.dtype == jnp.float32 and abs(found.W[0, 0] - 1) <= 0.1


@pytest.mark.parametrize("size", [1e3, 1e-4])
def test_squares_that_float16_cannot_hold(size):
    """x² of 10⁶ and of 10⁻⁸: the exact diagonal, and the empirical Fisher of δ = 1."""
    net, x = jp.Linear(1, bias=False), jnp.full((2, 1), size, "float16")
    params, targets = net.init(jax.random.key(0), x)._replace(W=jnp.zeros((1, 1), "float16")), -jnp.ones_like(x)
    asked = [jp.stats.GGNDiagonal(), jp.stats.FisherDiagonal(errors="cost"), jp.stats.SecondMoment()]
    for found in collected(net, jp.HalfSquaredError(), asked, targets, x, params):
        assert float(found.W[0, 0]) == pytest.approx(float(x[0, 0]) ** 2, rel=1e-3)


def test_what_is_refused():
    def asked(net, cost, quantity, **given):
        run = jp.stats.collect(net, cost, [quantity])
        jax.eval_shape(lambda: run(X, draw(net, X), LABELS, **given))

    mixing = jp.Chain(jp.Linear(3), jp.BatchNorm())
    for act, words in (
        (lambda: jp.stats.GGNDiagonal("cost"), "GGNDiagonal: errors must be 'exact' or 'sampled', found 'cost'"),
        (lambda: jp.stats.FisherDiagonal("exact"), "FisherDiagonal: errors must be 'sampled' or 'cost', found 'exact'"),
        (lambda: jp.stats.GGNDiagonal(samples=0), "GGNDiagonal: samples must be a whole number ≥ 1, found 0"),
        (lambda: jp.stats.FisherDiagonal(samples=1.5), "FisherDiagonal: samples must be a whole number"),
        (
            lambda: asked(mixing, COST, jp.stats.GGNDiagonal()),
            "BatchNorm.*mix the examples of a batch.*freeze it first",
        ),
        (lambda: asked(NET, COST, jp.stats.GGNDiagonal("sampled")), "give rng"),
        (
            lambda: asked(NET, jp.Hinge(), jp.stats.FisherDiagonal(), rng=jax.random.key(0)),
            r"Hinge\(\): there is no model here",
        ),
    ):
        with pytest.raises(jp.JaxpropError, match=words):
            act()
