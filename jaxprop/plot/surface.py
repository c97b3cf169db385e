r"""The cost as a landscape over two parameters, and gradient descent on it: θ ← θ − η ∂C/∂θ.

The article's case is f(x, θ) = θ₁ θ₂ x at x = 1, y = 2 with C = ½ (f − y)². Its minima are not a point but the curve
θ₁ θ₂ = 2. At (0, 0) the gradient is 0 and the Hessian [[0, −2], [−2, 0]]: a saddle. Descent that starts there stays.
Gradient descent has no momentum: it is not a rolling ball, each step sees only the slope where it stands.
"""

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.costs import HalfSquaredError
from jaxprop.errors import JaxpropError
from jaxprop.layers import Linear
from jaxprop.layers.linear import LinearParams
from jaxprop.network import Chain
from jaxprop.plot._landscape import Descent, costs_at, draw_contours, draw_surface
from jaxprop.plot.slopes import Cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def article_cost(theta: ArrayLike) -> Array:
    """C(θ₁, θ₂) = ½ (θ₁ θ₂ x − y)² at x = 1, y = 2: two weights in a row, no bias. `theta` `[2]` -> scalar.

    >>> print(article_cost(jnp.array([0.4, 0.3])), jax.grad(article_cost)(jnp.array([0.4, 0.3])))
    1.767... [-0.564... -0.752...]
    """
    theta = jnp.asarray(theta)
    one = Linear(1, bias=False)
    params = tuple(LinearParams(W=w.reshape(1, 1), b=None) for w in theta)
    x = jnp.ones((1, 1), theta.dtype)
    return HalfSquaredError()(Chain(one, one)(x, params), 2 * x)[0]


def descend(C: Cost, start: ArrayLike, learning_rate: float, steps: int) -> Descent:
    """Plain gradient descent θ ← θ − η ∂C/∂θ from `start` `[2]`, by `jax.grad`: no momentum, η constant.

    `C(theta)` takes `[2]` and gives a scalar. The path stops before the first θ or C that is not finite; then
    `diverged` is True and S < steps. Raises JaxpropError for a start, learning rate or number of steps that is none.

    >>> path, diverged = descend(article_cost, (2.5, 0.25), learning_rate=0.1, steps=100)
    >>> path.shape, diverged, round(float(path[-1, 0] * path[-1, 1]), 3)
    ((101, 2), False, 2.0)
    >>> descend(article_cost, (0.0, 0.0), learning_rate=0.1, steps=100).path[-1]    # a saddle: the gradient is 0
    array([0., 0.])
    """
    start = style.finite_array(start, "start")
    if start.shape != (2,):
        raise JaxpropError(f"start: expected two numbers (θ₁, θ₂), found shape {start.shape}")
    if not np.isfinite(learning_rate):
        raise JaxpropError(f"learning_rate: expected a finite number, found {learning_rate}")
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise JaxpropError(f"steps: expected a whole number ≥ 0, found {steps!r}")
    theta = start.astype(jnp.result_type(float))
    path, costs = (np.asarray(part, dtype=np.float64) for part in _descend(C, theta, learning_rate, steps))
    good = np.isfinite(path).all(axis=1) & np.isfinite(costs)
    if not good[0]:
        raise JaxpropError(f"start: C({start[0]:g}, {start[1]:g}) is {costs[0]}; start where the cost is finite")
    length = len(good) if good.all() else int(np.argmin(good))
    return Descent(path[:length], length < len(good))


@partial(jax.jit, static_argnums=(0, 3))
def _descend(C: Cost, start: Array, learning_rate: ArrayLike, steps: int) -> tuple[Array, Array]:
    def step(theta: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
        cost, gradient = jax.value_and_grad(C)(theta)
        return theta - learning_rate * gradient, (theta, cost)

    end, (path, costs) = jax.lax.scan(step, start, length=steps)
    return jnp.concatenate([path, end[None]]), jnp.append(costs, C(end))


def cost_surface(
    cost_function: Cost | None = None,
    *,
    start: ArrayLike = (3.0, 0.1),
    learning_rate: float | Sequence[float] = (0.03, 0.24, 0.4),
    steps: int = 60,
    span: tuple[float, float] = (-4, 4),
    axes: "np.ndarray | Sequence[Axes] | None" = None,
) -> np.ndarray:
    """C(θ₁, θ₂) as a surface and as contours, with gradient descent on both: an array of two axes, the first 3-D.

    `cost_function(theta)` takes `[2]` and gives a scalar; None is the article's, with its minima θ₁θ₂ = 2 and its
    saddle. One descent is drawn per learning rate, and its end is told: converged (gradient below 1e-3), still moving,
    left the picture, diverged; and how often it overshot, turning back on itself. Levels are spaced by logarithm; the
    surface is cut off at the top. Raises JaxpropError for more than three rates, and as `descend` does.

    >>> axes = cost_surface(learning_rate=0.05)
    >>> [text.get_text() for text in axes[1].get_legend().get_texts()][-1]
    'η = 0.05: converged'
    """
    low, high = style.interval(span, "span")
    rates = style.finite_array(learning_rate, "learning_rate").ravel()
    if not 1 <= len(rates) <= 3:
        raise JaxpropError(f"learning_rate: expected one to three rates in one picture, found {len(rates)}")
    C = article_cost if cost_function is None else cost_function
    descents = [(float(rate), descend(C, start, float(rate), steps)) for rate in rates]
    side = np.linspace(low, high, 97)
    theta = np.stack(np.meshgrid(side, side), axis=-1)
    costs = style.finite_array(costs_at(C, theta.reshape(-1, 2)), "C(θ)").reshape(theta.shape[:2])
    axes = style.side_by_side(axes, (9.6, 5.5), ("3d", None))
    if not hasattr(axes[0], "plot_surface"):
        raise JaxpropError('axes: the first must be 3-D: make it with figure.add_subplot(1, 2, 1, projection="3d")')
    draw_surface(axes[0], C, side, costs, descents, cost_function is None)
    draw_contours(axes[1], C, side, costs, descents, cost_function is None)
    return axes
