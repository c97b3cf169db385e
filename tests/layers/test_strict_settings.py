"""Strict settings of JAX: nothing is broadcast to more axes unasked, and no NaN made on the way to a right answer."""

import jax
import jax.numpy as jnp
import pytest

import jaxprop as jp
from jaxprop.uses import is_use
from tests.cases import COSTS, LAYERS, one_of_each
from tests.drawing import draw


@pytest.fixture(autouse=True)
def _raise():
    with jax.numpy_rank_promotion("raise"):
        yield


@pytest.mark.parametrize("case", [*one_of_each(LAYERS, first=pytest.mark.slow)])
def test_no_layer_promotes_ranks(case):
    """Forward, backward, what is asked of uses, `jax.grad`, `init` and a derivative; traced only."""

    def everything(x, params):
        env = case.env() or jp.Env()
        y, cache = case.layer.forward(x, params, env)
        dx, uses = case.layer.backward(jnp.ones_like(y), cache, params)
        asked = [u.gradient(jnp.ones(u.examples)) for u in jax.tree.leaves(uses, is_leaf=is_use)]
        asked += [(u.per_example(), u.squared_norms()) for u in jax.tree.leaves(uses, is_leaf=is_use)]
        cost, rest = jp.HalfSquaredError(), {"rng": env.rng, "mask": env.mask}
        ways = (jp.auto, jp.manual) if jnp.issubdtype(y.dtype, jnp.floating) else ()  # a cost refuses whole numbers
        both = [way.value_and_grad(case.layer, cost)(x, params, jnp.zeros(y.shape), **rest) for way in ways]
        slope = case.layer.derivative(cache) if hasattr(case.layer, "derivative") else None
        return dx, asked, both, slope, case.layer.init(jax.random.key(0), x)

    jax.eval_shape(everything, case.x("float64"), case.params("float64"))


@pytest.mark.slow
def test_no_cost_promotes_ranks():
    for case in COSTS:
        y, targets = case.y("float64"), case.targets("float64")
        jax.eval_shape(lambda y, t, cost=case.cost: (cost(y, t), cost.delta(y, t), cost.expected(y)), y, targets)
        jax.eval_shape(lambda y, t, cost=case.cost: jax.grad(lambda y: jnp.sum(cost(y, t)))(y), y, targets)


@pytest.mark.slow
def test_ignored_positions_and_masked_ones_make_no_nan_on_the_way():
    y, labels = jnp.zeros((1, 3, 2)), jnp.array([[0, -1, 1]])
    layer, x, mask = jp.MultiHeadAttention(1), jnp.ones((2, 3, 2)), jnp.array([[True, False, True], [False] * 3])
    with jax.debug_nans(True):
        cost = jp.SoftmaxCrossEntropy(ignore=-1)
        assert float(cost(y, labels)[0]) == pytest.approx(0.6931, abs=1e-4) and not cost.delta(y, labels)[0, 1].any()
        out, cache = layer.forward(x, params := draw(layer, x), jp.Env(mask=mask))
        layer.backward(out, cache, params)
