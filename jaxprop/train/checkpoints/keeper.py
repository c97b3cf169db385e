"""Whoever keeps a run on disk, as `fit` tells it what happens."""

from typing import TYPE_CHECKING, Any

from jaxprop.errors import JaxpropError

if TYPE_CHECKING:
    from jaxprop.train.run import Run


class Keeper:
    """Keep nothing."""

    def restore(self, run: "Run") -> None:
        """Put a run where the kept one was: before its first step."""

    def after_steps(self, run: "Run") -> None:
        """Take note that a run has taken some steps: `run.latest` is before them, `run.state` after."""

    def after_epoch(self, run: "Run") -> None:
        """Take note that an epoch of a run is over, and measured."""

    def close(self, run: "Run") -> None:
        """End: why, is `run.stopped`."""


def read_checkpoints(given: Any, resume: Any) -> Keeper:
    """Return who keeps the run, as was asked.

    >>> type(read_checkpoints(None, False)).__name__
    'Keeper'
    """
    if given is None and not resume:
        return Keeper()
    raise JaxpropError("fit: checkpoints are not there yet")
