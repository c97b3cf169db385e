"""Every quantity of the table × every layer and network, against per-example loops: alone, weighted, and sharded."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.cases import LAYERS
from tests.drawing import draw
from tests.network.test_networks import NETWORKS, TIED
from tests.stats.cases import ROWS, Problem


def of_a_layer(case):
    """A layer alone, with half the squared error of what comes out."""
    x, env = case.x(jnp.float64), case.env() or jp.Env()
    params = case.params(jnp.float64)
    y = jax.eval_shape(case.layer, x, params, env)
    targets = jnp.asarray(np.random.default_rng(5).normal(size=y.shape))
    return Problem(case.layer, jp.HalfSquaredError(), x, params, targets, None, env.rng, env.mask)


def of_a_network(name):
    """A whole network, with the cross-entropy of its classes."""
    net, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 5, shape) if name in TIED else rng.normal(size=shape))
    targets = jnp.asarray(rng.integers(0, 3, shape if name in TIED else len(x)))
    return Problem(net, jp.SoftmaxCrossEntropy(), x, draw(net, x), targets)


def tried(case):
    """Whether a quantity of one example exists, with something to say of a parameter."""
    if case.layer.mixes_examples:
        return False
    params = jax.eval_shape(lambda: case.params(jnp.float64))
    y = jax.eval_shape(lambda: case.layer(case.x(jnp.float64), case.params(jnp.float64), case.env()))
    return bool(jax.tree.leaves(params)) and jnp.issubdtype(y.dtype, jnp.floating)


def subjects():
    """Every layer with parameters and every network; what is quick to compile by default, the rest marked slow."""
    quick = {"Linear", "lstm"}
    for case in LAYERS:
        marks = [] if str(case) in quick else [pytest.mark.slow]
        yield pytest.param(lambda case=case: of_a_layer(case) if tried(case) else None, id=str(case), marks=marks)
    for name in NETWORKS:
        marks = [] if name in quick else [pytest.mark.slow]
        yield pytest.param(lambda name=name: of_a_network(name), id=name, marks=marks)


def asked_of(problem):
    """The rows that this problem can be asked for: what is drawn needs a key."""
    return [row for row in ROWS if problem.rng is not None or row.quantity.errors != "sampled"]


def collected(problem, rows):
    run = jp.stats.collect(problem.net, problem.cost, [row.quantity for row in rows])
    return jax.jit(
        lambda x, params, targets, weights, rng, mask: run(x, params, targets, weights=weights, rng=rng, mask=mask)
    )(problem.x, problem.params, problem.targets, problem.weights, problem.rng, problem.mask)


def apart(found, expected):
    """The error by each array's own largest entry; of one that should be 0 by rounding, by the largest of all."""
    largest = max((float(jnp.max(jnp.abs(e), initial=0)) for e in jax.tree.leaves(expected)), default=0.0)
    errors = [
        float(jnp.max(jnp.abs(f - e), initial=0)) / max(float(jnp.max(jnp.abs(e), initial=0)), 1e-5 * largest, 1e-30)
        for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    return max(errors, default=0.0)


def compared(problem, found, rows):
    value, grads, results = found
    assert relative(value, problem.w @ problem.costs) <= 1e-10
    assert apart(grads, problem.gradient) <= 1e-10
    assert len(results) == len(rows)
    for row, result in zip(rows, results, strict=True):
        expected = row.expected(problem)
        assert jax.tree.structure(result) == jax.tree.structure(expected), row
        assert apart(result, expected) <= 1e-10, row


@pytest.mark.parametrize("make", list(subjects()))
def test_as_from_loops(make):
    problem = make()
    if problem is None:
        return
    keyed = Problem(**{**vars(problem), "rng": jax.random.key(2) if problem.rng is None else problem.rng})
    weights = jnp.asarray(np.random.default_rng(3).uniform(0.1, 1, problem.N))
    for one in (keyed, Problem(**{**vars(keyed), "weights": weights})):
        rows = asked_of(one)
        compared(one, collected(one, rows), rows)


@pytest.mark.slow
@pytest.mark.parametrize("make", list(subjects()))
def test_with_examples_on_two_devices(make):
    problem = make()
    if problem is None or problem.N % 2 or problem.mask is not None:
        return
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = [row for row in ROWS if row.quantity.errors != "sampled"]
    by_examples = jax.device_put((problem.x, problem.targets), jax.NamedSharding(mesh, jax.P("n")))
    everywhere = jax.device_put(problem.params, jax.NamedSharding(mesh, jax.P()))
    sharded = Problem(**{**vars(problem), "x": by_examples[0], "targets": by_examples[1], "params": everywhere})
    found = collected(sharded, rows)
    compared(problem, found, rows)
