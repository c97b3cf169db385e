"""Whole networks by hand: what their uses say of single examples, of shards, and in how much memory."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.check.quantities import QUANTITIES, by_examples, by_uses, some_weights
from tests.drawing import draw

SOFTMAX = jp.SoftmaxCrossEntropy()
N, CLASSES = 4, 3

# the tied table of the first has 2 (T + T)² ≤ V·D, that of the second has not: the two ways to its norms
NETWORKS = {
    "gpt, gram": (jp.models.gpt(vocabulary=16, width=16, depth=2, heads=2, context=4), (N, 3)),
    "gpt, direct": (jp.models.gpt(vocabulary=5, width=4, depth=2, heads=2, context=4), (N, 4)),
    "resnet": (jp.models.resnet(classes=CLASSES, width=2, blocks=(1, 1)), (N, 4, 4, 2)),
    "lstm": (jp.models.rnn_classifier("lstm", features=4, classes=CLASSES), (N, 5, 3)),
    "mean-pooled": (jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(8), jp.GlobalAvgPool(), jp.Linear(CLASSES)), (N, 4, 8)),
}
TIED = {"gpt, gram": "gram", "gpt, direct": "direct"}


def problem(name):
    """net, x, θ and labels."""
    net, shape = NETWORKS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 5, shape) if name in TIED else rng.normal(size=shape))
    return net, x, draw(net, x), jnp.asarray(rng.integers(0, CLASSES, shape if name in TIED else N))


def by_hand(net, x, params, targets):
    """Every quantity of the table, of every parameter."""
    uses = jp.manual.uses(net, SOFTMAX)(x, params, targets)[1]
    return by_uses(uses, some_weights(len(x), jax.tree.leaves(params)[0].dtype))


def by_jax(net, x, params, targets):
    """The same, from `jax.grad` of one example at a time; the two that are gradients of a batch from that as well."""
    grad, weights = jp.auto.value_and_grad(net, SOFTMAX), some_weights(N, jnp.float64)
    each = jax.vmap(lambda x, t: grad(x[None], params, t[None])[1])(x, targets)
    of_the_batch = {
        "mean gradient": grad(x, params, targets)[1],
        "weighted gradient": grad(x, params, targets, weights=weights)[1],
    }
    return by_examples(each, weights), of_the_batch


@functools.cache
def found(name):
    """(by hand, by JAX one example at a time, by JAX of the batch), compiled once for the tests below."""
    net, *arguments = problem(name)
    return jax.jit(lambda *a: (by_hand(net, *a), *by_jax(net, *a)))(*arguments)


def some(first, second, rest, names=NETWORKS):
    """The names, each marked by which of the first two lists it is in, or by `rest`."""
    return [
        pytest.param(name, marks=() if name in first else pytest.mark.slow if name in second else rest)
        for name in names
    ]


@pytest.mark.parametrize("name", some(["mean-pooled"], ["gpt, gram", "resnet", "lstm"], pytest.mark.exhaustive))
def test_uses_are_one_example_at_a_time(name):
    ours, *jaxs = found(name)
    assert set(ours) == set(QUANTITIES)
    for theirs in jaxs:
        for what in theirs:
            assert relative(ours[what], theirs[what]) <= tolerance("float64"), what


@pytest.mark.parametrize("name", some([], TIED, (), TIED))
def test_the_tied_table_is_one_parameter_with_both_its_uses(name):
    net, x, params, targets = problem(name)

    @jax.jit
    def tied(x, params, targets):
        use = jp.manual.uses(net, SOFTMAX)(x, params, targets)[1].inner[0].W
        return use, use.squared_norms(), sum(part.squared_norms() for part in use.uses)

    use, norms, apart = tied(x, params, targets)
    assert [type(part) for part in use.uses] == [jp.Lookup, jp.Outer] and use.norm_method == TIED[name]
    assert relative(apart, norms) > 1e-3, "the cross terms are there"


def mesh_of_two():
    return jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))


@pytest.mark.parametrize("name", some([], ["gpt, gram"], pytest.mark.exhaustive))
def test_with_examples_on_two_devices_under_jit(name):
    net, x, params, targets = problem(name)
    by_examples, everywhere = (jax.NamedSharding(mesh_of_two(), jax.P(*axes)) for axes in (("n",), ()))
    x, targets, params = *jax.device_put((x, targets), by_examples), jax.device_put(params, everywhere)
    assert len(x.sharding.device_set) == 2

    def run(x, params, targets):
        return by_hand(net, x, params, targets), jp.manual.value_and_grad(net, SOFTMAX)(x, params, targets)[1]

    sharded, gradient = jax.jit(run)(x, params, targets)
    alone = found(name)[0]
    assert relative(sharded, alone) <= tolerance("float64")
    assert relative(gradient, alone["mean gradient"]) <= tolerance("float64")


@pytest.mark.parametrize("name", some([], ["gpt, gram", "lstm"], pytest.mark.exhaustive))
def test_inside_of_shard_map_on_two_devices(name):
    """θ replicated, rows sharded: every shard's own gradient, its mean taken outside (`auto` must not sum it twice)."""
    net, x, params, targets = problem(name)

    def run(x, params, targets):
        ways = {way: module.value_and_grad(net, SOFTMAX) for way, module in (("manual", jp.manual), ("auto", jp.auto))}
        means = {way: jax.lax.pmean(grad(x, params, targets)[1], "n") for way, grad in ways.items()}
        said = by_hand(net, x, params, targets)
        return means, (said["per-example gradients"], said["squared norms"])

    specs = {"in_specs": (jax.P("n"), jax.P(), jax.P("n")), "out_specs": (jax.P(), jax.P("n"))}
    means, (per_example, norms) = jax.jit(jax.shard_map(run, mesh=mesh_of_two(), **specs))(x, params, targets)
    alone = found(name)[0]
    for way, mean in means.items():
        assert relative(mean, alone["mean gradient"]) <= tolerance("float64"), way
    assert relative(per_example, alone["per-example gradients"]) <= tolerance("float64")
    assert relative(norms, alone["squared norms"]) <= tolerance("float64")


# Memory: nothing of the size [N, parameters] where a cheaper form exists


def lean(net):
    """Every quantity that needs no per-example gradients, added up over the network."""

    def run(x, params, targets):
        said = by_hand(net, x, params, targets)
        return {
            name: sum(map(jnp.sum, jax.tree.leaves(said[name])))
            for name, q in QUANTITIES.items()
            if not q.builds_examples
        }

    return run


WIDE = {
    "Linear, T": (jp.Chain(jp.Linear(256), jp.GlobalAvgPool(), jp.Linear(4)), (16, 4, 256), None),
    "Embedding": (jp.Chain(jp.Embedding(1024, 64), jp.GlobalAvgPool(), jp.Linear(4)), (32, 8), 1024),
    "Conv": (jp.Chain(jp.Conv(128, (3, 3)), jp.GlobalAvgPool(), jp.Linear(4)), (16, 4, 4, 128), None),
    "gpt": (jp.models.gpt(vocabulary=2048, width=256, depth=2, heads=2, context=8), (32, 8), 2048),
}


@pytest.mark.parametrize("name", some(["Linear, T", "Embedding"], WIDE, (), WIDE))
def test_quantities_of_a_whole_network_build_no_example_gradients(name):
    """Temporary memory of the compiled program is far below one [N, parameters] array; nothing is run."""
    net, shape, vocabulary = WIDE[name]
    x = jax.ShapeDtypeStruct(shape, jnp.int32 if vocabulary else jnp.float32)
    with jax.enable_x64(False):
        params = jax.eval_shape(net.init, jax.random.key(0), x)
        targets = jax.ShapeDtypeStruct(shape if name == "gpt" else shape[:1], jnp.int32)
        compiled = jax.jit(lean(net)).lower(x, params, targets).compile()
    examples = shape[0] * sum(4 * math.prod(p.shape) for p in jax.tree.leaves(params))
    assert compiled.memory_analysis().temp_size_in_bytes < examples / 4
