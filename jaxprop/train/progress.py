"""What a training run shows while it runs: a bar in a terminal, a line an epoch elsewhere. Written to stderr."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress as Bar, TextColumn
from rich.table import Column

from jaxprop.tables import shown

SAY_EVERY = 60.0  # seconds between lines within an epoch where there is no terminal


def describe_row(row: dict[str, float]) -> str:
    """One epoch in words.

    >>> describe_row({"epoch": 3, "cost": 0.5, "validation_accuracy": 0.95, "seconds": 1.0})
    'epoch 3 · cost 0.5 · validation accuracy 95.00 %'
    """
    parts = [f"epoch {int(row['epoch'])}"]
    for key, value in row.items():
        if key.endswith("accuracy"):
            parts.append(f"{key.replace('_', ' ')} {100 * value:.2f} %")
        elif key not in ("epoch", "seconds") and "." not in key:  # of a monitor's quantities, those of one number
            parts.append(f"{key.replace('_', ' ').replace('r2', 'R²')} {shown(value)}")
    return " · ".join(parts)


def clock(seconds: float) -> str:
    """Seconds as people read them.

    >>> clock(7.2), clock(75)
    ('7 s', '1:15')
    """
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Progress:
    """Steps done, their rate and the time left; `enabled=False` shows nothing."""

    def __init__(self, total_steps: int | None, epochs: int, enabled: bool = True) -> None:
        self.total, self.epochs, self.enabled = total_steps, epochs, enabled
        self.done, self.start, self.said, self.latest = 0, time.monotonic(), 0.0, ""
        self.at = self.start  # when the latest chunk was over
        self.first: tuple[int, float] | None = None  # steps and time when compiling was over
        self.epochs_said = 0
        # we refresh it ourselves, once a chunk: a refreshing thread would take time from the training
        self.bar = Bar(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            BarColumn(bar_width=12),
            TextColumn("{task.percentage:>3.0f} % · {task.fields[rate]}", table_column=Column(no_wrap=True)),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            expand=True,
        )
        self.live = enabled and self.bar.console.is_terminal

    def __enter__(self) -> Self:
        if self.live:
            self.bar.start()
            self.task = self.bar.add_task("compiling", total=self.total, rate="")
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.live:
            self.bar.stop()

    def advance(self, steps: int) -> None:
        """A chunk is done."""
        self.done += steps
        self.at = now = time.monotonic()
        self.first = self.first or (self.done, now)
        if not self.enabled or now - max(self.said, self.start) < (0.1 if self.live else SAY_EVERY):
            return
        self.said = now
        text = self.latest or "training"
        with self._showing():
            if self.live:
                self.bar.update(self.task, completed=self.done, description=text, rate=self.speed())
                self.bar.refresh()
            else:
                of = "" if self.total is None else f"/{self.total:,}"
                print(f"{text} · {self.done:,}{of} steps · {self.speed()}", file=sys.stderr)

    def epoch(self, row: dict[str, float]) -> None:
        """An epoch is done: each is said in a file or pipe; above a terminal's bar about ten are, the last always."""
        self.latest = describe_row(row)
        self.said = self.said if self.live else time.monotonic()  # else quick epochs would keep the bar from moving
        every = max(1, self.epochs // 10) if self.live else 1
        if self.enabled and (row["epoch"] % every == 0 or row["epoch"] == self.epochs):
            line = f"{self.latest} · {clock(row['seconds'])}"
            with self._showing():
                if self.live:  # the bar below it says how fast it goes
                    self.bar.console.print(line, highlight=False)
                else:
                    print(f"{line} · {self.speed()}", file=sys.stderr)
        self.epochs_said += 1
        if self.epochs_said == 1:  # what validates, and what keeps the run, is compiled or imported at its end
            self.first = None

    @contextmanager
    def _showing(self) -> Iterator[None]:
        """Show no more once standard error cannot be written to (a full disk): that must not end a training."""
        try:
            yield
        except OSError:
            self.enabled = False

    def speed(self) -> str:
        """Steps a second, and the time that the rest will take at that rate.

        The first chunk compiles and is not counted, nor is what comes before the second chunk of the second epoch.
        """
        steps, start = self.first or (0, self.start)
        if self.done <= steps:
            return f"{self.done / max(time.monotonic() - self.start, 1e-9):,.0f} steps/s"
        rate = (self.done - steps) / max(self.at - start, 1e-9)
        left = 0 if self.total is None else self.total - self.done  # of a stream nobody knows
        return f"{rate:,.0f} steps/s" + (f" · {clock(left / max(rate, 1e-9))} left" if left > 0 else "")
