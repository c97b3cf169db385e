"""A `Use` against loops over examples: gradient, weights, per-example gradients and norms of every kind."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.check.quantities import QUANTITIES, by_examples, by_uses, some_weights
from jaxprop.errors import ShapeError


def outer(rng, N=5, T=(), I=3, O=4, dtype=jnp.float64):
    a = jnp.asarray(rng.normal(size=(N, *T, I)), dtype)
    delta = jnp.asarray(rng.normal(size=(N, *T, O)), dtype)
    return jp.Outer(a, delta, (I, O), dtype)


def shift(rng, N=5, T=(), O=4):
    return jp.Shift(jnp.asarray(rng.normal(size=(N, *T, O))), (O,), jnp.float64)


def dense(rng, N=5, shape=(2, 3)):
    return jp.Dense(jnp.asarray(rng.normal(size=(N, *shape))), shape, jnp.float64)


def by_loop(use):
    """∂C_n/∂θ by a loop over examples and positions, in plain numpy."""
    if isinstance(use, jp.Dense):
        return np.asarray(use.gradients)
    delta = np.asarray(use.delta)
    result = np.zeros((len(delta), *use.shape))
    for n, *t in itertools.product(*map(range, delta.shape[:-1])):
        at = (n, *t)
        result[n] += np.outer(np.asarray(use.a)[at], delta[at]) if isinstance(use, jp.Outer) else delta[at]
    return result


KINDS = {
    "outer": outer,
    "outer, T = 2 (gram)": lambda rng: outer(rng, T=(2,)),
    "outer, T = 7 (direct)": lambda rng: outer(rng, T=(7,)),
    "outer, T = 2 × 3": lambda rng: outer(rng, T=(2, 3), I=12, O=12),
    "shift": shift,
    "shift, T = 6": lambda rng: shift(rng, T=(2, 3)),
    "dense": dense,
    "dense, scalar": lambda rng: dense(rng, shape=()),
}


@pytest.fixture(params=KINDS, ids=str)
def use(request):
    return KINDS[request.param](np.random.default_rng(0))


def test_gradient_is_the_mean_over_examples(use):
    assert relative(use.gradient(), by_loop(use).mean(axis=0)) < 1e-14


def test_gradient_weighs_examples(use):
    weights = np.random.default_rng(1).normal(size=use.examples)
    expected = np.einsum("n,n...->...", weights, by_loop(use))
    assert relative(use.gradient(jnp.asarray(weights)), expected) < 1e-13


def test_per_example(use):
    assert relative(use.per_example(), by_loop(use)) < 1e-14


def test_squared_norms(use):
    expected = (by_loop(use).reshape(use.examples, -1) ** 2).sum(axis=1)
    assert relative(use.squared_norms(), expected) < 1e-13


@pytest.mark.parametrize("T, method", [((), "product"), ((1,), "product"), ((2,), "gram"), ((7,), "direct")])
def test_norm_method_follows_the_memory_rule(T, method):
    assert outer(np.random.default_rng(0), T=T).norm_method == method


def test_gram_norms_never_hold_a_per_example_gradient():
    use = outer(np.random.default_rng(0), N=8, T=(2,), I=300, O=300)
    sizes = [v.aval.size for e in jax.make_jaxpr(lambda u: u.squared_norms())(use).eqns for v in e.outvars]
    assert max(sizes) < 8 * 300 * 300 / 10


def test_keeps_the_parameters_dtype_and_accumulates_in_it():
    a = jnp.full((4096, 1), 1.0, jnp.bfloat16)
    use = jp.Outer(a, a, (1, 1), jnp.float32)  # half precision activations, single precision parameter
    assert use.gradient(jnp.ones(4096)).dtype == jnp.float32
    assert float(use.gradient(jnp.ones(4096))[0, 0]) == 4096.0  # bfloat16 counts to 256


def test_mean_is_taken_after_the_sum_so_that_half_precision_does_not_underflow():
    delta = jnp.full((256, 1), 1e-6, jnp.float16)  # δ/N would be 0 in float16
    use = jp.Outer(jnp.ones((256, 1), jnp.float16), delta, (1, 1), jnp.float16)
    assert float(use.gradient()[0, 0]) > 0


def test_wrong_number_of_weights_is_named(use):
    with pytest.raises(ShapeError, match=rf"weights: found shape \(2,\), expected \({use.examples},\)"):
        use.gradient(jnp.ones(2))


def test_a_use_travels_through_jit_vmap_and_scan(use):
    jitted = jax.jit(lambda u: u)(use)
    assert type(jitted) is type(use) and jitted.shape == use.shape
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), use)
    expected = jnp.stack([jp.Use.gradient(u) for u in (use, jax.tree.map(lambda leaf: 2 * leaf, use))])
    assert relative(jax.vmap(lambda u: u.gradient())(stacked), expected) < 1e-14
    _, scanned = jax.lax.scan(lambda c, u: (c, u.gradient()), 0, stacked)
    assert relative(scanned, expected) < 1e-14


def check_outer_against_loop(N, T, I, O, seed):
    use = outer(np.random.default_rng(seed), N, T, I, O)
    expected = by_loop(use)
    norms = (expected.reshape(N, -1) ** 2).sum(axis=1)
    assert relative(use.per_example(), expected) < 1e-12
    assert relative(use.gradient(), expected.mean(axis=0)) < 1e-12
    assert relative(use.squared_norms(), norms) < 1e-12


shapes = given(
    N=st.integers(1, 4),
    T=st.lists(st.integers(1, 4), max_size=2).map(tuple),
    I=st.integers(1, 6),
    O=st.integers(1, 6),
    seed=st.integers(0, 100),
)
test_any_shape = settings(max_examples=10, deadline=None)(shapes(check_outer_against_loop))
test_many_shapes = pytest.mark.slow(settings(max_examples=200, deadline=None)(shapes(check_outer_against_loop)))


# A stack of uses, as `Repeat` gives them

WIDE = {
    "outer, gram": lambda rng: outer(rng, N=8, T=(2,), I=64, O=64),
    "lookup": lambda rng: jp.Lookup(
        jnp.asarray(rng.integers(0, 512, (8, 4))), jnp.asarray(rng.normal(size=(8, 4, 8))), (512, 8), jnp.float64
    ),
}
LEAN = [name for name, quantity in QUANTITIES.items() if not quantity.builds_examples]


def stacked(use, L=3):
    """Blocks that differ, but for the rows that are looked up."""
    blocks = jax.tree.map(
        lambda a: np.stack([np.asarray(a) * (l + 1 if a.dtype == float else 1) for l in range(L)]), use
    )
    return jp.Stacked(jax.tree.map(jnp.asarray, blocks), (L, *use.shape), use.dtype)


@pytest.mark.parametrize("name", LEAN)
@pytest.mark.parametrize("kind", WIDE)
def test_a_stack_of_uses_takes_the_short_way_of_its_blocks(kind, name):
    """A method that `Stacked` forgets falls back on per-example gradients: the memory of its program tells."""
    use = stacked(WIDE[kind](np.random.default_rng(0)))
    weights = some_weights(use.examples, jnp.float64)
    compiled = jax.jit(QUANTITIES[name].by_use).lower(use, weights).compile()
    examples = 8 * use.examples * math.prod(use.shape)
    assert compiled.memory_analysis().temp_size_in_bytes < examples / 4


@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_of_uses_says_what_its_blocks_say(kind):
    use = stacked(KINDS[kind](np.random.default_rng(0)))
    weights = some_weights(use.examples, jnp.float64)

    @jax.jit
    def run(use):
        return by_uses(use, weights), by_examples(use.per_example(), weights)

    assert relative(*run(use)) < 1e-13


@pytest.mark.parametrize("jit", [False, True])
def test_gram_of_a_delta_that_is_constant_over_positions(jit):
    """XLA:CPU miscompiles d @ d.T whose operand is a broadcast (jax#39103): after mean pooling δ is one."""
    rng = np.random.default_rng(0)
    N, T, I, O = 64, 16, 32, 48
    x = jnp.asarray(rng.normal(size=(N, T, I)), jnp.float32)
    dy = jnp.asarray(rng.normal(size=(N, O)), jnp.float32)

    def norms(x, dy):
        pooled = jnp.broadcast_to(dy[:, None] / T, (N, T, O))
        use = jp.Outer(x, pooled, (I, O), jnp.float32)
        assert use.norm_method == "gram"
        return use.squared_norms()

    expected = ((np.asarray(x, np.float64).mean(1) ** 2).sum(1)) * (np.asarray(dy, np.float64) ** 2).sum(1)
    for _ in range(3):
        assert relative((jax.jit(norms) if jit else norms)(x, dy), expected) < 1e-5
