"""One battery over every layer of `cases.py`: three witnesses, and the contract of `Layer`."""

import copy
import dataclasses
import functools
import json
import pickle
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax.flatten_util import ravel_pytree

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from jaxprop.uses import is_use
from tests.cases import LAYERS, LayerCase, exported

DTYPES = ["float64", "float32", "bfloat16"]


class GainParams(NamedTuple):
    g: jax.Array


@dataclass(frozen=True)
class Gain(jp.Layer):
    """A layer of a user's own, with the use that is always right: y = x g, ∂C_n/∂g = dy_n x_n."""

    def init(self, key, x):
        return GainParams(jnp.ones(x.shape[-1:], x.dtype))

    def forward(self, x, params, env=None):
        return x * params.g, x

    def backward(self, dy, cache, params):
        return dy * params.g, GainParams(jp.Dense(dy * cache, params.g.shape, params.g.dtype))


GAIN = LayerCase("Gain (a user's own)", Gain(), (4, 3), lambda x, p: x * np.asarray(p.g))
INTEGERS = [case for case in LAYERS if case.integers]
CASES = [case for case in [*LAYERS, GAIN] if case.name != "Flatten, integers"]  # integers out have no vjp


def test_every_exported_layer_has_a_case():
    missing = set(exported(jp.Layer)) - {type(case.layer).__name__ for case in LAYERS}
    assert not missing, f"exported, but not in tests/cases.py: {sorted(missing)}"


# The battery: one compiled function computes everything that the tests below look at.


def totals(uses):
    return jax.tree.map(lambda use: use.total(None), uses, is_leaf=is_use)


def each(uses, what):
    return jax.tree.map(what, uses, is_leaf=is_use)


def is_floating(x):
    return all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in jax.tree.leaves(x))


def split(x, params):
    """What has a gradient: (x, θ), or θ alone for integer x."""
    return (x, params) if is_floating(x) else (params,)


def of_primals(layer, x, env):
    return lambda *primals: layer(primals[0] if is_floating(x) else x, primals[-1], env)


def backward(layer, x, params, dy, env=None):
    """Our rule, from y: the cotangents of `split`."""
    y, cache = layer.forward(x, params, env)
    dx, uses = layer.backward(dy, cache, params)
    if is_floating(x):
        return y, (dx, totals(uses))
    assert dx is None, "integer inputs have no gradient"
    return y, (totals(uses),)


def by_hand_and_by_jax(layer, x, params, dy, env=None):
    """(y, cotangents) by our rule and by jax.vjp."""
    called, vjp = jax.vjp(of_primals(layer, x, env), *split(x, params))
    return backward(layer, x, params, dy, env), (called, vjp(dy))


def differences(layer, x, params, dy, env, h=1e-5):
    """Central differences of Σ dy·y in every direction of x and θ, as one flat vector."""
    flat, unravel = ravel_pytree(split(x, params))
    if not flat.size:
        return flat

    def C(flat):
        return jnp.sum(dy * of_primals(layer, x, env)(*unravel(flat)))

    return jax.vmap(lambda e: (C(flat + h * e) - C(flat - h * e)) / (2 * h))(jnp.eye(flat.size))


def one_example_at_a_time(layer, x, params, dy, env):
    def C(params, x, dy, mask):
        alone = None if env is None else env._replace(mask=jax.tree.map(lambda m: m[None], mask))
        return jnp.sum(dy * layer(jax.tree.map(lambda a: a[None], x), params, alone)[0])

    return jax.vmap(jax.grad(C), (None, 0, 0, 0))(params, x, dy, None if env is None else env.mask)


def has_examples(layer, params, env):
    """Whether there are quantities of one example: parameters, no batch statistics, and nothing drawn for the batch."""
    return bool(jax.tree.leaves(params)) and not layer.mixes_examples and (env is None or env.rng is None)


def per_example(layer, x, params, dy, env):
    """Everything that is said of single examples: by the uses, and one at a time by jax.grad."""
    _, cache = layer.forward(x, params, env)
    uses = layer.backward(dy, cache, params)[1]
    weights = jnp.cos(jnp.arange(len(dy), dtype=dy.dtype))
    alone = one_example_at_a_time(layer, x, params, dy, env)
    return {
        "per example": (each(uses, lambda use: use.per_example()), alone),
        "squared norms": (
            each(uses, lambda use: use.squared_norms()),
            jax.tree.map(lambda g: jnp.sum(g.reshape(len(g), -1) ** 2, axis=1), alone),
        ),
        "weighted": (
            each(uses, lambda use: use.gradient(weights)),
            jax.tree.map(lambda g: jnp.tensordot(weights, g, 1), alone),
        ),
    }


@functools.partial(jax.jit, static_argnums=0)
def battery(layer, x, params, dy, v, env):
    by_hand, by_jax = by_hand_and_by_jax(layer, x, params, dy, env)
    _, cache = layer.forward(x, params, env)
    once, twice, both = (layer.backward(d, cache, params) for d in (dy, dy[::-1], 2 * dy - 3 * dy[::-1]))
    once, twice, both = ((dx, totals(uses)) for dx, uses in (once, twice, both))
    _, Jv = jax.jvp(of_primals(layer, x, env), split(x, params), v)
    second = jax.tree.map(lambda a: a[::-1], x), jax.tree.map(lambda p: -p, params)
    stacked = jax.tree.map(lambda *both: jnp.stack(both), (x, params), second)
    mapped = jax.vmap(lambda x, p: backward(layer, x, p, dy, env))(*stacked)
    apart = by_hand, backward(layer, *second, dy, env)
    return {
        "by hand": by_hand,
        "by jax": by_jax,
        "call": layer(x, params, env),
        "differences": differences(layer, x, params, dy, env),
        "⟨Jv, w⟩": jnp.sum(Jv * dy),
        "⟨v, Jᵀw⟩": ravel_pytree(v)[0] @ ravel_pytree(by_hand[1])[0],
        "of the sum": both,
        "sum of": jax.tree.map(lambda a, b: 2 * a - 3 * b, once, twice),
        "mapped": mapped,
        "apart": jax.tree.map(lambda *both: jnp.stack(both), *apart),
        **(per_example(layer, x, params, dy, env) if has_examples(layer, params, env) else {}),
    }


def inputs(case, dtype, seed=0):
    """x, θ, an error dy, a direction v and env."""
    x, params, env = case.x(dtype, seed), case.params(dtype, seed), case.env(0)
    rng = np.random.default_rng(seed + 2)
    y = jax.eval_shape(case.layer, x, params, env)
    dy = jnp.asarray(rng.normal(size=y.shape), y.dtype)
    v = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), p.dtype), split(x, params))
    return x, params, dy, v, env


def one_of_each(cases):
    """The first case of each layer, and the others behind the slow marker: each costs a compilation."""
    seen = set()
    for case in cases:
        yield pytest.param(case, marks=[pytest.mark.slow] * (type(case.layer) in seen), id=str(case))
        seen.add(type(case.layer))


@pytest.fixture(scope="module", params=one_of_each(CASES))
def case(request):
    return request.param


@pytest.fixture(scope="module")
def found(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return battery(case.layer, *inputs(case, "float64"))


def test_forward_is_plain_numpy(case, found):
    if case.reference is None:  # drawn at random: its own tests say what y must be
        assert relative(found["by hand"][0], found["call"]) < 1e-14
        return
    x = jax.tree.map(lambda a: np.asarray(a, np.float64), case.x("float64"))
    expected = case.reference(x, case.params("float64"))
    assert relative(found["by hand"][0], expected) < 1e-14
    assert relative(found["call"], expected) < 1e-14


def test_backward_is_jax_vjp(found):
    assert relative(found["by hand"], found["by jax"]) <= tolerance("float64")


def test_backward_is_central_differences_in_every_direction(found):
    cotangents, nudged = ravel_pytree(found["by hand"][1])[0], found["differences"]
    assert relative(cotangents, nudged) <= DIFFERENCES


def test_backward_is_the_adjoint_of_jvp(found):
    assert relative(found["⟨v, Jᵀw⟩"], found["⟨Jv, w⟩"]) <= 1e-12


def test_backward_is_linear_in_dy(found):
    assert relative(found["of the sum"], found["sum of"]) <= 1e-12


@pytest.mark.parametrize("what", ["per example", "squared norms", "weighted"])
def test_uses_are_one_example_at_a_time(case, found, what):
    assert (what in found) == has_examples(case.layer, case.params("float64"), case.env(0))
    if what in found:
        assert relative(*found[what]) <= tolerance("float64")


def test_vmap_over_x_and_params(found):
    assert relative(found["mapped"], found["apart"]) <= tolerance("float64")


def test_jit_is_eager(case, found):
    x, params, dy, _, env = inputs(case, "float64")
    assert relative(found["by hand"], backward(case.layer, x, params, dy, env)) <= 1e-14


def test_an_equal_layer_compiles_nothing(case, found, compilations):
    again, arguments = copy.deepcopy(case.layer), inputs(case, "float64", seed=9)
    with compilations() as count:
        jax.block_until_ready(battery(again, *arguments))
    assert count[0] == 0


def as_float64(tree):
    return jax.tree.map(lambda a: a.astype("float64") if jnp.issubdtype(a.dtype, jnp.floating) else a, tree)


@functools.partial(jax.jit, static_argnums=0)
def by_hand_and_by_jax_of_all(layer, arguments, env):
    found = {dtype: by_hand_and_by_jax(layer, *three, env) for dtype, three in arguments.items()}
    return found, by_hand_and_by_jax(layer, *as_float64(arguments["bfloat16"]), env)[1]


def rms(found, reference):
    """√(Σ Δ² / Σ g²) over all cotangents."""
    found, reference = (ravel_pytree(as_float64(tree))[0] for tree in (found, reference))
    return float(jnp.linalg.norm(found - reference) / jnp.linalg.norm(reference)) if reference.size else 0.0


def dtypes_of(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


def test_float64_in_is_float64_out(case, found):
    assert dtypes_of((found["by hand"], case.params("float64"))) == {"float64"}


@pytest.mark.slow
def test_dtype_in_is_dtype_out_and_half_precision_is_as_close_as_jax(case):
    arguments = {dtype: inputs(case, dtype)[:3] for dtype in ("float32", "bfloat16")}
    both, truth = by_hand_and_by_jax_of_all(case.layer, arguments, case.env(0))
    for dtype, (by_hand, by_jax) in both.items():
        expected = "float64" if case.integers else dtype  # integers become the default float
        assert dtypes_of((by_hand, case.params(dtype))) == {expected}
        if dtype != "bfloat16":
            assert relative(by_hand, by_jax) <= tolerance(expected)
    by_hand, by_jax = (rms(way[1], truth[1]) for way in both["bfloat16"])
    # half a unit in the last place, and a quarter for chance: there are only a few dozen roundings
    assert by_hand <= 1.25 * by_jax + 2**-9


HALVES = [case for case in CASES if case.shapes[0][0] % 2 == 0]


@pytest.mark.slow
@pytest.mark.parametrize("case", HALVES, ids=str)
def test_all_of_it_with_examples_on_two_devices(case):
    """Everything once more with N sharded over two devices, under jit: JAX's own per-example gradients may go wrong."""
    x, params, dy, _, env = inputs(case, "float64")
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    by_examples, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("n",), ()))

    def run(x, params, dy, env):
        y, cache = case.layer.forward(x, params, env)
        dx, uses = case.layer.backward(dy, cache, params)
        found = {"y": y, "dx": dx, "totals": totals(uses)}
        if has_examples(case.layer, params, env):
            weights = jnp.cos(jnp.arange(len(dy)))
            found |= {"per example": each(uses, lambda use: use.per_example())}
            found |= {"norms": each(uses, lambda use: use.squared_norms())}
            found |= {"weighted": each(uses, lambda use: use.gradient(weights))}
        return found

    mask = None if env is None else jax.device_put(env.mask, by_examples)
    env = None if env is None else env._replace(mask=mask)
    sharded = [jax.device_put(a, by_examples) for a in (x, dy)]
    found = jax.jit(run)(sharded[0], jax.device_put(params, everywhere), sharded[1], env)
    alone = run(x, params, dy, case.env(0))
    assert relative(found, alone) <= tolerance("float64")


@pytest.mark.parametrize("case", INTEGERS, ids=str)
def test_integer_inputs_have_no_gradient(case):
    x, params = case.x("float64"), case.params("float64")
    y, cache = case.layer.forward(x, params, None)
    assert relative(y, case.reference(np.asarray(x, np.float64), params)) < 1e-14
    integers_out = isinstance(case.layer, jp.Flatten)  # so that pixels stay bytes until they are standardized
    assert y.dtype == (x.dtype if integers_out else jnp.float64)
    assert case.layer.backward(None if integers_out else jnp.ones_like(y), cache, params)[0] is None


def test_the_description_is_a_value(case):
    layer, again = case.layer, copy.deepcopy(case.layer)
    assert again is not layer and again == layer and hash(again) == hash(layer) and repr(again) == repr(layer)
    assert pickle.loads(pickle.dumps(layer)) == layer
    for field in dataclasses.fields(layer):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(layer, field.name, 0)
    others = [other.layer for other in CASES if type(other.layer) is type(layer) and repr(other.layer) != repr(layer)]
    assert all(other != layer for other in others)


def settings_of(layer):
    """Static settings alone: layers by kind, tuples as lists, nothing else that JSON does not know."""

    def plain(value):
        if isinstance(value, jp.Layer):
            return {"kind": type(value).__name__} | {
                f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)
            }
        return [plain(v) for v in value] if isinstance(value, tuple) else value

    return plain(layer)


def test_settings_are_json(case):
    found = settings_of(case.layer)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert eval(repr(case.layer), vars(jp) | {"Gain": Gain}) == case.layer


# Activations


ACTIVATIONS = [case for case in LAYERS if isinstance(case.layer, jp.Activation)]
LIKE_JAX = {
    jp.Identity(): lambda z: z,
    jp.Sigmoid(): jax.nn.sigmoid,
    jp.Tanh(): jnp.tanh,
    jp.ReLU(): jax.nn.relu,
    jp.LeakyReLU(): jax.nn.leaky_relu,
    jp.LeakyReLU(0.2): lambda z: jax.nn.leaky_relu(z, 0.2),
    jp.ELU(): jax.nn.elu,
    jp.ELU(0.7): lambda z: jax.nn.elu(z, 0.7),
    jp.SELU(): jax.nn.selu,
    jp.GELU(): lambda z: jax.nn.gelu(z, approximate=False),
    jp.GELU(approximate=True): jax.nn.gelu,
    jp.SiLU(): jax.nn.silu,
    jp.Softplus(): jax.nn.softplus,
    jp.Softsign(): jax.nn.soft_sign,
    jp.HardTanh(): jax.nn.hard_tanh,
}


@functools.cache
def at_edges():
    """{dtype: {layer: value, our derivative, JAX's, our dx}} at ±1e4, 0 and ±1: one compilation a dtype."""

    @jax.jit
    def run(z):
        found = {}
        for layer, like in LIKE_JAX.items():
            y, kept = layer.forward(z)
            slope = jnp.broadcast_to(layer.derivative(kept), z.shape).astype(y.dtype)
            found[repr(layer)] = y, slope, jax.vmap(jax.grad(like))(z), layer.backward(jnp.ones_like(z), kept)[0]
        return found

    return {
        dtype: jax.tree.map(lambda v: np.asarray(v, np.float64), run(jnp.asarray([-1e4, -1, 0, 1, 1e4], dtype)))
        for dtype in DTYPES
    }


def test_every_activation_is_compared_with_jax():
    assert set(LIKE_JAX) == {case.layer for case in ACTIVATIONS}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layer", LIKE_JAX, ids=repr)
def test_activations_are_finite_far_out_and_follow_jax_at_kinks(layer, dtype):
    y, slope, like_jax, dx = at_edges()[dtype][repr(layer)]
    assert np.isfinite(y).all() and np.isfinite(slope).all() and np.isfinite(dx).all()
    assert np.array_equal(slope, dx)
    assert relative(slope, like_jax) <= tolerance(dtype)


@pytest.mark.parametrize(
    "layer, at, slope",
    [
        (jp.ReLU(), 0, 0),
        (jp.LeakyReLU(0.2), 0, 1),
        (jp.ELU(0.7), 0, 0.7),
        (jp.SELU(), 0, 1.0507009873554805 * 1.6732632423543772),
        (jp.Softsign(), 0, 1),
        (jp.HardTanh(), -1, 1),
        (jp.HardTanh(), 1, 1),
    ],
    ids=repr,
)
def test_kink_conventions_in_numbers(layer, at, slope):
    at_index = [-1e4, -1, 0, 1, 1e4].index(at)
    assert abs(at_edges()["float64"][repr(layer)][1][at_index] - slope) < 1e-15


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_derivative_is_the_diagonal_of_vjp(case):
    z = case.x("float64")
    kept = case.layer.forward(z)[1]
    diagonal = jax.vjp(lambda z: case.layer(z), z)[1](jnp.ones_like(z))[0]
    assert relative(jnp.broadcast_to(case.layer.derivative(kept), z.shape), diagonal) <= tolerance("float64")


def test_the_derivative_of_softmax_is_its_jacobian():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    expected = jax.vmap(jax.jacobian(jax.nn.softmax))(z)
    assert relative(jp.Softmax().derivative(jp.Softmax().forward(z)[1]), expected) <= tolerance("float64")


# Edges of single layers


def test_moments_of_rows():
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert jp.Standardize.of(x) == jp.Standardize((2.0, 5.0), (1.0, 1.0))  # a constant feature keeps std 1
    assert jp.Standardize.of(x, per_feature=False) == jp.Standardize(float(x.mean()), float(x.std()))
    there, back_again = jp.Standardize.of(x), jp.Unstandardize.of(x)
    assert relative(back_again(there(jnp.asarray(x), ()), ()), x) < 1e-15


def test_moments_take_lists_and_arrays_and_stay_hashable():
    assert hash(jp.Standardize([1.0, 2.0], np.ones(2))) == hash(jp.Standardize((1.0, 2.0), (1.0, 1.0)))


@pytest.mark.parametrize("name", sorted(jp.layers.linear.initializers()))
def test_every_named_initializer_makes_weights(name):
    W = jax.eval_shape(jp.Linear(3, init=name).init, jax.random.key(0), jax.ShapeDtypeStruct((2, 4), "float32")).W
    assert W.shape == (4, 3) and W.dtype == jnp.float32


# Random chains: three witnesses


def check_chain(chain):
    links, bias, seed = chain
    net = jp.Chain(*(layer for width, activation in links for layer in (jp.Linear(width, bias=bias), activation)))
    rng = np.random.default_rng(seed)
    x, targets = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(4, links[-1][0])))
    report = jp.compare(net, jp.HalfSquaredError())(x, net.init(jax.random.key(seed), x), targets)
    assert report.ok, f"{net!r}, seed {seed}\n{report}"


def chains(sizes, depth):
    """Any depth, widths, activations, with and without bias: (widths, activations, bias, seed)."""
    some = st.sampled_from([case.layer for case in ACTIVATIONS] + [jp.Softmax()])
    links = st.lists(st.tuples(sizes, some), min_size=1, max_size=depth)
    return st.tuples(links, st.booleans(), st.integers(0, 100))


# few sizes, so that the short run shares its compilations
test_any_chain = settings(max_examples=10, deadline=None)(given(chains(st.sampled_from([1, 3]), depth=2))(check_chain))
test_many_chains = pytest.mark.slow(
    settings(max_examples=30, deadline=None)(given(chains(st.integers(1, 5), depth=4))(check_chain))
)


@pytest.mark.parametrize(
    "layer, x, empty",
    [
        (jp.GroupNorm(2), np.ones((2, 3, 4)), lambda x: x[:0]),
        (jp.MultiHeadAttention(2), np.ones((2, 3, 4)), lambda x: x[:0]),
        (jp.MultiHeadAttention(2, cross=True), (np.ones((2, 3, 4)),) * 2, lambda x: (x[0], x[1][:, :0])),
    ],
    ids=["GroupNorm, no rows", "attention, no rows", "attention, no memory"],
)
def test_empty_axes_have_empty_answers(layer, x, empty):
    x = jax.tree.map(jnp.asarray, x)
    params = layer.init(jax.random.key(0), x)
    y, cache = layer.forward(empty(x), params)
    dx, uses = layer.backward(jnp.ones_like(y), cache, params)
    assert jax.tree.map(jnp.shape, dx) == jax.tree.map(jnp.shape, empty(x))
    expected = jax.grad(lambda p: jnp.sum(layer(empty(x), p)))(params)
    assert relative(totals(uses), expected) <= 1e-12
