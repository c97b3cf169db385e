"""Whoever keeps a run on disk, as `fit` tells it what happens."""

from typing import TYPE_CHECKING, Any

from jaxprop.train.checkpoints.settings import read_settings

if TYPE_CHECKING:
    from jaxprop.train.run import Run


class Keeper:
    """Keep nothing."""

    def restore(self, run: "Run") -> str:
        """Put a run where the kept one was, before its first step; return what there is to say of it."""
        return ""

    def after_steps(self, run: "Run") -> None:
        """Take note that a run has taken some steps: `run.latest` is before them, `run.state` after."""

    def after_epoch(self, run: "Run") -> None:
        """Take note that an epoch of a run is over, and measured."""

    def close(self, run: "Run", whole: bool = True) -> None:
        """End: why, is `run.stopped`. A run that is not whole was stopped where something may be half done."""


def read_checkpoints(given: Any, resume: Any) -> Keeper:
    """Return who keeps the run, as was asked.

    >>> type(read_checkpoints(None, False)).__name__
    'Keeper'
    """
    settings = read_settings(given, resume)
    if settings is None:
        return Keeper()
    from jaxprop.train.checkpoints.on_disk import KeeperOnDisk

    return KeeperOnDisk(settings, resume)
