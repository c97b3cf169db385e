"""What `fit(..., monitor=)` recorded: the results of quantities, stacked over the steps at which they were taken."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxprop.arrays.paths import join
from jaxprop.errors import JaxpropError, pick
from jaxprop.stats import Quantity


@dataclass(frozen=True)
class Monitored:
    """Hold what was recorded as a network trained: R records, the first at the step that `steps[0]` says.

    steps: how many steps were behind θ, `[R]`.    costs: C of the batch that the next step took, `[R]`.
    gradient_norms: ‖∂C/∂θ‖ of that batch, over all of θ, `[R]`.
    quantities: what was asked for, by name; `monitored[name]` is its result with a leading axis R in every array.

    >>> import numpy as np, optax
    >>> from jaxprop import HalfSquaredError, Linear, fit, stats
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> watched = {"updates": stats.UpdateToWeight()}
    >>> result = fit(
    ...     Linear(1, bias=False), HalfSquaredError(), optax.sgd(0.1), (x, 2 * x), epochs=4, progress=False,
    ...     monitor=watched, every=2,
    ... )
    >>> result.monitor.steps.tolist(), result.monitor["updates"].W.shape, list(result.monitor.rows()[0])
    ([0, 2, 4, 6], (4,), ['step', 'cost', 'gradient_norm', 'updates.W'])
    """

    steps: Int[np.ndarray, " R"]
    costs: Float[np.ndarray, " R"]
    gradient_norms: Float[np.ndarray, " R"]
    quantities: Mapping[str, Quantity]
    found: Mapping[str, PyTree] = field(repr=False)

    @classmethod
    def of(cls, quantities: Mapping[str, Quantity], steps: Sequence[int], records: Sequence[PyTree]) -> "Monitored":
        """Stack records (C, ‖∂C/∂θ‖, results by name), in the order of their steps."""
        stacked: Any = jax.tree.map(lambda *a: np.stack(a), *records) if records else (np.zeros(0), np.zeros(0), {})
        return cls(np.array(steps, int), stacked[0], stacked[1], quantities, stacked[2])

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[str]:
        return iter(self.quantities)

    def __getitem__(self, name: str) -> PyTree:
        pick(name, self.quantities, "monitored quantity")
        if not len(self):
            raise JaxpropError(f"monitor: {name!r} has no record yet: training took no step at a multiple of every")
        return self.found[name]

    def at(self, record: int) -> dict[str, PyTree]:
        """Return the results of one record by name; −1 is the last."""
        return {name: jax.tree.map(lambda a: a[record], self[name]) for name in self}

    def rows(self) -> list[dict[str, float]]:
        """Return a row of numbers for every record: step, cost, gradient_norm, and what each quantity says in numbers.

        A quantity's columns are its name and, where it has several, what they are of: "noise.scale", "updates.0.W".
        """
        return [self._row(record) for record in range(len(self))]

    def _row(self, record: int) -> dict[str, float]:
        row = {"step": int(self.steps[record]), "cost": float(self.costs[record])}
        row["gradient_norm"] = float(self.gradient_norms[record])
        for name, found in self.at(record).items():
            scalars = self.quantities[name].scalars(found)
            row |= {
                join(name, path) if path else name: float(np.asarray(value).item()) for path, value in scalars.items()
            }
        return row

    def to_csv(self, path: str | Path) -> Path:
        """Write the rows as a CSV file and return its path; raise JaxpropError where it cannot be written."""
        rows, path = self.rows(), Path(path)
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer: Any = csv.DictWriter(file, list(rows[0]) if rows else ["step", "cost", "gradient_norm"])
                writer.writeheader()
                writer.writerows(rows)
        except OSError as error:
            raise JaxpropError(f"{path}: cannot be written: {error.strerror}; choose another file") from None
        return path
