"""What a training run gives back, whole or interrupted."""

from dataclasses import dataclass

from jaxtyping import PyTree


@dataclass(frozen=True)
class Best:
    """The parameters of the best epoch so far, by validation cost (by training cost without validation)."""

    params: PyTree
    epoch: int
    cost: float


@dataclass(frozen=True)
class FitResult:
    """Hold what training gave: `params` (the last; the best if it stopped early), `history`, `best`.

    `history` has a dict an epoch: epoch, cost (the mean over the epoch's batches, each before its step), with
    validation rows validation_cost and validation_accuracy or validation_r2, and seconds since the start.
    `stopped` is 'finished', 'early' or 'interrupted'.

    >>> import numpy as np, optax
    >>> from jaxprop import HalfSquaredError, fit
    >>> ones = np.ones((4, 1), np.float32)
    >>> f = lambda x, w: w * x
    >>> result = fit(f, HalfSquaredError(), optax.sgd(0.5), (ones, 2 * ones), params=0.0, epochs=2, progress=False)
    >>> [row["cost"] for row in result.history], float(result.params), result.stopped
    ([2.0, 0.5], 1.5, 'finished')
    """

    params: PyTree
    history: tuple[dict[str, float], ...]
    best: Best
    steps: int
    seconds: float
    stopped: str = "finished"


class TrainingInterrupted(KeyboardInterrupt):
    """Tell that Ctrl-C stopped `fit`: `.result` holds what there was, its params the best so far.

    >>> nothing_yet = FitResult(params=0.0, history=(), best=Best(0.0, 0, float("inf")), steps=0, seconds=0.0)
    >>> try:
    ...     raise TrainingInterrupted(nothing_yet)
    ... except KeyboardInterrupt as stop:
    ...     print(stop, "·", stop.result.params)
    training interrupted after 0 steps · 0.0
    """

    def __init__(self, result: FitResult) -> None:
        super().__init__(f"training interrupted after {result.steps:,} steps")
        self.result = result
