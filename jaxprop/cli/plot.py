"""`jaxprop plot`: pictures of a saved run, and of what needs none."""

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop import manual, plot
from jaxprop.arrays.index import check_index, read_index
from jaxprop.arrays.paths import by_path
from jaxprop.cli import build
from jaxprop.cli.runs import SavedRun, parameter_path, rows_of, with_targets
from jaxprop.errors import JaxpropError, ModelError, pick
from jaxprop.layers import Activation
from jaxprop.plot.saving import Film
from jaxprop.plot.slopes import Cost
from jaxprop.train import predict

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def frames_told(frame: int, frames: int) -> None:
    """How far a film is."""
    print(f"\rframe {frame} of {frames}", end="\n" if frame == frames else "", file=sys.stderr, flush=True)


def activation_named(name: str) -> Activation:
    """The activation that is drawn."""
    kinds = {key: kind for key, kind in build.activations().items() if issubclass(kind, Activation)}  # elementwise
    return kinds[pick(name.replace("-", "_"), kinds, "activation")]()


@dataclass(frozen=True)
class Picture:
    """What was asked of a saved run; the methods that are named in `WITH_RUN` draw it."""

    run: SavedRun
    data: str | None
    rows: str
    row: int
    param: str | None
    index: list[str]
    prune: float | None
    learning_rate: float | None
    film: bool = False
    target: str | None = None

    def network(self) -> "Axes":
        """The network, with one row's values in it."""
        x = rows_of(self.run, self.data, str(self.row)).x
        return plot.network(self.run.net, self.run.params, x=x, prune=self.prune, labels=self._labels())

    def backward(self) -> "Axes | Film":
        """δ and ∂C/∂w of one row, and the paths of one weight; or one step of descent on it as a film."""
        x, targets = with_targets(self.run, rows_of(self.run, self.data, str(self.row)))
        what = (self.run.net, self.run.cost, x, self.run.params, targets)
        if self.film:
            rate = self.run.rate(0.5) if self.learning_rate is None else self.learning_rate
            return plot.learning_step(*what, learning_rate=rate, labels=self._labels())
        if len(self.index) > 1:
            raise JaxpropError(f"--index: plot backward lights the paths of one entry, found {len(self.index)}")
        param = self.param if self.param or not self.index else self._needs_param()
        path = None if param is None else parameter_path(self.run, param)
        index = read_index(self.index[0]) if self.index else None
        return plot.backward(*what, parameter=path, index=index, labels=self._labels())

    def _needs_param(self) -> str:
        raise JaxpropError("--index: says which entry, but not of what; add --parameter, as in --parameter 0.W")

    def saliency(self) -> np.ndarray:
        """A digit, or a row of a table, and which of its inputs the answer hangs on."""
        run, info = self.run, self.run.about.info
        rows = rows_of(run, self.data, str(self.row), needs_targets=False)
        columns = info.columns if info.table is None else info.table.features
        pixels = columns is None or len(columns) != rows.x[0].size or all(name.startswith("pixel") for name in columns)
        # an image starts from black; of a table's row that would be no row at all, but the mean is one
        baseline = 0.0 if pixels else rows_of(run, self.data, ":", "train", needs_targets=False).x.mean(axis=0)
        classes = info.classes if info.classes and len(info.classes) == run.about.outputs.shape[-1] else None
        return plot.saliency(
            run.net, rows.x, run.params, target=self._output(classes), baseline=baseline,
            columns=None if pixels else columns, classes=classes or (info.target and [info.target]),
        )  # fmt: skip

    def _output(self, classes: Sequence[str] | None) -> int | None:
        """Which output was asked for, by the name of its class or by its number."""
        if self.target is None or (classes and self.target in classes):
            return None if self.target is None or not classes else list(classes).index(self.target)
        outputs = math.prod(self.run.about.outputs.shape[1:])
        if self.target.isdecimal() and int(self.target) < outputs:
            return int(self.target)
        known = f"a class ({', '.join(classes[:20])})" if classes else f"a number from 0 to {outputs - 1}"
        raise JaxpropError(f"--target: found {self.target!r}, expected {known}")

    def boundary(self) -> "Axes":
        """Regions of the predicted class, or contours of the predicted number, over two features."""
        shape, info = list(self.run.about.one_input.shape[1:]), self.run.about.info
        if shape != [2]:
            other = "fit draws a function of one" if shape == [1] else "network and backward draw one row of any number"
            raise JaxpropError(f"plot boundary: draws over two features, {self.run.path} takes {shape}; plot {other}")
        parts = [rows_of(self.run, self.data, ":", part) for part in ("train", "validation")]
        rows = [with_targets(self.run, part) for part in (parts if parts[0].source != parts[1].source else parts[:1])]
        names = {"columns": info.columns, "classes": info.classes, "target": info.target}
        return plot.boundary(self._answers, rows[0], *rows[1:], **names)

    def _answers(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of the classes where the cost has them, else what the network gives."""
        y, cost = predict(self.run.net, x, self.run.params), self.run.about.cost
        answers = np.asarray(y if cost is None else cost.expected(y))
        one = self.run.about.info.classes and answers.shape[1:] == (1,)
        return np.concatenate([1 - answers, answers], axis=1) if one else answers

    def _labels(self) -> list[Sequence[str] | None]:
        """The names of the inputs and of the outputs, where the run has as many as there are units."""
        info, weights = self.run.about.info, [W for path, W in by_path(self.run.params).items() if path.endswith("W")]
        outputs = info.classes or (info.target and [info.target])
        ends = [(info.columns, weights[0].shape[0]), (outputs, weights[-1].shape[-1])] if weights else []
        first, last = (names if names and len(names) == units else None for names, units in ends)
        return [first, *[None] * (len(weights) - 1), last]

    def history(self) -> "Axes":
        """Cost by epoch."""
        history = self.run.training.get("history")
        if not history:
            raise ModelError(f"{self.run.path}: holds no training history; it was not written by `jaxprop train`")
        return plot.history(history)

    def gradients(self) -> "Axes":
        """The size of δ by layer, and of the gradient by parameter."""
        x, targets = self._rows()
        tape = manual.trace(self.run.net, self.run.cost)(x, self.run.params, targets)
        return plot.gradient_sizes(tape, self._gradient(x, targets))

    def fit(self) -> "Axes":
        """A function of one number, its rows and the network's answer."""
        shape, outputs = self.run.about.one_input.shape[1:], self.run.about.outputs.shape[1:]
        if shape != (1,) or outputs != (1,):
            found = f"{self.run.path} takes {list(shape)} and gives {list(outputs)}"
            raise JaxpropError(f"plot fit: draws functions of one number, {found}")
        x, targets = self._rows()
        return plot.function_fit(x, targets, lambda x: predict(self.run.net, x, self.run.params))

    def cost(self) -> "Axes":
        """C along one entry of θ, with its tangent, a secant and a step."""
        C, (w,), _ = self._along(1)
        width = max(1.0, 2 * abs(w))
        return plot.cost_curve(C, (w - width, w + width), at=w, h=width / 2, learning_rate=self.learning_rate)

    def nudge(self) -> "Axes":
        """How the error of a difference quotient depends on the nudge."""
        with jax.enable_x64(True):
            C, (w,), _ = self._along(1, double=True)
            return plot.nudge(C, w)

    def surface(self) -> np.ndarray:
        """C over two entries of θ, everything else as it is."""
        C, start, names = self._along(2)
        rate = self.run.rate(0.5) if self.learning_rate is None else self.learning_rate
        reach = max(3.0, 1.5 * max(map(abs, start)))
        picture = plot.cost_surface(C, start=(start[0], start[1]), learning_rate=rate, span=(-reach, reach))
        for axes in picture:
            axes.set_xlabel(f"θ₁ = {names[0]}")
            axes.set_ylabel(f"θ₂ = {names[1]}")
        return picture

    def _rows(self) -> tuple[np.ndarray, np.ndarray]:
        return with_targets(self.run, rows_of(self.run, self.data, self.rows))

    def _gradient(self, x: np.ndarray, targets: np.ndarray) -> PyTree:
        return jax.jit(manual.value_and_grad(self.run.net, self.run.cost))(x, self.run.params, targets)[1]

    def _along(self, count: int, double: bool = False) -> tuple[Cost, list[float], list[str]]:
        """C as a function of one or two entries of θ, where they are now, and their names."""
        x, targets = self._rows()
        gradients = {path: np.asarray(g) for path, g in by_path(self._gradient(x, targets)).items()}
        path, indices = self._entries(gradients, count)
        params = self.run.params
        if double:
            x, params = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), (x, params))
            targets = jnp.asarray(targets, jnp.float64) if targets.dtype.kind == "f" else targets
        leaves, tree = jax.tree.flatten(params)
        place = list(gradients).index(path)

        def C(values: jax.Array) -> jax.Array:
            changed = leaves[place]
            for index, value in zip(indices, jnp.ravel(values), strict=True):
                changed = changed.at[index].set(value.astype(changed.dtype))
            replaced = jax.tree.unflatten(tree, [*leaves[:place], changed, *leaves[place + 1 :]])
            return jnp.mean(self.run.cost(self.run.net(x, replaced), targets))

        names, values = [f"{path}{list(index)}" for index in indices], np.asarray(leaves[place])
        return C, [float(values[index]) for index in indices], names

    def _entries(self, gradients: dict[str, np.ndarray], count: int) -> tuple[str, list[tuple[int, ...]]]:
        """The path of a parameter, and which of its entries: as asked, or those of the largest gradient."""
        largest = max(gradients, key=lambda path: (gradients[path].size >= count, float(np.abs(gradients[path]).max())))
        path = pick(parameter_path(self.run, self.param or largest), gradients, "parameter")
        gradient = gradients[path]
        if self.index:
            indices = [check_index(read_index(text), path, gradient.shape) for text in self.index]
        else:
            order = np.argsort(-np.abs(gradient), axis=None)[:count]
            indices = [tuple(int(i) for i in np.unravel_index(flat, gradient.shape)) for flat in order]
        if len(indices) != count:
            raise JaxpropError(f"--index: needs {count} of the entries of {path} {list(gradient.shape)}")
        return path, indices
