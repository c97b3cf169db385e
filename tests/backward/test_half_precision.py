"""Sums over many examples, or positions, in half precision: what is added up may be more than float16 holds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp

# no jit around anything here: XLA may compute a fused sum in more bits. So every operation is a program of its own
pytestmark = pytest.mark.slow

SUMS = [(4096, 8.0, 32.0, -8.0), (70000, 0.01, 5e-5, -0.01), (4096, 64.0, 2048.0, -64.0)]
COSTS = [jp.SoftmaxCrossEntropy(), jp.SoftmaxCrossEntropy(ignore=-1), jp.KLDivergence(), jp.Hinge()]
DTYPES = {"float16": jnp.float16, "bfloat16": jnp.bfloat16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("N", "target", "C", "slope"), SUMS)
def test_a_mean_is_right_where_its_sum_and_N_are_not_to_be_held(dtype, N, target, C, slope):
    x, y = jnp.ones((N, 1), DTYPES[dtype]), jnp.full((N, 1), target, DTYPES[dtype])
    net, params = jp.Linear(1), jp.LinearParams(jnp.zeros((1, 1), x.dtype), jnp.zeros(1, x.dtype))
    for way in (jp.manual, jp.auto):
        value, grads = way.value_and_grad(net, jp.HalfSquaredError())(x, params, y)
        assert np.isclose(float(value), C, rtol=0.02)
        assert grads.W.dtype == grads.b.dtype == x.dtype
        assert np.allclose([float(grads.W[0, 0]), float(grads.b[0])], slope, rtol=0.02)
    use = jp.manual.uses(net, jp.HalfSquaredError())(x, params, y)[1].W
    assert np.isclose(float(use.gradient()[0, 0]), slope, rtol=0.02) and use.gradient().dtype == x.dtype


@pytest.mark.parametrize("cost", COSTS)
def test_positions_of_a_large_image_keep_their_errors(cost):
    y, labels = jnp.zeros((1, 300, 300, 2), jnp.float16), jnp.zeros((1, 300, 300), int)
    targets = jax.nn.one_hot(labels, 2) if isinstance(cost, jp.KLDivergence) else labels
    delta = cost.delta(y, targets)  # of 90 000 positions, and float16 ends at 65 504
    total = float(jnp.sum(delta[..., 1].astype(float)))
    assert delta.dtype == y.dtype and np.isclose(total, 1.0 if isinstance(cost, jp.Hinge) else 0.5, rtol=0.05)
