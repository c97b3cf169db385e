"""Watching a training run while it runs: `fit(..., explore=)` and `fit(..., log=)`.

Whoever watches comes from an installed package, as the entry point `explorer` of the group `jaxprop.watchers`: the
library knows none. Between chunks of steps it is told of the run's moment: θ as it is then, in arrays that no step
takes away, so that nothing is copied for it.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from jaxtyping import PyTree

from jaxprop.entry_points import load, offered
from jaxprop.errors import JaxpropError
from jaxprop.train.result import Row
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe

GROUP, NAME = "jaxprop.watchers", "explorer"


@dataclass(frozen=True)
class Watched:
    """What is trained, and on what: known before the first step."""

    recipe: Recipe
    data: Rows
    validation: Rows | None
    batch_size: int
    epochs: int
    steps_an_epoch: int | None  # None of a stream: nobody knows before its end


@dataclass(frozen=True)
class Moment:
    """Where a run is: θ for use after so many epochs and steps; `cost` is the mean over the steps before it."""

    params: PyTree
    epochs: int
    steps: int
    cost: float | None = None


class Watcher(Protocol):
    """Whoever watches. Its methods are called by the thread that trains, and what they raise ends the training."""

    @property
    def looking(self) -> bool:
        """Whether somebody looks now: chunks of steps are then short."""
        ...

    def report(self, moment: Moment) -> None:
        """Take note of a moment; training waits until this returns."""
        ...

    def epoch(self, row: Row) -> None:
        """Take note of an epoch's row of the history."""
        ...

    def close(self, moment: Moment, stopped: str) -> None:
        """End: training is over; why, is one of the words of `FitResult.stopped`. The moment is its last."""
        ...


Start = Callable[[Watched], Watcher]


def together(starts: Sequence[Start]) -> Start | None:
    """Return what starts all of some watchers as one; None for none.

    >>> together([]) is None
    True
    """
    return (lambda about: Together([start(about) for start in starts])) if starts else None


class Together:
    """Several watchers, told one after the other. One that fails does not keep the others from being closed."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self.watchers = watchers

    @property
    def looking(self) -> bool:
        """Whether somebody looks now."""
        return any(watcher.looking for watcher in self.watchers)

    def report(self, moment: Moment) -> None:
        """Take note of a moment."""
        for watcher in self.watchers:
            watcher.report(moment)

    def epoch(self, row: Row) -> None:
        """Take note of an epoch's row of the history."""
        for watcher in self.watchers:
            watcher.epoch(row)

    def close(self, moment: Moment, stopped: str) -> None:
        """End, each of them."""
        with contextlib.ExitStack() as stack:
            for watcher in self.watchers:
                stack.callback(watcher.close, moment, stopped)


def starter(explore: bool | Start) -> Start | None:
    """Return what starts a watcher, None for False; raise `JaxpropError` if nothing installed does.

    >>> starter(False) is None
    True
    """
    if callable(explore):
        return explore
    if not isinstance(explore, bool):
        raise JaxpropError(f"fit: explore must be True, False or a function that starts a watcher, found {explore!r}")
    if not explore:
        return None
    found = offered(GROUP).get(NAME, [])
    if not found:
        raise JaxpropError('fit: explore=True needs the explorer, which is not installed: pip install ".[explore]"')
    return load(found[0])
