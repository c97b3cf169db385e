r"""What a derivative is and what a step does with it: C(w) of one parameter.

secant     (C(w + h) − C(w)) / h        the average slope over a nudge h
tangent    ∂C/∂w                        its limit as h → 0
step       w′ = w − η ∂C/∂w             first order: C(w′) ≈ C(w) − η (∂C/∂w)²

forward difference    error ½|C″| h + ~ε|C|/h       central difference    error |C‴| h²/6 + ~ε|C|/h
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.errors import JaxpropError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Cost = Callable[[Array], Array]  # C of one number, or of θ [2], in JAX: a scalar
EPSILON = float(np.finfo(np.float64).eps)


def cost_curve(
    C: Cost,
    w_range: tuple[float, float],
    *,
    at: float | None = None,
    h: float | None = None,
    learning_rate: float | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """C(w) over `w_range`; `at` a w its tangent, with a nudge `h` the secant, with `learning_rate` η the step −η ∂C/∂w.

    C takes a scalar and gives a scalar, in JAX. The legend has every number, the step's predicted and actual ΔC
    included (a step uphill or past the valley is seen there). Raises JaxpropError for h = 0, and for h or a learning
    rate without `at`.

    >>> ax = cost_curve(lambda w: 0.5 * (0.3 * w - 2) ** 2, (-4, 12), at=0.4, h=6.0, learning_rate=4.0)
    >>> [text.get_text() for text in ax.get_legend().get_texts()][1:3]
    ['tangent: slope ∂C/∂w = −0.564', 'secant: ΔC/h = −0.294 for h = 6']
    """
    low, high = style.interval(w_range, "w_range")
    if at is None and (h is not None or learning_rate is not None):
        raise JaxpropError("cost_curve: h and learning_rate start from a w: pass at=w as well")
    if h == 0:
        raise JaxpropError("cost_curve: h must not be 0: a secant needs two points; the limit h → 0 is the tangent")
    ax = style.axes_or_new(ax, (7.4, 4.8))
    w = np.linspace(low, high, 401)
    curve = _values(C, w)
    ax.plot(w, curve, color=style.BLUE, linewidth=2.2, label="C(w), the cost", zorder=3)
    ax.margins(x=0.02)
    room = 0.12 * max(np.ptp(curve), 1e-300)
    ax.set_ylim(curve.min() - (0.6 if learning_rate is None else 1.6) * room, curve.max() + room)
    if at is not None:
        _tangent(ax, C, float(at), (low, high))
        if h is not None:
            _secant(ax, C, float(at), float(h), (low, high))
        if learning_rate is not None:
            _step(ax, C, float(at), float(learning_rate))
        ax.set_xlim(low, high)
    title = (
        "The cost of one parameter"
        if at is None
        else f"The cost of one parameter, and its slope at w = {style.number(at)}"
    )
    style.dress(ax, title, "w, one parameter (all others held)", "C(w)")
    style.legend(ax, loc="best")
    return ax


def _values(C: Cost, w: ArrayLike) -> np.ndarray:
    values = jax.vmap(C)(jnp.asarray(np.atleast_1d(w), dtype=jnp.result_type(float)))
    if values.ndim != 1:
        raise JaxpropError(
            f"C(w): expected a scalar, found shape {values.shape[1:]}: take the mean over examples first"
        )
    return style.finite_array(values, "C(w)")


def _cost_and_slope(C: Cost, w: float) -> tuple[float, float]:
    value, slope = jax.value_and_grad(C)(jnp.asarray(w, dtype=jnp.result_type(float)))
    return float(value), float(slope)


def _tangent(ax: "Axes", C: Cost, at: float, ends: tuple[float, float]) -> None:
    value, slope = _cost_and_slope(C, at)
    label = f"tangent: slope ∂C/∂w = {style.number(slope)}"
    w = np.array(ends)
    ax.plot(w, value + slope * (w - at), color=style.VERMILLION, linewidth=1.6, dashes=(6, 2), label=label, zorder=4)
    ax.plot([at], [value], "o", color=style.INK, markersize=8, markeredgecolor="white", zorder=7)


def _secant(ax: "Axes", C: Cost, at: float, h: float, ends: tuple[float, float]) -> None:
    start, end = _values(C, np.array([at, at + h]))
    slope = (end - start) / h
    label = f"secant: ΔC/h = {style.number(slope)} for h = {style.number(h)}"
    w = np.array(ends)
    ax.plot(w, start + slope * (w - at), color=style.PURPLE, linewidth=1.4, dashes=(1.5, 1.5), label=label, zorder=4)
    ax.plot([at + h], [end], "s", color=style.PURPLE, markersize=7, markeredgecolor="white", zorder=6)
    ax.plot([at, at + h, at + h], [start, start, end], color=style.PURPLE, linewidth=0.8, zorder=3)


def _step(ax: "Axes", C: Cost, at: float, rate: float) -> None:
    value, slope = _cost_and_slope(C, at)
    to = at - rate * slope
    reached = float(_values(C, to)[0])
    n = style.number
    label = (
        f"step: w′ = w − η ∂C/∂w = {n(to)}, η = {n(rate)}\n"
        f"ΔC predicted −η (∂C/∂w)² = {n(-rate * slope**2)}, actual {n(reached - value)}"
    )
    floor = ax.get_ylim()[0]
    level = floor + 0.05 * (ax.get_ylim()[1] - floor)
    arrow = {"arrowstyle": "-|>", "color": style.GREEN, "linewidth": 2, "shrinkA": 0, "shrinkB": 0}
    ax.annotate("", (to, level), (at, level), arrowprops=arrow, zorder=6)
    ax.vlines([at, to], floor, [value, reached], color=style.GREEN, linewidth=0.8, linestyle=":", zorder=2)
    ax.plot([to], [reached], "D", color=style.GREEN, markersize=7, markeredgecolor="white", zorder=7, label=label)


def nudge(C: Cost, w: float, *, steps: ArrayLike | None = None, ax: "Axes | None" = None) -> "Axes":
    """The error of (C(w+h) − C(w))/h and of (C(w+h) − C(w−h))/2h against ∂C/∂w, over h, in float64.

    C takes a scalar and gives a scalar, in JAX. Thin lines are what theory predicts, from C″, C‴ and ε|C|. `steps` are
    the h (default 1e-12 to 1). Errors of exactly 0 cannot stand on a logarithmic axis and are left out. Raises
    JaxpropError for steps that are not positive.

    >>> ax = nudge(lambda w: 0.5 * (jax.nn.sigmoid(w) - 1) ** 2, 0.5)
    >>> ax.get_xscale(), ax.get_yscale(), len(ax.lines)
    ('log', 'log', 5)
    """
    h = np.logspace(0, -12, 73) if steps is None else style.finite_array(steps, "steps").ravel()
    if h.size == 0 or np.any(h <= 0):
        raise JaxpropError(f"nudge: steps must be positive, found {steps!r}; such as np.logspace(-10, 0)")
    ax = style.axes_or_new(ax, (7.4, 4.8))
    forward, central, orders = _differences(C, float(w), h)
    ax.set(xscale="log", yscale="log")
    for errors, color, marker, name in (
        (forward, style.VERMILLION, "o", "forward (C(w+h) − C(w)) / h"),
        (central, style.BLUE, "s", "central (C(w+h) − C(w−h)) / 2h"),
    ):
        seen = errors > 0
        least = f": least {style.number(errors[seen].min(), 2)}" if seen.any() else ": exact"
        ax.plot(h[seen], errors[seen], marker, color=color, markersize=4, label=name + least, zorder=4)
    visible = np.concatenate([forward, central])
    visible = visible[visible > 0]
    if visible.size:
        ax.set_ylim(visible.min() / 5, visible.max() * 5)
    for line, color, name in orders:
        if np.any(line > 0):
            ax.plot(h, line, color=color, linewidth=1.1, dashes=(4, 2), label=name, zorder=3)
    style.dress(
        ax, f"A finite nudge against the derivative, at w = {style.number(w)}", "h, the nudge", "|difference − ∂C/∂w|"
    )
    style.legend(ax, loc="upper center", ncols=1)
    return ax


def _differences(C: Cost, w: float, h: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, str, str]]]:
    """Errors of both differences at every h, and theory's lines (values, colour, name)."""
    with jax.enable_x64(True):
        at = jnp.asarray(w, dtype=jnp.float64)
        costs = jax.vmap(C)
        up, down, here = costs(at + h), costs(at - h), C(at)
        if up.ndim != 1:
            raise JaxpropError(
                f"C(w): expected a scalar, found shape {up.shape[1:]}: take the mean over examples first"
            )
        if up.dtype != jnp.float64:
            raise JaxpropError(
                f"nudge: C(w) of a float64 w is {up.dtype}; in less than float64 round-off hides the slopes: "
                "do not cast inside C"
            )
        first = jax.grad(C)
        second = jax.grad(first)
        slope, curve, third = first(at), second(at), jax.grad(second)(at)
        forward, central = np.abs((up - here) / h - slope), np.abs((up - down) / (2 * h) - slope)
    style.finite_array(np.concatenate([forward, central]), "C(w ± h)")
    lines = [
        (abs(float(curve)) / 2 * h, style.VERMILLION, "½ |C″| h: a tenth of h, a tenth of the error"),
        (abs(float(third)) / 6 * h**2, style.BLUE, "|C‴| h² / 6: a tenth of h, a hundredth of the error"),
        (EPSILON * abs(float(here)) / h, style.GREY, "ε |C| / h: round-off, ε = 2⁻⁵²"),
    ]
    return np.asarray(forward), np.asarray(central), lines
