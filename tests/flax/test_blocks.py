"""Equal blocks of a Flax module are a Repeat of ours."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxprop as jp

X = np.random.default_rng(0).normal(size=(4, 5, 3)).astype(np.float32)


class Block(nnx.Module):
    def __init__(self, rngs):
        self.dense = nnx.Linear(8, 8, rngs=rngs)

    def __call__(self, x):
        return x + jnp.tanh(self.dense(x))


class Deep(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.blocks = nnx.List([Block(rngs) for _ in range(11)])  # 10 comes after 9, not after 1

    def __call__(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x


def test_equal_blocks_are_a_repeat():
    module = Deep(nnx.Rngs(0))
    net = jp.Chain(jp.Linear(8), jp.Repeat(jp.Residual(jp.Chain(jp.Linear(8), jp.Tanh())), 11))
    params = jp.import_flax(module, net, inputs=X)
    np.testing.assert_allclose(net(X, params), module(X), atol=1e-5)
    with pytest.raises(jp.ModelError, match="needs exactly W"):
        short = jp.Chain(jp.Linear(8), jp.Repeat(jp.Residual(jp.Chain(jp.Linear(8), jp.Tanh())), 10))
        jp.import_flax(module, short, inputs=X)
