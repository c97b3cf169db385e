"""What happened in training: its history, and how large the gradient is at every layer."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.arrays.paths import by_path
from jaxprop.backward.manual import Record
from jaxprop.errors import JaxpropError, pick

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

History = Sequence[Mapping[str, Any]]  # one row an epoch

_COSTS = ("cost", "validation_cost")
_NOT_CURVES = ("epoch", "seconds")
_RING: dict[str, Any] = {"marker": "o", "markersize": 9, "markerfacecolor": "white", "markeredgewidth": 2}
_COST_COLORS, _METRIC_COLORS = (style.BLUE, style.SKY), (style.VERMILLION, style.ORANGE)  # (training, validation)


def history(
    rows: History,
    *,
    ax: "Axes | None" = None,
    keys: Sequence[str] | None = None,
    log: bool | None = None,
) -> "Axes":
    """Training history, one row per epoch: cost curves (by default), and on an axis at the right what else `keys` name.

    A row is {"epoch": 1, "cost": …, "validation_cost": …, "accuracy": …}; what a row lacks is skipped. Training and
    validation share a colour, dark and light. The best epoch (least validation cost, else least cost) is marked. `log`
    None: the cost axis is logarithmic where costs span two decades. With keys of one kind only, the left axis has
    them. Raises JaxpropError for no rows, a key that no row has, and logarithms of costs that are not positive.

    >>> rows = [{"epoch": e, "cost": 1 / e, "validation_cost": 1 / e + 0.01 * e} for e in range(1, 21)]
    >>> ax = history(rows)
    >>> ax.get_title(loc="left")
    'Cost: 1 → 0.05 in 20 epochs'
    >>> [text.get_text() for text in ax.get_legend().get_texts()][-1]
    'least validation cost: epoch 10'
    """
    known = {key for row in rows for key, value in row.items() if key not in _NOT_CURVES and value is not None}
    if not known:
        raise JaxpropError("history: found no rows with a cost; expected one dict per epoch, as in fit(...).history")
    if keys is None:
        keys = [key for key in _COSTS if key in known] or sorted(known)
    chosen = [pick(key, known, "history key") for key in keys]
    groups = [group for group in ([k for k in chosen if k in _COSTS], [k for k in chosen if k not in _COSTS]) if group]
    if not groups:
        raise JaxpropError(f"history: keys is empty; choose from {', '.join(sorted(known))}")
    best = _best_epoch(rows)
    ax = style.axes_or_new(ax)
    sides = [ax] if len(groups) == 1 else [ax, ax.twinx()]
    lines = []
    for side, group in zip(sides, groups, strict=True):
        costs = group[0] in _COSTS
        lines += [_curve(side, rows, key, _COST_COLORS if costs else _METRIC_COLORS, best) for key in group]
        style.dress(side, "", "epoch", _axis_name(group))
        if costs:
            _scale(side, log)
    _finish(sides, _history_title(rows, chosen[0]), best, lines)
    return ax


def _finish(sides: "list[Axes]", title: str, best: tuple[int, str] | None, lines: "list[Line2D]") -> None:
    from matplotlib.lines import Line2D
    from matplotlib.ticker import MaxNLocator

    ax = sides[0]
    ax.set_title(title, loc="left", fontsize=style.TITLE, color=style.INK)
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    for side in sides[1:]:
        side.grid(False)
        side.spines["right"].set_visible(True)
        side.spines["left"].set_visible(False)
        side.yaxis.label.set_color(style.VERMILLION)
    if best is not None:
        name = _words(best[1]).removeprefix("training ")
        lines = [
            *lines,
            Line2D([], [], linestyle="none", label=f"least {name}: epoch {best[0]}", color=style.INK, **_RING),
        ]
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 3, "frameon": False}
    style.legend(ax, handles=lines, **below)


def _points(rows: History, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of the rows that have a finite one."""
    found = [(row.get("epoch", i + 1), float(row[key])) for i, row in enumerate(rows) if row.get(key) is not None]
    finite = [(epoch, value) for epoch, value in found if math.isfinite(value)]
    if not finite:
        raise JaxpropError(f"history: {key} is never finite; lower the learning rate, or look at the data")
    return tuple(np.array(part, dtype=np.float64) for part in zip(*finite, strict=True))  # type: ignore[return-value]


def _best_epoch(rows: History) -> tuple[int, str] | None:
    """(epoch, key) of the least validation cost, else the least cost, if rows have one."""
    for key in ("validation_cost", "cost"):
        if any(row.get(key) is not None for row in rows):
            epochs, values = _points(rows, key)
            return int(epochs[np.argmin(values)]), key
    return None


def _curve(side: "Axes", rows: History, key: str, colors: tuple[str, str], best: tuple[int, str] | None) -> "Line2D":
    epochs, values = _points(rows, key)
    validation = key.startswith("validation_")
    marker = "o" if len(epochs) == 1 else None
    look = {"color": colors[validation], "linewidth": 2.2 - 0.4 * validation, "marker": marker}
    (line,) = side.plot(epochs, values, label=_words(key), **look)
    if validation:
        line.set_dashes((5, 1.5))
    if best is not None and best[0] in epochs:
        at = epochs == best[0]
        side.plot(epochs[at], values[at], color=colors[validation], zorder=6, **_RING)
    return line


def _words(key: str) -> str:
    key = "R²" if key == "r2" else "validation R²" if key == "validation_r2" else key.replace("_", " ")
    return key if key.startswith("validation") else f"training {key}"


def _axis_name(group: Sequence[str]) -> str:
    names = dict.fromkeys(_words(key).split(" ", 1)[1] for key in group)
    return ", ".join(names)


def _scale(side: "Axes", log: bool | None) -> None:
    values = np.concatenate([line.get_ydata() for line in side.lines])
    if log and values.min() <= 0:
        raise JaxpropError(f"history: found a cost of {values.min():g}, which has no logarithm; leave log=None")
    if log or (log is None and values.min() > 0 and values.max() / values.min() >= 100):
        side.set_yscale("log")


def _history_title(rows: History, key: str) -> str:
    _, values = _points(rows, key)
    name = _words(key).removeprefix("training ")
    ends = " → ".join(style.number(value, 3) for value in (values[[0, -1]] if len(values) > 1 else values))
    title = f"{name[0].upper()}{name[1:]}: {ends} in {len(rows)} epoch{'s' if len(rows) > 1 else ''}"
    broken = [row for row in rows if row.get(key) is not None and not math.isfinite(float(row[key]))]
    if broken:
        title += f"; not finite from epoch {broken[0].get('epoch', rows.index(broken[0]) + 1)}"
    return title


def gradient_sizes(tape: Mapping[str, Record], grads: PyTree = None, *, ax: "Axes | None" = None) -> "Axes":
    """How large the error is at every layer, on a logarithmic axis: RMS over examples and units of dy = ∂C_n/∂y.

    `tape` is what `manual.trace` returns; with the tree of `grads`, also the norm ‖∂C/∂θ‖ of each parameter of that
    layer. Sizes that are exactly 0 are written as 0. Raises JaxpropError for an empty tape, and for NaN or infinity.

    >>> import jax, jax.numpy as jnp
    >>> import jaxprop as jp
    >>> net, x = jp.Chain(*[jp.Linear(8), jp.Sigmoid()] * 4), jnp.ones((5, 3))
    >>> tape = jp.manual.trace(net, jp.HalfSquaredError())(x, net.init(jax.random.key(0), x), jnp.zeros((5, 8)))
    >>> ax = gradient_sizes(tape)
    >>> len(ax.patches), ax.get_yscale()
    (8, 'log')
    """
    errors = {path: _rms(record.dy) for path, record in tape.items() if getattr(record, "dy", None) is not None}
    if not errors:
        raise JaxpropError(
            "gradient_sizes: found no errors in the tape; pass what jp.manual.trace(net, cost)(…) returns"
        )
    kinds = {"RMS of ∂Cₙ/∂y (error at the layer's output)": errors}
    for name, color_of in (("W", "weights"), ("b", "biases"), ("", "other parameters")):
        norms = _norms(grads, errors, name)
        if norms:
            kinds[f"‖∂C/∂{name or 'θ'}‖ ({color_of})"] = norms
    for found in kinds.values():
        style.finite_array(list(found.values()), "gradient_sizes: a gradient")
    ax = style.axes_or_new(ax, (7.4, 4.6))
    paths = list(errors)
    ax.set_yscale("log")
    colors = (style.VERMILLION, style.BLUE, style.SKY, style.PURPLE)
    for i, ((name, sizes), color) in enumerate(zip(kinds.items(), colors, strict=False)):
        _bars(ax, paths, sizes, i, len(kinds), color, name)
    style.dress(ax, _sizes_title(errors), "path of the layer, first to last", "size of the gradient")
    ax.set_xticks(range(len(paths)), paths, rotation=90 if len(paths) > 24 else 0)
    ax.grid(False, axis="x")
    style.legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False)
    return ax


def _rms(values: ArrayLike) -> float:
    return float(np.sqrt(np.mean(np.square(np.asarray(values, dtype=np.float64)))))


def _norms(grads: PyTree, errors: Mapping[str, float], name: str) -> dict[str, float]:
    """Layer path → norm of its gradients called `name` ("" for every other name)."""
    squares: dict[str, float] = {}
    for path, leaf in by_path(grads).items():
        layer, _, own = path.rpartition(".")
        if layer not in errors:
            raise JaxpropError(
                f"gradient_sizes: grads have {layer or own!r}, the tape has {', '.join(errors)}: "
                "are both of the same network?"
            )
        if own == name or (not name and own not in ("W", "b")):
            squares[layer] = squares.get(layer, 0.0) + float(np.sum(np.square(np.asarray(leaf, dtype=np.float64))))
    return {layer: math.sqrt(square) for layer, square in squares.items()}


def _bars(ax: "Axes", paths: list[str], sizes: Mapping[str, float], i: int, kinds: int, color: str, name: str) -> None:
    width = 0.8 / kinds
    at = {path: paths.index(path) + (i - (kinds - 1) / 2) * width for path in sizes}
    seen = [path for path in sizes if sizes[path] > 0]
    ax.bar([at[p] for p in seen], [sizes[p] for p in seen], width * 0.92, color=color, label=name, zorder=3)
    for path in set(sizes) - set(seen):
        ax.text(at[path], 0.01, "0", transform=ax.get_xaxis_transform(), color=color, ha="center", fontsize=style.TEXT)


def _sizes_title(errors: Mapping[str, float]) -> str:
    first, *_, last = [*errors, *errors]
    if len(errors) < 2 or not errors[first] > 0 or not errors[last] > 0:
        return "How large the error is at every layer"
    ratio = errors[last] / errors[first]
    verb = "shrinks" if ratio >= 1 else "grows"
    fold = float(f"{max(ratio, 1 / ratio):.3g}")
    return f"The error {verb} {fold:,.10g}-fold on its way back, from layer {last} to {first}"
