"""Reports of models that know nothing of us: linen, nnx and Equinox, their modules and their parameters."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxprop.xray import report
from tests.xray.measuring import rms

X = np.random.default_rng(3).normal(size=(4, 3))


class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.Dense(3, param_dtype=jnp.float64)(nn.tanh(x))


class Net(nn.Module):
    @nn.compact
    def __call__(self, x):
        return Block()(Block()(x))


def test_a_linen_model_by_its_modules():
    net = Net()
    params = net.init(jax.random.key(0), jnp.asarray(X))
    found = report(lambda params, x: jnp.sum(net.apply(params, x) ** 2))(params, X)
    _, state = net.apply(params, jnp.asarray(X), capture_intermediates=True)
    outputs = state["intermediates"]
    for path, kept in (("Block_0", outputs["Block_0"]), ("Block_1/Dense_0", outputs["Block_1"]["Dense_0"])):
        part = found.at(path)
        last = [row for row in part.rows if not row.is_argument][-1]
        np.testing.assert_allclose(last.value.rms, rms(kept["__call__"][0]))
    kernel = next(row for row in found.at("Block_1/Dense_0").rows if "kernel" in row.name)
    np.testing.assert_allclose(kernel.error.rms, rms(found.grads["params"]["Block_1"]["Dense_0"]["kernel"]))
    assert "Block_1/Dense_0" in str(found.table("equation"))
    part = found.at("Block_1/Dense_0")
    grads = found.grads["params"]["Block_1"]["Dense_0"]
    np.testing.assert_allclose(part.gradient_norm, np.sqrt(sum(np.sum(np.square(g)) for g in grads.values())))
    assert len(str(found.scopes()).splitlines()) == 6


class Layers(nnx.Module):
    def __init__(self, rngs):
        self.layers = nnx.List([nnx.Linear(3, 3, param_dtype=jnp.float64, rngs=rngs) for _ in range(2)])

    def __call__(self, x):
        for layer in self.layers:
            x = jnp.tanh(layer(x))
        return x


def test_an_nnx_model_by_its_modules():
    model = Layers(nnx.Rngs(0))
    found = report(lambda model, x: jnp.sum(model(x)))(model, X)
    inside = [row for row in found.at("layers/1").rows if not row.is_argument]
    first = np.tanh(X @ np.asarray(model.layers[0].kernel[...]) + np.asarray(model.layers[0].bias[...]))
    second = first @ np.asarray(model.layers[1].kernel[...]) + np.asarray(model.layers[1].bias[...])
    np.testing.assert_allclose(inside[-1].value.rms, rms(second))
    np.testing.assert_allclose(inside[-1].error.rms, rms(1 - np.tanh(second) ** 2))


class Pooled(eqx.Module):
    convolution: eqx.nn.Conv1d
    pool: eqx.nn.MaxPool1d
    activation: object = eqx.field(static=True)

    def __init__(self):
        self.convolution = eqx.nn.Conv1d(1, 2, 2, dtype=jnp.float64, key=jax.random.key(0))
        self.pool = eqx.nn.MaxPool1d(2)  # it holds a Python number, -inf, which is no parameter
        self.activation = jnp.tanh

    def __call__(self, x):
        return self.pool(self.activation(self.convolution(x[None])))


@pytest.mark.slow
def test_an_equinox_model_by_its_modules():
    model = Pooled()
    x = np.random.default_rng(4).normal(size=(3, 6))

    def f(model, x):
        return jnp.sum(jax.vmap(model)(x) ** 2)

    found = report(f)(model, x)
    expected = eqx.filter_grad(f)(model, x)
    assert jax.tree.all(jax.tree.map(np.allclose, found.grads.convolution, expected.convolution))
    value = jax.vmap(model.convolution)(x[:, None])
    inside = [row for row in found.at("convolution").rows if not row.is_argument]
    np.testing.assert_allclose(inside[-1].value.rms, rms(value))
