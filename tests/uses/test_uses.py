"""A `Use` against loops over examples: gradient, weights, per-example gradients and norms of every kind."""

import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.window import Window
from jaxprop.check.quantities import QUANTITIES, by_examples, by_uses, some_weights
from jaxprop.errors import ShapeError
from tests.cases import exported


def normal(rng, *shape, dtype=jnp.float64):
    return jnp.asarray(rng.normal(size=shape), dtype)


def outer(rng, N=5, T=(), I=3, O=4, dtype=jnp.float64):
    return jp.Outer(normal(rng, N, *T, I, dtype=dtype), normal(rng, N, *T, O, dtype=dtype), (I, O), dtype)


def shift(rng, N=5, T=(), O=4):
    return jp.Shift(normal(rng, N, *T, O), (O,), jnp.float64)


def scale(rng, N=5, T=(2,), C=3):
    return jp.Scale(normal(rng, N, *T, C), normal(rng, N, *T, C), (C,), jnp.float64)


def lookup(rng, N=5, T=4, V=3, D=2):
    return jp.Lookup(jnp.asarray(rng.integers(0, V, (N, T))), normal(rng, N, T, D), (V, D), jnp.float64)


def leading(rng, N=5, T=2, length=3, D=4):
    return jp.Leading(normal(rng, N, T, D), (length, D), jnp.float64)


def patch(rng, N=5, I=2, O=3):
    window = Window(kernel=(3,), strides=(2,), dilation=(1,), low=(1,), fine=(5,), coarse=(3,))
    return jp.Patch(normal(rng, N, 5, I), normal(rng, N, 3, O), (3, I, O), jnp.float64, window)


def several(rng):
    return jp.Several((outer(rng, T=(2,), I=3, O=4), outer(rng, I=4, O=3)), (False, True), (3, 4), jnp.float64)


def viewed(rng):
    view = jp.View((4, 5)).transposed((1, 0)).sliced((2, 0), (5, 4), (1, 1))
    return jp.Viewed(outer(rng, I=3, O=4), view, (4, 5), jnp.float64)


def dense(rng, N=5, shape=(2, 3)):
    return jp.Dense(normal(rng, N, *shape), shape, jnp.float64)


def stacked(use, L=3):
    """Blocks that differ, but for the rows that are looked up."""
    blocks = jax.tree.map(
        lambda a: np.stack([np.asarray(a) * (l + 1 if a.dtype == float else 1) for l in range(L)]), use
    )
    return jp.Stacked(jax.tree.map(jnp.asarray, blocks), (L, *use.shape), use.dtype)


def by_loop(term):
    """∂C_n/∂θ `[N, *shape]` by a loop over examples n and positions t, in plain numpy: Σ_t term(use, (n, *t))."""

    def run(use):
        use = jax.tree.map(np.asarray, use)
        result = np.zeros((len(use.delta), *use.shape))
        for at in itertools.product(*map(range, use.delta.shape[:-1])):
            result[at[0]] += term(use, at)
        return result

    return run


def window_by_window(use, at):
    """Σ_k of the outer products of what the window sees at k with δ."""
    result, (n, t), window = np.zeros(use.shape), at, use.window
    for k in range(window.kernel[0]):
        seen = window.strides[0] * t + window.dilation[0] * k - window.low[0]
        if 0 <= seen < window.fine[0]:
            result[k] = np.outer(use.a[n, seen], use.delta[at])
    return result


class Kind(NamedTuple):
    """One row of the table: how such a use is made, and its per-example gradients `[N, *shape]` in plain numpy."""

    make: Callable[[np.random.Generator], jp.Use]
    reference: Callable[[Any], np.ndarray]


of_outer = by_loop(lambda use, at: np.outer(use.a[at], use.delta[at]))
of_shift = by_loop(lambda use, at: use.delta[at])

KINDS = {
    "Outer": Kind(outer, of_outer),
    "Outer, T = 2 (gram)": Kind(lambda rng: outer(rng, T=(2,)), of_outer),
    "Outer, T = 7 (direct)": Kind(lambda rng: outer(rng, T=(7,)), of_outer),
    "Outer, T = 2 × 3": Kind(lambda rng: outer(rng, T=(2, 3), I=12, O=12), of_outer),
    "Shift": Kind(shift, of_shift),
    "Shift, T = 6": Kind(lambda rng: shift(rng, T=(2, 3)), of_shift),
    "Scale": Kind(scale, by_loop(lambda use, at: use.normalized[at] * use.delta[at])),
    "Lookup": Kind(lookup, by_loop(lambda use, at: np.outer(np.eye(use.shape[0])[use.ids[at]], use.delta[at]))),
    "Leading": Kind(leading, by_loop(lambda use, at: np.outer(np.eye(use.shape[0])[at[1]], use.delta[at]))),
    "Patch": Kind(patch, by_loop(window_by_window)),
    "Several": Kind(several, lambda use: of_outer(use.uses[0]) + np.swapaxes(of_outer(use.uses[1]), 1, 2)),
    "Viewed": Kind(viewed, lambda use: np.pad(np.swapaxes(of_outer(use.use), 1, 2), ((0, 0), (0, 0), (2, 0)))),
    "Stacked": Kind(lambda rng: stacked(shift(rng)), lambda use: np.moveaxis(np.asarray(use.use.delta), 0, 1)),
    "Dense": Kind(dense, lambda use: np.asarray(use.gradients)),
    "Dense, scalar": Kind(lambda rng: dense(rng, shape=()), lambda use: np.asarray(use.gradients)),
}


@pytest.fixture(scope="module", params=KINDS, ids=str)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def use(kind):
    with jax.enable_x64(True):
        return kind.make(np.random.default_rng(0))


@pytest.fixture(scope="module")
def examples(kind, use):
    return kind.reference(use)


class Answers(NamedTuple):
    """What a use is asked; what a stack of blocks is, against each example's; and gradients of blocks in three ways."""

    mean: jax.Array
    weighted: jax.Array
    per_example: jax.Array
    squared_norms: jax.Array
    stack: Any
    apart: jax.Array
    mapped: jax.Array
    scanned: jax.Array


@pytest.fixture(scope="module")
def answers(use):
    """Of one program."""

    @jax.jit
    def run(use, blocks, weights):
        assert type(use) is type(blocks.use) and use.shape == blocks.use.shape, "what travels is no longer the same"
        return Answers(
            *(use.gradient(), use.gradient(weights), use.per_example(), use.squared_norms()),
            stack=(by_uses(blocks, weights), by_examples(blocks.per_example(), weights)),
            apart=jnp.stack([jax.tree.map(lambda leaf, l=l: leaf[l], blocks.use).gradient() for l in range(3)]),
            mapped=jax.vmap(lambda u: u.gradient())(blocks.use),
            scanned=jax.lax.scan(lambda c, u: (c, u.gradient()), 0, blocks.use)[1],
        )

    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return run(use, stacked(use), jnp.asarray(WEIGHTS))


WEIGHTS = np.random.default_rng(1).normal(size=5)


def test_every_exported_use_has_a_row():
    made = {type(kind.make(np.random.default_rng(0))).__name__ for kind in KINDS.values()}
    missing = set(exported(jp.Use)) - {"Use"} - made
    assert not missing, f"no row in KINDS of tests/uses/test_uses.py: {sorted(missing)}"


def test_gradient_is_the_mean_over_examples(answers, examples):
    assert relative(answers.mean, examples.mean(axis=0)) < 1e-14


def test_gradient_weighs_examples(answers, examples):
    assert relative(answers.weighted, np.einsum("n,n...->...", WEIGHTS, examples)) < 1e-13


def test_per_example(answers, examples):
    assert relative(answers.per_example, examples) < 1e-14


def test_squared_norms(answers, examples):
    assert relative(answers.squared_norms, (examples.reshape(len(examples), -1) ** 2).sum(axis=1)) < 1e-13


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


def test_a_use_travels_through_jit_vmap_and_scan(answers):
    assert relative(answers.mapped, answers.apart) < 1e-14 and relative(answers.scanned, answers.apart) < 1e-14


def check_outer_against_loop(N, T, I, O, seed):
    use = outer(np.random.default_rng(seed), N, T, I, O)
    expected = of_outer(use)
    norms = (expected.reshape(N, -1) ** 2).sum(axis=1)
    found = jax.jit(lambda use: (use.per_example(), use.gradient(), use.squared_norms()))(use)
    for answer, right in zip(found, (expected, expected.mean(axis=0), norms), strict=True):
        assert relative(answer, right) < 1e-12


test_any_shape = pytest.mark.slow(
    settings(max_examples=30, deadline=None)(
        given(
            N=st.integers(1, 4),
            T=st.lists(st.integers(1, 4), max_size=2).map(tuple),
            I=st.sampled_from([1, 3, 6]),
            O=st.sampled_from([1, 4]),
            seed=st.integers(0, 100),
        )(check_outer_against_loop)
    )
)


# A stack of uses, as `Repeat` gives them

WIDE = {
    "outer, gram": lambda rng: outer(rng, N=8, T=(2,), I=64, O=64),
    "lookup": lambda rng: lookup(rng, N=8, V=512, D=8),
}
LEAN = [name for name, quantity in QUANTITIES.items() if not quantity.builds_examples]


@pytest.mark.parametrize("name", LEAN)
@pytest.mark.parametrize("kind", WIDE)
def test_a_stack_of_uses_takes_the_short_way_of_its_blocks(kind, name):
    """A method that `Stacked` forgets falls back on per-example gradients: the memory of its program tells."""
    use = stacked(WIDE[kind](np.random.default_rng(0)))
    weights = some_weights(use.examples, jnp.float64)
    compiled = jax.jit(QUANTITIES[name].by_use).lower(use, weights).compile()
    examples = 8 * use.examples * math.prod(use.shape)
    assert compiled.memory_analysis().temp_size_in_bytes < examples / 4, (
        f"{name}: holds [N, *shape]; write the shorter way in the kind and hand it on in Stacked, or set "
        "builds_examples=True in QUANTITIES"
    )


def test_a_stack_of_uses_says_what_its_blocks_say(answers):
    assert relative(*answers.stack) < 1e-13


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


@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 0.0)], ids=["sum", "weighted"])
@pytest.mark.parametrize("scanned", [False, True])
@pytest.mark.parametrize(("T", "I", "O"), [(8, 6, 2), (8, 2, 6), (2, 6, 2)], ids=["tall", "wide", "few rows"])
def test_a_product_is_the_same_lying_on_its_side_and_with_time_first(T, I, O, scanned, weights):
    rng = np.random.default_rng(0)
    a, delta = normal(rng, 3, T, I), normal(rng, 3, T, O)
    use = jp.Outer(a, delta, (I, O), a.dtype, scanned=scanned)
    weights = None if weights is None else jnp.array(weights)
    w = np.ones(3) if weights is None else weights
    np.testing.assert_allclose(jax.jit(use.total)(weights), np.einsum("n,nti,nto->io", w, a, delta), rtol=1e-12)
    written = str(jax.make_jaxpr(use.total)(weights))
    assert ("optimization_barrier" in written) == (I == 6 and T == 8)  # else turned back, or a copy as large as δ
    assert written.count("transpose[permutation=(1, 0, 2)]") == 2 * scanned
