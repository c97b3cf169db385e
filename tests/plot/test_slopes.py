"""Tangent, secant, step and nudge of one parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot, style
from tests.plot.pictures import chain_cost, said


def test_cost_curve_says_tangent_secant_and_step():
    text = said(plot.cost_curve(chain_cost, (-4, 14), at=0.4, h=6.0, learning_rate=4.0))
    here, there = chain_cost(jnp.asarray(0.4)), chain_cost(jnp.asarray(6.4))
    slope = float(jax.grad(chain_cost)(0.4))
    assert style.number(slope) == "−0.564"  # article.md, row 17
    assert f"∂C/∂w = {style.number(slope)}" in text and f"ΔC/h = {style.number((there - here) / 6)}" in text
    to = 0.4 - 4 * slope
    change = chain_cost(jnp.asarray(to)) - here
    assert f"= {style.number(to)}, η = 4" in text
    assert f"predicted −η (∂C/∂w)² = {style.number(-4 * slope**2)}, actual {style.number(change)}" in text
    assert change < 0
    uphill = said(plot.cost_curve(chain_cost, (-4, 14), at=0.4, learning_rate=-4.0))
    flipped = chain_cost(jnp.asarray(0.4 + 4 * slope)) - here
    assert f"actual {style.number(flipped)}" in uphill and flipped > 0  # the sign of mistake 1 climbs


def test_cost_curve_refuses():
    with pytest.raises(JaxpropError, match="at=w"):
        plot.cost_curve(chain_cost, (0, 1), h=0.1)
    with pytest.raises(JaxpropError, match="h must not be 0"):
        plot.cost_curve(chain_cost, (0, 1), at=0.5, h=0)
    with pytest.raises(JaxpropError, match="expected a scalar"):
        plot.cost_curve(lambda w: jnp.stack([w, w]), (0, 1))
    with pytest.raises(JaxpropError, match="finite"):
        plot.cost_curve(jnp.log, (-1, 1))


@jax.jit
def neuron_cost(w):
    return 0.5 * (jp.Sigmoid()(w) - 1) ** 2


def slope_of(line, low, high):
    h, error = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    chosen = (h >= low) & (h <= high)
    return np.polyfit(np.log10(h[chosen]), np.log10(error[chosen]), 1)[0]


def test_nudge_has_order_one_and_two_and_a_floor():
    ax = plot.nudge(neuron_cost, 0.5)
    forward, central = ax.lines[:2]
    assert slope_of(forward, 1e-6, 1e-1) == pytest.approx(1, abs=0.02)
    assert slope_of(central, 1e-3, 1e-1) == pytest.approx(2, abs=0.02)
    assert slope_of(forward, 1e-12, 1e-9) == pytest.approx(-1, abs=0.4)  # round-off: smaller h, larger error
    assert 1e-15 < min(central.get_ydata()) < 1e-10 < min(forward.get_ydata()) < 1e-7
    truncation = ax.lines[2].get_ydata()
    assert np.allclose(truncation[0], abs(float(jax.grad(jax.grad(neuron_cost))(0.5))) / 2)  # h = 1


def test_nudge_in_float32_sessions_too():
    with jax.enable_x64(False):
        ax = plot.nudge(neuron_cost, 0.5)
        assert min(ax.lines[1].get_ydata()) < 1e-10


def test_nudge_refuses():
    with pytest.raises(JaxpropError, match="must be positive"):
        plot.nudge(neuron_cost, 0.5, steps=[0.1, 0.0])
    with pytest.raises(JaxpropError, match="float32"):
        plot.nudge(lambda w: neuron_cost(w.astype(jnp.float32)), 0.5)
