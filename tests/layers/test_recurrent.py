"""RNN, GRU and LSTM: against Flax, and what their docstrings say of edges."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import jaxprs_in_params

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw

N, T, I, F = 3, 4, 2, 3
KINDS = [jp.RNN, jp.GRU, jp.LSTM]


def normal(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@functools.partial(jax.jit, static_argnums=0)
def run(layer, x, params, dy, mask=None):
    y, cache = layer.forward(x, params, jp.Env(mask=mask))
    dx, uses = layer.backward(dy, cache, params)
    return y, dx, jax.tree.map(lambda use: use.total(None), uses, is_leaf=lambda use: isinstance(use, jp.Use))


def of_gates(names, side, W, b=None):
    """Flax has a matrix, and sometimes a bias, a gate: {'ii': …, 'if': …}."""
    kernels = {f"{side}{name}": {"kernel": part} for name, part in zip(names, jnp.split(W, len(names), 1), strict=True)}
    if b is not None:
        for name, part in zip(names, jnp.split(b, len(names)), strict=True):
            kernels[f"{side}{name}"]["bias"] = part
    return kernels


def simple(p):
    return {"i": {"kernel": p.W_input, "bias": p.b}, "h": {"kernel": p.W_hidden}}


def gru(p):
    hidden = of_gates("rzn", "h", p.W_hidden)
    return of_gates("rzn", "i", p.W_input, p.b) | hidden | {"hn": hidden["hn"] | {"bias": p.b_hidden}}


def lstm(p):
    return of_gates("ifgo", "i", p.W_input) | of_gates("ifgo", "h", p.W_hidden, p.b)


FLAX = [
    (jp.RNN, nn.SimpleCell, simple),
    (jp.GRU, nn.GRUCell, gru),
    (jp.LSTM, nn.LSTMCell, lstm),
    (jp.LSTM, nn.OptimizedLSTMCell, lstm),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind, cell, to_flax", FLAX, ids=lambda value: getattr(value, "__name__", ""))
def test_forward_and_gradients_are_those_of_flax(kind, cell, to_flax):
    """All positions; and the last of sequences of other lengths, which is Flax's carry."""
    x, lengths = normal(0, N, T, I), jnp.array([4, 1, 2])
    real = jnp.arange(T) < lengths[:, None]
    every, last = kind(F), kind(F, sequence=False)
    theirs = nn.RNN(cell(F, param_dtype=jnp.float64), return_carry=True)
    params, dy, dy_last = draw(every, x), normal(1, N, T, F), normal(2, N, F)

    def flax(x, params):
        return theirs.apply({"params": {"cell": to_flax(params)}}, x)[1]

    def flax_last(x, params):
        carry, _ = theirs.apply({"params": {"cell": to_flax(params)}}, x, seq_lengths=lengths)
        return carry[1] if isinstance(carry, tuple) else carry

    @jax.jit
    def both(x, params, dy, dy_last):
        y, vjp = jax.vjp(flax, x, params)
        y_last, vjp_last = jax.vjp(flax_last, x, params)
        ours = run(every, x, params, dy), run(last, x, params, dy_last, real)
        return ours, ((y, *vjp(dy)), (y_last, *vjp_last(dy_last)))

    ours, flax_s = both(x, params, dy, dy_last)
    assert relative(ours, flax_s) <= 1e-10


@pytest.mark.parametrize("kind", KINDS)
def test_masked_positions_carry_the_state_over(kind):
    """What stands there changes nothing and gets no error; the rest is as if it were not there; nothing at all is 0."""
    layer, x = kind(F), normal(0, N, T, I)
    real = np.array([[True, False, True, False], [False, False, True, True], [False, False, False, False]])
    params, dy = draw(layer, x), normal(1, N, T, F)
    y, dx, grads = (jax.tree.map(np.asarray, part) for part in run(layer, x, params, dy, jnp.asarray(real)))
    other = run(layer, np.where(real[..., None], x, 1e3), params, dy, jnp.asarray(real))
    assert np.array_equal(y, other[0]) and relative(grads.W_input, other[2].W_input) < 1e-14
    assert not dx[~real].any() and dx[real].all()
    assert np.array_equal(y[0, 1], y[0, 0]) and np.array_equal(y[0, 3], y[0, 2]) and not y[1, :2].any()
    assert not y[2].any(), "nothing real: h stays 0"
    call = jax.jit(lambda layer, x, mask: layer(x, params, jp.Env(mask=mask)), static_argnums=0)
    without = call(layer, x[:1, [0, 2]], None)
    assert relative(y[:1, [0, 2]], without) < 1e-14
    last = kind(F, sequence=False)
    assert relative(call(last, x, jnp.asarray(real)), y[:, -1]) < 1e-14


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_real_has_no_gradient(kind):
    layer, x = kind(F, sequence=False), normal(0, N, T, I)
    y, dx, grads = run(layer, x, draw(layer, x), normal(1, N, F), jnp.zeros((N, T), bool))
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves((y, dx, grads)))


@pytest.mark.parametrize("kind", KINDS)
def test_one_position_never_needs_the_hidden_weights(kind):
    every, last, x, dy = kind(F), kind(F, sequence=False), normal(0, N, 1, I), normal(1, N, F)
    params = draw(every, x)
    y, dx, grads = run(every, x, params, dy[:, None])
    assert relative((y[:, 0], dx, grads), run(last, x, params, dy)) < 1e-14
    of_gates = np.split(np.asarray(grads.W_input), kind.gates, axis=1)
    unused = [1] if kind is jp.LSTM else []  # the forget gate has no c_0 to forget
    assert not np.asarray(grads.W_hidden).any()
    assert [gate for gate in range(kind.gates) if not of_gates[gate].any()] == unused


@pytest.mark.parametrize("kind", KINDS)
def test_no_mask_is_a_mask_of_all(kind):
    layer, x, dy = kind(F), normal(0, N, T, I), normal(1, N, T, F)
    params = draw(layer, x)
    assert relative(run(layer, x, params, dy), run(layer, x, params, dy, jnp.ones((N, T), bool))) < 1e-14


def products(jaxpr):
    """Matrix products of a jaxpr, calls opened."""
    return sum(
        (eqn.primitive.name == "dot_general") + sum(products(sub) for sub in jaxprs_in_params(eqn.params))
        for eqn in jaxpr.eqns
    )


@pytest.mark.parametrize("kind", KINDS)
def test_each_scan_holds_one_product(kind):
    """h W_hidden forward and δ W_hiddenᵀ back: inputs and weight gradients are one product outside."""
    layer, x = kind(F), normal(0, N, T, I)
    jaxpr = jax.make_jaxpr(lambda *a: run.__wrapped__(layer, *a))(x, draw(layer, x), normal(1, N, T, F)).jaxpr
    scans = [eqn.params["jaxpr"].jaxpr for eqn in jaxpr.eqns if eqn.primitive.name == "scan"]
    assert [products(scan) for scan in scans] == [1, 1]
    assert products(jaxpr) == 2 + 4, "x W_input; dx; ∂C/∂W_input and ∂C/∂W_hidden"


# jax 0.12 made jax.grad of an RNN lighter (0.88 here), manual needs the same bytes on both
SHARE = [(jp.RNN, 0.9), (jp.GRU, 0.7), (jp.LSTM, 0.7)]  # δ has no room of its own: it takes that of z


@pytest.mark.slow
@pytest.mark.parametrize("kind, share", SHARE)
def test_manual_needs_less_memory_than_jax_grad(kind, share):
    net, x = jp.Chain(kind(16)), jnp.zeros((8, 16, 8), "float32")
    params, targets = net.init(jax.random.key(0), x), jnp.zeros((8, 16, 16), "float32")
    manual, auto = (
        jax.jit(way.value_and_grad(net, jp.HalfSquaredError())).lower(x, params, targets).compile().memory_analysis()
        for way in (jp.manual, jp.auto)
    )
    assert manual.temp_size_in_bytes <= share * auto.temp_size_in_bytes


@pytest.mark.slow
def test_init_draws_every_gate_by_itself():
    params = jp.LSTM(F).init(jax.random.key(0), normal(0, N, T, I))
    for W in jnp.split(params.W_hidden, 4, axis=1):
        assert relative(W.T @ W, jnp.eye(F)) < 1e-14
    assert len(np.unique(np.asarray(params.W_input))) == I * 4 * F and not np.asarray(params.b).any()


X = np.zeros((2, 3, 4))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "features, x, mask, message",
    [
        (3, np.zeros((3, 4)), None, r"must be floating \[N, T, I\] with T and I ≥ 1, found float64\[3, 4\]"),
        (3, np.zeros((2, 0, 4)), None, r"found float64\[2, 0, 4\]"),
        (3, np.zeros((2, 3, 4), int), None, "ids go through an Embedding first"),
        (3, X, np.ones((2, 4), bool), r"mask: found bool\[2, 4\], expected bool\[2, 3\]"),
        (3, X, np.ones((2, 3)), r"found float64\[2, 3\], expected bool"),
        (3, X[..., :2], None, r"need W_input of shape \(2, \d+\), found \(4, \d+\)"),
        (2, X, None, r"need W_input of shape \(4, \d+\), found \(4, \d+\)"),
    ],
)
def test_what_does_not_fit_is_named(kind, features, x, mask, message):
    params = draw(kind(3), X)
    with pytest.raises(jp.layers.recurrent.ShapeError, match=message):
        jax.eval_shape(kind(features), x, params, jp.Env(mask=mask))


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_checked(kind):
    for features in (0, 2.0, True):
        with pytest.raises(jp.JaxpropError, match=f"{kind.__name__}: features must be a whole number"):
            kind(features)
