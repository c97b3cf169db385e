"""Every quantity of the table × every layer and network, against per-example loops: alone, and weighted and sharded.

By default on one of them; `-m slow` on one of each kind and two networks (what is not drawn, weighted and sharded),
and two networks with what is drawn; `-m exhaustive` on all.
"""

from dataclasses import replace

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


def says_something(case):
    """Whether it has parameters, and quantities of one example."""
    return type(case.layer).init is not jp.Layer.init and not case.layer.mixes_examples


def subjects(slow):
    """Every row of a layer with parameters, and every network: one by default, what `slow` says so behind the marker.

    slow(name, kind, seen): whether CI runs a row of a kind of layer, of which some were seen, or a network (None).
    """
    seen, quick = set(), {"Linear"}
    makers = [(case.kind, str(case), lambda case=case: of_a_layer(case)) for case in LAYERS if says_something(case)]
    for kind, name, make in [*makers, *((None, name, lambda name=name: of_a_network(name)) for name in NETWORKS)]:
        marker = pytest.mark.slow if slow(name, kind, seen) else pytest.mark.exhaustive
        yield pytest.param(make, id=name, marks=[] if name in quick else [marker])
        seen.add(kind)


def collected(problem, rows):
    run = jp.stats.collect(problem.net, problem.cost, [row.quantity for row in rows])
    return jax.jit(
        lambda x, params, targets, weights, rng, mask: run(x, params, targets, weights=weights, rng=rng, mask=mask)
    )(problem.x, problem.params, problem.targets, problem.weights, problem.rng, problem.mask)


def apart(found, expected):
    """The error by each array's own largest entry; of one that should be 0 by rounding, by the largest of all."""

    def size(a):
        return float(np.max(np.abs(a), initial=0))

    largest = max(map(size, jax.tree.leaves(expected)), default=0.0)
    errors = [
        size(f - e) / max(size(e), 1e-5 * largest, 1e-30)
        for f, e in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    return max(errors, default=0.0)


def compared(problem, found, rows):
    value, grads, results = jax.device_get(found)
    assert relative(value, problem.w @ problem.costs) <= 1e-10
    assert apart(grads, problem.gradient) <= 1e-10
    assert len(results) == len(rows)
    for row, result in zip(rows, results, strict=True):
        expected = row.expected(problem)
        assert jax.tree.structure(result) == jax.tree.structure(expected), row
        assert apart(result, expected) <= 1e-10, row


def with_key(problem):
    """The same problem, with a key to draw with."""
    return replace(problem, rng=jax.random.key(2) if problem.rng is None else problem.rng)


def weighted(problem):
    """The same problem, with a weight for every example."""
    return replace(problem, weights=jnp.asarray(np.random.default_rng(3).uniform(0.1, 1, problem.N)))


@pytest.fixture(autouse=True)
def forget_each():
    """Each test compiles a program for some twenty quantities: together they would take gigabytes."""
    yield
    jax.clear_caches()


@pytest.mark.parametrize("make", list(subjects(lambda name, kind, seen: name in ("lstm", "mean-pooled"))))
def test_as_from_loops(make):
    problem = with_key(make())
    compared(problem, collected(problem, ROWS), ROWS)


# what a loop, a mean over positions and a tie of a lookup with a product bring with them
SHARDED = ("lstm", "mean-pooled", "Shared, an embedding and its output (gram)")


def sharded(name, kind, seen):
    """One row of each kind of layer, and those above."""
    return name in SHARDED or (kind is not None and kind not in seen)


@pytest.mark.parametrize("make", list(subjects(sharded)))
def test_weighted_and_with_examples_on_two_devices(make):
    """Without what is drawn: keys do not give the same numbers on two devices."""
    problem = weighted(make())
    rows = [row for row in ROWS if row.quantity.errors != "sampled"]
    if problem.N % 2 or problem.rng is not None:
        return compared(problem, collected(problem, rows), rows)
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    by_examples = jax.NamedSharding(mesh, jax.P("n"))
    x, targets, weights, mask = jax.device_put((problem.x, problem.targets, problem.weights, problem.mask), by_examples)
    params = jax.device_put(problem.params, jax.NamedSharding(mesh, jax.P()))
    sharded = replace(problem, x=x, targets=targets, weights=weights, mask=mask, params=params)
    assert len(jax.tree.leaves(sharded.x)[0].sharding.device_set) == 2
    compared(problem, collected(sharded, rows), rows)


@pytest.mark.parametrize("name", ["mean-pooled", pytest.param("gpt, gram", marks=pytest.mark.slow)])
def test_every_quantity_can_be_asked_for_inside_of_shard_map(name):
    """Of each shard's own rows: what starts a loop must vary over the mesh as what is added to it does."""
    problem, clipped = of_a_network(name), jp.stats.ClippedGradient(0.5)
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    specs = {"in_specs": (jax.P("n"), jax.P(), jax.P("n"))}
    arguments = problem.x, problem.params, problem.targets

    def everything(x, params, targets):
        run = jp.stats.collect(problem.net, problem.cost, [row.quantity for row in ROWS])
        found = run(x, params, targets, rng=jax.random.key(0)).found
        return sum(jnp.sum(leaf).astype(float) for leaf in jax.tree.leaves(found))[None]

    def once(x, params, targets):
        return jp.stats.collect(problem.net, problem.cost, [clipped])(x, params, targets).found[0].gradient

    @jax.jit
    def run(*arguments):
        of_a_shard = jax.shard_map(lambda *a: jax.lax.psum(once(*a), "n"), mesh=mesh, **specs, out_specs=jax.P())
        return of_a_shard(*arguments), once(*arguments)

    jax.eval_shape(jax.shard_map(everything, mesh=mesh, **specs, out_specs=jax.P("n")), *arguments)
    together, alone = jax.device_get(run(*arguments))
    assert apart(together, alone) <= 1e-12
