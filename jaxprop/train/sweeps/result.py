"""What a sweep gives back, whole or interrupted: a table of its runs, their histories and the best of them."""

import csv
import importlib
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, PyTree

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, TrainingError
from jaxprop.network.call import Network
from jaxprop.tables import Table, Tabular, shown
from jaxprop.train.result import TrainingInterrupted
from jaxprop.train.sweeps.settings import Setting, is_number


@dataclass(frozen=True)
class BestRun:
    """Hold the best run of a sweep at its best epoch: its setting and seed, its θ, and the network and cost made of it.

    `row` is that epoch's row of the history, as `fit` has it.

    >>> import numpy as np, optax, jaxprop as jp
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> rates = {"learning_rate": [0.01, 1.0]}
    >>> found = jp.sweep(
    ...     jp.Linear(1), jp.HalfSquaredError(), optax.sgd, (x, 2 * x), settings=rates, seeds=2, epochs=3,
    ...     progress=False,
    ... )
    >>> found.best.setting, found.best.row["epoch"], found.best.params.W.shape
    ({'learning_rate': 1.0}, 3, (1, 1))
    """

    setting: Setting
    seed: int
    params: PyTree = field(repr=False)
    row: dict[str, float]
    net: Network
    cost: Cost


@dataclass(frozen=True)
class SweepResult(Tabular):
    """Hold what a sweep found, K settings × S seeds; it prints as a table, a line a setting, and is one in a notebook.

    settings: those of every line, K dicts.    seeds: S whole numbers.
    histories: cost, and with validation rows validation_cost and validation_accuracy or validation_r2, each
        `[K, S, epochs]`; NaN where a run had diverged or was not reached.
    diverged: the epoch in which a number became NaN or infinite, 0 for none `[K, S]`.
    best_epochs: when each run was at its best, by what `by` says `[K, S]`; 0 if it never was.
    epochs: how many each run went through `[K, S]`.
    in_turn: the settings that could not be numbers in one program, so that each of their values had one of its own.
    programs, at_once: how many programs that were, and how many runs each took at once.
    params: θ of every run after its last epoch, by (setting's number, seed), where `keep_params=True` asked for it.
    stopped: 'finished', 'interrupted' or 'failed'.

    >>> import numpy as np, optax, jaxprop as jp
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> rates = {"learning_rate": [0.01, 1.0]}
    >>> found = jp.sweep(
    ...     jp.Linear(1), jp.HalfSquaredError(), optax.sgd, (x, 2 * x), settings=rates, seeds=2, epochs=3,
    ...     progress=False,
    ... )
    >>> found.histories["cost"].shape, list(found.records[0])
    ((2, 2, 3), ['learning_rate', 'seed', 'epochs', 'cost', 'best_epoch', 'best_cost', 'diverged'])
    >>> [line["seeds"] for line in found.by_setting()], found.best.setting
    ([2, 2], {'learning_rate': 1.0})
    """

    settings: tuple[Setting, ...]
    seeds: tuple[int, ...]
    histories: Mapping[str, Float[np.ndarray, "K S epochs"]] = field(repr=False)
    by: str
    diverged: Int[np.ndarray, "K S"] = field(repr=False)
    best_epochs: Int[np.ndarray, "K S"] = field(repr=False)
    epochs: Int[np.ndarray, "K S"] = field(repr=False)
    found: BestRun | None = field(repr=False)
    in_turn: tuple[str, ...]
    programs: int
    at_once: int
    steps: int
    seconds: float
    stopped: str
    params: Mapping[tuple[int, int], PyTree] | None = field(repr=False, default=None)

    @property
    def best(self) -> BestRun:
        """The best run; raise TrainingError where no run went through an epoch without a number that is not finite."""
        if self.found is None:
            why = "all runs diverged in their first epoch" if self.epochs.any() else "no run ended its first epoch"
            raise TrainingError(f"sweep: there is no best run, since {why}: try smaller learning rates")
        return self.found

    @property
    def records(self) -> list[dict[str, Any]]:
        """A dict for every run: its setting, seed, what its last epoch measured, its best epoch, and if it diverged."""
        places = [(k, s) for k in range(len(self.settings)) for s in range(len(self.seeds)) if self.epochs[k, s]]
        return [self._record(k, s) for k, s in places]

    def _record(self, k: int, s: int) -> dict[str, Any]:
        last, best = self.epochs[k, s] - 1, int(self.best_epochs[k, s])
        record = {**self.settings[k], "seed": self.seeds[s], "epochs": int(last + 1)}
        record |= {name: float(values[k, s, last]) for name, values in self.histories.items()}
        value = float(self.histories[self.by][k, s, best - 1]) if best else float("nan")
        return record | {"best_epoch": best, f"best_{self.by}": value, "diverged": int(self.diverged[k, s])}

    def by_setting(self) -> list[dict[str, Any]]:
        """Return a dict for every setting: how many seeds, how many of them diverged, and mean and spread of the rest.

        The spread is the standard deviation over seeds, divided by n − 1; NaN for fewer than two.
        """
        return [self._line(k) for k in range(len(self.settings)) if self.epochs[k].any()]

    def _line(self, k: int) -> dict[str, Any]:
        known, gone = self.epochs[k] > 0, self.diverged[k] > 0
        line = {**self.settings[k], "seeds": int(known.sum()), "diverged": int(gone.sum())}
        for name, values in self.histories.items():
            last = np.array([values[k, s, self.epochs[k, s] - 1] for s in np.flatnonzero(known & ~gone)])
            line[f"{name}_mean"] = float(last.mean()) if len(last) else float("nan")
            line[f"{name}_std"] = float(last.std(ddof=1)) if len(last) > 1 else float("nan")
        return line

    def to_csv(self, path: str | Path) -> Path:
        """Write the records as a CSV file and return its path; raise JaxpropError where it cannot be written."""
        records, path = self.records, Path(path)
        try:
            with path.open("w", encoding="utf-8", newline="") as file:
                writer: Any = csv.DictWriter(file, list(records[0]) if records else ["seed"])
                writer.writeheader()
                writer.writerows(records)
        except OSError as error:
            raise JaxpropError(f"{path}: cannot be written: {error.strerror}; choose another file") from None
        return path

    def to_pandas(self) -> Any:
        """Return the records as a pandas DataFrame; raise JaxpropError where pandas is not installed."""
        try:
            pandas = importlib.import_module("pandas")
        except ImportError:
            why = "to_pandas needs pandas, which is not installed: pip install pandas; or use records"
            raise JaxpropError(why) from None
        return pandas.DataFrame(self.records)

    def as_table(self) -> Table:
        """Return the table that is printed: a line a setting: mean ± spread over seeds after the last epoch."""
        names, lines = list(self.settings[0]), self.by_setting()
        some_gone = bool(self.diverged.any())
        head = [*(name.replace("_", " ") for name in names), *(_words(name) for name in self.histories)]
        body = [
            [*(_cell(line[name]) for name in names), *(_spread(line, name) for name in self.histories)]
            + [f"{line['diverged']} of {line['seeds']}"] * some_gone
            for line in lines
        ]
        right = [
            i for i, name in enumerate(head) if i >= len(names) or all(is_number(line[names[i]]) for line in lines)
        ]
        return Table([[*head, *["diverged"] * some_gone], *body], right, self._notes(lines))

    def _notes(self, lines: Sequence[dict[str, Any]]) -> list[str]:
        notes = []
        if self.found is not None:
            where = ", ".join([*(f"{n} {_cell(v)}" for n, v in self.found.setting.items()), f"seed {self.found.seed}"])
            value = _value(self.by, self.found.row[self.by])
            notes.append(f"best: {where}: {_words(self.by)} {value} in epoch {int(self.found.row['epoch'])}")
        if len(self.seeds) > 1 and lines:
            notes.append(f"mean ± standard deviation over {len(self.seeds)} seeds, after the last epoch")
        if self.stopped != "finished":
            known = int((self.epochs > 0).sum())
            notes.append(
                f"{self.stopped}: {known} of {self.epochs.size} runs, {int(self._whole().sum())} of them whole"
            )
        return notes

    def _whole(self) -> np.ndarray:
        """Which runs went through all epochs."""
        return self.epochs == next(iter(self.histories.values())).shape[2]


class SweepInterrupted(TrainingInterrupted):
    """Tell that Ctrl-C or SIGTERM stopped `sweep`: `.result` holds the runs that there were, whole or not.

    >>> issubclass(SweepInterrupted, KeyboardInterrupt)
    True
    """

    result: SweepResult  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, result: SweepResult, signal: int = signal.SIGINT) -> None:
        runs = int((result.epochs > 0).sum())
        KeyboardInterrupt.__init__(self, f"sweep interrupted after {result.steps:,} steps of {runs} runs")
        self.result, self.signal = result, int(signal)


def _words(name: str) -> str:
    return name.replace("_", " ").replace("r2", "R²")


def _cell(value: Any) -> str:
    """A setting as the table shows it."""
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else getattr(value, "__name__", None) or repr(value)


def _value(name: str, value: float) -> str:
    return f"{100 * value:.2f} %" if name.endswith("accuracy") else shown(value)


def _spread(line: Mapping[str, Any], name: str) -> str:
    """Mean ± standard deviation, the mean with as many digits as the deviation makes sense of."""
    mean, std = line[f"{name}_mean"], line[f"{name}_std"]
    if np.isnan(mean):
        return "–"
    if np.isnan(std):
        return _value(name, mean)
    if name.endswith("accuracy"):
        return f"{100 * mean:.2f} ± {100 * std:.2f} %"
    return f"{shown(mean)} ± {shown(std, 2)}"
