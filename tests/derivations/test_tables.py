"""Every formula that is written, by the tables that hold them, against the layer or the cost itself, far from 0 too."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


@pytest.mark.parametrize("kind", cost_formulas.RULES, ids=lambda kind: kind.__name__)
def test_a_cost_s_formula_is_the_cost_s(kind):
    rows = [case for case in COSTS if case.cost == kind() and len(case.shape) == 2]
    assert rows, f"tests/cases has no row for {kind.__name__}"
    for case in rows:
        rng = np.random.default_rng(0)
        y = rng.uniform(-1, 1, size=(40, case.shape[1])) * np.geomspace(0.1, 40, 40)[:, None]
        targets = case.make_targets(rng, y.shape)
        C, delta = map(np.asarray, cost_and_delta(case.cost, y, targets))
        for n in range(len(y)):
            values: dict[Formula, float] = {Symbol("y", (k,)): float(v) for k, v in enumerate(y[n])}
            found = cost_formula(case.cost, y[n], targets[n], values)
            assert found is not None
            for symbol, terms in found.sums:
                values[symbol] = evaluate(Sum(terms), values)
            for symbol, formula in found.helpers:
                values[symbol] = evaluate(formula, values)
            whole = evaluate(found.whole(Sum(found.terms)), values)
            assert close(whole, C[n], C[n] > found.smallest), (case.name, y[n], whole, C[n])
            for k, expected in enumerate(delta[n]):
                for symbol, formula in found.unit(k):
                    values[symbol] = evaluate(formula, values)
                slope = evaluate(found.derivative(k), values)
                assert close(slope, expected, found.is_exact(k, values)), (case.name, y[n], slope, expected)


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
