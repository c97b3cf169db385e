"""Attention: against Flax, and what its docstring says of edges."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw

HEADS, I, J = 2, 4, 3
REAL = np.array([[True, True, False], [True, False, True]])


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def to_flax(p, key_bias):
    """Our θ in Flax's names and shapes: heads have an axis of their own, and keys a bias."""

    def heads(W, b):
        return {"kernel": W.reshape(len(W), HEADS, -1), "bias": b.reshape(HEADS, -1)}

    return {
        "query": heads(p.W_query, p.b_query),
        "key": heads(p.W_key, key_bias),
        "value": heads(p.W_value, p.b_value),
        "out": {"kernel": p.W_output.reshape(HEADS, -1, p.W_output.shape[-1]), "bias": p.b_output},
    }


def value_and_vjp(f, dy, *primals):
    y, vjp = jax.vjp(f, *primals)
    return y, vjp(dy)


@pytest.mark.parametrize(
    "way",
    ["causal, padded", *(pytest.param(way, marks=pytest.mark.slow) for way in ("self", "causal", "padded", "cross"))],
)
def test_forward_and_gradients_are_those_of_flax(way):
    cross = way == "cross"
    causal, real = "causal" in way, jnp.asarray(REAL) if "padded" in way or cross else None
    layer = jp.MultiHeadAttention(HEADS, features=6, outputs=5, causal=causal, cross=cross)
    theirs = nn.MultiHeadDotProductAttention(HEADS, qkv_features=6, out_features=5, param_dtype=jnp.float64)
    x = (normal(0, 2, 3, I), normal(1, 2, 3, J)) if cross else normal(0, 2, 3, I)
    params, dy, key_bias = draw(layer, x), normal(2, 2, 3, 5), normal(3, 6)
    allowed = None if real is None else real[:, None, None, :]
    if causal:
        past = nn.make_causal_mask(jnp.ones((2, 3)), dtype=bool)
        allowed = past if allowed is None else past & allowed

    def flax(x, params, key_bias):
        one, other = x if cross else (x, x)
        return theirs.apply({"params": to_flax(params, key_bias)}, one, other, mask=allowed)

    @jax.jit
    def both(x, params, dy, key_bias):
        y, cache = layer.forward(x, params, jp.Env(mask=(None, real) if cross else real))
        dx, uses = layer.backward(dy, cache, params)
        totals = jax.tree.map(lambda use: use.total(None), uses, is_leaf=lambda u: isinstance(u, jp.Use))
        return (y, (dx, totals)), value_and_vjp(flax, dy, x, params, key_bias)

    ours, (y, (*grads, of_key_bias)) = both(x, params, dy, key_bias)
    assert relative(ours, (y, tuple(grads))) <= 1e-10
    assert float(jnp.max(jnp.abs(of_key_bias))) < 1e-14, "why keys have no bias here"


@functools.partial(jax.jit, static_argnums=0)
def run(layer, x, params, dy, mask=None):
    y, cache = layer.forward(x, params, jp.Env(mask=mask))
    return y, *layer.backward(dy, cache, params)


@pytest.mark.parametrize("causal", [False, True])
def test_a_query_without_keys_attends_to_nothing(causal):
    layer, x = jp.MultiHeadAttention(HEADS, causal=causal), normal(0, 2, 3, I)
    params = draw(layer, x)
    y, dx, uses = run(layer, x, params, normal(1, 2, 3, I), jnp.zeros((2, 3), bool))
    assert np.array_equal(y, np.broadcast_to(params.b_output, y.shape))
    assert not np.asarray(dx).any() and not np.asarray(uses.W_value.gradient()).any()
    assert np.asarray(uses.b_output.gradient()).all()


def test_a_cross_query_without_memory_attends_to_nothing():
    layer, x = jp.MultiHeadAttention(1, cross=True), (normal(0, 2, 3, I), normal(1, 2, 2, J))
    params, real = draw(layer, x), jnp.array([[True, True], [False, False]])
    y, dx, _ = run(layer, x, params, normal(1, 2, 3, I), (jnp.zeros((2, 3), bool), real))
    assert np.array_equal(y[1], np.broadcast_to(params.b_output, y[1].shape)) and np.isfinite(y).all()
    assert [np.asarray(d)[1].any() for d in dx] == [False, False] and np.asarray(dx[1])[0].all()


def test_one_position_sees_itself():
    layer, x = jp.MultiHeadAttention(HEADS, causal=True), normal(0, 2, 1, I)
    p = draw(layer, x)
    assert relative(jax.jit(layer)(x, p), (x @ p.W_value + p.b_value) @ p.W_output + p.b_output) < 1e-14


@pytest.mark.parametrize("causal", [False, True])
def test_what_stands_at_a_masked_key_changes_nothing_and_gets_no_error(causal):
    layer, x, real = jp.MultiHeadAttention(HEADS, causal=causal), normal(0, 2, 3, I), jnp.asarray(REAL)
    params, dy = draw(layer, x), jnp.where(real[..., None], normal(1, 2, 3, I), 0)
    y, dx, _ = run(layer, x, params, dy, real)
    other, _, _ = run(layer, jnp.where(real[..., None], x, 1e3), params, dy, real)
    assert np.array_equal(np.asarray(y)[REAL], np.asarray(other)[REAL])
    assert not np.asarray(dx)[~REAL].any() and np.asarray(dx)[REAL].all()


def test_no_mask_is_a_mask_of_all():
    layer, x = jp.MultiHeadAttention(HEADS, causal=True), normal(0, 2, 3, I)
    params = draw(layer, x)
    y = jax.jit(layer)(x, params)
    assert np.array_equal(y, jax.jit(layer)(x, params, jp.Env(mask=jnp.ones((2, 3), bool))))


def test_causal_outputs_do_not_see_the_future():
    layer, x = jp.MultiHeadAttention(HEADS, causal=True), normal(0, 2, 3, I)
    params = draw(layer, x)
    _, dx, _ = run(layer, x, params, jnp.zeros_like(x).at[:, 1].set(1.0))
    assert not np.asarray(dx)[:, 2].any() and np.asarray(dx)[:, :2].all()


def test_scores_beyond_float16_stay_finite():
    layer, x = jp.MultiHeadAttention(1, bias=False), jnp.full((1, 2, 64), 40.0, "float16")
    W = jnp.eye(64, dtype="float16")
    unit = jp.AttentionParams(W, None, W, W, None, W, None)
    y, dx, _ = run(layer, x, unit, jnp.ones_like(x))  # q·k = 64 · 40² = 102 400, and float16 ends at 65 504
    assert y.dtype == jnp.float16 and relative(y, x) == 0 and np.isfinite(dx).all()


X, PAIR = np.zeros((2, 3, 4)), (np.zeros((2, 3, 4)), np.zeros((2, 5, 4)))


@pytest.mark.parametrize(
    "settings, x, mask, message",
    [
        ({}, np.zeros((3, 4)), None, r"must be floating \[N, T, I\], found float64\[3, 4\]"),
        ({}, np.zeros((2, 3, 4), int), None, "ids go through an Embedding first"),
        ({}, PAIR, None, "found 2 arrays, expected one array"),
        ({"cross": True}, X, None, "found one array, expected a pair"),
        ({"cross": True}, (X, X[:1]), None, "as many examples"),
        ({"cross": True}, (X, X.astype("float32")), None, "of one dtype"),
        ({}, X, np.ones((2, 4), bool), r"mask of x: found bool\[2, 4\], expected bool\[2, 3\]"),
        ({}, X, np.ones((2, 3)), r"found float64\[2, 3\], expected bool"),
        ({}, X, (None, None), "found tuple"),
        ({"cross": True}, PAIR, np.ones((2, 3), bool), "found one mask, expected a pair"),
        ({"cross": True}, PAIR, (None, np.ones((2, 3), bool)), r"mask of memory: .* expected bool\[2, 5\]"),
        ({"cross": True}, PAIR, (np.ones((2, 5), bool), None), r"mask of x: .* expected bool\[2, 3\]"),
        ({"bias": False}, X, None, r"found b_query of shape \(4,\), expected None"),
        ({"features": 6}, X, None, r"found W_query of shape \(4, 4\), expected \(4, 6\)"),
    ],
)
def test_what_does_not_fit_is_named(settings, x, mask, message):
    fits = jp.MultiHeadAttention(2, cross=settings.get("cross", False))
    params = draw(fits, PAIR if fits.cross else X)
    with pytest.raises(jp.layers.attention.ShapeError, match=message):
        jax.eval_shape(jp.MultiHeadAttention(2, **settings), x, params, jp.Env(mask=mask))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"heads": 0}, "heads must be a whole number"),
        ({"heads": None}, "heads must be a whole number"),
        ({"heads": 2, "features": 2.0}, "features must be a whole number"),
        ({"heads": 2, "outputs": True}, "outputs must be a whole number"),
        ({"heads": 2, "features": 3}, "features=3 cannot be divided among heads=2"),
        ({"heads": 2, "causal": True, "cross": True}, "choose one"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(jp.JaxpropError, match=message):
        jp.MultiHeadAttention(**settings)


def test_heads_must_divide_what_x_has():
    with pytest.raises(jp.JaxpropError, match="4 features of x cannot be divided among 3 heads"):
        jp.MultiHeadAttention(3).init(jax.random.key(0), X)


@pytest.mark.slow
def test_manual_needs_less_memory_than_jax_grad():
    net, x = jp.Chain(jp.MultiHeadAttention(2, causal=True)), jnp.zeros((4, 32, 16), "float32")
    params = net.init(jax.random.key(0), x)
    manual, auto = (
        jax.jit(way.value_and_grad(net, jp.HalfSquaredError())).lower(x, params, x).compile().memory_analysis()
        for way in (jp.manual, jp.auto)
    )
    assert manual.temp_size_in_bytes <= 0.9 * auto.temp_size_in_bytes
