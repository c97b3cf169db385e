"""A deliberately wrong rule must be caught, and its layer and factor named: the test of the tests."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.check.factors import ACTIVATION, INPUT, PARAMETER, VALUE
from tests.drawing import draw


class SlopeOfTanhIsOne(jp.Tanh):
    """Forgets the activation's derivative."""

    def derivative(self, kept):
        return jnp.ones_like(kept)


class SigmoidWithoutOneMinusY(jp.Sigmoid):
    def derivative(self, kept):
        return kept * kept


class WayToTheInputTransposed(jp.Linear):
    """Uses W where Wᵀ belongs (square, so no shape gives it away)."""

    def backward(self, dy, cache, params):
        _, uses = super().backward(dy, cache, params)
        return dy @ params.W, uses


class ForgetsTheBias(jp.Linear):
    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx, uses._replace(b=jp.Shift(0 * dy, uses.b.shape, uses.b.dtype))


class WeightFromTheWrongSide(jp.Linear):
    """∂C/∂W with the roles of a and δ exchanged."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx, uses._replace(W=jp.Outer(dy, cache, uses.W.shape, uses.W.dtype))


class SlightlyWrong(jp.Linear):
    """One part in a million: only float64 sees it."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx * (1 + 1e-6), uses


class CallIsNotForward(jp.Linear):
    def __call__(self, x, params, env=None):
        return 2 * super().__call__(x, params, env)


class NotANumber(jp.ReLU):
    def derivative(self, kept):
        return jnp.full_like(kept, jnp.nan)


@dataclass(frozen=True)
class DeltaWithoutTheSign(jp.HalfSquaredError):
    def delta(self, y, targets):
        return -super().delta(y, targets)


WRONG = [
    (1, SlopeOfTanhIsOne(), [ACTIVATION]),
    (1, SigmoidWithoutOneMinusY(), [ACTIVATION]),
    (1, NotANumber(), [ACTIVATION]),
    (2, WayToTheInputTransposed(4), [INPUT]),
    (2, SlightlyWrong(4), [INPUT]),
    (2, ForgetsTheBias(4), [f"{PARAMETER} ∂z/∂b"]),
    (2, WeightFromTheWrongSide(4), [f"{PARAMETER} ∂z/∂W"]),
    (2, CallIsNotForward(4), [VALUE, INPUT, f"{PARAMETER} ∂z/∂W", f"{PARAMETER} ∂z/∂b"]),
]

SPOILS = {NotANumber, CallIsNotForward}  # what comes beside it too: alone


def case(position=None, layer=None):
    layers = [jp.Linear(4), jp.Tanh(), jp.Linear(4), jp.Sigmoid(), jp.Linear(2)]
    if position is not None:
        layers[position] = layer
    net = jp.Chain(*layers)
    rng = np.random.default_rng(0)
    x, targets = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.normal(size=(6, 2)))
    return net, x, draw(net, x), targets


def test_right_rules_agree():
    net, x, params, targets = case()
    report = jp.compare(net, jp.HalfSquaredError())(x, params, targets)
    assert report.ok and not report.wrong, str(report)


def test_all_wrong_rules_of_a_network_are_named_with_their_factors():
    layers = [jp.Linear(4), *(layer for _, layer, _ in WRONG if type(layer) not in SPOILS), jp.Linear(2)]
    net, targets = jp.Chain(*layers), jnp.zeros((6, 2))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 3)))
    report = jp.compare(net, jp.HalfSquaredError())(x, draw(net, x), targets)
    wrong = [factors for _, layer, factors in WRONG if type(layer) not in SPOILS]
    expected = [(str(n), factor) for n, factors in enumerate(wrong, 1) for factor in factors]
    assert not report.ok and [(w.path, w.factor) for w in report.wrong] == expected
    for n, factor in expected:
        assert f"layer {n} ({layers[int(n)]!r}): {factor}" in str(report)
    ok = {row.path: row.ok for row in report.rows}
    assert not ok["0.W"] and ok["7.W"] and ok["7.b"] and "DISAGREE" in str(report), "nothing after it is spoilt"


ALONE = [
    pytest.param(*row, marks=pytest.mark.slow if type(row[1]) in SPOILS else pytest.mark.exhaustive) for row in WRONG
]


@pytest.mark.parametrize("position, layer, factors", ALONE, ids=lambda v: type(v).__name__)
def test_a_wrong_rule_is_named_with_its_factor(position, layer, factors):
    net, x, params, targets = case(position, layer)
    report = jp.compare(net, jp.HalfSquaredError())(x, params, targets)
    assert not report.ok
    assert [(w.path, w.factor) for w in report.wrong] == [(str(position), factor) for factor in factors]
    for factor in factors:
        assert f"layer {position} ({layer!r}): {factor}" in str(report)


@pytest.mark.slow
def test_a_wrong_rule_spoils_the_gradient_of_what_comes_before_and_nothing_after():
    net, x, params, targets = case(1, SlopeOfTanhIsOne())
    report = jp.compare(net, jp.HalfSquaredError())(x, params, targets)
    assert {row.path: row.ok for row in report.rows} == {
        "0.W": False, "0.b": False, "2.W": True, "2.b": True, "4.W": True, "4.b": True,
    }  # fmt: skip
    assert [(w.path, w.factor) for w in report.wrong] == [("1", ACTIVATION)] and "DISAGREE" in str(report)


def one_layer():
    """The smallest network, where the layer is not the point."""
    rng = np.random.default_rng(0)
    x, targets = jnp.asarray(rng.normal(size=(6, 3))), jnp.asarray(rng.normal(size=(6, 2)))
    return jp.Linear(2), x, draw(jp.Linear(2), x), targets


def test_a_wrong_cost_is_named():
    net, x, params, targets = one_layer()
    report = jp.compare(net, DeltaWithoutTheSign())(x, params, targets)
    assert [(w.layer, w.factor) for w in report.wrong] == [("DeltaWithoutTheSign", "the derivative of the cost ∂C/∂y")]


def test_differences_are_a_witness_of_their_own():
    """Both analytic ways share one wrong cost here: only the nudge can tell."""

    class Loss(jp.HalfSquaredError):
        def __call__(self, y, targets):
            return super().__call__(y + 0.1 * (y - jax.lax.stop_gradient(y)), targets)  # y, its slope 1.1

        def delta(self, y, targets):
            return 1.1 * super().delta(y, targets)

    net, x, params, targets = one_layer()
    report = jp.compare(net, Loss())(x, params, targets)
    assert not report.ok and not report.wrong
    assert all(row.auto.relative < 1e-12 and row.differences.relative > 0.01 for row in report.rows)


@pytest.mark.parametrize(
    "layer, shift, at_kink",
    [(jp.LeakyReLU(0.99), 0.0, True), (jp.ReLU(), 0.0, True), (jp.Sigmoid(), 0.0, False), (jp.Sigmoid(), 3e3, False)],
    ids=["slight kink", "kink", "smooth", "smooth, steep in w"],
)
def test_kinks_are_told_from_smooth_places(layer, shift, at_kink):
    """z = 0 exactly, through w = 0: a nudge of w crosses the kink of a piecewise unit, and nothing of a smooth one."""
    net, x = jp.Chain(jp.Linear(1, bias=False), layer), jnp.array([[1.0 + shift]])
    params = (jp.LinearParams(jnp.zeros((1, 1)), None), ())
    (row,) = jp.compare(net, jp.HalfSquaredError())(x, params, jnp.ones((1, 1))).rows
    assert row.at_kinks == at_kink and row.checked == 1 - at_kink
    assert shift or row.ok == (not at_kink)  # where no entry is nudged there is no third witness


def test_nothing_nudged_is_not_agreement():
    net, x = jp.Chain(jp.Linear(1, bias=False), jp.ReLU()), jnp.ones((1, 1))
    params = (jp.LinearParams(jnp.zeros((1, 1)), None), ())
    report = jp.compare(net, jp.HalfSquaredError())(x, params, jnp.ones((1, 1)))
    assert not report.ok and "NOT CHECKED" in str(report)


@dataclass(frozen=True)
class Tiny(jp.Layer):
    """y = 1e-6 x."""

    def forward(self, x, params, env=None):
        return 1e-6 * x, ()

    def backward(self, dy, cache, params):
        return 1e-6 * dy, ()


class OnePartInAMillion(jp.Linear):
    """∂C/∂W off by 1e-6 of itself."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        W = uses.W
        return dx, uses._replace(W=jp.Outer(cache, dy * (1 + 1e-6), W.shape, W.dtype))


@pytest.mark.slow
@pytest.mark.parametrize("layer, dtype", [(OnePartInAMillion(4), "float64"), (WeightFromTheWrongSide(4), "float32")])
def test_a_wrong_factor_in_a_tiny_gradient_is_found(layer, dtype):
    """The gradient of the first layer is a millionth of the last one's, and no allowance is made for its size."""
    net = jp.Chain(layer, Tiny(), jp.Sigmoid(), jp.Linear(2))
    rng = np.random.default_rng(0)
    x, targets = jnp.asarray(rng.normal(size=(6, 4)), dtype), jnp.asarray(rng.normal(size=(6, 2)), dtype)
    params = draw(net, x)
    report = jp.compare(net, jp.HalfSquaredError())(x, params, targets)
    uses = jp.manual.uses(net, jp.HalfSquaredError())(x, params, targets)[1]
    sizes = [float(jnp.max(jnp.abs(uses[i].W.gradient()))) for i in (0, 3)]
    assert sizes[0] < 3e-6 * sizes[1]
    assert {row.path: row.agrees for row in report.rows if not row.agrees} == {"0.W": False}
    assert [(w.path, w.factor) for w in report.wrong] == [("0", f"{PARAMETER} ∂z/∂W")] and not report.ok


@pytest.mark.slow
def test_a_gradient_of_exactly_0_is_measured_by_its_own_rounding():
    """The bias before a BatchNorm (mlpack#2549): 1e-8 by one way, 1e-9 by another, and 0 is right."""
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(size=(64, 3)), "float32"), jnp.asarray(np.arange(64) % 2)
    net = jp.Chain(jp.Linear(8), jp.BatchNorm(), jp.ReLU(), jp.Linear(2))
    report = jp.compare(net, jp.SoftmaxCrossEntropy())(x, draw(net, x), labels)
    assert report.ok, str(report)
    (row,) = (row for row in report.rows if row.path == "0.b")
    assert row.auto.relative == 0 and 0 < row.auto.absolute < 1e-7


class WrongByLittle(jp.Linear):
    """∂C/∂b off by 1e-12, where 0 is right: below what float32 rounds to, and what a slope does."""

    def backward(self, dy, cache, params):
        dx, uses = super().backward(dy, cache, params)
        return dx, uses._replace(b=jp.Shift(dy + 1e-12, uses.b.shape, uses.b.dtype))


@pytest.mark.slow
def test_a_wrong_gradient_where_0_is_right_is_found():
    rng = np.random.default_rng(0)
    x, labels = jnp.asarray(rng.normal(size=(64, 3)), "float32"), jnp.asarray(np.arange(64) % 2)
    net = jp.Chain(WrongByLittle(8), jp.BatchNorm(), jp.ReLU(), jp.Linear(2))
    report = jp.compare(net, jp.SoftmaxCrossEntropy())(x, draw(net, x), labels)
    assert [row.path for row in report.rows if not row.agrees] == ["0.b"]


def test_slopes_are_measured_by_the_rounding_of_the_cost():
    """A trained classifier that is sure of every row: C is 1e-6, the logits that it is a difference of are not."""
    x = jnp.asarray(np.sign(np.random.default_rng(0).normal(size=(32, 2))))
    labels = jnp.asarray(x[:, 0] > 0, int)
    W = 10.0 * jnp.array([[-1.0, 1.0], [0.1, 0.1]])
    report = jp.compare(jp.Linear(2), jp.SoftmaxCrossEntropy())(x, jp.LinearParams(W, 30 * jnp.ones(2)), labels)
    assert report.ok, str(report)
    assert all(row.checked == np.prod(row.shape) for row in report.rows)


@pytest.mark.parametrize(
    "cost, targets", [(jp.AbsoluteError(), np.zeros((8, 3))), (jp.Hinge(), np.arange(8) % 3)], ids=["|0|", "ties"]
)
def test_a_kink_of_the_cost_is_left_out_and_counted(cost, targets):
    """pytorch#114234: at y = 0 = target, and where all scores are equal, C has no slope to be found by a nudge."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)))
    params = jp.LinearParams(jnp.zeros((2, 3)), jnp.zeros(3))
    report = jp.compare(jp.Linear(3), cost)(x, params, targets)
    assert [(row.checked, row.at_kinks) for row in report.rows] == [(0, 6), (0, 3)]
    assert not report.wrong and "DISAGREE" not in str(report) and not report.ok
    assert "9 entries left out" in str(report) and "two witnesses agree" in str(report)
