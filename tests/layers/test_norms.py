"""The norms: against Flax, what their docstrings say of edges, and batch statistics that are frozen for use."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.check.subject import At, by_hand
from jaxprop.errors import JaxpropError, ShapeError
from tests.drawing import draw

FLOAT64 = {"param_dtype": jnp.float64, "use_fast_variance": False}


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def named(params):
    """Our θ under Flax's names."""
    return {name: array for name, array in params._asdict().items() if array is not None}


FLAX = {
    "LayerNorm": (jp.LayerNorm(), nn.LayerNorm(**FLOAT64)),
    "LayerNorm, bare": (jp.LayerNorm(0.1, False, False), nn.LayerNorm(0.1, use_bias=False, use_scale=False, **FLOAT64)),
    "RMSNorm": (jp.RMSNorm(), nn.RMSNorm(param_dtype=jnp.float64)),
    "GroupNorm": (jp.GroupNorm(3), nn.GroupNorm(3, **FLOAT64)),
    "BatchNorm": (jp.BatchNorm(), nn.BatchNorm(use_running_average=False, momentum=0.0, **FLOAT64)),
}


SLOW = pytest.mark.slow


@pytest.mark.parametrize("shape", [pytest.param((4, 6), marks=SLOW), pytest.param((4, 3, 6), marks=SLOW), (2, 2, 3, 6)])
@pytest.mark.parametrize("name", FLAX)
def test_forward_and_gradients_are_those_of_flax(name, shape):
    layer, module = FLAX[name]
    x, dy = 3 + normal(0, *shape), normal(2, *shape)
    params = draw(layer, x)

    def flax(x, params):
        variables = {"params": named(params), "batch_stats": {"mean": jnp.zeros(6), "var": jnp.ones(6)}}
        return module.apply(variables, x, mutable=["batch_stats"])

    @jax.jit
    def both(x, params, dy):
        y, vjp, kept = jax.vjp(flax, x, params, has_aux=True)
        return by_hand(layer, At(x, params, None, dy)), (y, vjp(dy)), kept

    with jax.numpy_dtype_promotion("standard"):  # Flax mixes dtypes itself
        ours, theirs, kept = both(x, params, dy)
    assert relative(ours, theirs) <= 1e-10
    if name == "BatchNorm":  # with momentum 0 Flax keeps the statistics of this batch: so do we, when frozen
        mean, var = kept["batch_stats"]["mean"], kept["batch_stats"]["var"]
        frozen, constants = jp.freeze_statistics(layer, x, params)
        r = 1 / jnp.sqrt(var + layer.epsilon)
        expected = jp.AffineParams(params.scale * r, params.bias - params.scale * r * mean)
        assert frozen == jp.Affine() and relative(constants, expected) <= 1e-10


LAYERS = [jp.LayerNorm(), jp.RMSNorm(), jp.GroupNorm(3), jp.BatchNorm()]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_a_group_of_equal_numbers_is_finite(layer):
    """v = 0: x̂ = 0 where it is centred, and r = 1/√ε."""
    x = jnp.full((4, 6), 7.0)
    params = draw(layer, x)
    y, _, dx, grads = jax.jit(lambda at: by_hand(layer, at))(At(x, params, None, normal(2, 4, 6)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((y, dx, grads)))
    if not isinstance(layer, jp.RMSNorm):
        assert relative(y, jnp.broadcast_to(params.bias, y.shape)) < 1e-12 and not np.asarray(grads.scale).any()


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_statistics_of_half_precision_are_float32(layer):
    """1e4 ± 1 squared ends float16, and in bfloat16 it has no ± 1 left."""
    x = (1000 + normal(0, 8, 6)).astype(jnp.float16)
    y, exact = jax.jit(lambda *both: [layer(x, layer.init(None, x)) for x in both])(x, x.astype(jnp.float64))
    assert y.dtype == jnp.float16 and relative(y, exact) < 2**-9


@pytest.mark.parametrize(
    "make, error, words",
    [
        (lambda: jp.LayerNorm(epsilon=0), JaxpropError, "epsilon must be a small number > 0, found 0"),
        (lambda: jp.GroupNorm(0), JaxpropError, "groups must be a whole number"),
        (lambda: jp.GroupNorm(4).init(None, jnp.ones((2, 6))), ShapeError, "4"),
        (lambda: jp.RMSNorm().init(None, jnp.ones(6)), ShapeError, r"must be floating \[N, ..., C\]"),
        (lambda: jp.BatchNorm()(jnp.ones((2, 6), int), ()), ShapeError, "found int64"),
        (lambda: jp.BatchNorm()(jnp.ones((2, 6)), jp.NormParams(None, None)), ShapeError, "found scale of shape None"),
    ],
)
def test_what_does_not_fit_is_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


# A network that mixes examples, and what it is frozen to


HALF = jp.HalfSquaredError()
BLOCK = jp.Residual(jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Tanh()))
MIXING = {
    "Chain": (jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Tanh(), jp.Linear(2)), "BatchNorm.* at 1"),
    "Repeat": (jp.Chain(jp.Tanh(), jp.Repeat(BLOCK, 2), jp.Linear(2)), "BatchNorm.* at 1.inner.inner.1"),
    "Parallel": (jp.Parallel(jp.Linear(3), jp.Chain(jp.Remat(jp.BatchNorm()))), "BatchNorm.* at 1.0.inner"),
    "Shared": (jp.Shared(jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Linear(3)), (("0.W", "2.W", True),)), "at inner.1"),
    "twice": (jp.Chain(jp.BatchNorm(), jp.Linear(3), jp.BatchNorm(bias=False)), "BatchNorm.* at 0"),
}


def problem(name):
    net, x = MIXING[name][0], 2 + normal(0, 6, 3)
    params = draw(net, x)
    return net, x, params, normal(2, *jax.eval_shape(net, x, params).shape)


@pytest.mark.parametrize("name", MIXING)
def test_the_whole_network_refuses_quantities_of_one_example(name):
    net, words = MIXING[name]
    assert net.mixes_examples
    with pytest.raises(JaxpropError, match=rf"{words}.*no quantity of one example.*freeze_statistics"):
        jp.manual.uses(net, HALF)


@SLOW
@pytest.mark.parametrize("name", MIXING)
def test_the_gradient_itself_is_as_good_as_any(name):
    net, x, params, targets = problem(name)
    weights = jnp.cos(jnp.arange(6.0))
    ways = [jax.jit(way.value_and_grad(net, HALF)) for way in (jp.manual, jp.auto)]
    for given in (None, weights):
        # as one vector: a bias before a BatchNorm has gradient 0, and two kinds of round-off
        ours, theirs = (ravel_pytree(way(x, params, targets, weights=given))[0] for way in ways)
        assert relative(ours, theirs) <= 1e-12


@pytest.mark.parametrize("name", [pytest.param(n, marks=[SLOW] * (n in ("Parallel", "twice"))) for n in MIXING])
def test_frozen_it_gives_what_it_gave_and_rows_no_longer_see_each_other(name):
    net, x, params, targets = problem(name)
    frozen, constants = jp.freeze_statistics(net, x, params)
    assert not frozen.mixes_examples and frozen != net

    @jax.jit
    def run(params, constants):
        return net(x, params), frozen(x, constants), frozen(x[:1], constants)

    y, again, alone = run(params, constants)
    assert relative(again, y) < 1e-12 and relative(alone, y[:1]) < 1e-12
    assert jax.tree.structure(jax.eval_shape(frozen.init, jax.random.key(0), x)) == jax.tree.structure(constants)
    _, uses = jax.eval_shape(jp.manual.uses(frozen, HALF), x, constants, targets)
    norms = jax.tree.map(
        lambda use: jax.eval_shape(lambda use: use.squared_norms(), use),
        uses,
        is_leaf=lambda use: isinstance(use, jp.Use),
    )
    assert all(leaf.shape == (6,) for leaf in jax.tree.leaves(norms))


def test_freezing_knows_where_nothing_is_to_be_frozen_and_where_nothing_can():
    plain, x = jp.Chain(jp.LayerNorm(), jp.Linear(2)), normal(0, 4, 3)
    params = plain.init(jax.random.key(0), x)
    net, same = jp.freeze_statistics(plain, x, params)
    assert net is plain and same is params
    tied = jp.Shared(jp.Chain(jp.BatchNorm(), jp.BatchNorm()), (("0.scale", "1.scale", False),))
    with pytest.raises(JaxpropError, match="leads into a BatchNorm, which is folded away; untie it"):
        jp.freeze_statistics(tied, x, tied.init(jax.random.key(0), x))


@SLOW
def test_fit_validates_with_the_statistics_of_training_rows():
    """Validation rows one by one would have no variance at all; frozen, their cost is that of the frozen network."""
    net, x, params, targets = problem("Chain")
    held_out = np.asarray(normal(5, 3, 3)), np.asarray(normal(6, 3, 2))
    result = jp.fit(
        *(net, HALF, optax.sgd(0.1), (np.asarray(x), np.asarray(targets))),
        **{"params": params, "epochs": 1, "batch_size": 6, "validation": held_out, "progress": False},
    )
    frozen, constants = jp.freeze_statistics(net, x, result.params)
    expected = jp.evaluate(frozen, HALF)(held_out[0], constants, held_out[1])["cost"]
    assert abs(result.history[0]["validation_cost"] - expected) < 1e-12
    assert abs(float(jnp.mean(HALF(net(held_out[0], result.params), held_out[1]))) - expected) > 1e-3


def test_a_row_is_not_answered_by_the_others():
    """By the statistics of whatever rows are asked about, one row alone would get β."""
    net, x, params, targets = problem("Chain")
    words = r"found BatchNorm\(\) at 1.*first write net, params = jp.freeze_statistics\(net, x, params\)"
    with pytest.raises(JaxpropError, match=rf"predict\(net, x, params\): {words}"):
        jp.predict(net, x[:1], params)
    with pytest.raises(JaxpropError, match=words):
        jp.evaluate(net, HALF)(x, params, targets)
    frozen, constants = jp.freeze_statistics(net, x, params)
    one_by_one = np.concatenate([jp.predict(frozen, x[i : i + 1], constants) for i in range(len(x))])
    assert relative(one_by_one, jax.jit(net)(x, params)) < 1e-12
