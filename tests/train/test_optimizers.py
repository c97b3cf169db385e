"""What optimizers need beside a gradient, and which of two θ is for use: as plain loops over optax have it."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.train.steps import PROGRAMS_KEPT, Recipe, taking

X = np.random.default_rng(0).normal(size=(6, 2))
TARGETS = X @ np.array([[1.0], [-2.0]])
NET, HALF = jp.Linear(1, bias=False), jp.HalfSquaredError()
START = jp.LinearParams(W=np.array([[0.5], [0.3]]), b=None)
STEPS = 5


def fit(optimizer, epochs=STEPS, **options):
    """All rows in one batch: an epoch is a step."""
    usual = {"params": START, "epochs": epochs, "batch_size": 6, "progress": False}
    return jp.fit(NET, HALF, optimizer, (X, TARGETS), **usual | options)


def cost(params):
    return jnp.mean(HALF(NET(X, params), TARGETS))


gradient = jax.jit(jax.grad(cost))


def climb(optimizer, params=None, at=lambda p: p, for_use=lambda p, state: p, **extra):
    """A plain loop over optax, and the θ that is for use after it."""
    params = jax.tree.map(jnp.asarray, START) if params is None else params
    with jax.numpy_dtype_promotion("standard"):
        state = optimizer.init(params)
        update = jax.jit(lambda *given: optimizer.update(*given, **extra))
        for _ in range(STEPS):
            updates, state = update(gradient(at(params)), state, params)
            params = optax.apply_updates(params, updates)
        return for_use(params, state)


def test_lookahead_gives_the_slow_of_its_two():
    optimizer = optax.lookahead(optax.sgd(0.1), 2, 0.5)
    pair = optax.LookaheadParams.init_synced(jax.tree.map(jnp.asarray, START))
    found, pair = fit(optimizer).params, climb(optimizer, pair, lambda p: p.fast)
    assert relative(found, pair.slow) < 1e-12 < 1e-3 < relative(found, pair.fast)


@pytest.mark.parametrize("wrap", [lambda o: o, lambda o: optax.chain(optax.clip(10.0), o)], ids=["alone", "in a chain"])
def test_schedule_free_gives_its_average(wrap):
    free = optax.contrib.schedule_free_sgd(0.3)
    steps = climb(free)
    average = climb(free, for_use=lambda p, state: optax.contrib.schedule_free_eval_params(state, p))
    found = fit(wrap(free)).params
    assert relative(found, average) < 1e-12 < 1e-3 < relative(found, steps)


def test_sharpness_aware_minimization_takes_a_gradient_and_never_ends_at_an_adversarial_point():
    climber = optax.sgd(0.05)
    opaque = optax.contrib.sam(optax.sgd(0.1), climber, opaque_mode=True)
    assert relative(fit(opaque).params, climb(opaque, grad_fn=lambda p, i: jax.grad(cost)(p))) < 1e-12
    each = optax.contrib.sam(optax.sgd(0.1), climber)  # a step up, a step down: after five it stands above
    assert relative(fit(each).params, fit(opaque, 2).params) < 1e-12


@pytest.mark.slow
def test_line_searches_and_second_order_get_the_cost_as_a_function():
    search = optax.chain(optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10, store_grad=True))
    sophia = optax.contrib.sophia(0.1, update_interval=2)
    for optimizer, below in ((search, 0.05), (sophia, 0.5)):
        costs = [row["cost"] for row in fit(optimizer, 8).history]
        assert costs[-1] < below * costs[0]


@pytest.mark.slow
@pytest.mark.parametrize("grad", ["auto", "manual"])
def test_lbfgs_solves_a_quadratic(grad):
    assert fit(optax.lbfgs(), 12, grad=grad).history[-1]["cost"] < 1e-16


def test_an_optimizer_that_needs_more_is_told_what_there_is():
    def update(grads, state, params=None, *, hessian, **_):
        raise AssertionError

    needs = optax.GradientTransformationExtraArgs(lambda params: (), update)
    inside = optax.chain(optax.clip(1.0), optax.lookahead(optax.sgd(0.1), 2, 0.5))
    for optimizer, what in ((needs, "'hessian'"), (inside, "'fast'")):
        with pytest.raises(
            JaxpropError, match=rf"takes no step: .*{what}.* value, grad, value_fn, obj_fn, grad_fn, collect_fn; for"
        ):
            fit(optimizer)


def test_the_programs_of_a_sweep_do_not_stay():
    """4 MB each; the next few runs take their place."""
    first = weakref.ref(taking(Recipe(NET, HALF, optax.sgd(0.1), "auto")))
    for rate in range(PROGRAMS_KEPT):
        taking(Recipe(NET, HALF, optax.sgd(float(rate)), "auto"))
    gc.collect()
    assert first() is None
