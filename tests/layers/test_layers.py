"""The battery of `jaxprop.check` over every layer of `tests/cases`, and what it cannot know: numpy, kinks and edges."""

import copy
import dataclasses
import functools
import itertools
import json
import pickle
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import DIFFERENCES, tolerance
from jaxprop.check import contract
from jaxprop.check.quantities import QUANTITIES, by_uses, some_weights
from jaxprop.check.subject import At, backward, by_hand
from jaxprop.check.witnesses import WITNESSES, Inputs, compute, judge_bfloat16
from jaxprop.errors import ShapeError
from jaxprop.layers.initializers import initializers
from jaxprop.uses import is_use
from tests.cases import LAYERS, LayerCase, exported, one_of_each
from tests.drawing import draw

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
ACTIVATIONS = [case for case in LAYERS if isinstance(case.layer, jp.Activation)]
OTHERS = [case for case in CASES if case not in ACTIVATIONS]
SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive


def test_every_exported_layer_has_a_case():
    missing = set(exported(jp.Layer)) - {type(case.layer).__name__ for case in LAYERS}
    assert not missing, f"no row in tests/cases/ (basic.py holds Linear and the activations): {sorted(missing)}"


def test_the_params_of_every_exported_layer_are_exported():
    one_of_each = {case.kind: case for case in LAYERS}.values()
    made = [jax.eval_shape(case.layer.init, jax.random.key(0), case.x("float32")) for case in one_of_each]
    kinds = set(map(type, made)) - {tuple}
    missing = {kind.__name__ for kind in kinds if getattr(jp, kind.__name__, None) is not kind}
    assert not missing, f"what `init` returns is not exported by jaxprop/layers/__init__.py: {sorted(missing)}"


# The battery of `jaxprop.check`, over every case of the table


EXACT = tolerance("float64")
GATES = {"forward is the call": 1e-14, "jit is eager": 1e-14, "central differences": DIFFERENCES}
LOW = ("twice, in a Repeat", "float32 against jax.vjp", "bfloat16 against float64")
JAX = ("⟨Jv, dy⟩ = ⟨v, dx⟩", "linear in dy", "jit is eager", "vmap over x and θ")


def inputs(case, dtype="float64", seed=0):
    """x, θ, env, an error dy and a direction."""
    x, params, env = case.x(dtype, seed), case.params(dtype, seed), case.env(0)
    y = jax.eval_shape(case.layer, x, params, env)
    dy = np.random.default_rng(seed + 2).normal(size=y.shape)
    return Inputs.of(At(x, params, env, jnp.asarray(dy, y.dtype)), seed + 3)  # a direction of its own, not x


def those(names):
    return [witness for witness in WITNESSES if witness.names[0] in names]


def has_examples(layer, params, env):
    """Whether there are quantities of one example: parameters, no batch statistics, and nothing drawn for the batch."""
    return bool(jax.tree.leaves(params)) and not layer.mixes_examples and (env is None or env.rng is None)


def flat(tree):
    """All arrays of a tree as one vector."""
    return np.concatenate([np.zeros(0), *(np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree))])


# the activations have all three witnesses in one program, further below
BATTERY = [*one_of_each(OTHERS), *one_of_each(ACTIVATIONS, first=SLOW, rest=EXHAUSTIVE)]


@pytest.fixture(scope="module", params=BATTERY)
def case(request):
    return request.param


@pytest.fixture(scope="module")
def asked(case):
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return inputs(case)


@pytest.fixture(scope="module")
def found(case, asked):
    """{witness: its numbers}, from one program; what JAX, a network and other dtypes do is left to the slow run."""
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        return compute(case.layer, asked, [w for w in WITNESSES if w.names[0] not in LOW + JAX])


def pair(name, numbers, case, asked):
    """(found, expected) of a witness, as strict as its numbers can be asked for."""
    if name == "central differences":
        mine, nudged, _ = numbers
        assert all(len(nudged[path].entries) == g.size for path, g in mine.items()), "not in every direction"
        return flat(mine), flat([nudged[path].slopes for path in mine])
    if name == "⟨Jv, dy⟩ = ⟨v, dx⟩":
        there, back, _ = numbers
        return back, there
    return (numbers, by_hand(case.layer, asked.at)) if name == "jit is eager" else numbers


def every_witness_agrees(case, asked, found):
    for name, numbers in found.items():
        assert not isinstance(numbers, Exception), (name, numbers)
        if not isinstance(numbers, str):  # why it does not apply
            assert relative(*pair(name, numbers, case, asked)) <= GATES.get(name, EXACT), name


def test_every_witness_agrees(case, asked, found):
    every_witness_agrees(case, asked, found)


def test_only_what_has_no_answer_is_not_asked(case, asked, found):
    skipped = {name for name, numbers in found.items() if isinstance(numbers, str)}
    of_examples = set() if has_examples(case.layer, asked.at.params, asked.at.env) else set(QUANTITIES)
    alone = {"no example sees another"} if case.layer.mixes_examples or case.rng else set()
    nothing = {"jax.vjp", "central differences"}
    assert skipped == of_examples | alone | (set() if jax.tree.leaves(asked.at.primals) else nothing)


def test_forward_is_plain_numpy(case, asked, found):
    (y,), (called,) = (list(way.values()) for way in found["forward is the call"])
    if case.reference is None:  # drawn at random: its own tests say what y must be
        return
    x = jax.tree.map(lambda a: np.asarray(a, np.float64), asked.at.x)
    expected = case.reference(x, asked.at.params)
    assert relative(y, expected) < 1e-14 and relative(called, expected) < 1e-14


def test_shapes_dtypes_and_tracing(case, asked):
    """dx is like x, uses are of θ and of N examples, dtype in = dtype out, and an equal layer is not traced again."""
    checks = contract.answers_by_example, contract.shapes, contract.dtypes, contract.compiles_once
    rows = [row for check in checks for row in check(case.layer, asked.at)]
    assert not [str(row) for row in rows if row.ok is False]
    assert dtypes_of((jax.eval_shape(case.layer, *asked.at[:3]), asked.at.params)) == {"float64"}
    for dtype in ("float32", "bfloat16"):
        assert dtypes_of(case.params(dtype)) <= {"float64" if case.integers else dtype}


def dtypes_of(tree):
    return {leaf.dtype.name for leaf in jax.tree.leaves(tree)}


@pytest.mark.parametrize("case", [*one_of_each(OTHERS, first=SLOW, rest=EXHAUSTIVE)])
def test_other_dtypes_a_repeat_and_what_jax_may_do_to_it(case):
    """In float32 every array by its own size; half precision as close to float64 as JAX's own."""
    asked = inputs(case)
    found = compute(case.layer, asked, those(LOW + JAX))
    every_witness_agrees(case, asked, {name: numbers for name, numbers in found.items() if name in JAX})
    assert not [numbers for numbers in found.values() if isinstance(numbers, Exception)]
    for name in LOW[1:]:
        assert isinstance(found[name], str) == case.integers, found[name]
    if not case.integers:
        assert relative(*found[LOW[1]]) <= tolerance("float32")
        (row,) = judge_bfloat16(LOW[2], found[LOW[2]], case.layer, asked.at, 0.0)
        assert row.ok, str(row)
    if not isinstance(found[LOW[0]], str):
        assert relative(*found[LOW[0]]) <= EXACT


def slow(cases, names):
    """The slow run looks at those of a few names, the exhaustive one at the others."""
    return [pytest.param(case, marks=SLOW if case.name in names else EXHAUSTIVE, id=case.name) for case in cases]


@pytest.mark.parametrize(
    "case", slow(CASES, {"Linear, one by one", "ReLU", "Conv, 1-D, groups", "Embedding", "Shared"})
)
def test_check_layer_passes(case):
    def run():
        return jp.check_layer(case.layer, case.x("float64"), case.params("float64"), env=case.env(0))

    if case.shapes[0][0] == 1:
        with pytest.raises(ShapeError, match="with one example a wrong division by N does not show"):
            run()
    else:
        report = run()
        assert report.ok, str(report)


HALVES = [case for case in CASES if case.shapes[0][0] % 2 == 0]
SHARDED = {  # one of each kind of use, and of each way to its norms
    "Linear, T", "Conv, 2-D", "Conv, 1-D, groups", "ConvTranspose", "Embedding, T < D", "PositionalEmbedding",
    "GRU, last, padded", "MultiHeadAttention, cross, padded", "Repeat of a Remat", "Shared, T", "LayerNorm, T",
}  # fmt: skip


@pytest.mark.parametrize("case", slow(HALVES, SHARDED))
def test_all_of_it_with_examples_on_two_devices(case):
    """Everything once more with N sharded over two devices, under jit: JAX's own per-example gradients may go wrong."""
    at = inputs(case).at
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    by_examples, everywhere = (jax.NamedSharding(mesh, jax.P(*axes)) for axes in (("n",), ()))

    def run(at):
        y, dx, uses = backward(case.layer, at)
        found = {"y": y, "dx": dx, "totals": jax.tree.map(lambda use: use.total(None), uses, is_leaf=is_use)}
        if has_examples(case.layer, at.params, at.env):
            found |= by_uses(uses, some_weights(len(at.dy), at.dy.dtype))
        return found

    env = None if at.env is None else at.env._replace(mask=jax.device_put(at.env.mask, by_examples))
    x, dy = (jax.device_put(a, by_examples) for a in (at.x, at.dy))
    run = jax.jit(run)
    assert relative(run(At(x, jax.device_put(at.params, everywhere), env, dy)), run(at)) <= EXACT


@pytest.mark.parametrize("case", INTEGERS, ids=str)
def test_integer_inputs_have_no_gradient(case):
    x, params = case.x("float64"), case.params("float64")
    y, cache = jax.jit(case.layer.forward)(x, params, None)
    assert relative(y, case.reference(np.asarray(x, np.float64), params)) < 1e-14
    integers_out = isinstance(case.layer, jp.Flatten)  # so that pixels stay bytes until they are standardized
    assert y.dtype == (x.dtype if integers_out else jnp.float64)
    backward = jax.eval_shape(case.layer.backward, None if integers_out else y, cache, params)
    assert backward[0] is None


@pytest.mark.parametrize("case", CASES, ids=str)
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


@pytest.mark.parametrize("case", CASES, ids=str)
def test_settings_are_json(case):
    found = settings_of(case.layer)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert eval(repr(case.layer), vars(jp) | {"Gain": Gain}) == case.layer


# Activations


LIKE_JAX = {case.layer: case.like for case in ACTIVATIONS if case.like is not None}


@functools.cache
def at_edges():
    """{dtype: {layer: value, our derivative, JAX's, our dx}} at ±1e4, 0 and ±1: one program."""

    @jax.jit
    def run(at):
        found = {dtype: {} for dtype in at}
        for (dtype, z), (layer, like) in itertools.product(at.items(), LIKE_JAX.items()):
            y, kept = layer.forward(z)
            slope = jnp.broadcast_to(layer.derivative(kept), z.shape).astype(y.dtype)
            dx = layer.backward(jnp.ones_like(z), kept)[0]
            assert y.dtype == dx.dtype == z.dtype, layer
            found[dtype][repr(layer)] = y, slope, jax.vjp(like, z)[1](jnp.ones_like(z))[0], dx
        return found

    found = run({dtype: jnp.asarray([-1e4, -1, 0, 1, 1e4], dtype) for dtype in DTYPES})
    return jax.tree.map(lambda v: np.asarray(v, np.float64), found)


def test_every_exported_activation_is_compared_with_jax():
    assert set(LIKE_JAX) == {case.layer for case in ACTIVATIONS}, "a row without `like`, the same function in JAX"


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


@functools.cache
def three_ways():
    """{case: its values by both passes, our derivative, our dx, those of JAX, and central differences}: one program."""

    @jax.jit
    def run(rows):
        found = {}
        for case, z in zip(ACTIVATIONS, rows, strict=True):
            layer, h = case.layer, 1e-5
            y, kept = layer.forward(z)
            slope, dx = jnp.broadcast_to(layer.derivative(kept), z.shape), layer.backward(3 * z, kept)[0]
            called, vjp = jax.vjp(layer, z)
            jaxs = vjp(jnp.ones_like(z))[0], vjp(3 * z)[0]
            found[case.name] = (y, called), (slope, dx), jaxs, (layer(z + h) - layer(z - h)) / (2 * h)
        return found

    return run([case.x("float64") for case in ACTIVATIONS])


@pytest.mark.parametrize("case", ACTIVATIONS, ids=str)
def test_an_activation_by_hand_by_jax_by_differences_and_in_numpy(case):
    values, ours, jaxs, differences = three_ways()[case.name]
    expected = case.reference(np.asarray(case.x("float64")), ())
    assert all(relative(y, expected) < 1e-14 for y in values)
    assert relative(ours, jaxs) <= EXACT and relative(ours[0], differences) <= DIFFERENCES


@pytest.mark.parametrize("layer", [jp.SiLU(), jp.Softsign()], ids=repr)
def test_a_derivative_of_several_terms_is_rounded_once_in_half_precision(layer):
    z = jnp.linspace(-4, 4, 41, dtype="bfloat16")
    found, exact = (np.asarray(layer.derivative(z.astype(dtype)), np.float64) for dtype in ("bfloat16", "float64"))
    assert np.all(np.abs(found - exact) <= 2**-8 * np.abs(exact))


def test_the_derivative_of_softmax_is_its_jacobian():
    z = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))
    expected = jax.jit(jax.vmap(jax.jacobian(jax.nn.softmax)))(z)
    assert relative(jp.Softmax().derivative(jp.Softmax().forward(z)[1]), expected) <= tolerance("float64")


# Edges of single layers


def test_moments_of_rows():
    x = np.array([[1.0, 5.0], [3.0, 5.0]])
    assert jp.Standardize.of(x) == jp.Standardize((2.0, 5.0), (1.0, 1.0))  # a constant feature keeps std 1
    assert jp.Standardize.of(x, per_feature=False) == jp.Standardize(float(x.mean()), float(x.std()))
    there, back_again = jp.Standardize.of(x), jp.Unstandardize.of(x)
    assert relative(back_again(there(jnp.asarray(x), ()), ()), x) < 1e-15


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_a_constant_has_no_spread_though_its_sum_is_rounded(dtype):
    rows = np.full((1000, 2), 0.1, dtype) + np.array([0, 1], dtype) * (np.arange(1000) % 2)[:, None].astype(dtype)
    layer = jp.Standardize.of(rows)
    assert layer.std[0] == 1.0 and layer.std[1] == pytest.approx(0.5, rel=1e-3)
    assert not np.asarray(layer(jnp.asarray(rows), ()))[:, 0].any()
    assert jp.Unstandardize.of(np.full(7, 0.1, dtype)) == jp.Unstandardize(float(np.asarray(0.1, dtype)), 1.0)
    assert jp.Standardize.of([[0.3], [0.1 + 0.2]]).std == (1.0,)  # one unit in the last place is none either


def test_moments_of_the_largest_and_the_smallest_numbers():
    assert jp.Standardize.of(np.array([[1e300], [3e300]])) == jp.Standardize((2e300,), (1e300,))
    assert jp.Standardize.of(np.array([[1e-300], [3e-300]])).std[0] == pytest.approx(1e-300)
    assert jp.Standardize.of([1, 2, 3]).mean == 2.0  # [N]: one number a row
    with pytest.raises(jp.JaxpropError, match="must fit float32"):
        jp.Standardize(0.0, 1e-300)(jnp.ones((1, 1), "float32"), ())
    for rows, says in (
        ([[1.0, float("nan")]], "row 0, column 1 is nan"),
        (np.ones((0, 3)), "empty"),
        ([["a"]], "text"),
    ):
        with pytest.raises(jp.DataError, match=says):
            jp.Unstandardize.of(rows)


def test_moments_take_lists_and_arrays_and_stay_hashable():
    assert hash(jp.Standardize([1.0, 2.0], np.ones(2))) == hash(jp.Standardize((1.0, 2.0), (1.0, 1.0)))


@pytest.mark.parametrize("name", sorted(initializers()))
def test_every_named_initializer_makes_weights(name):
    W = jax.eval_shape(jp.Linear(3, init=name).init, jax.random.key(0), jax.ShapeDtypeStruct((2, 4), "float32")).W
    assert W.shape == (4, 3) and W.dtype == jnp.float32


# Random chains: three witnesses


def check_chain(chain):
    links, bias, seed = chain
    net = jp.Chain(*(layer for width, activation in links for layer in (jp.Linear(width, bias=bias), activation)))
    rng = np.random.default_rng(seed)
    x, targets = jnp.asarray(rng.normal(size=(4, 3))), jnp.asarray(rng.normal(size=(4, links[-1][0])))
    report = jp.compare(net, jp.HalfSquaredError())(x, draw(net, x, seed), targets)
    assert report.ok, f"{net!r}, seed {seed}\n{report}"


def chains(sizes, depth):
    """Any depth, widths, activations, with and without bias: (widths, activations, bias, seed)."""
    some = st.sampled_from([case.layer for case in ACTIVATIONS] + [jp.Softmax()])
    links = st.lists(st.tuples(sizes, some), min_size=1, max_size=depth)
    return st.tuples(links, st.booleans(), st.integers(0, 100))


test_any_chain = SLOW(settings(max_examples=5, deadline=None)(given(chains(st.integers(1, 5), depth=3))(check_chain)))
test_many_chains = EXHAUSTIVE(
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
    params = draw(layer, x)

    @jax.jit
    def run(x, params):
        dy = jnp.ones_like(layer(x, params))
        return by_hand(layer, At(x, params, None, dy)), jax.grad(lambda p: jnp.sum(layer(x, p)))(params)

    found, expected = run(empty(x), params)
    assert jax.tree.map(jnp.shape, found.x) == jax.tree.map(jnp.shape, empty(x))
    assert relative(found.params, expected) <= 1e-12


class OwnConstructor(jp.Layer):
    """A layer that keeps its settings by other names than its constructor's."""

    def __init__(self, width, *parts, depth):
        object.__setattr__(self, "kept", (width, parts, depth))


def test_to_print_a_layer_does_not_fail():
    assert repr(jp.Chain(OwnConstructor(3, 4, depth=5))) == "Chain(OwnConstructor())"
