"""Every formula that is written, by the tables that hold them, against the layer or the cost itself, far from 0 too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

import jaxprop as jp
from jaxprop.derivations import activation_formulas, cost_formulas, explain, to_text
from jaxprop.derivations.activation_formulas import activation_formula
from jaxprop.derivations.cost_formulas import cost_formula
from jaxprop.derivations.formula import Formula, Sum, Symbol, evaluate
from tests.cases import COSTS, LAYERS

NEAR_0 = [0.0, *(sign * 10.0**-n for n in range(1, 10) for sign in (1, -1))]
FAR = np.array(sorted([*np.linspace(-40, 40, 161), *NEAR_0]))
TOLERANCE = 1e-12
WRITTEN = {
    *(jp.ELU, jp.GELU, jp.HardTanh, jp.Identity, jp.LeakyReLU, jp.ReLU, jp.SELU, jp.SiLU, jp.Sigmoid, jp.Softplus),
    *(jp.Quantize, jp.Softsign, jp.Standardize, jp.Step, jp.Tanh, jp.Unstandardize),
    *(jp.HalfSquaredError, jp.MeanSquaredError, jp.SigmoidCrossEntropy, jp.SoftmaxCrossEntropy),
    *(jp.AbsoluteError, jp.Huber, jp.Hinge, jp.KLDivergence),
    *(jp.PoissonNegativeLogLikelihood, jp.GaussianNegativeLogLikelihood),
}


def close(found: float, expected: float, exact: bool) -> bool:
    """Twelve digits; where the formula says that float64 has no digits left, twelve places."""
    return abs(found - expected) <= TOLERANCE * (max(abs(expected), 1e-290) if exact else max(abs(expected), 1.0))


def test_no_formula_has_gone():
    """Formulas may be added; those that users have seen stay."""
    assert {*activation_formulas.RULES, *cost_formulas.RULES} >= WRITTEN


@pytest.mark.parametrize("kind", activation_formulas.RULES, ids=lambda kind: kind.__name__)
def test_an_activation_s_formula_is_the_layer_s(kind):
    rows = [case for case in LAYERS if type(case.layer) is kind and len(case.shape) == 2]
    assert rows, f"tests/cases has no row for {kind.__name__}"
    for case in rows:
        x = np.stack([FAR] * case.shape[1], axis=1)
        y, slopes = map(np.asarray, value_and_slope(case.layer, x))
        # one column is enough, but where columns differ
        for (n, k), at in np.ndenumerate(x if np.ndim(getattr(case.layer, "mean", 0)) else x[:, :1]):
            z, a = Symbol("z", (k,)), Symbol("a", (k,))
            found = activation_formula(case.layer, z, a, float(at))
            values: dict[Formula, float] = {z: float(at), a: float(y[n, k]), **found.given}
            for symbol, formula in found.helpers:
                values[symbol] = evaluate(formula, values)
            assert found.value is not None and found.slope is not None
            value, slope = evaluate(found.value, values), evaluate(found.slope, values)
            assert close(value, y[n, k], found.exact), (case.name, at, value, y[n, k])
            assert close(slope, slopes[n, k], found.exact_slope), (case.name, at, slope, slopes[n, k])
            assert found.exact or abs(at) < 0.01 or at < -2


@partial(jax.jit, static_argnums=0)
def value_and_slope(layer, x):
    """y and ∂y/∂x of an elementwise layer."""
    y, cache = layer.forward(x, ())
    return y, layer.backward(jnp.ones_like(y), cache, ())[0]


@partial(jax.jit, static_argnums=0)
def cost_and_delta(cost, y, targets):
    """C and ∂C/∂y of every row."""
    return cost(y, targets), cost.delta(y, targets)


def agrees(name, cost, y, targets, C, delta):
    """C and ∂C/∂y of one example by the formulas, with only the numbers that they say they need."""
    values: dict[Formula, float] = {}
    found = cost_formula(cost, y, targets, values)
    assert found is not None
    for symbol, terms in found.sums:
        assert close(evaluate(Sum(terms), values), values[symbol], exact=True)
    for symbol, formula in found.helpers:
        values[symbol] = evaluate(formula, values)
    whole = evaluate(found.whole(Sum(found.terms)), values)
    assert close(whole, C, abs(C) >= found.smallest), (name, y, targets, whole, C)
    for index, expected in np.ndenumerate(delta):
        helpers, derivative = found.unit(index), found.derivative(index)
        for symbol, formula in helpers:
            assert close(evaluate(formula, values), values[symbol], exact=True), (name, y, targets, index, symbol)
        slope = evaluate(derivative, values)
        assert close(slope, expected, found.is_exact(index, values)), (name, y, targets, index, slope, expected)
    last = delta.size - 1  # outputs may be counted in order
    assert found.derivative(last) == found.derivative(index) and found.unit(last) == found.unit(index)


@pytest.mark.parametrize("kind", cost_formulas.RULES, ids=lambda kind: kind.__name__)
def test_a_cost_s_formula_is_the_cost_s(kind):
    """With every setting and every kind of targets that tests/cases has, at one place and at several."""
    rows = [case for case in COSTS if type(case.cost) is kind]
    assert rows, f"tests/cases has no row for {kind.__name__}"
    for case in rows:
        rng = np.random.default_rng(0)
        shape = (20, *case.shape[1:])
        y = rng.uniform(-1, 1, size=shape) * np.geomspace(0.1, 40, 20).reshape(-1, *[1] * (len(shape) - 1))
        targets = case.make_targets(rng, y.shape)
        C, delta = map(np.asarray, cost_and_delta(case.cost, y, targets))
        for n in range(len(y)):
            agrees(case.name, case.cost, y[n], targets[n], C[n], delta[n])


SHAPES = st.sampled_from([(3,), (2, 2, 3), (1, 1)])  # few, for JAX compiles anew for each
SIZES = st.sampled_from([0.0, 0.25, 1.0, 2.0, 1 / 3])


@st.composite
def softmax_with_settings(draw):
    """A cost with any settings, and targets of every kind that goes with them, some or all of them ignored."""
    *T, classes = draw(SHAPES)
    smoothing = draw(st.sampled_from([0.0, 0.1, 0.75]))
    weights = draw(st.none() | st.lists(SIZES, min_size=classes, max_size=classes).map(tuple))
    as_labels = draw(st.booleans())
    ignore = draw(st.sampled_from([None, -1, 0])) if as_labels else None
    cost = jp.SoftmaxCrossEntropy(label_smoothing=smoothing, class_weights=weights, ignore=ignore)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    if as_labels:
        labels = np.arange(classes) if ignore is None else np.append(np.arange(classes), ignore)
        targets = rng.choice(labels, size=T)
    else:
        targets = rng.choice([0.0, 0.25, 0.5, 1.0], size=(*T, classes))
    return cost, rng.choice([-700.0, -3.0, 0.0, 0.5, 2.0, 800.0], size=(*T, classes)), np.asarray(targets)


@st.composite
def others_with_settings(draw):
    """Margins and thresholds where they are met exactly, and outputs that are equal."""
    shape = draw(SHAPES)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    y = rng.choice([-1.5, -1.0, 0.0, 0.5, 1.0, 2.0], size=shape)
    kind = draw(st.sampled_from(["labels", "signs", "huber", "absolute"]))
    if kind == "labels":
        return jp.Hinge(), y, np.asarray(rng.integers(0, shape[-1], size=shape[:-1]))
    if kind == "signs":
        return jp.Hinge(), y, rng.choice([-1.0, 1.0], size=shape)
    cost = jp.Huber(draw(st.sampled_from([0.5, 1.0, 3.0]))) if kind == "huber" else jp.AbsoluteError()
    return cost, y, rng.choice([-1.0, 0.0, 1.0], size=shape)


@pytest.mark.slow
@settings(max_examples=30, deadline=None)
@example((jp.Hinge(), np.array([1.0, 0.0, 0.0]), np.array(0)))  # both rivals meet the right one
@example((jp.Hinge(), np.array([0.0, 0.5, 0.5]), np.array(0)))
@given(softmax_with_settings() | others_with_settings())
def test_a_cost_s_formula_is_the_cost_s_with_any_settings_and_at_its_corners(drawn):
    cost, y, targets = drawn
    C, delta = np.asarray(cost(y[None], targets[None]))[0], np.asarray(cost.delta(y[None], targets[None]))[0]
    assert np.isfinite(C)
    agrees(repr(cost), cost, y, targets, C, delta)


def test_a_cost_without_a_formula_has_none():
    assert cost_formula(jp.Cost.of(lambda y, t: jnp.sum(y * t)), np.ones(2), np.ones(2), {}) is None


def test_with_positions_the_first_factor_is_that_of_the_position():
    cost = jp.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=(0.5, 2.0, 1.0), ignore=-1)
    net, x, targets = jp.Linear(3), jnp.array([[[1.0, 2.0], [0.5, -1.0], [1.0, 1.0]]]), jnp.array([[2, 1, -1]])
    params = jp.LinearParams(jnp.array([[0.5, 0.25, -1.0], [1.0, -0.5, 0.75]]), jnp.array([0.1, 0.0, -0.2]))
    found = explain(net, cost)(x, params, targets, "W", (1, 0))
    text = " ".join(to_text(found).split())
    assert "C is the mean over the 2 of 3 positions that do not have the label -1." in text
    assert "∂C/∂y[0,0] = (softmax(y)[0,0]·Q[0] - q[0,0])/2 ≈ " in text
    assert "q[0,0] = class_weight[0]·((1 - smoothing)·p[0,0] + smoothing/3) = 0.5·((1 - 0.1)·0 + 0.1/3) ≈" in text
    assert found.facts["value"] == pytest.approx(found.facts["jax_grad"], rel=TOLERANCE)
    assert found.error() < TOLERANCE


def test_what_has_no_formula_yet_says_so(monkeypatch):
    """A layer and a cost of ours need none: nothing else changes in explain when one is added."""
    monkeypatch.delitem(activation_formulas.RULES, jp.Tanh)
    monkeypatch.delitem(cost_formulas.RULES, jp.HalfSquaredError)
    net, x = jp.Chain(jp.Linear(1), jp.Tanh()), jnp.ones((1, 2))
    params = (jp.LinearParams(jnp.array([[0.5], [0.25]]), jnp.array([0.1])), ())
    found = explain(net, jp.HalfSquaredError())(x, params, jnp.ones((1, 1)), "0.W", (1, 0))
    text = " ".join(to_text(found).split())
    assert "Tanh: no formula is written for it yet" in text
    assert "the cost is HalfSquaredError(), and no formula is written for it yet (there are for " in text
    assert "of your own" not in text
    assert found.facts["value"] == pytest.approx(found.facts["jax_grad"], rel=TOLERANCE)
