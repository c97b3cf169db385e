"""The clipped gradient: its edge cases, its bound, padding and microbatches, half precision, and what it costs.

Every layer and network is compared with loops in `test_every_quantity.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw
from tests.stats.cases import Problem, clipped, examples_norms

COST = jp.HalfSquaredError()
NET = jp.Chain(jp.Linear(4), jp.ReLU(), jp.Linear(2))
N = 6


def rows(count=N, features=3):
    rng = np.random.default_rng(0)
    return rng.normal(size=(count, features)), rng.normal(size=(count, 2))


def asked(net, *quantities):
    """Some quantities and nothing else, of a jitted step."""
    step = jax.jit(jp.stats.collect(net, COST, quantities))
    return lambda x, params, targets, weights=None: jax.device_get(step(x, params, targets, weights=weights).found)


gradient = jax.jit(jp.auto.value_and_grad(NET, COST))


def each(x, params, targets):
    """[(‖g_n‖, g_n)], example by example."""
    grads = [jax.device_get(gradient(x[n : n + 1], params, targets[n : n + 1])[1]) for n in range(len(x))]
    return [(float(np.sqrt(sum(np.sum(a * a) for a in jax.tree.leaves(g)))), g) for g in grads]


def added(grads):
    return jax.tree.map(lambda *parts: sum(parts[1:], parts[0]), *grads)


def test_examples_without_a_finite_gradient_and_with_none_at_all():
    """Rows 1 and 2 are NaN and infinite, row 3 is right already: its gradient is 0."""
    x, targets = rows()
    params = draw(NET, x)
    targets[3] = NET(x, params)[3]
    spoiled = x.copy()
    spoiled[1, 0], spoiled[2, 1] = np.nan, np.inf
    (found,) = asked(NET, jp.stats.ClippedGradient(2.0))(spoiled, params, targets)
    alone = each(x, params, targets)
    good = [optax.tree.scale(min(1, 2.0 / (norm or 1)), g) for norm, g in alone]
    assert relative(found.gradient, added([good[n] for n in (0, 3, 4, 5)])) <= 1e-12
    assert int(found.dropped) == 2 and found.norms[3] == 0
    assert not np.isfinite(found.norms[1]) and not np.isfinite(found.norms[2])
    assert relative(found.norms[4], alone[4][0]) <= 1e-12
    assert float(found.fraction) == sum(alone[n][0] > 2 for n in (0, 3, 4, 5)) / N and 0 < found.fraction < 4 / N


def test_rows_of_weight_0_add_nothing_and_are_not_counted():
    x, targets = rows()
    params = draw(NET, x)
    clip = asked(NET, *(jp.stats.ClippedGradient(0.5, per) for per in ("total", "layer", "parameter")))
    filled = x.copy()
    filled[4], filled[5] = 100.0, np.nan
    of_four = clip(x[:4], params, targets[:4])
    for padded, alone in zip(clip(filled, params, targets, np.array([1.0, 1, 1, 1, 0, 0])), of_four, strict=True):
        assert relative(padded.gradient, alone.gradient) <= 1e-12
        assert padded.fraction == alone.fraction > 0 and int(padded.dropped) == 0


def test_nothing_and_everything_may_pass():
    x, targets = rows()
    params = draw(NET, x)
    targets[3] = NET(x, params)[3]  # the gradient of row 3 is 0, and 0/0 is nowhere
    nothing, everything = asked(NET, *map(jp.stats.ClippedGradient, (0.0, np.inf)))(x, params, targets)
    whole = added([g for _, g in each(x, params, targets)])
    assert relative(everything.gradient, whole) <= 1e-12
    assert relative(nothing.gradient, jax.tree.map(np.zeros_like, whole)) == 0
    assert (everything.fraction, nothing.fraction) == (0, (N - 1) / N)
    assert int(everything.dropped) == int(nothing.dropped) == 0


SIZE = 4


def test_microbatches_add_up_to_the_whole():
    x, targets = rows(9)
    params = draw(NET, x)
    clip = asked(NET, *(jp.stats.ClippedGradient(1.0, per) for per in ("total", "layer")))
    whole = [found.gradient for found in clip(x, params, targets)]

    @settings(max_examples=8, deadline=None, database=None)
    @given(st.permutations(range(9)), st.lists(st.integers(1, SIZE), min_size=9, max_size=9))
    def any_order_and_any_sizes(order, sizes):
        parts, start = [], 0
        for size in sizes:
            taken = order[start : start + size]
            start += size
            at = np.array([*taken, *[0] * (SIZE - len(taken))])
            real = (np.arange(SIZE) < len(taken)).astype(x.dtype)
            parts.append([found.gradient for found in clip(x[at], params, targets[at], real)])
        assert relative(added(parts), whole) <= 1e-12

    any_order_and_any_sizes()


NESTED = jp.Chain(
    jp.Linear(4),
    jp.Repeat(jp.Chain(jp.Linear(4), jp.Repeat(jp.Chain(jp.Tanh(), jp.Linear(4)), 2)), 3),
    jp.Shared(jp.Chain(jp.Linear(4, bias=False), jp.Tanh(), jp.Linear(4)), ties=(("0.W", "2.W", True),)),
    jp.Linear(2),
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("per", ["total", "layer", "parameter"])
def test_blocks_of_a_repeat_are_layers_and_tied_arrays_are_one(per):
    x, targets = rows()
    problem = Problem(NESTED, COST, x, draw(NESTED, x), targets, weights=np.linspace(0.5, 2, N))
    quantities = [jp.stats.ClippedGradient(0.3, per), jp.stats.ExampleNorms(per), jp.stats.ExampleGradients()]
    run = jax.jit(jp.stats.collect(NESTED, COST, quantities))
    found, norms, gradients = jax.device_get(run(x, problem.params, targets, weights=problem.weights).found)
    expected = clipped(0.3, per)(problem)
    assert relative(found.gradient, expected.gradient) <= 1e-10 and found.fraction == expected.fraction
    assert relative(norms, examples_norms(per)(problem)) <= 1e-10
    assert relative(gradients, problem.examples) <= 1e-10
    if per == "layer":
        assert {path: norm.shape for path, norm in norms.items()}["1.inner.1.inner.1"] == (3, 2, N)
        assert list(jax.eval_shape(run, x, problem.params, targets).found[1]) == sorted(norms)
    row = np.arange(N) == 1
    spoiled = run(np.where(row[:, None], np.nan, x), problem.params, targets, weights=problem.weights).found[0]
    without = run(x, problem.params, targets, weights=np.where(row, 0, problem.weights)).found[0]
    assert relative(spoiled.gradient, without.gradient) <= 1e-12 and int(spoiled.dropped) == 1


@pytest.mark.parametrize("dtype", ["float16", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_in_half_precision_norms_neither_overflow_nor_is_the_bound_lost(dtype):
    """‖g‖² is beyond float16, and c = C / ‖g‖ = 1e-7 is one that float16 rounds by a fifth."""
    net, x = jp.Linear(4, bias=False), jnp.full((3, 4), 500.0, dtype)
    params = jax.tree.map(lambda p: jnp.zeros(p.shape, dtype), net.init(jax.random.key(0), x))
    (found,) = asked(net, jp.stats.ClippedGradient(1e-4))(x, params, jnp.full((3, 4), -0.5, dtype))
    norm = np.sqrt(16 * 250**2)
    assert relative(found.norms, np.full(3, norm, "float32")) <= 1e-3 and found.gradient.W.dtype == jnp.float32
    assert relative(np.sqrt(np.sum(found.gradient.W**2)), np.float32(3e-4)) <= 4e-3
    assert float(found.fraction) == 1 and int(found.dropped) == 0


def test_it_builds_no_gradients_of_examples():
    net = jp.Chain(*[jp.Linear(128), jp.Tanh()] * 3, jp.Linear(2))
    x, targets = jnp.ones((64, 4, 128), "float32"), jnp.ones((64, 4, 2), "float32")
    params = jax.tree.map(lambda p: p.astype("float32"), draw(net, x))
    plain, ours = (
        jax.jit(run).lower(x, params, targets).compile().memory_analysis().temp_size_in_bytes
        for run in (jp.manual.value_and_grad(net, COST), jp.stats.collect(net, COST, [jp.stats.ClippedGradient(1.0)]))
    )
    assert ours < plain + 4 * 64 * 128 * 128 / 2  # half of the gradients of the examples of one layer


def test_the_second_call_compiles_nothing(compilations):
    x, targets = rows()
    params = draw(NET, x)
    clip = asked(NET, jp.stats.ClippedGradient(1.0))
    clip(x, params, targets)
    others = x + 1
    with compilations() as count:
        clip(others, params, targets)
    assert count[0] == 0


@pytest.mark.parametrize(
    "make, said",
    [
        (lambda: jp.stats.ClippedGradient(-1.0), r"ClippedGradient: norm must be a number ≥ 0, found -1.0"),
        (lambda: jp.stats.ClippedGradient(float("nan")), r"must be a number ≥ 0, found nan"),
        (lambda: jp.stats.ClippedGradient("1"), r"ClippedGradient: norm must be a number, found '1'"),
        (lambda: jp.stats.ClippedGradient(1.0, "batch"), r"per must be 'total' or 'layer' or 'parameter', found 'bat"),
        (
            lambda: jp.stats.collect(jp.Chain(jp.BatchNorm()), COST, [jp.stats.ClippedGradient(1.0)]),
            r"ClippedGradient\(1.0\): found BatchNorm\(\) at 0.*GroupNorm",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, said):
    with pytest.raises(jp.JaxpropError, match=said):
        make()
