"""What a training run gives back, whole or interrupted."""

import signal
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, PyTree

from jaxprop.train.monitored import Monitored
from jaxprop.train.precision import Scaling

Row = dict[str, float]  # an epoch in the history


class Within(NamedTuple):
    """Where in an epoch a run was stopped: the costs of its steps so far, `[S]`, of so many rows in such batches."""

    rows: int
    batch_size: int
    costs: Float[np.ndarray, " S"]

    def of(self, rows: int, batch_size: int) -> bool:
        """Whether it is a place in the epochs of such rows and batches.

        >>> Within(10, 2, np.zeros(3)).of(10, 2), Within(10, 2, np.zeros(3)).of(10, 5)
        (True, False)
        """
        return (self.rows, self.batch_size) == (rows, batch_size)


class FitState(NamedTuple):
    """What a run needs to go on: θ as it is trained, the optimizer's state, and the epochs and steps behind it.

    `feedback` is that of a backward rule (`fit(..., rule=)`), None without one; `scaling` the loss scale of
    `precision="float16"`; `within` is where in an epoch the run was stopped, None between two.

    A pytree of arrays and whole numbers, safe to keep and to write to disk. `params` is θ in training: for a few
    optimizers (lookahead, schedule-free) it is not what is for use.

    >>> FitState(params=0.5, optimizer=(), epochs=2, steps=20).steps
    20
    """

    params: PyTree
    optimizer: PyTree
    epochs: int
    steps: int
    feedback: PyTree = None
    scaling: Scaling | None = None
    within: Within | None = None


@dataclass(frozen=True)
class Best:
    """The parameters of the best epoch so far, by validation cost (by training cost without validation).

    An epoch whose cost is not finite is better than none: until one is finite, the best is the latest.

    >>> Best(params=0.5, epoch=2, cost=0.125).epoch
    2
    """

    params: PyTree
    epoch: int
    cost: float


@dataclass(frozen=True)
class FitResult:
    """Hold what training gave: `params` (the last; the best if it stopped early), `history`, `best`.

    `history` has a dict an epoch: epoch, cost (the mean over the epoch's batches, each before its step), with
    validation rows validation_cost and validation_accuracy or validation_r2, and seconds since the start.
    `row` is the one of them that belongs to `params`; empty if an interruption came before the first epoch's end.
    `state` is what `fit(..., state=)` goes on from: always the last, not the best.
    `monitor` is what `fit(..., monitor=)` recorded, None without one.
    `stopped` is 'finished', 'early', 'callback', 'interrupted' or 'failed'.

    >>> import numpy as np, optax
    >>> from jaxprop import HalfSquaredError, fit
    >>> ones = np.ones((4, 1), np.float32)
    >>> f = lambda x, w: w * x
    >>> result = fit(f, HalfSquaredError(), optax.sgd(0.5), (ones, 2 * ones), params=0.0, epochs=2, progress=False)
    >>> [row["cost"] for row in result.history], float(result.params), result.stopped, result.row["epoch"]
    ([2.0, 0.5], 1.5, 'finished', 2)
    """

    params: PyTree
    history: tuple[Row, ...]
    best: Best
    steps: int
    seconds: float
    stopped: str = "finished"
    row: Row = field(default_factory=dict)
    state: FitState | None = None
    monitor: Monitored | None = None

    @property
    def feedback(self) -> PyTree:
        """The feedback of the rule it was trained by, as the last step left it; None without one."""
        return None if self.state is None else self.state.feedback


class TrainingInterrupted(KeyboardInterrupt):
    """Tell that Ctrl-C or SIGTERM stopped `fit`: `.result` holds what there was, its params the best so far.

    `.signal` is which of the two; a program that ends on it exits with 128 + that, as a shell expects.

    >>> nothing_yet = FitResult(params=0.0, history=(), best=Best(0.0, 0, float("inf")), steps=0, seconds=0.0)
    >>> try:
    ...     raise TrainingInterrupted(nothing_yet)
    ... except KeyboardInterrupt as stop:
    ...     print(stop, "·", stop.result.params)
    training interrupted after 0 steps · 0.0
    """

    def __init__(self, result: FitResult, signal: int = signal.SIGINT) -> None:
        super().__init__(f"training interrupted after {result.steps:,} steps")
        self.result, self.signal = result, int(signal)
