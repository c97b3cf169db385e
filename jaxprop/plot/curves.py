"""Functions of one number: an activation with its derivative, and a network's fit beside its data."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers import Activation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def activation(
    layer: Activation, z: ArrayLike | None = None, *, ax: "Axes | None" = None, span: tuple[float, float] = (-6, 6)
) -> "Axes":
    """φ(z) and φ'(z) of an elementwise layer over `span`; with a number z, a dot on both and their values.

    Values and slopes are the layer's own; a jump of φ' is left open. Raises JaxpropError for a layer that is not
    elementwise (Softmax), a z that is not one number, and a span that is not (low, high).

    >>> from jaxprop import Sigmoid
    >>> ax = activation(Sigmoid(), z=1.35)
    >>> [text.get_text() for text in ax.texts]
    ['φ(1.35) = 0.79413', 'φ′(1.35) = 0.16349']
    """
    if not isinstance(layer, Activation):
        raise JaxpropError(
            f"activation: expected an elementwise layer such as Sigmoid() or ReLU(), found {layer!r}: "
            "its output depends on more than one z"
        )
    low, high = style.interval(span, "span")
    at = None if z is None else _one(z)
    ax = style.axes_or_new(ax)
    points = np.linspace(low, high, 1201)
    value, slope = _value_and_slope(layer, points)
    ax.plot(points, value, color=style.BLUE, linewidth=2.2, label="φ(z), the value")
    ax.plot(points, _open_jumps(slope), color=style.VERMILLION, linewidth=2, dashes=(5, 2), label="φ′(z), its slope")
    ax.margins(x=0.02, y=0.12)
    if at is not None:
        _dots(ax, layer, at)
    style.dress(ax, f"{layer}: the activation and its slope", "z, the weighted sum", "φ(z) and φ′(z)")
    style.legend(ax, loc="upper left" if value[-1] > value[0] else "best")
    return ax


def _one(z: ArrayLike) -> float:
    array = style.finite_array(z, "z")
    if array.size != 1:
        raise JaxpropError(f"z: expected one number, found shape {array.shape}: choose a unit, as z[0, 3]")
    return float(array.ravel()[0])


def _value_and_slope(layer: Activation, z: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    y, kept = layer.forward(jnp.asarray(z, dtype=jnp.result_type(float)))
    return np.asarray(y, dtype=np.float64), np.asarray(layer.derivative(kept), dtype=np.float64)


def _open_jumps(slope: np.ndarray) -> np.ndarray:
    """A step drawn as a line would claim slopes that φ never has: put a gap there."""
    broken = slope.copy()
    broken[1:][np.abs(np.diff(slope)) > 0.2] = np.nan
    return broken


def _dots(ax: "Axes", layer: Activation, z: float) -> None:
    value, slope = (float(v) for v in _value_and_slope(layer, z))
    low, high = ax.get_xlim()
    room = 1 if z < low + 0.5 * (high - low) else -1
    near_edge = min(z - low, high - z) < 0.3 * (high - low)
    step = 0.01 * (high - low)
    rises = [
        ahead - behind for behind, ahead in zip(*(_value_and_slope(layer, z + s) for s in (-step, step)), strict=True)
    ]
    ax.axvline(z, color=style.PALE, linewidth=1.2, zorder=1)
    close = abs(value - slope) < 0.2 * np.ptp(ax.get_ylim())  # then the lower of the two is named below its dot
    for name, y, color, lift, rise in (
        ("φ", value, style.BLUE, 1, float(rises[0])),
        ("φ′", slope, style.VERMILLION, -1, float(rises[1])),
    ):
        higher = lift * (1 if value >= slope else -1) if close else 1
        side = room if near_edge or abs(rise) < 1e-3 else int(-higher * np.sign(rise))  # off the curve
        ax.plot([z], [y], "o", color=color, markersize=8, markeredgecolor="white", zorder=5, clip_on=False)
        ax.annotate(
            f"{name}({style.number(z)}) = {style.number(y)}",
            (z, y),
            xytext=(10 * side, higher * (14 if close else 10)),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
            color=color,
            fontsize=style.TEXT,
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
            zorder=6,
        )


def function_fit(
    x: ArrayLike,
    targets: ArrayLike,
    predict: Callable[[Array], ArrayLike],
    *,
    truth: Callable[[np.ndarray], ArrayLike] | None = None,
    ax: "Axes | None" = None,
    name: str = "f(x, θ)",
) -> "Axes":
    """Data as dots, the network's `predict` as a curve, the `truth` behind the data (if known) dashed.

    x and targets `[N]` or `[N, 1]`; `predict` takes `[M, 1]` and gives `[M, 1]`, as `lambda x: net(x, params)`; `truth`
    takes and gives `[M]`. The title has the mean squared error over the dots.

    Raises ShapeError for more than one feature or output.

    >>> import jax
    >>> from jaxprop import Linear
    >>> x = np.linspace(-1, 1, 11)
    >>> flat = Linear(1).init(jax.random.key(0), jnp.ones((1, 1)))._replace(W=jnp.zeros((1, 1)))
    >>> ax = function_fit(x, x**2, lambda x: Linear(1)(x, flat), truth=np.square)
    >>> ax.get_title(loc="left")
    'f(x, θ) and its 11 points: mean squared error 0.2848'
    """
    x, targets = _column(x, "x"), _column(targets, "targets")
    if len(x) != len(targets):
        raise ShapeError(f"function_fit: found {len(x)} x and {len(targets)} targets; expected one target per x")
    ax = style.axes_or_new(ax)
    grid = np.linspace(x.min(), x.max(), 401)
    if truth is not None:
        shown = style.finite_array(truth(grid), "truth(x)")
        ax.plot(grid, shown, color=style.GREY, linewidth=1.6, dashes=(4, 2), label="the truth", zorder=2)
    ax.plot(grid, _predicted(predict, grid), color=style.BLUE, linewidth=2.4, label=f"the network {name}", zorder=3)
    ax.plot(x, targets, "o", color=style.VERMILLION, markersize=5, alpha=0.75, label="data", zorder=4)
    error = np.mean(np.square(_predicted(predict, x) - targets))
    title = f"{name} and its {len(x)} points: mean squared error {style.number(error)}"
    style.dress(ax, title, "x, the input", "output and targets")
    style.legend(ax, loc="best")
    return ax


def _column(values: ArrayLike, what: str) -> np.ndarray:
    array = style.finite_array(values, what)
    if array.size == 0 or array.ndim not in (1, 2) or array.shape[1:] not in ((), (1,)):
        raise ShapeError(
            f"function_fit: {what} must be [N] or [N, 1] to be drawn, found {list(array.shape)}; "
            f"choose a column: {what}[:, 0]"
        )
    return array.ravel()


def _predicted(predict: Callable[[Array], ArrayLike], x: np.ndarray) -> np.ndarray:
    y = predict(jnp.asarray(x[:, None], dtype=jnp.result_type(float)))
    if np.shape(y) not in ((len(x), 1), (len(x),)):
        raise ShapeError(
            f"function_fit: predict gave {list(np.shape(y))} for inputs {[len(x), 1]}; expected {[len(x), 1]}"
        )
    return style.finite_array(jax.device_get(y), "predict(x)").ravel()
