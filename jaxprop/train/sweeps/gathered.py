"""What the runs of a sweep have given so far: a number for every setting, seed and epoch, and the best run."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from jaxprop.train.sweeps.settings import Setting

At = tuple[Int[np.ndarray, " R"], Int[np.ndarray, " R"]]  # the setting and the seed of each of some runs


class Gathered:
    """The table of a sweep as it fills. `by` says what runs and epochs are judged by."""

    def __init__(
        self, settings: Sequence[Setting], seeds: Sequence[int], epochs: int, names: Sequence[str], by: str
    ) -> None:
        shape = (len(settings), len(seeds))
        self.by, self.epochs = by, epochs
        self.histories = {name: np.full((*shape, epochs), np.nan) for name in names}
        self.done = np.zeros(shape, int)
        self.diverged = np.zeros(shape, int)  # the epoch; 0 for none
        self.best_epoch = np.zeros(shape, int)
        self.best_value = np.full(shape, -np.inf)
        self.best_tie = np.full(shape, -np.inf)
        self.steps = 0
        self.params: dict[tuple[int, int], Any] = {}
        self.best: tuple[int, int] | None = None
        self.best_params: Any = None
        self.best_rank: tuple = ()

    def lanes(self, numbers: list[tuple[int, int]]) -> At:
        """Return where runs stand in the table."""
        settings, seeds = zip(*numbers, strict=True)
        return np.array(settings), np.array(seeds)

    def _values(self, row: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """What runs are judged by, the larger the better, and what decides between equals."""
        sign = -1.0 if self.by.endswith("cost") else 1.0
        return sign * row[self.by], -row.get("validation_cost", row["cost"])

    def judged(self, at: At, row: dict[str, Float[np.ndarray, " R"]], fine: Bool[np.ndarray, " R"]) -> np.ndarray:
        """Return which runs have their best epoch now; until a value is finite, it is the latest."""
        values, ties = self._values(row)
        best, tie = self.best_value[at], self.best_tie[at]
        ahead = (values > best) | ((values == best) & (ties > tie)) | ~np.isfinite(best)
        return fine & (self.diverged[at] == 0) & ahead

    def write(
        self, at: At, epoch: int, row: dict[str, Float[np.ndarray, " R"]], fine: np.ndarray, better: np.ndarray
    ) -> None:
        """Write an epoch's row of some runs; one that is not fine is over, whatever it does next."""
        going = fine & (self.diverged[at] == 0)
        for name, values in row.items():
            self.histories[name][(*at, epoch)] = np.where(going, values, np.nan)
        self.diverged[at] = np.where(going, 0, np.where(self.diverged[at] == 0, epoch + 1, self.diverged[at]))
        self.done[at] = epoch + 1
        values, ties = self._values(row)
        self.best_epoch[at] = np.where(better, epoch + 1, self.best_epoch[at])
        self.best_value[at] = np.where(better, values, self.best_value[at])
        self.best_tie[at] = np.where(better, ties, self.best_tie[at])

    def ahead(self, at: At) -> int | None:
        """Return the number among some runs of one that is better than the best so far, and take note of it.

        A run that diverged is better than none, and worse than any that did not.
        """
        ranks = [
            (self.diverged[k, s] == 0, np.isfinite(self.best_value[k, s]), self.best_value[k, s], self.best_tie[k, s])
            for k, s in zip(*at, strict=True)
        ]
        known = [i for i, (k, s) in enumerate(zip(*at, strict=True)) if self.best_epoch[k, s]]
        if not known:
            return None
        first = max(known, key=lambda i: ranks[i])
        if self.best is not None and not ranks[first] > self.best_rank:
            return None
        self.best, self.best_rank = (int(at[0][first]), int(at[1][first])), ranks[first]
        return first
