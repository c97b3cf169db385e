"""Gradient descent, and the cost as a landscape: paths are followed."""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from jaxprop import JaxpropError, plot
from jaxprop.plot._landscape import ending
from tests.plot.pictures import said


def test_article_cost_is_the_articles():
    theta = jnp.array([0.4, 0.3])
    assert float(jax.jit(plot.article_cost)(theta)) == pytest.approx(1.7672)
    assert np.allclose(jax.jit(jax.hessian(plot.article_cost))(np.zeros(2)), [[0, -2], [-2, 0]])


def test_descent_converges_on_the_curve_of_minima():
    path, diverged = plot.descend(plot.article_cost, (3.0, 0.1), 0.05, 200)
    assert path.shape == (201, 2) and not diverged
    assert abs(path[-1].prod() - 2) < 1e-3
    first = np.array([3.0, 0.1]) - 0.05 * jax.jit(jax.grad(plot.article_cost))(jnp.array([3.0, 0.1]))
    assert np.allclose(path[:2], [[3.0, 0.1], first])  # θ − η ∂C/∂θ, no momentum
    assert np.all(np.diff(jax.jit(jax.vmap(plot.article_cost))(path[:50])) <= 0)


def test_descent_stays_on_the_saddle_and_reports_divergence():
    saddle = plot.descend(plot.article_cost, (0.0, 0.0), 0.1, 50)
    assert saddle.path.shape == (51, 2) and not np.any(saddle.path)
    path, diverged = plot.descend(plot.article_cost, (3.0, 0.1), 0.4, 60)
    assert diverged and len(path) < 61 and np.all(np.isfinite(path))
    assert np.abs(path[-1]).max() > 1e3


def test_descend_refuses():
    cost = plot.article_cost
    for start, rate, steps, message in (
        ((1.0,), 0.1, 3, "two numbers"),
        ((1.0, float("nan")), 0.1, 3, "start: expected finite"),
        ((1.0, 1.0), float("inf"), 3, "learning_rate"),
        ((1.0, 1.0), 0.1, -1, "steps"),
        ((1.0, 1.0), 0.1, 2.0, "steps"),
    ):
        with pytest.raises(JaxpropError, match=message):
            plot.descend(cost, start, rate, steps)
    with pytest.raises(JaxpropError, match="start where the cost is finite"):
        plot.descend(lambda t: jnp.log(t[0]), (-1.0, 0.0), 0.1, 3)


def test_surface_tells_how_every_descent_ends():
    axes = plot.cost_surface()
    assert axes.shape == (2,) and hasattr(axes[0], "plot_surface")
    text = said(axes[1])
    assert "η = 0.03: converged" in text and "saddle (0, 0): gradient 0" in text and "θ₁θ₂ = 2" in text
    path, _ = plot.descend(plot.article_cost, (3.0, 0.1), 0.4, 60)
    assert f"η = 0.4: diverges, not finite after {len(path)} steps" in text
    assert "η = 0.24: overshoots" in text
    minima = next(line for line in axes[1].lines if "minima" in str(line.get_label()))
    assert np.allclose(np.prod(minima.get_xydata(), axis=1), 2)
    low, high = axes[1].get_xlim()
    for line in axes[1].lines:  # nothing is drawn outside, and the runaway path ends on the border
        data = np.asarray(line.get_xydata())
        assert np.all((data >= low - 1e-9) & (data <= high + 1e-9))
    assert len([t for t in axes[1].texts if t.arrow_patch is not None]) == 1


def test_endings():
    side = np.array([-4.0, 4.0])

    def end(start, rate, steps):
        return ending(plot.article_cost, plot.descend(plot.article_cost, start, rate, steps), side)

    assert end((0.0, 0.0), 0.1, 10) == "does not move (gradient 0)"
    assert end((3.0, 0.1), 0.001, 10) == "still moving after 10 steps"
    assert end((3.0, 0.1), 0.4, 6) == "left the picture (arrow)"


def test_surface_of_another_cost():
    axes = plot.cost_surface(
        lambda t: 0.5 * (t[0] - 1) ** 2 + 5 * (t[1] + 0.5) ** 2, start=(-3, 2), learning_rate=0.18, steps=200
    )
    assert "overshoots" in said(axes[1]) and "saddle" not in said(axes[1])
    with pytest.raises(JaxpropError, match="one to three"):
        plot.cost_surface(learning_rate=(0.1,) * 4)
    with pytest.raises(JaxpropError, match="3-D"):
        plot.cost_surface(axes=plt.subplots(1, 2)[1])
