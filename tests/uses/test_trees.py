"""`jp.norms` and `jp.gradients`: a whole tree of uses at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw

COST = jp.SoftmaxCrossEntropy()


def examples(net, x, params, labels):
    """∂C_n/∂θ of every example by `jax.vmap(jax.grad)`."""

    def C(params, x, labels):
        return COST(net(x[None], params), labels[None])[0]

    return jax.vmap(jax.grad(C), (None, 0, 0))(params, x, labels)


def test_norms_and_gradients_are_those_of_vmap_grad_with_tied_and_stacked_parameters():
    block = jp.Residual(jp.Chain(jp.LayerNorm(), jp.Linear(4), jp.Tanh()))
    net = jp.Chain(jp.Embedding(5, 4), jp.Repeat(block, 2), jp.Linear(5, bias=False))
    net = jp.Shared(net, (("0.W", "2.W", True),))
    ids = jnp.asarray(np.random.default_rng(0).integers(0, 5, (3, 5)))
    x, labels = ids[:, :-1], ids[:, 1:]
    params, weights = draw(net, x), jnp.array([0.5, -1.0, 2.0])

    @jax.jit
    def both(params):
        uses = jp.manual.uses(net, COST)(x, params, labels)[1]
        layer_by_layer = jax.tree.map(lambda use: weights * 2, uses, is_leaf=lambda u: isinstance(u, jp.Use))
        found = [jp.gradients(uses), jp.gradients(uses, weights), jp.gradients(uses, 1.0)]
        found.append(jp.gradients(uses, layer_by_layer))
        each = examples(net, x, params, labels)
        sums = [jax.tree.map(lambda g, w=w: jnp.tensordot(w, g, 1), each) for w in (jnp.ones(3) / 3, weights)]
        sums += [jax.tree.map(lambda g: jnp.sum(g, axis=0), each), jax.tree.map(lambda g: 2 * g, sums[1])]
        squared = [jnp.sum(g.reshape(3, -1) ** 2, axis=1) for g in jax.tree.leaves(each)]
        return (jp.norms(uses), found), (jnp.sqrt(sum(squared)), sums)

    found, expected = both(params)
    assert relative(found, expected) <= 1e-12
    assert jax.tree.structure(found[1][0]) == jax.tree.structure(params)
    uses = jax.eval_shape(jp.manual.uses(net, COST), x, params, labels)[1]
    kinds = {type(use) for use in jax.tree.leaves(uses, is_leaf=jp_use)}
    assert {jp.Several, jp.Stacked} <= kinds


def jp_use(node):
    return isinstance(node, jp.Use)


def test_what_norms_and_gradients_refuse():
    use = jp.Shift(jnp.ones((2, 1)), (1,), jnp.float64)
    other = jp.Shift(jnp.ones((3, 1)), (1,), jnp.float64)
    for f in (jp.norms, jp.gradients):
        with pytest.raises(jp.JaxpropError, match="found no uses"):
            f(((), ()))
        with pytest.raises(jp.JaxpropError, match=r"at 1, expected a tree of uses: value, uses = jp.manual.uses"):
            f((use, jnp.ones(1)))
        with pytest.raises(jp.ShapeError, match="different numbers of examples"):
            f((use, other))
    with pytest.raises(jp.ShapeError, match=r"found shape \(3,\), expected \(2,\)"):
        jp.gradients((use,), jnp.ones(3))
    with pytest.raises(jp.ShapeError, match="no prefix of the tree of uses"):
        jp.gradients((use,), {"b": jnp.ones(2)})
    assert jp.gradients({"a": (use, None), "b": use}, {"a": 1.0, "b": np.array([1.0, 0.0])})["b"] == 1
    assert jp.gradients(use, [2.0, 1.0]) == 3
