"""Norms of examples of models that nobody here wrote: those of a loop of `jax.grad`, leaf by leaf."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.uses import is_use
from tests.xray.models import MODELS, N, one_by_one

DEFAULT = {"linen/lstm", "nnx/cnn", "equinox/gru"}
SLOW = {"linen/transformer_tied", "nnx/transformer_scanned", "equinox/transformer_tied"}


PARAMETERS = {
    "linen/mlp": 6, "linen/cnn": 8, "linen/transformer": 37, "linen/transformer_scanned": 21,
    "linen/transformer_remat": 37, "linen/transformer_tied": 20, "linen/lstm": 14, "linen/gru": 12,
    "nnx/mlp": 6, "nnx/cnn": 8, "nnx/transformer": 37, "nnx/transformer_scanned": 21,
    "nnx/transformer_remat": 37, "nnx/transformer_tied": 20, "nnx/lstm": 5, "nnx/gru": 5,
    "equinox/mlp": 6, "equinox/cnn": 8, "equinox/transformer": 35, "equinox/transformer_scanned": 20,
    "equinox/transformer_remat": 35, "equinox/transformer_tied": 19, "equinox/lstm": 5, "equinox/gru": 6,
}  # fmt: skip


def gradients_of(model, params, x, y):
    """Take the cost of one example, and its gradient of every array of real numbers among the parameters."""
    cost, gradient = eqx.filter_value_and_grad(model.loss)(params, x, y)
    return cost, [g for g in jax.tree.leaves(gradient) if jnp.issubdtype(g.dtype, jnp.floating)]


@pytest.mark.parametrize("name", one_by_one(DEFAULT, SLOW))
def test_norms_are_those_of_a_loop(name):
    model = MODELS[name]()

    def by_uses(params, x, y):
        costs, uses = jp.xray.uses(model.loss)(params, x, y)
        flat = [use for use in jax.tree.leaves(uses, is_leaf=is_use) if is_use(use)]
        return costs, jp.example_norms(model.loss)(params, x, y), [use.squared_norms() for use in flat]

    found = jp.xray.leaves(model.loss)(model.params, model.x, model.y)
    assert (len(found.rows), found.dense) == (PARAMETERS[name], ()), str(found)  # every parameter is followed
    costs, norms, of_leaves = eqx.filter_jit(by_uses)(model.params, model.x, model.y)
    one = eqx.filter_jit(lambda params, x, y: gradients_of(model, params, x, y))
    loop = [one(model.params, model.x[n], model.y[n]) for n in range(N)]
    squares = np.asarray([[np.sum(np.square(g)) for g in of_example] for _, of_example in loop])
    np.testing.assert_allclose(norms, np.sqrt(squares.sum(1)), rtol=1e-10)
    assert len(of_leaves) == squares.shape[1]
    for mine, other in zip(of_leaves, squares.T, strict=True):
        np.testing.assert_allclose(np.sqrt(mine), np.sqrt(other), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(costs, [cost for cost, _ in loop], rtol=1e-12)


@pytest.mark.parametrize("mode", ["clip", None])
def test_rows_looked_up_one_by_one_under_vmap(mode):
    """As Equinox embeds: a lookup of one row, mapped over a sequence, with words that are not in the table."""
    table = np.sin(np.arange(10.0)).reshape(5, 2)
    words = np.asarray([[0, 4, 4], [9, -1, 2]])

    def f(table, words, x):
        rows = jax.vmap(lambda word: table[word] if mode is None else table.at[word].get(mode=mode))(words)
        return jnp.sum(jnp.sin(rows) * x)

    x = np.cos(np.arange(12.0)).reshape(2, 3, 2)
    (row,) = jp.xray.leaves(f)(table, words, x).rows
    assert row.kind == "Lookup"
    norms = jax.jit(jp.example_norms(f))(table, words, x)
    loop = jax.jit(jax.vmap(jax.grad(f), (None, 0, 0)))(table, words, x)
    np.testing.assert_allclose(norms, np.linalg.norm(loop.reshape(2, -1), axis=1), rtol=1e-12)


def test_a_parameter_that_a_scan_returns_for_nobody_is_followed():
    w = np.sin(np.arange(8.0)).reshape(2, 2, 2)

    def f(w, x, y):
        y, _unused = jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), w), x, w)
        return jnp.sum(y * y)

    assert jp.xray.leaves(f)(w, w[0], w[0]).dense == ()
