"""Which inputs a network's answer hangs on: an example beside its gradient, guided and integrated-gradient maps."""

import math
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import jax
import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxprop import style
from jaxprop.backward.rules.guided import GuidedBackprop
from jaxprop.backward.saliency import Saliency, input_gradient, integrated_gradients
from jaxprop.errors import JaxpropError, ShapeError, pick
from jaxprop.layers import Layer, ReLU
from jaxprop.network import leaves
from jaxprop.plot.diagram import NEGATIVE, POSITIVE

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TITLES = {"gradient": "gradient ∂y/∂x", "guided": "guided backpropagation", "integrated": "integrated gradients"}
LEAST = 64  # pixels of a flat square image
BARS = 24  # columns of a table that are shown


def saliency(
    net: Layer,
    x: ArrayLike,
    params: PyTree,
    *,
    target: int | None = None,
    maps: Sequence[str] | None = None,
    baseline: ArrayLike = 0.0,
    steps: int = 100,
    image: bool | tuple[int, int] | None = None,
    columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    axes: "np.ndarray | Sequence[Axes] | None" = None,
) -> np.ndarray:
    """One example, and beside it which of its inputs the output `target` answers to: a picture for each of `maps`.

    x is `[1, ...]`: an image `[1, H, W]` or `[1, H, W, C]`, or a flat square one of 64 pixels or more; else a row of a
    table, and then its maps are bars. `image` says so: True, False, or (H, W) of flat rows. Blue raises y, orange
    lowers it; each map has a scale of its own, and channels are added. `target` counts a row's outputs, None is the
    largest. `maps` are "gradient" (`jp.saliency.input_gradient`), "guided" (the same by `jp.rules.GuidedBackprop`) and
    "integrated" (`jp.saliency.integrated_gradients` from `baseline` in `steps` midpoints). None is all, but "guided"
    where there is no ReLU. `columns` and `classes` are names. Returns the array of axes, one more than there are maps.

    Raises JaxpropError or ShapeError for what those refuse, x of several examples, and names that are too few.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Linear(5), jp.ReLU(), jp.Linear(3)), np.linspace(0, 1, 64, dtype=np.float32)[None]
    >>> axes = saliency(net, x, net.init(jax.random.key(0), x), target=2)
    >>> [ax.get_title(loc="left") for ax in axes]
    ['y = ... for output 2', 'gradient ∂y/∂x', 'guided backpropagation', 'integrated gradients']
    """
    row = np.asarray(x)
    if row.ndim < 1 or len(row) != 1:
        raise ShapeError(f"saliency: x must be one example [1, ...], found {list(row.shape)}; pass x[:1], or x[None]")
    found = _found(net, row, params, target, maps, baseline, steps)
    drawn = {key: np.asarray(one.map[0], np.float64) for key, one in found.items()}
    pixels = None if columns is not None and image is None else _pixels(row[0], image)
    count, (width, height) = 1 + len(found), (2.9, 3.2) if pixels is not None else (3.1, 4.4)
    axes = style.side_by_side(axes, (count * width, height), [None] * count)
    first = next(iter(found.values()))
    style.bare(axes[0], f"y = {style.number(first.value[0], 4)} for {_name(int(first.output[0]), classes)}")
    if pixels is None:
        _draw_bars(axes, row.ravel(), {key: values.ravel() for key, values in drawn.items()}, columns)
    else:
        shown = {key: _pixels(values, image) for key, values in drawn.items()}
        _draw_images(axes, pixels, {key: values for key, values in shown.items() if values is not None})
    for ax, key in zip(axes[1:], found, strict=True):
        ax.set_title(TITLES[key], loc="left", fontsize=style.TITLE, color=style.INK)
    if "integrated" in found:
        caption = _sum(net, row, params, found["integrated"], baseline)
        axes[1 + list(found).index("integrated")].set_xlabel(caption, fontsize=style.SMALL, color=style.GREY)
    return axes


def _found(
    net: Layer, row: np.ndarray, params: PyTree, target: int | None, maps: Sequence[str] | None, baseline: ArrayLike,
    steps: int,
) -> dict[str, Saliency]:  # fmt: skip
    """Each map by its name."""
    if maps is None:
        has_relu = any(isinstance(leaf.layer, ReLU) for leaf in leaves(net))
        maps = [key for key in TITLES if key != "guided" or has_relu]
    if not maps:
        raise JaxpropError(f"saliency: maps is empty; choose from {', '.join(TITLES)}")
    found = {}
    for key in maps:
        pick(key, TITLES, "map")
        if key == "integrated":
            run = partial(integrated_gradients(net, steps), baseline=baseline)
        else:
            run = input_gradient(net, GuidedBackprop() if key == "guided" else None)
        one = jax.jit(partial(run, output=target))(row, params)
        style.finite_array(one.map, f"saliency: {TITLES[key]}")
        found[key] = jax.device_get(one)
    return found


def _name(k: int, classes: Sequence[str] | None) -> str:
    if classes is None:
        return f"output {k}"
    if k >= len(classes):
        raise JaxpropError(f"saliency: classes has {len(classes)} names, and output {k} has none")
    return str(classes[k])


def _sum(net: Layer, row: np.ndarray, params: PyTree, one: Saliency, baseline: ArrayLike) -> str:
    """Completeness: what the map adds up to, and what it should."""
    base = np.broadcast_to(np.asarray(baseline, one.map.dtype), row.shape)
    start = float(input_gradient(net)(base, params, one.output).value[0])
    total, rise = one.map.sum(dtype=np.float64), float(one.value[0]) - start
    return f"adds up to {style.number(total, 4)},\ny − y(baseline) = {style.number(rise, 4)}"


def _pixels(values: np.ndarray, image: bool | tuple[int, int] | None) -> np.ndarray | None:
    """`values` as rows and columns of pixels `[H, W]` or `[H, W, C]`, or None if they are no image."""
    if image is False:
        return None
    if isinstance(image, tuple):
        if math.prod(image) != values.size:
            raise ShapeError(f"saliency: image={image} has not {values.size} pixels, one an input")
        return values.reshape(image)
    if values.ndim in (2, 3):
        return values
    side = math.isqrt(values.size)
    if side * side == values.size and (image or side * side >= LEAST):
        return values.reshape(side, side)
    if image:
        raise ShapeError(f"saliency: {list(values.shape)} is no square; give image=(rows, columns)")
    return None


def _draw_images(axes: np.ndarray, pixels: np.ndarray, maps: dict[str, np.ndarray]) -> None:
    """The example in greys or its own colours, and the maps in blue and orange around white."""
    from matplotlib.colors import LinearSegmentedColormap

    ground = np.asarray(pixels, np.float64)
    if ground.ndim == 3 and ground.shape[2] == 3:
        low, high = ground.min(), ground.max()
        axes[0].imshow((ground - low) / (high - low if high > low else 1), interpolation="nearest", gid="example")
    else:
        flat = ground if ground.ndim == 2 else ground.sum(axis=2)
        axes[0].imshow(flat, cmap="Greys", interpolation="nearest", gid="example")
    colors = LinearSegmentedColormap.from_list("saliency", [NEGATIVE, "white", POSITIVE])
    for ax, (key, values) in zip(axes[1:], maps.items(), strict=True):
        values = values if values.ndim == 2 else values.sum(axis=2)
        most = np.abs(values).max() or 1.0
        style.bare(ax, "", f"white 0, blue up to {style.number(most, 2)}")
        ax.imshow(values, cmap=colors, vmin=-most, vmax=most, interpolation="nearest", gid=key)
    for ax in axes:
        ax.spines[:].set(visible=True, color=style.PALE)


def _draw_bars(axes: np.ndarray, row: np.ndarray, maps: dict[str, np.ndarray], columns: Sequence[str] | None) -> None:
    """The row as names and values, and a bar for each input; of many, those of which the last map is largest."""
    names = [f"x{i}" for i in range(row.size)] if columns is None else [str(name) for name in columns]
    if len(names) != row.size:
        raise JaxpropError(f"saliency: columns has {len(names)} names, expected {row.size}, one an input")
    size = np.abs(list(maps.values())[-1])
    shown = np.sort(np.argsort(-size, kind="stable")[:BARS])
    at = np.arange(len(shown))
    for i in at:
        text = f"{names[shown[i]]} = {style.number(row[shown[i]], 4)}"
        axes[0].text(1.0, i, text, ha="right", va="center", fontsize=style.SMALL, color=style.INK)
    axes[0].set_xlim(0, 1)
    if len(shown) < row.size:
        axes[0].set_xlabel(f"the {len(shown)} of {row.size} inputs with the largest bars", fontsize=style.SMALL)
    for ax, values in zip(axes[1:], maps.values(), strict=True):
        values = values[shown]
        style.dress(ax, "")
        ax.barh(at, values, color=[POSITIVE if v >= 0 else NEGATIVE for v in values], height=0.7)
        ax.axvline(0, color=style.GREY, linewidth=0.8)
        ax.set_yticks([])
        ax.spines["left"].set_visible(False)
    for ax in axes:
        ax.set_ylim(len(shown) - 0.5, -0.5)
