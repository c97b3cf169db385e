"""What a sweep found: lines or a heat map over its settings, or what each setting came to."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxprop import style
from jaxprop.errors import JaxpropError, pick
from jaxprop.train import SweepResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST = 30  # settings that are listed


def sweep(result: SweepResult, *, by: str | None = None, ax: "Axes | None" = None) -> "Axes":
    """Draw what a sweep came to after its last epoch: every run a point, the mean over seeds a line or a colour.

    By the settings that have more than one value: none, the histories of all seeds; one, a line over it; two, a heat
    map; more, the settings one below the other, the best first. Runs that diverged are crosses at the edge, or are left
    out of a mean and counted. The setting of the best run has a ring.

    Args:
        result: what `jp.sweep` returned.
        by: what is drawn, such as "validation_accuracy"; by default what the sweep was judged by.

    Raises:
        JaxpropError: no run has a finite number, or nothing is called `by`.

    >>> import numpy as np, optax, jaxprop as jp
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> rates = {"learning_rate": [0.03, 0.1, 0.3]}
    >>> found = jp.sweep(
    ...     jp.Linear(1), jp.HalfSquaredError(), optax.sgd, (x, 2 * x), settings=rates, seeds=2, epochs=3,
    ...     progress=False,
    ... )
    >>> ax = sweep(found)
    >>> ax.get_xlabel(), ax.get_ylabel(), len(ax.lines[0].get_xdata())
    ('learning rate', 'cost', 3)
    """
    by = result.by if by is None else pick(by, result.histories, "by")
    values = _last(result, by)
    if not np.isfinite(values).any():
        raise JaxpropError(f"sweep: {by} is finite in no run: all have diverged, or none ended its first epoch")
    varied = [name for name in result.settings[0] if len({repr(s[name]) for s in result.settings}) > 1]
    grid = _grid(result, varied) if len(varied) == 2 else None
    ax = style.axes_or_new(ax, (7.0, 4.4) if len(varied) < 3 and grid is None else _size(result, grid))
    if not varied:
        _curves(ax, result, by)
    elif len(varied) == 1:
        _line(ax, result, by, varied[0], values)
    elif grid is not None:
        _heat(ax, result, by, varied, values, grid)
    else:
        _list(ax, result, by, varied, values)
    ax.set_title(_title(result, by, values), loc="left", fontsize=style.TITLE, color=style.INK)
    return ax


def _last(result: SweepResult, by: str) -> np.ndarray:
    """`[K, S]`: what every run had after its last epoch, NaN for one that diverged."""
    history, last = result.histories[by], np.maximum(result.epochs - 1, 0)
    values = np.take_along_axis(history, last[:, :, None], axis=2)[:, :, 0]
    return np.where((result.epochs > 0) & (result.diverged == 0), values, np.nan)


def _grid(result: SweepResult, varied: Sequence[str]) -> tuple[list[Any], list[Any]] | None:
    """The values of two settings, if all their combinations are there, each once."""
    first, second = ([s[name] for s in result.settings] for name in varied)
    rows, columns = _distinct(first), _distinct(second)
    whole = (
        len(rows) * len(columns)
        == len(result.settings)
        == len({(repr(a), repr(b)) for a, b in zip(first, second, strict=True)})
    )
    return (rows, columns) if whole else None


def _distinct(values: Sequence[Any]) -> list[Any]:
    return list({repr(value): value for value in values}.values())


def _size(result: SweepResult, grid: tuple[list[Any], list[Any]] | None) -> tuple[float, float]:
    if grid is not None:
        return max(5.5, 2.4 + 1.0 * len(grid[1])), max(3.2, 1.6 + 0.55 * len(grid[0]))
    return 8.0, 1.6 + 0.3 * min(MOST, len(result.settings))


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over seeds of those that are finite, NaN for none."""
    counts = np.isfinite(values).sum(axis=-1)
    return np.where(counts > 0, np.nansum(values, axis=-1) / np.maximum(counts, 1), np.nan)


def _curves(ax: "Axes", result: SweepResult, by: str) -> None:
    from matplotlib.ticker import MaxNLocator

    history = result.histories[by][0]
    epochs = np.arange(1, history.shape[1] + 1)
    marker = "o" if len(epochs) == 1 else None
    for s, row in enumerate(history):
        ax.plot(epochs, row, color=style.SKY, linewidth=1, marker=marker, label=None if s else "each seed")
    ax.plot(epochs, _mean(history.T), color=style.BLUE, linewidth=2.2, marker=marker, label="mean")
    style.dress(ax, "", "epoch", _words(by))
    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    _log(ax.set_yscale, history, by)
    style.legend(ax)


def _line(ax: "Axes", result: SweepResult, by: str, name: str, values: np.ndarray) -> None:
    given = [setting[name] for setting in result.settings]
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in given)
    at = np.array(given, float) if numbers else np.arange(len(given), dtype=float)
    order = np.argsort(at)
    mean = _mean(values)
    ax.plot(
        at[order], mean[order], color=style.BLUE, linewidth=2.2 if numbers else 0, marker="o", label="mean over seeds"
    )
    points = np.broadcast_to(at[:, None], values.shape)
    if len(result.seeds) > 1:
        ax.plot(
            points.ravel(), values.ravel(), "o", color=style.SKY, markersize=4, alpha=0.8, zorder=1, label="each seed"
        )
    gone = result.diverged > 0
    if gone.any():
        edge = 0.03 if by.endswith(("accuracy", "r2")) else 0.97
        crosses: dict[str, Any] = dict(
            transform=ax.get_xaxis_transform(), color=style.VERMILLION, linestyle="none", marker="x"
        )
        ax.plot(points[gone], np.full(gone.sum(), edge), label="diverged", **crosses)
    if numbers:
        _log(ax.set_xscale, at, "", decades=1)
        ax.set_xticks(sorted(set(at)), [f"{v:g}" for v in sorted(set(at))])
        ax.minorticks_off()
    else:
        ax.set_xticks(at, [_cell(v) for v in given])
    style.dress(ax, "", name.replace("_", " "), _words(by))
    _log(ax.set_yscale, values, by)
    _ring(ax, result, at, mean)
    style.legend(ax)


def _heat(
    ax: "Axes",
    result: SweepResult,
    by: str,
    varied: Sequence[str],
    values: np.ndarray,
    grid: tuple[list[Any], list[Any]],
) -> None:
    from matplotlib.colors import LogNorm

    rows, columns = ([repr(v) for v in side] for side in grid)
    places = [(rows.index(repr(s[varied[0]])), columns.index(repr(s[varied[1]]))) for s in result.settings]
    mean, shape = _mean(values), (len(rows), len(columns))
    table = np.full(shape, np.nan)
    for place, value in zip(places, mean, strict=True):
        table[place] = value
    higher = by.endswith(("accuracy", "r2"))
    finite = table[np.isfinite(table)]
    norm = LogNorm() if not higher and finite.min() > 0 and finite.max() / finite.min() >= 30 else None
    image = ax.imshow(table, cmap="cividis" if higher else "cividis_r", norm=norm, aspect="auto")
    for (i, j), k in zip(places, range(len(places)), strict=True):
        gone = int((result.diverged[k] > 0).sum())
        text = _value(by, table[i, j]) if np.isfinite(table[i, j]) else "diverged" if gone else ""
        text += f"\n{gone} diverged" if gone and np.isfinite(table[i, j]) else ""
        dark = np.isfinite(table[i, j]) and (float(np.asarray(image.norm(table[i, j]))) < 0.5) == higher
        style.write(ax, (j, i), text, fontsize=style.SMALL, color="white" if dark else style.INK)
    style.dress(ax, "", varied[1].replace("_", " "), varied[0].replace("_", " "))
    ax.grid(False)
    ax.set_xticks(range(shape[1]), [_cell(v) for v in grid[1]])
    ax.set_yticks(range(shape[0]), [_cell(v) for v in grid[0]])
    if result.found is not None:
        i, j = places[_best(result)]
        from matplotlib.patches import Rectangle

        ax.add_patch(Rectangle((j - 0.5, i - 0.5), 1, 1, fill=False, edgecolor=style.VERMILLION, linewidth=2.5))


def _list(ax: "Axes", result: SweepResult, by: str, varied: Sequence[str], values: np.ndarray) -> None:
    mean = _mean(values)
    higher = by.endswith(("accuracy", "r2"))
    order = np.argsort(np.where(np.isfinite(mean), -mean if higher else mean, np.inf), kind="stable")[:MOST]
    at = np.arange(len(order), dtype=float)
    points = np.broadcast_to(at[:, None], (len(order), values.shape[1]))
    ax.plot(values[order].ravel(), points.ravel(), "o", color=style.SKY, markersize=4, alpha=0.8, label="each seed")
    ax.plot(mean[order], at, "o", color=style.BLUE, label="mean over seeds")
    labels = [
        ", ".join(f"{name.replace('_', ' ')} {_cell(result.settings[k][name])}" for name in varied) for k in order
    ]
    gone = [int((result.diverged[k] > 0).sum()) for k in order]
    labels = [f"{label} ({n} diverged)" if n else label for label, n in zip(labels, gone, strict=True)]
    style.dress(ax, "", _words(by), "")
    ax.set_yticks(at, labels)
    ax.invert_yaxis()
    _log(ax.set_xscale, values[order], by)
    style.legend(ax)


def _ring(ax: "Axes", result: SweepResult, at: np.ndarray, mean: np.ndarray) -> None:
    if result.found is not None:
        k = _best(result)
        ring: dict[str, Any] = {"markersize": 12, "markerfacecolor": "none", "markeredgewidth": 2}
        ax.plot(at[k : k + 1], mean[k : k + 1], "o", color=style.VERMILLION, label="setting of the best run", **ring)


def _best(result: SweepResult) -> int:
    return next(k for k, setting in enumerate(result.settings) if setting is result.best.setting)


def _log(scale: Any, values: np.ndarray, by: str, decades: float = 2) -> None:
    """A logarithmic axis where values span so many decades; never for accuracy or R²."""
    finite = values[np.isfinite(values)]
    if not by.endswith(("accuracy", "r2")) and finite.min() > 0 and math.log10(finite.max() / finite.min()) >= decades:
        scale("log")


def _title(result: SweepResult, by: str, values: np.ndarray) -> str:
    if result.found is None:
        return f"{_words(by)[0].upper()}{_words(by)[1:]}, no best run"
    best = result.best
    where = ", ".join([*(f"{n.replace('_', ' ')} {_cell(v)}" for n, v in best.setting.items()), f"seed {best.seed}"])
    name = _words(result.by)
    return f"Best {name}: {_value(result.by, best.row[result.by])}\n{where}, epoch {int(best.row['epoch'])}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("r2", "R²")


def _value(by: str, value: float) -> str:
    return f"{100 * value:.2f} %" if by.endswith("accuracy") else style.number(value, 4)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    text = value if isinstance(value, str) else getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 28 else f"{text[:27]}…"
