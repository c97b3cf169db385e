"""Measures of numbers as large and as small as there are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprop.xray import measures


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("light", [False, True])
def test_the_mean_square_of_a_mask_is_right(dtype, light):
    """An attention is masked with the least number that there is; its reciprocal is flushed to zero."""
    ends = [np.finfo(dtype).min, 1e30, 1.0, 1e-30, 2 * np.finfo(dtype).tiny]
    rows = [np.where(np.arange(8) < 3, end, 0).astype(dtype) for end in ends]
    measure = jax.jit(jax.vmap(measures.light if light else measures.full))(jnp.asarray(rows))
    square = measures.names(light).index("square")
    largest = measures.names(light).index("largest")
    np.testing.assert_allclose(measure[:, square], 3 / 8, rtol=1e-6)
    np.testing.assert_array_equal(measure[:, largest], np.abs(ends).astype(dtype))
    joined = jax.jit(lambda m: measures.joined(m, xp=jnp))(measure[:1])
    np.testing.assert_allclose(joined[square], 3 / 8, rtol=1e-6)
    np.testing.assert_allclose(measures.joined(np.asarray(measure[:1]))[square], 3 / 8, rtol=1e-6)
