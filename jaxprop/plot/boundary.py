"""What a network of two features says everywhere: regions of the predicted class, or contours of a predicted number."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from jaxprop import style
from jaxprop.errors import JaxpropError, ShapeError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Rows = tuple[ArrayLike, ArrayLike]
GRID = 160  # points a side
_COLORS = (style.BLUE, style.VERMILLION, style.GREEN, style.PURPLE, style.ORANGE, style.SKY)
_MARKERS = "osD^vP"


def boundary(
    predict: Callable[[np.ndarray], ArrayLike],
    rows: Rows,
    held_out: Rows | None = None,
    *,
    columns: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    target: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Regions of the predicted class over two features, shaded by its probability; of a number, its contours.

    `predict(x)` takes `[M, 2]`, in the unit of the rows, and gives probabilities `[M, C]` or one number `[M, 1]`; it is
    called once for a grid of 160 × 160 points. `rows` and `held_out` are (x `[N, 2]`, targets): labels `[N]`, one-hot
    rows or numbers; those that were held out have a dark rim. `columns` and `classes` are names. The regions are the
    image with gid "regions". Raises ShapeError for x of another number of features, and JaxpropError for no rows.

    >>> x = np.array([[-1.0, 0.0], [1.0, 0.5]])
    >>> ax = boundary(lambda x: np.stack([x[:, 0] < 0, x[:, 0] >= 0], axis=1), (x, np.array([0, 1])))
    >>> ax.get_title(loc="left"), ax.get_xlabel()
    ('Predicted class: 100 % of 2 rows are right', 'x1')
    """
    parts = [_part(part) for part in ((rows,) if held_out is None else (rows, held_out))]
    every = np.concatenate([x for x, _ in parts])
    margin = 0.08 * np.where(np.ptp(every, axis=0) > 0, np.ptp(every, axis=0), 1)
    low, high = every.min(axis=0) - margin, every.max(axis=0) + margin
    across, up = (np.linspace(a, b, GRID) for a, b in zip(low, high, strict=True))
    grid = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    answers = np.asarray(predict(np.concatenate([grid, every]).astype(np.float32)), dtype=np.float64)
    if answers.shape not in ((len(grid) + len(every),), (len(grid) + len(every), answers.shape[-1])):
        raise ShapeError(f"boundary: predict gave {list(answers.shape)}, expected [{len(grid) + len(every)}, outputs]")
    answers = answers.reshape(len(answers), -1)
    ax = style.axes_or_new(ax, (6.4, 5.0))
    names = columns or ("x1", "x2")
    style.dress(ax, "", names[0], names[1])
    ax.grid(False)
    extent = (low[0], high[0], low[1], high[1])
    if answers.shape[1] == 1:
        title = _number(ax, answers[: len(grid), 0], (across, up), parts, answers[len(grid) :, 0], target or "y")
    else:
        title = _classes(ax, answers, len(grid), extent, parts, classes)
    ax.set(xlim=extent[:2], ylim=extent[2:])
    ax.set_title(title, loc="left", fontsize=style.TITLE, color=style.INK)
    return ax


def _part(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    x, targets = style.finite_array(rows[0], "boundary: x"), np.asarray(rows[1])
    if x.ndim != 2 or x.shape[1] != 2:
        raise ShapeError(f"boundary: x must be [N, 2], two features to draw over, found {list(x.shape)}")
    if not len(x) or len(targets) != len(x):
        raise JaxpropError(f"boundary: found {len(x)} rows of x and {len(targets)} targets, expected as many, and some")
    return x, targets.reshape(len(x), -1).squeeze(axis=1) if targets.size == len(x) else targets.argmax(axis=1)


def _classes(
    ax: "Axes", answers: np.ndarray, count: int, extent: tuple[float, ...], parts: list[Any], names: Any
) -> str:
    from matplotlib.colors import to_rgb

    kinds = answers.shape[1]
    names = [str(i) for i in range(kinds)] if names is None else names
    palette = np.array([to_rgb(_COLORS[i % len(_COLORS)]) for i in range(kinds)])
    sure = np.clip((answers[:count].max(axis=1) - 1 / kinds) / (1 - 1 / kinds), 0, 1)
    chosen = answers.argmax(axis=1)
    picture = np.concatenate([palette[chosen[:count]], (0.12 + 0.5 * sure)[:, None]], axis=1)
    look = {"origin": "lower", "extent": extent, "aspect": "auto", "interpolation": "nearest"}
    ax.imshow(picture.reshape(GRID, GRID, 4), gid="regions", **look)
    labels = np.concatenate([targets for _, targets in parts]).astype(int)
    for k, (x, targets) in enumerate(parts):
        for i in np.unique(targets).astype(int):
            own, name = x[targets == i], names[i] + (", held out" if k else "")
            rim = {"edgecolors": style.INK if k else "white", "linewidths": 1.1 if k else 0.5, "s": 34 if k else 22}
            look = {"color": palette[i], "marker": _MARKERS[i % len(_MARKERS)]}
            ax.scatter(*own.T, label=name, zorder=3 + k, **look, **rim)
    below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": min(4, kinds), "frameon": False}
    style.legend(ax, **below)
    ends = [0, *np.cumsum([len(x) for x, _ in parts])][-2:]
    right = (chosen[count:] == labels)[ends[0] : ends[1]]
    which = "held-out rows" if len(parts) > 1 else "rows"
    return f"Predicted class: {style.number(100 * right.mean(), 3)} % of {len(right):,} {which} are right"


def _number(ax: "Axes", shown: np.ndarray, sides: Any, parts: list[Any], of_rows: np.ndarray, name: str) -> str:
    every = np.concatenate([targets for _, targets in parts]).astype(np.float64)
    low, high = min(shown.min(), every.min()), max(shown.max(), every.max())
    high = high if high > low else low + 1
    look = {"cmap": "cividis", "vmin": low, "vmax": high}
    filled = ax.contourf(*sides, shown.reshape(GRID, GRID), levels=14, **look)
    for k, (x, targets) in enumerate(parts):
        rim = {"edgecolors": style.INK if k else "white", "linewidths": 1.1 if k else 0.6, "s": 34 if k else 22}
        ax.scatter(*x.T, c=targets, label="rows held out" if k else "rows", zorder=3 + k, **look, **rim)
    bar = ax.figure.colorbar(filled, ax=ax, label=f"{name}: predicted (ground), true (dots)")
    bar.ax.tick_params(labelsize=style.SMALL)
    style.legend(ax, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, frameon=False)
    last = len(parts[-1][0])
    error = np.sqrt(np.mean(np.square(of_rows[-last:] - every[-last:])))
    which = "held-out rows" if len(parts) > 1 else "rows"
    return f"Predicted {name}: root mean squared error {style.number(error, 3)} on {last:,} {which}"
