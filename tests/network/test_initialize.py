"""θ drawn by one program: the same θ as drawn array by array, wherever `init` is called, and one compilation."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative

X = np.ones((2, 4, 6))  # made before the 64-bit mode of the tests is on
NETS = {
    "chain": jp.Chain(jp.Linear(6), jp.Tanh(), jp.Residual(jp.Linear(6)), jp.Repeat(jp.Chain(jp.Linear(6)), 2)),
    "parallel": jp.Parallel(jp.Linear(6, init="he_normal"), jp.Linear(6, bias_init="normal")),
    "shared": jp.Shared(jp.Chain(jp.Linear(6), jp.Linear(6)), ties=(("0.W", "1.W", True),)),
}


def array_by_array(net, key, x):
    """What the networks' own `init`s would draw, undecorated."""
    with jax.disable_jit():
        return type(net).init.__wrapped__(net, key, x)


@pytest.mark.slow
def test_theta_is_the_same_wherever_it_is_drawn():
    net = jp.Chain(*NETS.values())
    key = jax.random.key(3)
    alone = net.init(key, X)
    assert relative(alone, array_by_array(net, key, X)) <= 1e-14
    assert relative(alone, jax.jit(net.init)(key, X)) <= 1e-14
    assert relative(alone, jax.jit(lambda x: net.init(key, x))(X)) <= 1e-14
    keys = jax.random.split(key, 2)
    mapped = jax.vmap(net.init, (0, None))(keys, X)
    assert relative(jax.tree.map(lambda a: a[1], mapped), net.init(keys[1], X)) <= 1e-14
    assert jax.eval_shape(net.init, key, X) == jax.eval_shape(lambda: alone)


@pytest.fixture
def warm():
    """The first θ of a process asks JAX for more: how it compiles, and a copy of the key."""
    jp.Chain(jp.Linear(1)).init(jax.random.key(0), X)


@pytest.mark.parametrize("net", NETS.values(), ids=NETS)
def test_every_combinator_draws_by_one_program(net, warm, compilations):
    with compilations() as count:
        jax.block_until_ready(net.init(jax.random.key(0), X))
    assert count[0] == 1


def test_one_program_and_none_the_second_time(warm, compilations):
    net, key, other = jp.Chain(jp.Linear(7), jp.Linear(9), jp.Linear(11)), jax.random.key(0), jax.random.key(1)
    with compilations() as count:
        jax.block_until_ready(net.init(key, np.ones((3, 5))))
    assert count[0] == 1
    with compilations() as count:
        jax.block_until_ready(jp.Chain(jp.Linear(7), jp.Linear(9), jp.Linear(11)).init(other, np.ones((3, 5))))
    assert count[0] == 0


def test_the_precision_is_that_of_the_context():
    net, ids = jp.Chain(jp.Embedding(5, 3)), jnp.ones((2, 4), "int32")
    assert net.init(jax.random.key(0), ids)[0].W.dtype == "float64"
    with jax.enable_x64(False):
        assert net.init(jax.random.key(0), ids)[0].W.dtype == "float32"


@dataclass(frozen=True)
class DrawnByNumpy(jp.Layer):
    """A layer whose `init` JAX cannot trace."""

    def init(self, key, x):
        return np.random.default_rng(int(jax.random.bits(key))).normal(size=x.shape[-1])

    def forward(self, x, params, env=None):
        return x + params, ()


class MeanOfTheInputs(DrawnByNumpy):
    """A layer whose θ is made of the numbers of x, which only the first layer of a network sees."""

    def init(self, key, x):
        return jnp.mean(x, (0, 1))


class Chosen(DrawnByNumpy):
    """A layer the shape of whose θ depends on what is drawn."""

    def init(self, key, x):
        drawn = jax.random.normal(key, (6,))
        return drawn[drawn > 100].sum() + jnp.zeros(6)


@dataclass(frozen=True)
class Unhashable(DrawnByNumpy):
    """A layer with an array among its settings."""

    start: np.ndarray

    def init(self, key, x):
        return jnp.asarray(self.start)


OTHERS = [pytest.param(layer, marks=pytest.mark.slow) for layer in (MeanOfTheInputs(), Chosen())]


@pytest.mark.parametrize("first", [DrawnByNumpy(), Unhashable(np.ones(6)), *OTHERS], ids=repr)
def test_an_init_that_cannot_be_traced_runs_as_it_is(first):
    key, net = jax.random.key(0), jp.Chain(first, jp.Linear(2))
    found = net.init(key, X)[0]
    assert found.shape == (6,)
    np.testing.assert_array_equal(found, first.init(jax.random.split(key, 2)[0], X))


@dataclass(frozen=True)
class Refusing(DrawnByNumpy):
    """A layer whose `init` has an error of its own."""

    def init(self, key, x):
        raise ValueError("nothing to draw")


def test_an_error_of_init_is_the_users_own():
    with pytest.raises(ValueError, match="nothing to draw") as caught:
        jp.Chain(Refusing()).init(jax.random.key(0), X)
    assert caught.value.__context__ is None


def test_old_style_keys():
    net = jp.Chain(jp.Linear(2))
    old = jax.random.PRNGKey(3)
    assert relative(net.init(old, X), net.init(jax.random.key(3), X)) == 0
    jax.eval_shape(lambda x: net.init(old, x), X)


def test_a_key_used_twice_is_told():
    key, net = jax.random.key(0), jp.Chain(jp.Linear(2))
    with jax.debug_key_reuse(True):
        net.init(key, X)
        with pytest.raises(jax.errors.KeyReuseError):
            net.init(key, X)
