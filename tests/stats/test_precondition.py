"""`precondition`: its inverses against dense ones, its averages, and `fit` against a loop by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.paths import dotted
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.stats import Factors, KroneckerFactors, collect, precondition
from jaxprop.stats.precondition import inverse
from tests.drawing import draw

HALF = jp.HalfSquaredError()


def normal(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).normal(size=shape)


def positive(*shape, seed=0):
    """Some symmetric positive definite blocks."""
    some = normal(*shape, seed=seed)
    return some @ np.swapaxes(some, -1, -2) + 0.1 * np.eye(shape[-1])


FACTORS = {
    "a weight": Factors(positive(3, 3), positive(2, 2), view=(1, 3, 1, 2)),
    "a table": Factors(np.array([2.0, 0.0, 1.0]), positive(2, 2), (True, False), (1, 3, 1, 2)),
    "a diagonal": Factors(np.ones((1, 1)), np.array([2.0, 0.0]), (False, True), (1, 1, 1, 2)),
    "a convolution of 2 groups": Factors(positive(2, 4, 4), positive(2, 3, 3), view=(2, 2, 2, 3)),
    "a transposed convolution of 2 groups": Factors(
        positive(2, 6, 6), positive(2, 2, 2), view=(2, 2, 2, 3), flipped=True
    ),
    "nothing seen yet": Factors(np.zeros((3, 3)), np.zeros((2, 2)), view=(1, 3, 1, 2)),
}


@pytest.mark.parametrize("name", FACTORS)
def test_an_inverse_is_that_of_both_damped_sides(name):
    factors, damping = jax.tree.map(jnp.asarray, FACTORS[name]), 0.3

    def dense(side, diagonal):
        return np.stack([np.diag(row) for row in side.reshape(-1, side.shape[-1])]) if diagonal else np.asarray(side)

    A, B = (dense(s, d) for s, d in zip((factors.A, factors.B), factors.diagonal, strict=True))
    A, B = A.reshape(-1, *A.shape[-2:]), B.reshape(-1, *B.shape[-2:])
    means = [np.trace(M, axis1=1, axis2=2) / M.shape[-1] for M in (A, B)]
    pi = np.sqrt(np.where(means[1] > 0, means[0] / np.where(means[1] > 0, means[1], 1), 1))[:, None, None]
    A = A + pi * damping**0.5 * np.eye(A.shape[-1])
    B = B + damping**0.5 / pi * np.eye(B.shape[-1])
    groups = (slice(None),) if factors.view[2] > 1 else (0,)
    damped = Factors(jnp.asarray(A[groups]), jnp.asarray(B[groups]), view=factors.view, flipped=factors.flipped)
    product = jax.jit(lambda factors, damped: inverse(factors, damping).matrix() @ damped.matrix())
    assert relative(product(factors, damped), np.eye(int(np.prod(factors.view)))) < 1e-12


NET = jp.Chain(jp.Linear(3), jp.Tanh(), jp.Repeat(jp.Linear(3), 2), jp.Linear(2))
DATA = normal(8, 4), normal(8, 2)


@functools.cache
def problem():
    """θ, and a function of it that computes the gradient and the exact factors."""
    run = jax.jit(collect(NET, HALF, [KroneckerFactors(errors="exact")]))

    def found(params):
        _, grads, (factors,) = run(DATA[0], params, DATA[1])
        return grads, factors

    return draw(NET, DATA[0]), found


def is_factors(node):
    return isinstance(node, Factors)


def test_fit_gives_the_factors_of_every_batch():
    """Five steps of `fit`, and the same by hand: factors of steps 0, 2 and 4, inverses of steps 0, 1, 2 and 3."""
    params, run = problem()
    settings = {"momentum": 0.5, "damping": 0.1, "clip": 0.05, "every": 2, "inverse_every": 3, "errors": "exact"}
    optimizer = precondition(NET, HALF, DATA, 0.1, **settings)
    given = {"params": params, "epochs": 5, "batch_size": len(DATA[0]), "progress": False}
    found = jp.fit(NET, HALF, optimizer, DATA, **given).params

    @jax.jit
    def inverted(factors):
        return jax.tree.map(lambda f: inverse(f, 0.1), factors, is_leaf=is_factors)

    @jax.jit
    def directions_of(inverses, grads):
        return jax.tree.map(lambda f, g: f.times(g), inverses, grads, is_leaf=is_factors)

    averaged, inverses, velocity = None, None, jax.tree.map(np.zeros_like, params)
    for step in range(5):
        grads, factors = jax.device_get(run(params))
        if step == 0:
            averaged = factors
        elif step == 2:
            averaged = jax.tree.map(lambda old, new: (old + new) / 2, averaged, factors)
        if step in (0, 1, 2, 3):
            inverses = inverted(averaged)
        directions = jax.device_get(directions_of(inverses, grads))
        length = sum(np.sum(d * g) for d, g in zip(*map(jax.tree.leaves, (directions, grads)), strict=True))
        shorter = np.minimum(1, np.sqrt(0.05 / 0.1**2 / length))
        velocity = jax.tree.map(lambda v, d, s=shorter: 0.5 * v + s * d, velocity, directions)
        params = jax.tree.map(lambda p, v: np.asarray(p) - 0.1 * v, params, velocity)
    assert relative(found, params) < 1e-10


@pytest.mark.slow
def test_a_short_step_is_not_clipped_and_a_long_one_is():
    params, run = problem()
    grads, factors = run(params)

    def lengths(*clips):
        @jax.jit
        def updated(params, grads, factors):
            optimizers = [precondition(NET, HALF, DATA, clip=clip, errors="exact") for clip in clips]
            return [o.update(grads, o.init(params), params, factors=factors)[0] for o in optimizers]

        return [
            sum(np.sum(np.multiply(u, g)) for u, g in zip(*map(jax.tree.leaves, (updates, grads)), strict=True))
            for updates in updated(params, grads, factors)
        ]

    (free,) = lengths(None)
    assert lengths(2 * free, free / 4) == pytest.approx([free, (free * free / 4) ** 0.5], rel=1e-12)


@pytest.mark.slow
def test_it_goes_into_a_chain_and_a_compiled_step():
    params, _ = problem()
    core = precondition(NET, HALF, DATA, clip=None)
    optimizer = optax.chain(core, optax.scale(-0.1))
    run = collect(NET, HALF, [KroneckerFactors()])

    @jax.jit
    def step(params, state, key):
        _, grads, (factors,) = run(DATA[0], params, DATA[1], rng=key)
        updates, state = optimizer.update(grads, state, params, factors=factors)
        return optax.apply_updates(params, updates), state

    after, state = step(params, optimizer.init(params), jax.random.key(0))
    assert jax.tree.structure(state) == jax.tree.structure(optimizer.init(params))
    assert relative(after, params) > 1e-4


@pytest.mark.slow
def test_masked_parameters_are_left_to_others_and_the_rest_goes_as_ever():
    """Weights by their factors, biases by a rate of their own: in `fit`, and as `optax.masked` in a loop."""
    params, run = problem()
    core = precondition(NET, HALF, DATA, clip=None, errors="exact")
    weights = jax.tree_util.tree_map_with_path(lambda path, _: dotted(path).endswith("W"), params)
    masked = optax.masked(core, weights)
    grads, factors = run(params)

    @jax.jit
    def updated(params, grads, factors):
        whole, _ = core.update(grads, core.init(params), params, factors=factors)
        state = masked.init(params)
        updates, after = masked.update(grads, state, params, factors=factors)
        assert jax.tree.structure(after) == jax.tree.structure(state)
        return whole, updates

    whole, updates = jax.device_get(updated(params, grads, factors))
    expected = jax.tree.map(lambda w, there, g: w if there else g, whole, weights, grads)
    assert relative(updates, expected) < 1e-12

    kinds = jax.tree.map(lambda there: "weights" if there else "frozen", weights)
    optimizer = optax.partition({"weights": optax.chain(core, optax.scale(-0.1)), "frozen": optax.set_to_zero()}, kinds)
    given = {"params": params, "epochs": 1, "batch_size": len(DATA[0]), "progress": False}
    moved = jp.fit(NET, HALF, optimizer, DATA, **given).params
    by_hand = jax.tree.map(lambda p, w, there: p - 0.1 * w if there else p, jax.device_get(params), whole, weights)
    assert relative(moved, by_hand) < 1e-12


@pytest.mark.slow
def test_a_rate_that_is_no_python_float_is_clipped_by_as_it_is():
    params, run = problem()
    rates = 0.1, np.float32(0.1), jnp.asarray(0.1)

    @jax.jit
    def updated(params, grads, factors):
        optimizers = [precondition(NET, HALF, DATA, rate, clip=1e-3, errors="exact") for rate in rates]
        return [o.update(grads, o.init(params), params, factors=factors)[0] for o in optimizers]

    with jax.numpy_dtype_promotion("standard"):
        expected, *found = updated(params, *run(params))
    assert all(relative(updates, expected) < 1e-6 for updates in found)


def test_an_update_without_factors_says_where_they_come_from():
    params, _ = problem()
    optimizer = precondition(NET, HALF, DATA, 0.1)
    with pytest.raises(
        JaxpropError, match=r"give factors=, which stats\.collect\(net, cost, \[stats\.KroneckerFactors\("
    ):
        optimizer.update(params, optimizer.init(params), params)
    with pytest.raises(JaxpropError, match=r"hands on no more than gradients, such as optax\.MultiSteps"):
        jp.fit(NET, HALF, optax.MultiSteps(optimizer, 2).gradient_transformation(), DATA, epochs=1, progress=False)


@pytest.mark.parametrize(
    "settings",
    [
        {"damping": 0},
        {"damping": "much"},
        {"clip": -1.0},
        {"momentum": 1.0},
        {"decay": -0.1},
        {"every": 0},
        {"inverse_every": 1.5},
    ],
    ids=lambda settings: "-".join(map(str, next(iter(settings.items())))),
)
def test_wrong_settings_are_named(settings):
    with pytest.raises(JaxpropError, match=f"precondition: {next(iter(settings))}"):
        precondition(NET, HALF, DATA, 0.1, **settings)


def test_what_mixes_examples_is_refused():
    with pytest.raises(JaxpropError, match="KroneckerFactors"):
        precondition(jp.Chain(NET, jp.BatchNorm()), HALF, DATA, 0.1)
