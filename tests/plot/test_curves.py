"""An activation with its slope, and a function beside its data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot, style
from tests.drawing import draw
from tests.plot.pictures import said


@pytest.mark.parametrize("layer", [jp.Sigmoid(), jp.HardTanh(), jp.LeakyReLU(0.1)])
def test_activation_draws_the_layers_own_value_and_slope(layer):
    ax = plot.activation(layer, z=1.35, span=(-3, 3))
    value, slope = ax.lines[:2]
    z = jnp.asarray(value.get_xdata())
    assert np.allclose(value.get_ydata(), layer(z))
    own = np.asarray(jax.jit(jax.vmap(jax.grad(layer)))(z))
    shown = np.asarray(slope.get_ydata(), dtype=float)
    assert np.allclose(shown[~np.isnan(shown)], own[~np.isnan(shown)])
    assert np.isnan(shown).sum() == np.sum(np.abs(np.diff(own)) > 0.2)  # one gap per jump, none elsewhere
    assert f"φ(1.35) = {style.number(layer(1.35))}" in said(ax)
    assert f"φ′(1.35) = {style.number(jax.grad(layer)(1.35))}" in said(ax)


def test_activation_refuses():
    with pytest.raises(JaxpropError, match="more than one z"):
        plot.activation(jp.Softmax())  # type: ignore[arg-type]
    with pytest.raises(JaxpropError, match="one number"):
        plot.activation(jp.Sigmoid(), z=jnp.ones(2))
    with pytest.raises(JaxpropError, match="low < high"):
        plot.activation(jp.Sigmoid(), span=(1, -1))


def test_fit_of_a_line_and_a_square():
    x = np.linspace(-1, 1, 21)[:, None]
    net = jp.Chain(jp.Linear(1, bias=False))
    params = (draw(net, x)[0]._replace(W=jnp.array([[2.0]])),)
    ax = plot.function_fit(x, 2 * x, lambda x: net(x, params), truth=lambda x: 2 * x)
    truth, fit, dots = ax.lines
    assert np.allclose(truth.get_ydata(), fit.get_ydata()) and len(dots.get_xdata()) == 21
    assert ax.get_title(loc="left").endswith("mean squared error 0")
    error = np.mean((2 * x - x**2) ** 2)
    assert style.number(error) in plot.function_fit(x, x**2, lambda x: net(x, params)).get_title(loc="left")


def test_fit_refuses():
    x = np.ones((5, 2))
    with pytest.raises(JaxpropError, match=r"x must be \[N\] or \[N, 1\]"):
        plot.function_fit(x, x[:, 0], lambda x: x)
    with pytest.raises(JaxpropError, match="5 x and 4 targets"):
        plot.function_fit(x[:, 0], x[:4, 0], lambda x: x)
    with pytest.raises(JaxpropError, match=r"predict gave \[5, 3\]|predict gave \[401, 3\]"):
        plot.function_fit(x[:, 0], x[:, 0], lambda x: jnp.ones((len(x), 3)))
