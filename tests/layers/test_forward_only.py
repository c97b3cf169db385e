"""A layer that defines `__call__` alone: its passes are JAX's, its uses `Dense`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(4, 2, 3))  # numpy: float64 in every test


@dataclass(frozen=True)
class Gate(jp.Layer):
    """y = (x W) σ(x V), and zero where masked."""

    def init(self, key, x):
        return {name: jnp.ones((x.shape[-1], x.shape[-1]), x.dtype) for name in "WV"}

    def __call__(self, x, params, env=None):
        y = (x @ params["W"]) * jax.nn.sigmoid(x @ params["V"])
        return y if env is None or env.mask is None else y * env.mask[..., None].astype(y.dtype)


@dataclass(frozen=True)
class Noisy(jp.Layer):
    """y = g x noise, drawn for the whole batch."""

    def init(self, key, x):
        return jnp.ones(x.shape[-1:], x.dtype)

    def __call__(self, x, params, env=None):
        noise = (
            jnp.ones((), x.dtype) if env is None or env.rng is None else jax.random.normal(env.rng, x.shape, x.dtype)
        )
        return x * params * noise


@dataclass(frozen=True)
class Centred(jp.Layer):
    """y = g (x − the batch's mean)."""

    def init(self, key, x):
        return jnp.ones(x.shape[-1:], x.dtype)

    def __call__(self, x, params, env=None):
        return params * (x - jnp.mean(x, axis=0))

    @property
    def mixes_examples(self):
        return True


@dataclass(frozen=True)
class Table(jp.Layer):
    """y = rows of a table, for whole numbers x."""

    def init(self, key, x):
        return jnp.ones((5, 2))

    def __call__(self, x, params, env=None):
        return params[x]


@pytest.mark.parametrize(
    "layer, x, env",
    [
        (Gate(), X, jp.Env(mask=jnp.array([[True, False]] * 4))),
        (Table(), jnp.array([[0, 1], [2, 2]]), None),
        (Noisy(), X, jp.Env(rng=jax.random.key(0))),
        (Centred(), X, None),
    ],
    ids=["mask", "integers", "rng", "mixes"],
)
@pytest.mark.slow
def test_it_passes_every_check_of_a_layer(layer, x, env):
    report = jp.check_layer(layer, x, env=env)
    assert report.ok, str(report)


def test_gradients_of_each_example_with_numbers_drawn_for_the_batch():
    """Which no example alone could draw again."""
    net, rng = Noisy(), jax.random.key(3)
    params, targets = draw(net, X), jnp.zeros_like(X)
    uses = jax.jit(jp.manual.uses(net, jp.HalfSquaredError()))(X, params, targets, rng=rng)[1]
    noise = jax.random.normal(rng, X.shape, X.dtype)
    expected = jnp.sum(params * (X * noise) ** 2, axis=1)
    assert isinstance(uses, jp.Dense) and relative(uses.per_example(), expected) <= 1e-14


def test_among_other_layers():
    """In a chain, a residual and a scan: by hand is `jax.grad`, and norms are those of each example."""
    net = jp.Chain(jp.Residual(Gate()), jp.Repeat(jp.Chain(jp.Linear(3), Gate()), 2), jp.Linear(1))
    params, targets = draw(net, X), jnp.ones((4, 2, 1))
    cost = jp.HalfSquaredError()

    @jax.jit
    def both(params):
        value, grads = jp.manual.value_and_grad(net, cost)(X, params, targets)
        uses = jp.manual.uses(net, cost)(X, params, targets)[1]

        def C(params, x, t):
            return cost(net(x[None], params), t[None])[0]

        each = jax.vmap(jax.grad(C), (None, 0, 0))(params, X, targets)
        squared = sum(jnp.sum(g.reshape(4, -1) ** 2, axis=1) for g in jax.tree.leaves(each))
        return (value, grads, jp.norms(uses)), (*jp.auto.value_and_grad(net, cost)(X, params, targets), squared**0.5)

    assert relative(*both(params)) <= 1e-12


@pytest.mark.parametrize("devices", [2])
def test_on_two_devices(devices):
    net, cost = Gate(), jp.HalfSquaredError()
    params, targets = draw(net, X), jnp.zeros_like(X)
    mesh = jax.make_mesh((devices,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))

    def norms(x, params, targets):
        return jp.norms(jp.manual.uses(net, cost)(x, params, targets)[1])

    rows = jax.P("n")
    sharded = jax.shard_map(norms, mesh=mesh, in_specs=(rows, jax.P(), rows), out_specs=rows)
    assert relative(jax.jit(sharded)(X, params, targets), jax.jit(norms)(X, params, targets)) <= 1e-13


def test_half_a_layer_is_told_what_to_write():
    class Nothing(jp.Layer):
        pass

    class NoBackward(jp.Layer):
        def forward(self, x, params, env=None):
            return x, ()

    with pytest.raises(TypeError, match=r"Nothing must define forward.* with backward, or __call__"):
        Nothing()(X, ())
    with pytest.raises(TypeError, match=r"with __call__.* in place of forward, both come from JAX"):
        NoBackward().backward(X, (), ())
