"""Second moment, variance, signal to noise, noise scale and gradient tests: unbiased, and by the weights alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from tests.drawing import draw
from tests.stats.cases import Problem
from tests.stats.moments import noise_scale

NET = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(2))
COST = jp.HalfSquaredError()
EVERY = (
    jp.stats.SecondMoment(),
    jp.stats.Variance(),
    jp.stats.Variance(unbiased=True),
    jp.stats.SignalToNoise(),
    jp.stats.NoiseScale(),
    jp.stats.NoiseScale("layer"),
    jp.stats.GradientTests(),
)


def rows(seed, *shape):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(*shape, 4))), jnp.asarray(rng.normal(size=(*shape, 2)) + 1)


def params_of():
    return draw(NET, jnp.ones((2, 4)))


@jax.jit
def collected(x, params, targets, weights):
    return jp.stats.collect(NET, COST, EVERY)(x, params, targets, weights=weights).found


def found(x, targets, weights):
    return collected(x, params_of(), targets, weights)


def size(tree):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(tree))


# Monte Carlo: 4,000 batches of 6, and the truth from a million examples, so that its own error is small beside theirs


@functools.cache
def truth():
    """Gradient and variances over the whole population, to a part in a thousand."""
    x, targets = rows(1, 10, 100_000)
    asked = [jp.stats.Variance(unbiased=True)]
    run = jax.jit(jp.stats.collect(NET, COST, asked))
    parts = [run(x[i], params_of(), targets[i]) for i in range(len(x))]
    mean = jax.tree.map(lambda *g: sum(g) / len(g), *(part.grads for part in parts))
    variance = jax.tree.map(lambda *v: sum(v) / len(v), *(part.found[0] for part in parts))
    return mean, variance


@pytest.mark.slow
@pytest.mark.parametrize("weights", [None, [3.0, 1.0, 1.0, 0.5, 0.5, 0.0]], ids=["mean", "weighted"])
def test_estimates_are_unbiased(weights):
    """The mean of 4,000 batches lies within 4 standard errors of the truth: by chance it does not 1 time in 16,000."""
    weights = None if weights is None else jnp.asarray(weights)
    mean, variance = truth()
    x, targets = rows(2, 4000, 6)
    params, asked = params_of(), [jp.stats.NoiseScale(), jp.stats.Variance(unbiased=True)]
    run = jp.stats.collect(NET, COST, asked)
    noise, variances = jax.jit(jax.vmap(lambda x, t: run(x, params, t, weights=weights).found))(x, targets)
    first = variances[0].W[:, 0, 0]
    total = sum(map(jnp.sum, jax.tree.leaves(variance)))
    for name, estimates, expected in (
        ("numerator", noise.numerator, total),
        ("denominator", noise.denominator, size(mean)),
        ("one variance", first, variance[0].W[0, 0]),
    ):
        error = jnp.std(estimates) / len(estimates) ** 0.5
        z = (jnp.mean(estimates) - expected) / error
        assert error < 0.05 * expected, name  # a bias of 1/N, the 17 % of not correcting for it, is seen
        assert abs(z) < 4, (name, float(z))


# Weights


weights_of_five = st.lists(st.floats(0.1, 10), min_size=5, max_size=5)


@settings(max_examples=8, deadline=None)
@given(weights=weights_of_five, by=st.floats(0.01, 100), seed=st.integers(0, 50))
def test_weights_count_in_proportion(weights, by, seed):
    """Scaled weights change the second moment, a weighted sum, and nothing else."""
    x, targets = rows(seed, 5)
    weights = jnp.asarray(weights)
    second, *one = found(x, targets, weights)
    scaled, *other = found(x, targets, by * weights)
    assert relative(jax.tree.map(lambda s: s / by, scaled), second) < 1e-12
    assert relative(other, one) < 1e-7  # the ratios of small differences


def test_a_weight_of_0_leaves_an_example_out():
    x, targets = rows(0, 5)
    with_it = found(x, targets, jnp.asarray([0.5, 0.25, 0.0, 0.125, 0.125]))
    at = jnp.asarray([0, 1, 3, 4])
    without = found(x[at], targets[at], jnp.asarray([0.5, 0.25, 0.125, 0.125]))
    assert relative(with_it, without) < 1e-10


@pytest.mark.parametrize("weights", [None, [0.3, 0.0, 0.0, 0.0, 0.0]], ids=["one row", "one weight"])
def test_of_one_example_nothing_is_known_of_the_spread(weights):
    """0/0, and not what rounding left, divided by 0."""
    x, targets = rows(0, 5 if weights else 1)
    *_, unbiased, _, noise, layers, tests = found(x, targets, weights and jnp.asarray(weights))
    parts = [part[:3] for part in (noise, layers)]  # without the number of steps
    assert all(np.isnan(a).all() for a in jax.tree.leaves((unbiased, parts, tests)))


def test_equal_weights_are_the_mean():
    x, targets = rows(0, 5)
    assert relative(found(x, targets, jnp.full(5, 0.2)), found(x, targets, None)) < 1e-12


# What they mean


def test_variances_add_up_to_the_numerator_and_tests_as_pythagoras_says():
    x, targets = rows(3, 5)
    _, _, unbiased, _, noise, layers, tests = found(x, targets, None)
    assert relative(sum(map(jnp.sum, jax.tree.leaves(unbiased))), noise.numerator) < 1e-12
    assert list(layers.numerator) == ["0", "2"]
    assert relative(sum(layers.numerator.values()), noise.numerator) < 1e-12
    assert relative(tests.inner_product**2 + tests.orthogonality**2, tests.norm**2) < 1e-12
    mean = jp.manual.value_and_grad(NET, COST)(x, params_of(), targets)[1]
    assert relative(jnp.sqrt(noise.numerator / 5 / size(mean)), tests.norm) < 1e-12


@pytest.mark.slow
def test_examples_that_are_all_alike_have_no_variance():
    """In float32 the difference of the moments is rounding, of either sign: it is never below 0."""
    x, targets = (jnp.repeat(a[:1], 64, axis=0).astype("float32") for a in rows(4, 1))
    params = jax.tree.map(lambda p: p.astype("float32"), params_of())
    asked = [jp.stats.Variance(), jp.stats.NoiseScale(), jp.stats.GradientTests()]
    _, grads, (variance, noise, tests) = jax.jit(jp.stats.collect(NET, COST, asked))(x, params, targets)
    for v, g in zip(jax.tree.leaves(variance), jax.tree.leaves(grads), strict=True):
        assert (v >= 0).all() and (v <= 1e-5 * g**2 + 1e-12).all()
    assert abs(noise.scale) < 1e-5 and max(tests) < 1e-2 and not np.isnan(max(tests))


def test_half_precision_is_summed_in_single():
    """A squared gradient of 300 is more than float16 holds."""
    net = jp.Linear(1, bias=False)
    x = jnp.asarray([[300.0], [100.0]], "float16")
    params = net.init(jax.random.key(0), x)._replace(W=jnp.ones((1, 1), "float16"))
    targets = x - 1  # δ = 1, g = x
    asked = [jp.stats.SecondMoment(), jp.stats.Variance(), jp.stats.NoiseScale(), jp.stats.GradientTests()]
    run = jax.jit(jp.stats.collect(net, COST, asked))
    _, grads, (second, variance, noise, tests) = run(x, params, targets)
    assert grads.W.dtype == "float16" and {leaf.dtype.name for leaf in (second.W, variance.W)} == {"float32"}
    assert (float(second.W[0, 0]), float(variance.W[0, 0])) == (50_000, 10_000)
    assert float(noise.numerator) == 20_000 and abs(float(tests.norm) - 0.5) < 1e-6


@pytest.mark.slow
def test_the_noise_scale_of_every_array_and_of_every_block_of_a_repeat():
    net = jp.Chain(jp.Linear(3), jp.Repeat(jp.Chain(jp.Linear(3), jp.Repeat(jp.Linear(3), 2)), 2), jp.Linear(2))
    x, targets = rows(5, 4)
    problem = Problem(net, COST, x, draw(net, x), targets, jnp.asarray([0.5, 1.0, 1.5, 2.0]))
    asked = [jp.stats.NoiseScale("parameter"), jp.stats.NoiseScale("layer"), jp.stats.NoiseScale()]
    run = jax.jit(jp.stats.collect(net, COST, asked))
    each, layers, total = run(x, problem.params, targets, weights=problem.weights).found
    assert each.scale[1].inner[1].inner.W.shape == (2, 2)
    assert relative(each, noise_scale(problem, "parameter")) < 1e-10
    inner = each.numerator[1].inner[1].inner
    assert relative(layers.numerator["1.inner.1.inner"], inner.W + inner.b) < 1e-12
    for found in (each, layers):
        assert relative(sum(map(jnp.sum, jax.tree.leaves(found.denominator))), total.denominator) < 1e-12


# Over steps


def test_numerator_and_denominator_are_averaged_apart():
    quantity = jp.stats.NoiseScale(decay=0.5)
    steps = [jp.stats.Noise(*map(jnp.asarray, (n / d, n, d, 1.0))) for n, d in ((8.0, 1.0), (3.0, -1.0), (4.0, 3.0))]
    mean = None
    for step in steps:
        mean = quantity.over_steps(mean, step)
    weights = np.array([0.25, 0.5, 1.0])
    numerator, denominator = weights @ [8, 3, 4] / 1.75, weights @ [1, -1, 3] / 1.75
    assert relative(mean, (numerator / denominator, numerator, denominator, 1.75)) < 1e-14


def test_the_first_step_is_its_own_mean_and_layers_are_folded_each_for_itself():
    now = found(*rows(0, 5), None)[5]
    quantity = EVERY[5]
    assert quantity.over_steps(None, now) is now
    folded = quantity.over_steps(now, now)
    assert relative(folded[:3], now[:3]) < 1e-14 and float(folded.steps) == 1 + quantity.decay


@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_wrong_decay_is_refused(decay):
    with pytest.raises(JaxpropError, match="decay must be a number from 0 up to 1"):
        jp.stats.NoiseScale(decay=decay)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan")])
def test_a_wrong_epsilon_is_refused(epsilon):
    with pytest.raises(JaxpropError, match="epsilon must be a positive number"):
        jp.stats.SignalToNoise(epsilon=epsilon)
