"""Convolutions, pooling and other shapes: against Flax, and what their docstrings say of edges."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.tolerances import tolerance
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.uses import is_use
from tests.drawing import draw


def normal(seed, *shape, dtype=jnp.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@functools.partial(jax.jit, static_argnums=0)
def run(layer, x, params, dy):
    y, cache = layer.forward(x, params)
    dx, uses = layer.backward(dy, cache, params)
    return y, dx, jax.tree.map(lambda use: use.total(None), uses, is_leaf=is_use)


def some(cases, default):
    """Cases of a table; the slow run looks at those that the default ones reach too."""
    return [
        pytest.param(*row, id=name, marks=[pytest.mark.slow] * (name not in default)) for name, row in cases.items()
    ]


def like(f, x, params):
    """An error in the shape of f(x, θ)."""
    return normal(2, *jax.eval_shape(f, x, params).shape)


def both_ways(layer, x, flax):
    """(y, dx, dθ) by our rule, and of a function of x and θ by jax.vjp, in one compilation."""
    params = draw(layer, x)
    dy = like(layer, x, params)

    @jax.jit
    def both(x, params, dy):
        y, vjp = jax.vjp(flax, x, params)
        return run(layer, x, params, dy), (y, *vjp(dy))

    return both(x, params, dy)


# Against Flax

CONV = {
    "1-D, stride": ((2, 7, 3), jp.Conv(4, (3,), strides=2)),
    "2-D": ((2, 4, 5, 2), jp.Conv(3, (3, 2))),
    "2-D, VALID, leftover": ((2, 6, 5, 2), jp.Conv(3, (3, 2), strides=(2, 2), padding="VALID", bias=False)),
    "2-D, padding, dilation": ((2, 5, 4, 2), jp.Conv(3, (2, 3), 2, ((0, 3), (2, 1)), dilation=(3, 1))),
    "depthwise": ((2, 4, 4, 3), jp.Conv(6, (3, 3), groups=3)),
    "1 × 1, stride": ((2, 5, 4, 3), jp.Conv(2, (1, 1), strides=2)),
    "3-D": ((2, 3, 2, 3, 2), jp.Conv(2, (2, 2, 3))),
    "transposed, 1-D": ((2, 4, 3), jp.ConvTranspose(2, (3,), strides=2)),
    "transposed, kernel < stride": ((2, 3, 2), jp.ConvTranspose(3, (2,), strides=3, bias=False)),
    "transposed, 2-D, VALID": ((2, 3, 2, 2), jp.ConvTranspose(3, (3, 2), strides=(2, 3), padding="VALID")),
    "transposed, padding beyond the kernel": ((2, 3, 2), jp.ConvTranspose(2, (2,), strides=2, padding=((3, 0),))),
    "transposed, 2-D, dilation": ((2, 3, 4, 2), jp.ConvTranspose(2, (2, 3), strides=(1, 2), dilation=2)),
    "transposed, 3-D": ((2, 2, 2, 2, 1), jp.ConvTranspose(2, (2, 2, 2), strides=2)),
}


TELLING = {"2-D, padding, dilation", "depthwise", "transposed, 2-D, dilation", "transposed, padding beyond the kernel"}


@pytest.mark.parametrize("shape, layer", some(CONV, TELLING))
def test_forward_and_gradients_are_those_of_flax(shape, layer):
    options = {"strides": layer.strides, "kernel_dilation": layer.dilation, "padding": layer.padding}
    if isinstance(layer, jp.Conv):
        options["feature_group_count"] = layer.groups
    kind = nn.Conv if isinstance(layer, jp.Conv) else nn.ConvTranspose
    module = kind(layer.features, layer.kernel, use_bias=layer.bias, param_dtype=jnp.float64, **options)

    def flax(x, params):
        return module.apply({"params": {"kernel": params.W} | ({"bias": params.b} if layer.bias else {})}, x)

    ours, theirs = both_ways(layer, normal(0, *shape), flax)
    assert relative(ours, theirs) <= 1e-10


POOLS = {
    "1-D": ((2, 7, 3), (2,), (2,), "VALID"),
    "overlapping": ((2, 6, 5, 2), (3, 2), (2, 1), "SAME"),
    "gaps": ((2, 7, 2), (2,), (3,), "VALID"),
    "padding": ((2, 5, 4, 2), (2, 3), (2, 2), ((1, 0), (1, 2))),
    "3-D": ((2, 3, 4, 2, 1), (2, 2, 2), (1, 2, 2), "VALID"),
}


@pytest.mark.parametrize("kind, flax", [(jp.MaxPool, nn.max_pool), (jp.AvgPool, nn.avg_pool)], ids=["max", "avg"])
@pytest.mark.parametrize("shape, window, strides, padding", some(POOLS, {"padding"}))
def test_pools_are_those_of_flax(kind, flax, shape, window, strides, padding):
    def of_flax(x):
        with jax.numpy_dtype_promotion("standard"):  # Flax divides by a numpy integer
            return flax(x, window, strides, padding)

    layer = kind(window, strides, padding)
    ours, theirs = both_ways(layer, normal(0, *shape), lambda x, _: of_flax(x))
    assert relative(ours, theirs) <= 1e-10


# Max pooling's edges


def test_a_tie_goes_to_the_first_maximum_as_in_jax():
    """Also where windows overlap and where they reach over the edge; few different values make many ties."""
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (3, 6, 5, 2)), jnp.float64)
    for layer in (jp.MaxPool((2, 2)), jp.MaxPool((3, 3), 1, "SAME")):
        ours, by_jax = both_ways(layer, x, layer)
        assert relative(ours, by_jax) < 1e-14
    ours = run(jp.MaxPool((2, 2)), jnp.ones((1, 2, 2, 1)), (), jnp.ones((1, 1, 1, 1)))
    assert ours[1].ravel().tolist() == [1, 0, 0, 0]


def test_nan_is_the_maximum_and_elements_without_a_window_get_nothing():
    x = jnp.array([[[1.0], [jnp.nan], [3.0], [2.0], [9.0]]])
    y, dx, _ = run(jp.MaxPool((2,)), x, (), jnp.ones((1, 2, 1)))
    assert np.array_equal(y.ravel(), [np.nan, 3], equal_nan=True)
    assert dx.ravel()[2:].tolist() == [1, 0, 0] and float(dx.sum()) == 2


def test_a_window_of_padding_alone_is_minus_infinity_and_sends_nothing_back():
    x, layer = normal(0, 1, 2, 1), jp.MaxPool((1,), 1, ((1, 0),))
    y, dx, _ = run(layer, x, (), jnp.ones((1, 3, 1)))
    assert np.array_equal(y, nn.max_pool(x, (1,), (1,), ((1, 0),))) and np.isneginf(y[0, 0])
    assert dx.ravel().tolist() == [1, 1]


def test_more_than_256_offsets():
    x, layer = jnp.arange(260.0).reshape(1, 260, 1), jp.MaxPool((260,))
    found = jax.jit(lambda x: layer.forward(x, ())[1].index)(x)
    assert found.dtype == jnp.uint16 and found.tolist() == [[[259]]]


def test_global_average_is_a_window_of_everything():
    x = normal(0, 2, 3, 4, 2)
    dy = normal(1, 2, 2)
    y, dx, _ = run(jp.GlobalAvgPool(), x, (), dy)
    wide = run(jp.AvgPool((3, 4)), x, (), dy[:, None, None])
    assert relative(y[:, None, None], wide[0]) < 1e-14 and relative(dx, wide[1]) < 1e-14


def test_elements_that_no_window_reaches_get_no_error():
    layer, x = jp.Conv(2, (2,), strides=3, padding="VALID"), normal(0, 2, 7, 2)
    params = draw(layer, x)
    dx = np.asarray(run(layer, x, params, normal(1, 2, 2, 2))[1])
    assert not dx[:, [2, 5, 6]].any() and dx[:, [0, 1, 3, 4]].all()


# The use

USES = {
    "shifted gram": ((2, 3, 3, 8), jp.Conv(8, (3, 3)), "shifted gram"),
    "gram, stride": ((2, 4, 8), jp.Conv(8, (3,), strides=2), "gram"),
    "gram, one position": ((2, 3, 3, 4), jp.Conv(4, (3, 3), padding="VALID"), "gram"),
    "gram, groups": ((2, 2, 32), jp.Conv(32, (2,), groups=2), "shifted gram"),
    "direct": ((2, 9, 2), jp.Conv(3, (3,)), "direct"),
    "direct, padding": ((2, 9, 8, 2), jp.Conv(3, (2, 3), strides=(2, 3), padding=((3, 1), (0, 1))), "direct"),
    "direct, groups, dilation": ((2, 9, 4), jp.Conv(4, (2,), groups=2, dilation=2), "direct"),
    "transposed, gram": ((2, 2, 16), jp.ConvTranspose(8, (3,), strides=2), "gram"),
    "transposed, shifted gram": ((2, 3, 16), jp.ConvTranspose(16, (3,)), "shifted gram"),
    "transposed, direct": ((2, 5, 2), jp.ConvTranspose(3, (3,), strides=2, padding=((4, 1),)), "direct"),
}


def patch_of(layer, x, delta=None):
    W, _ = draw(layer, x)
    window = layer.window(x)
    shape = (x.shape[0], *(window.fine if window.flipped else window.coarse), layer.features)
    return jp.Patch(x, normal(3, *shape, dtype=x.dtype) if delta is None else delta, W.shape, W.dtype, window)


def of_one_example_each(layer, x, delta):
    """∂C_n/∂W by jax.grad, example by example in a Python loop."""
    params = draw(layer, x)

    def C(W, n):
        return jnp.sum(delta[n] * layer(x[n : n + 1], params._replace(W=W))[0])

    return jnp.stack([jax.grad(C)(params.W, n) for n in range(len(x))])


@pytest.mark.parametrize("shape, layer, method", USES.values(), ids=USES)
def test_per_example_gradients_and_norms_by_every_method(shape, layer, method):
    use, weights = patch_of(layer, normal(0, *shape)), normal(4, shape[0])
    assert use.norm_method == method

    @jax.jit
    def found_and_expected(use):
        expected = of_one_example_each(layer, use.a, use.delta)
        norms = (expected.reshape(len(expected), -1) ** 2).sum(axis=1)
        found = use.per_example(), use.squared_norms(), use.gradient(weights)
        return found, (expected, norms, jnp.tensordot(weights, expected, 1))

    assert relative(*found_and_expected(use)) < 1e-13


@pytest.mark.parametrize("shape, layer, method", some(USES, {"gram, groups", "direct, padding", "transposed, direct"}))
def test_patches_meet_delta_in_the_gradient(shape, layer, method):
    use, weights = patch_of(layer, normal(0, *shape)), normal(4, shape[0])
    patches, gradient = jax.jit(lambda use: (use.patches(), use.gradient(weights)))(use)
    *K, I, O = use.shape
    N, G, other = shape[0], layer.groups if isinstance(layer, jp.Conv) else 1, np.asarray(use.delta)
    if isinstance(layer, jp.ConvTranspose):  # patches of δ meet x: [N, T, K·O] and [N, T, I]
        delta = patches.reshape(N, -1, math.prod(K), O)
        found = np.einsum("n,nti,ntko->kio", weights, np.asarray(use.a).reshape(N, -1, I), delta)
    else:
        u, delta = patches.reshape(N, -1, math.prod(K), G, I), other.reshape(N, -1, G, O // G)
        found = np.einsum("n,ntkgi,ntgo->kigo", weights, u, delta)
    assert relative(found.reshape(use.shape), gradient) < 1e-13


@pytest.mark.parametrize("shape, layer, method", some(USES, {"transposed, gram"}))
def test_uses_are_mapped_and_scanned(shape, layer, method):
    """As a `Repeat` does, whose uses have an axis L."""
    use = patch_of(layer, normal(0, *shape))
    other = jax.tree.map(lambda leaf: 2 * leaf + 1, use)
    stacked = jax.tree.map(lambda *both: jnp.stack(both), use, other)

    def everything(use):
        return use.gradient(), use.per_example(), use.squared_norms()

    @jax.jit
    def three_ways(use, other, stacked):
        apart = jax.tree.map(lambda *both: jnp.stack(both), everything(use), everything(other))
        scanned = jax.lax.scan(lambda c, u: (c, everything(u)), 0, stacked)[1]
        return jax.vmap(everything)(stacked), scanned, apart

    mapped, scanned, apart = three_ways(use, other, stacked)
    assert relative(mapped, apart) < 1e-13 and relative(scanned, apart) < 1e-13


def temporary(f, *arguments):
    return jax.jit(f).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_gram_norms_hold_no_per_example_gradient():
    use = patch_of(jp.Conv(64, (3, 3)), normal(0, 16, 4, 4, 64, dtype=jnp.float32))
    assert use.norm_method == "shifted gram"
    assert temporary(lambda use: use.squared_norms(), use) < 16 * use.delta.size  # [N, params] has 9216 N numbers
    assert 16 * use.delta.size < 4 * 16 * 9 * 64 * 64


def test_direct_norms_hold_one_offset_at_a_time():
    use = patch_of(jp.Conv(16, (3, 3)), normal(0, 8, 16, 16, 16, dtype=jnp.float32))
    assert use.norm_method == "direct"
    assert temporary(lambda use: use.squared_norms(), use) < 4 * 4 * use.a.size  # all nine slices would be 9


@pytest.mark.parametrize("name", ["shifted gram", "gram, stride", "direct", "transposed, direct"])
def test_no_convolution_has_examples_in_its_groups(name):
    """JAX computes it wrongly with N sharded: per-example quantities are made without any convolution."""
    use = patch_of(USES[name][1], normal(0, *USES[name][0]))
    for what in (lambda u: u.per_example(), lambda u: u.squared_norms()):
        assert "conv_general_dilated" not in str(jax.make_jaxpr(what)(use))
    assert str(jax.make_jaxpr(lambda u: u.gradient())(use)).count("conv_general_dilated[") == 1


@pytest.mark.parametrize("shape, layer, method", some(USES, {"gram, groups"}))
def test_with_examples_on_two_devices(shape, layer, method):
    use = patch_of(layer, normal(0, 4, *shape[1:]))
    mesh = jax.make_mesh((2,), ("n",), axis_types=(jax.sharding.AxisType.Auto,))
    sharded = jax.device_put(use, jax.NamedSharding(mesh, jax.P("n")))
    weights = normal(5, 4)

    def everything(use):
        return use.gradient(), use.gradient(weights), use.per_example(), use.squared_norms()

    assert len(sharded.a.sharding.device_set) == 2
    everything = jax.jit(everything)
    assert relative(everything(sharded), everything(use)) < 1e-13


def test_gram_of_a_delta_that_is_constant_over_positions():
    """XLA:CPU miscompiles d @ d.T whose operand is a broadcast (jax#39103): after mean pooling δ is one."""
    N, layer = 64, jp.Conv(48, (3, 3))
    x, dy = normal(0, N, 4, 4, 32, dtype=jnp.float32), normal(1, N, 48, dtype=jnp.float32)

    def norms(x, dy):
        pooled = jnp.broadcast_to(dy[:, None, None] / 16, (N, 4, 4, 48))
        use = patch_of(layer, x, pooled)
        assert use.norm_method == "shifted gram"
        return use.squared_norms()

    padded = np.pad(np.asarray(x, np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    mean = [padded[:, i : i + 4, j : j + 4].mean(axis=(1, 2)) for i in range(3) for j in range(3)]
    expected = (np.stack(mean, 1) ** 2).sum(axis=(1, 2)) * (np.asarray(dy, np.float64) ** 2).sum(1)
    for _ in range(3):
        assert relative(jax.jit(norms)(x, dy), expected) < 1e-5


# Settings and inputs that cannot be


def test_settings_are_values_however_they_are_written():
    assert jp.Conv(2, [3], [2], [[1, 0]]) == jp.Conv(2, (3,), 2, ((1, 0),))  # type: ignore
    assert hash(jp.MaxPool([2, 2])) == hash(jp.MaxPool((2, 2), strides=2))  # type: ignore
    assert repr(jp.Conv(16, (3, 3))) == "Conv(16, (3, 3))"
    assert repr(jp.ConvTranspose(1, (3,), 2, bias=False)) == "ConvTranspose(1, (3,), strides=(2,), bias=False)"
    assert jp.Transpose([1, 0]) == jp.Transpose((1, 0)) and jp.Reshape([-1]) == jp.Reshape((-1,))  # type: ignore


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: jp.Conv(0, (3,)), "Conv: features must be a whole number ≥ 1, found 0"),
        (lambda: jp.Conv(1, 3), r"Conv: kernel must be a tuple of whole numbers, found 3; \(3,\) slides"),
        (lambda: jp.Conv(1, (3, 0)), r"kernel must be .*found \(3, 0\)"),
        (lambda: jp.Conv(1, (2,) * 4), "kernel must be a tuple of 1, 2 or 3"),
        (lambda: jp.Conv(1, (3,), strides=0), "Conv: strides must be a whole number ≥ 1 or 1 of them, .*found 0"),
        (
            lambda: jp.Conv(1, (3, 3), dilation=(1,)),
            r"dilation must be a whole number ≥ 1 or 2 of them, .*found \(1,\)",
        ),
        (lambda: jp.Conv(1, (3,), padding="same"), "padding must be 'SAME', 'VALID' or 1 pairs .*found 'same'"),
        (lambda: jp.Conv(1, (3,), padding=((-1, 0),)), "padding must be"),
        (lambda: jp.Conv(3, (3,), groups=2), "features must be a multiple of groups, found 3 and 2"),
        (lambda: jp.Conv(1, (3,), init="glorot"), "unknown init 'glorot'"),
        (
            lambda: jp.ConvTranspose(1, (3,), padding=((1,),)),
            "padding, item 0, must be a tuple of 2, found",
        ),
        (lambda: jp.MaxPool(2), "MaxPool: window must be a tuple .*found 2"),
        (lambda: jp.AvgPool((2,), strides=(1, 1)), "AvgPool: strides must be"),
        (lambda: jp.Reshape((-1, -1)), r"Reshape: shape must be .*at most one −1, found \(-1, -1\)"),
        (lambda: jp.Transpose((1, 2)), r"Transpose: axes must be the numbers from 0 .*found \(1, 2\)"),
    ],
)
def test_settings_that_cannot_be(make, message):
    with pytest.raises(JaxpropError, match=message):
        make()


@pytest.mark.parametrize(
    "layer, shape, message",
    [
        (jp.Conv(1, (3, 3)), (4, 5, 2), r"with 2 spatial axes, found shape \(4, 5, 2\)"),
        (jp.Conv(1, (3,), padding="VALID"), (4, 2, 2), r"a window of \(3,\) does not fit into inputs \(4, 2, 2\)"),
        (jp.Conv(2, (3,), groups=2), (4, 5, 3), "found 3 channels .*expected a multiple of 2 groups"),
        (jp.ConvTranspose(1, (3,), padding=((0, 0),)), (4, 2, 2), r"outputs of extent \(0,\)"),
        (jp.MaxPool((3,)), (4, 2, 2), r"MaxPool\(.*\): a window of \(3,\) does not fit"),
        (jp.AvgPool((3,)), (4, 2), r"found shape \(4, 2\)"),
        (jp.GlobalAvgPool(), (4, 2), r"with 1 spatial axes, found shape \(4, 2\)"),
        (jp.GlobalAvgPool(), (4, 0, 2), r"found no positions in inputs \(4, 0, 2\)"),
        (jp.Reshape((2, -1)), (4, 3), "found 3 numbers an example .*expected a multiple of 2"),
        (jp.Reshape((2, 2)), (4, 3), "found 3 numbers an example .*expected 4"),
        (jp.Transpose((1, 0)), (4, 3), r"with 2 axes after N, found shape \(4, 3\)"),
    ],
    ids=repr,
)
def test_inputs_that_do_not_fit_are_named_at_trace_time(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        jax.eval_shape(lambda x: layer(x, layer.init(jax.random.key(0), x)), jax.ShapeDtypeStruct(shape, jnp.float64))


@pytest.mark.parametrize("layer", [jp.Conv(1, (2,)), jp.MaxPool((2,)), jp.AvgPool((2,)), jp.GlobalAvgPool()], ids=repr)
def test_integers_are_refused_where_they_would_need_a_gradient(layer):
    with pytest.raises(ShapeError, match="inputs must be floating, found int32; put Standardize"):
        layer.forward(jnp.zeros((1, 4, 1), jnp.int32), jp.ConvParams(None, None))


def test_params_of_other_inputs_are_named():
    layer, x = jp.Conv(2, (3,)), normal(0, 1, 4, 3)
    params = layer.init(jax.random.key(0), x)
    with pytest.raises(ShapeError, match=r"need W of shape \(3, 2, 2\), found \(3, 3, 2\)"):
        layer(x[..., :2], params)
    with pytest.raises(ShapeError, match=r"found b of None, expected shape \(2,\)"):
        layer(x, params._replace(b=None))
    with pytest.raises(JaxpropError, match=r"Conv\.init needs a key"):
        layer.init(None, x)


def test_integers_keep_their_dtype_through_shapes():
    for layer in (jp.Reshape((2, 2)), jp.Transpose((0,))):
        y, cache = layer.forward(jnp.ones((2, 4), jnp.int32), ())
        assert y.dtype == jnp.int32 and layer.backward(None, cache, ()) == (None, ())


MIXED = [
    (jp.Conv(4, (3,), groups=2), "float64", "float32"),
    (jp.ConvTranspose(4, (3,), strides=2), "bfloat16", "float32"),
]
MORE = [(jp.ConvTranspose(4, (3,)), "float64", "float32"), (jp.Conv(4, (3,)), "float32", "bfloat16")]


@pytest.mark.parametrize(
    "layer, of_x, of_params", [*MIXED, *(pytest.param(*more, marks=pytest.mark.slow) for more in MORE)], ids=str
)
def test_dtypes_are_mixed_as_a_linear_layer_mixes_them(layer, of_x, of_params):
    x, cost = normal(0, 2, 5, 2).astype(of_x), jp.HalfSquaredError()
    params = jax.tree.map(lambda p: p.astype(of_params), draw(layer, x))

    @jax.jit
    def everything(x, params):
        y, dx, _ = run(layer, x, params, jnp.ones_like(layer(x, params)))
        at, use = (x, params, jnp.zeros(y.shape)), jp.manual.uses(layer, cost)(x, params, jnp.zeros(y.shape))[1].W
        norms = use.squared_norms(), jnp.sum(use.per_example().astype(float) ** 2, axis=(1, 2, 3))
        return y, dx, jp.manual.value_and_grad(layer, cost)(*at), jp.auto.value_and_grad(layer, cost)(*at), norms

    with jax.numpy_dtype_promotion("standard"):
        y, dx, mine, theirs, norms = everything(x, params)
        assert y.dtype == dx.dtype == jnp.result_type(x, params.W)
    assert mine[1].W.dtype == params.W.dtype
    assert relative(mine, theirs) <= tolerance(of_params) and relative(*norms) <= tolerance(of_params)


@pytest.mark.slow
def test_float32_is_right_where_windows_reach_beyond_the_array():
    """XLA:CPU of jax 0.10 reads beside an array that a convolution crops: neither we nor `jax.grad` make it do so."""
    layer, x, cost = jp.ConvTranspose(4, (2, 2), padding=((2, 0),) * 2), normal(0, 2, 5, 5, 4), jp.HalfSquaredError()
    params = draw(layer, x)
    exact = jp.auto.value_and_grad(layer, cost)(x, params, jnp.zeros(layer(x, params).shape))
    x, params = jax.tree.map(lambda a: a.astype("float32"), (x, params))
    at = (x, params, jnp.zeros(layer(x, params).shape, "float32"))
    for by in (jp.manual, jp.auto):
        found = jax.tree.map(lambda a: a.astype(float), by.value_and_grad(layer, cost)(*at))
        assert relative(found, exact) <= tolerance("float32"), by
