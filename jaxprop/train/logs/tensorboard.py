"""What TensorBoard reads: the cost as training goes, and everything that an epoch's row says."""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprop.errors import JaxpropError
from jaxprop.train.result import Row
from jaxprop.train.watching import Moment, Watched, Watcher


@dataclass(frozen=True)
class TensorBoard:
    """Start a log for `tensorboard --logdir FOLDER`, which needs the extra `log`.

    Scalars: `training/cost` between chunks of steps, about once a second; `epoch/…` for all that an epoch's row says,
    validation and monitored numbers included. Their x axis are the steps behind θ. A run that goes on adds to the
    curves: what an earlier one wrote of later steps is not shown.

    >>> TensorBoard("runs/board")
    TensorBoard(path='runs/board')
    """

    path: str | Path

    def __call__(self, about: Watched) -> Watcher:
        """Start it: the file is opened at the first report."""
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise JaxpropError(
                f'log {self.path}: TensorBoard needs tensorboardX ({error}): pip install ".[log]"'
            ) from None
        return _Board(self.path, about, SummaryWriter)


class _Board:
    """Writes scalars."""

    looking = False

    def __init__(self, path: str | Path, about: Watched, open_writer: Any) -> None:
        self.path, self.about, self.open, self.writer = path, about, open_writer, None
        self.said, self.behind = -1, 0  # the latest step whose cost is written; the steps behind the latest moment

    def report(self, moment: Moment) -> None:
        """Write the mean cost of the latest steps."""
        self.behind = moment.steps
        if self.writer is None:
            purge = moment.steps + 1 if moment.steps else 0  # a run that begins is not drawn over an earlier one
            suffix = f".{time.time_ns()}"  # names have seconds: two runs in one second would be one file
            try:
                self.writer = self.open(str(self.path), purge_step=purge, filename_suffix=suffix)
            except OSError as error:
                why = f"{error.strerror} ({error.filename})"
                raise JaxpropError(f"log {self.path}: cannot be written: {why}; choose another folder") from None
            self.writer.add_text("network", repr(self.about.recipe.net), moment.steps)
            self.writer.add_text("cost", repr(self.about.recipe.cost), moment.steps)
        if moment.cost is not None and moment.steps > self.said:
            self._scalar("training/cost", moment.cost, moment.steps)
            self.said = moment.steps

    def epoch(self, row: Row) -> None:
        """Write an epoch's row at the step at which it ended; of a stream, at the latest that is known."""
        steps = self.about.steps_an_epoch
        step = self.behind if steps is None else int(row["epoch"]) * steps
        for name, value in row.items():
            if name != "epoch":
                self._scalar(f"epoch/{name}", value, step)
        if self.writer is not None:
            self.writer.flush()

    def close(self, moment: Moment, stopped: str) -> None:
        """End, with the cost of the last steps."""
        if self.writer is None:
            return
        with contextlib.closing(self.writer):
            self.report(moment)
            self.writer.add_text("stopped", stopped, moment.steps)

    def _scalar(self, name: str, value: Any, step: int) -> None:
        if self.writer is not None and isinstance(value, int | float) and math.isfinite(value):
            self.writer.add_scalar(name, value, step)
