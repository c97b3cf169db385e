"""Validation rows measured for many runs at once: what `evaluate` measures, the sums over rows on the host.

A compiled part gives, for each run, the cost of every row and whether the row is right (or its squared error); the
means are then taken in float64, as they are for one run.
"""

from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, PyTree

from jaxprop.costs import Cost
from jaxprop.layers.layer import Layer
from jaxprop.network.call import call
from jaxprop.network.freeze import freeze_statistics
from jaxprop.train.metrics import decided
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe

Kind = Literal["labels", "signs", "numbers"]


@dataclass(frozen=True)
class Truth:
    """What validation rows are held against: classes (by the largest output, or each output's sign), or numbers."""

    kind: Kind
    expected: np.ndarray
    counted: Bool[np.ndarray, "N ..."] | None
    weights: Float[np.ndarray, " N"] | None

    @classmethod
    def of(cls, cost: Cost, rows: Rows, outputs: tuple[int, ...]) -> "Truth":
        """Decide what outputs of that shape are held against, as `evaluate` does."""
        targets = np.asarray(rows.targets)
        found = decided(cost, np.zeros(outputs), targets)
        if found is None:
            return cls("numbers", targets.astype(np.float64), None, rows.weights)
        truth, chosen, counted = found
        return cls("signs" if chosen.shape == outputs else "labels", truth.astype(np.int32), counted, rows.weights)

    @property
    def score(self) -> str | None:
        """What the score is called, None where rows say nothing: constant targets have no R²."""
        if self.kind != "numbers":
            assert self.counted is not None
            return "validation_accuracy" if np.any(self.counted * self._along(self.counted)) else None
        return "validation_r2" if self._spread() > 0 else None

    def means(self, costs: Float[np.ndarray, "R N"], found: np.ndarray | None) -> dict[str, Float[np.ndarray, " R"]]:
        """Return validation_cost and the score of every run."""
        with np.errstate(all="ignore"):  # what is not finite shows in the figures
            measured = {"validation_cost": self._mean(costs.astype(np.float64))}
            if found is not None and self.score is not None:
                if self.kind == "numbers":
                    measured[self.score] = 1 - self._mean(found.astype(np.float64)) / self._spread()
                else:
                    assert self.counted is not None
                    weight = self.counted * self._along(self.counted)
                    flat = (found * weight).reshape(len(found), -1)
                    measured[self.score] = flat.sum(axis=1) / weight.sum()
        return measured

    def _spread(self) -> float:
        mean = np.average(self.expected, axis=0, weights=self.weights)
        return float(self._mean((self.expected - mean)[None] ** 2)[0])

    def _mean(self, values: Float[np.ndarray, "R N ..."]) -> Float[np.ndarray, " R"]:
        """The mean over all but the runs."""
        flat = values.reshape(*values.shape[:2], -1).mean(axis=2)
        return flat.mean(axis=1) if self.weights is None else np.average(flat, axis=1, weights=self.weights)

    def _along(self, like: np.ndarray) -> np.ndarray:
        weights = np.ones(len(like)) if self.weights is None else self.weights
        return np.broadcast_to(weights.reshape(-1, *(1,) * (like.ndim - 1)), like.shape)


def measure(
    recipe: Recipe, params: PyTree, held: Rows, kind: Kind, expected: Array, seen: PyTree
) -> tuple[Array, Array | None]:
    """Return the cost of every row of one run, and if it is right, or its squared error.

    seen: the training rows whose statistics a BatchNorm has then, None where there is none.
    """
    net: Any = recipe.net
    if seen is not None and isinstance(net, Layer):
        net, params = freeze_statistics(net, seen, params)
    y = call(net, held.x, params, mask=held.mask)
    costs = recipe.cost(y, held.targets)
    if kind == "labels":
        return costs, jnp.argmax(y, axis=-1).astype(expected.dtype) == expected
    if kind == "signs":
        return costs, (y > 0).astype(expected.dtype) == expected
    return costs, jnp.square(expected.astype(y.dtype) - jnp.asarray(recipe.cost.expected(y)))


def parts(rows: Rows, expected: np.ndarray, at_once: int) -> list[tuple[Rows, Any]]:
    """Return rows and what they are held against in parts of so many rows."""
    count = len(jax.tree.leaves(rows.x)[0])
    given = (rows._replace(weights=None), expected)
    return [jax.tree.map(lambda a, i=i: a[i : i + at_once], given) for i in range(0, count, at_once)]
