"""The two drawings of `cost_surface`: the landscape from the side and from above."""

import itertools
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxprop import style
from jaxprop.plot.slopes import Cost

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LogNorm
    from mpl_toolkits.mplot3d import Axes3D

_COLORS = (style.INK, style.VERMILLION, style.PURPLE)
_MARKERS = ("o", "s", "D")
BLOCK = 512  # θ that C is computed at together


class Descent(NamedTuple):
    """θ at the start and after every step, `[S+1, 2]`, and whether the next step would not have been finite.

    >>> Descent(np.zeros((1, 2)), diverged=False).path.shape
    (1, 2)
    """

    path: np.ndarray
    diverged: bool


def draw_surface(
    ax: "Axes3D", C: Cost, side: np.ndarray, costs: np.ndarray, descents: list[tuple[float, Descent]], article: bool
) -> None:
    """The surface in 3-D, cut off at the top, with the part of every path that it shows."""
    top = float(np.quantile(costs, 0.8)) if np.ptp(costs) > 0 else float(costs.max()) + 1
    ax.computed_zorder = False  # else paths on the surface disappear in it
    cut = np.minimum(costs, top)
    t1, t2 = np.meshgrid(side, side)
    ax.plot_surface(
        t1, t2, cut, cmap="cividis_r", norm=_norm(costs), rcount=60, ccount=60, linewidth=0, alpha=0.9, zorder=1
    )
    for (_, descent), color, marker in zip(descents, _COLORS, _MARKERS, strict=False):
        path = _clipped(descent.path, side)[0]
        fine = np.concatenate([np.linspace(a, b, 20) for a, b in itertools.pairwise(path)] or [path])
        heights = np.minimum(costs_at(C, fine), top)
        ax.plot(*fine.T, heights + 0.02 * top, color=color, linewidth=1.8, zorder=4)
        on = descent.path[np.all(np.abs(descent.path - side.mean()) <= np.ptp(side) / 2, axis=1)]
        ax.plot(*on.T, np.minimum(costs_at(C, on), top) + 0.02 * top, marker, color=color, markersize=3.5, zorder=5)
    if article:
        for branch in _minima(side):
            ax.plot(*branch.T, 0.01 * top, color=style.SKY, linewidth=2.4, zorder=3)
        ax.plot(
            [0],
            [0],
            [costs_at(C, np.zeros((1, 2)))[0] + 0.02 * top],
            "X",
            color="white",
            markeredgecolor=style.INK,
            markersize=9,
            zorder=6,
        )
    style.dress(ax, f"The cost C(θ₁, θ₂), cut off at {style.number(top, 2)}", "θ₁", "θ₂")
    ax.set_zlabel("C", fontsize=style.TEXT, color=style.INK)
    ax.set_zlim(0 if costs.min() >= 0 else costs.min(), top)
    ax.set_anchor("N")
    ax.view_init(elev=38, azim=-62)
    ax.set_box_aspect((1, 1, 0.7), zoom=1.12)  # pyright: ignore[reportArgumentType]


def draw_contours(
    ax: "Axes", C: Cost, side: np.ndarray, costs: np.ndarray, descents: list[tuple[float, Descent]], article: bool
) -> None:
    """The same from above: levels spaced by logarithm, every descent with its end told."""
    t1, t2 = np.meshgrid(side, side)
    norm = _norm(costs)
    assert norm.vmin is not None and norm.vmax is not None
    levels = np.geomspace(norm.vmin, norm.vmax, 13)
    shown = ax.contourf(t1, t2, np.clip(costs, norm.vmin, norm.vmax), levels, cmap="cividis_r", norm=norm, alpha=0.9)
    ax.contour(t1, t2, costs, levels, colors="white", linewidths=0.4, alpha=0.6)
    bar = ax.figure.colorbar(
        shown,
        ax=ax,
        label="C, on a logarithmic scale",
        shrink=0.72,
        anchor=(0, 1),
        aspect=18,
        format=lambda v, _: f"{float(f'{v:.2g}'):,.10g}",
    )
    bar.ax.tick_params(labelsize=style.SMALL)
    bar.ax.minorticks_off()
    style.dress(ax, "From above, with gradient descent", "θ₁", "θ₂")
    ax.grid(False)
    if article:
        _landmarks(ax, C, side)
    for (rate, descent), color, marker in zip(descents, _COLORS, _MARKERS, strict=False):
        _path(ax, C, side, rate, descent, color, marker)
    ax.set(xlim=(side[0], side[-1]), ylim=(side[0], side[-1]), aspect="equal", anchor="N")
    style.legend(ax, loc="upper left", bbox_to_anchor=(-0.12, -0.13), frameon=False)


def _norm(costs: np.ndarray) -> "LogNorm":
    from matplotlib.colors import LogNorm

    top = float(costs.max())
    if not top > 0:
        return LogNorm(1e-3, 1)
    return LogNorm(max(top / 2000, float(costs.min())) if costs.min() < top else top / 2000, top)


def costs_at(C: Cost, theta: np.ndarray) -> np.ndarray:
    """C at many θ `[M, 2]`, float64 `[M]`: a block at a time, so that one program serves all of a picture."""
    blocks = -(-len(theta) // BLOCK)
    padded = np.zeros((blocks * BLOCK, 2), jnp.result_type(float))
    padded[: len(theta)] = theta
    found = [np.asarray(_block(C, block), np.float64) for block in padded.reshape(blocks, BLOCK, 2)]
    return np.concatenate([*found, np.zeros(0)])[: len(theta)]


@partial(jax.jit, static_argnums=0)
def _block(C: Cost, theta: Array) -> Array:
    return jax.vmap(C)(theta)


@partial(jax.jit, static_argnums=0)
def _slope(C: Cost, theta: Array) -> Array:
    return jnp.linalg.norm(jax.grad(C)(theta))


def _minima(side: np.ndarray) -> list[np.ndarray]:
    """Both branches of θ₁ θ₂ = 2 within the picture."""
    branches = []
    for ends in ((2 / side[-1], side[-1]), (side[0], 2 / side[0])):
        if ends[0] < ends[1] and np.prod(ends) > 0:
            t1 = np.linspace(*ends, 200)
            branches.append(np.stack([t1, 2 / t1], axis=1))
    return branches


def _landmarks(ax: "Axes", C: Cost, side: np.ndarray) -> None:
    for i, branch in enumerate(_minima(side)):
        label = "the minima: the curve θ₁θ₂ = 2, C = 0" if i == 0 else None
        ax.plot(*branch.T, color=style.SKY, linewidth=3, zorder=3, label=label)
    size = style.number(_slope(C, np.zeros(2, jnp.result_type(float))))
    mark = {"color": "white", "markeredgecolor": style.INK, "markersize": 10, "zorder": 7, "linestyle": "none"}
    ax.plot([0], [0], "X", label=f"saddle (0, 0): gradient {size}, here descent does not move", **mark)


def _clipped(path: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, bool]:
    """The path up to where it first crosses the border of the picture, and whether it does."""
    outside = np.any((path < side[0]) | (path > side[-1]), axis=1)
    if not outside.any():
        return path, False
    first = int(np.argmax(outside))
    if first == 0:
        return path[:0], True
    a, b = path[first - 1], path[first]
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(b > side[-1], (side[-1] - a) / (b - a), np.where(b < side[0], (side[0] - a) / (b - a), 1.0))
    return np.concatenate([path[:first], (a + reach.min() * (b - a))[None]]), True


def ending(C: Cost, descent: Descent, side: np.ndarray) -> str:
    """What became of a descent, in words."""
    path, diverged = descent
    if diverged:
        return f"diverges, not finite after {len(path)} steps"
    if np.all(path == path[0]) and len(path) > 1:
        return "does not move (gradient 0)"
    if np.any((path[-1] < side[0]) | (path[-1] > side[-1])):
        return "left the picture (arrow)"
    if float(_slope(C, path[-1].astype(jnp.result_type(float)))) > 1e-3:
        return f"still moving after {len(path) - 1} steps"
    moves = np.diff(path, axis=0)
    moves = moves[np.linalg.norm(moves, axis=1) > 1e-3 * np.ptp(side)]
    turns = int(np.sum(np.sum(moves[1:] * moves[:-1], axis=1) < 0))
    return f"overshoots {turns} times, then converged" if turns > 1 else "converged"


def _path(ax: "Axes", C: Cost, side: np.ndarray, rate: float, descent: Descent, color: str, marker: str) -> None:
    from matplotlib.patheffects import withStroke

    label = f"η = {style.number(rate)}: {ending(C, descent, side)}"
    path, left = _clipped(descent.path, side)
    inside = path[:-1] if left else path
    halo = [withStroke(linewidth=3.2, foreground="white")]
    ax.plot(*path.T, color=color, linewidth=1.7, zorder=5, path_effects=halo)
    ax.plot([], [], color=color, marker=marker, markersize=5, linewidth=1.5, label=label)
    ax.plot(*inside.T, marker, color=color, markersize=4, markeredgecolor="white", markeredgewidth=0.4, zorder=6)
    if left and len(path) > 1:
        arrow = {
            "arrowstyle": "-|>",
            "color": color,
            "linewidth": 1.8,
            "mutation_scale": 16,
            "shrinkA": 0,
            "shrinkB": 0,
        }
        ax.annotate("", path[-1], path[-2] + 0.6 * (path[-1] - path[-2]), arrowprops=arrow, zorder=8)
