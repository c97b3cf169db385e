"""Norms of single examples' gradients, of models that nobody here wrote: those of a loop of `jax.grad`, leaf by leaf."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.uses import is_use
from tests.xray.models import MODELS, N

DEFAULT = {"linen/lstm", "nnx/cnn", "equinox/transformer_scanned"}
SLOW = {"linen/cnn", "linen/transformer_tied", "nnx/transformer_scanned", "nnx/gru", "equinox/transformer_tied"}


def _models() -> list[object]:
    marks = {name: pytest.mark.slow if name in SLOW else pytest.mark.exhaustive for name in MODELS}
    return [pytest.param(name, marks=() if name in DEFAULT else marks[name]) for name in MODELS]


def gradients_of(model, params, x, y):
    """Take the gradient of one example, of every array of real numbers among the parameters."""
    gradient = eqx.filter_grad(model.loss)(params, x, y)
    return [g for g in jax.tree.leaves(gradient) if jnp.issubdtype(g.dtype, jnp.floating)]


@pytest.mark.parametrize("name", _models())
def test_norms_are_those_of_a_loop(name):
    model = MODELS[name]()

    def by_uses(params, x, y):
        costs, uses = jp.xray.uses(model.loss)(params, x, y)
        flat = [use for use in jax.tree.leaves(uses, is_leaf=is_use) if is_use(use)]
        return costs, jp.example_norms(model.loss)(params, x, y), [use.squared_norms() for use in flat]

    costs, norms, of_leaves = eqx.filter_jit(by_uses)(model.params, model.x, model.y)
    one = eqx.filter_jit(lambda params, x, y: gradients_of(model, params, x, y))
    loop = [one(model.params, model.x[n], model.y[n]) for n in range(N)]
    squares = np.asarray([[np.sum(np.square(g)) for g in of_example] for of_example in loop])
    np.testing.assert_allclose(norms, np.sqrt(squares.sum(1)), rtol=1e-10)
    assert len(of_leaves) == squares.shape[1]
    for mine, other in zip(of_leaves, squares.T, strict=True):
        np.testing.assert_allclose(np.sqrt(mine), np.sqrt(other), rtol=1e-10, atol=1e-12)
    loss = eqx.filter_jit(model.loss)
    np.testing.assert_allclose(costs, [loss(model.params, model.x[n], model.y[n]) for n in range(N)], rtol=1e-12)
