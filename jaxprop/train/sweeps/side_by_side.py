"""Runs of one program side by side, epoch after epoch: their state, and what goes into the table."""

import time
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Int, PyTree

from jaxprop.train.batches import epoch_order
from jaxprop.train.progress import Progress
from jaxprop.train.rows import Rows
from jaxprop.train.signals import Stopping
from jaxprop.train.sweeps.gathered import Gathered
from jaxprop.train.sweeps.memory import evenly, room, taken
from jaxprop.train.sweeps.programs import Lane, Program
from jaxprop.train.sweeps.scores import Truth, parts

SECONDS_A_CALL = 1.0  # so that progress moves and Ctrl-C works
ROWS_AT_ONCE = 32768  # of validation, over all runs of a device


class Seeds:
    """What the seeds decide: their keys, and the order of rows in every epoch. The same as for `fit`."""

    def __init__(self, seeds: Sequence[int], rows: int) -> None:
        self.rows = rows
        split = [jax.random.split(jax.random.key(seed), 3) for seed in seeds]
        self.init_keys = [init for init, _, _ in split]
        self.order_seeds = [np.asarray(jax.random.key_data(order)) for _, order, _ in split]
        self.layer_keys = np.stack([np.asarray(jax.random.key_data(layer)) for _, _, layer in split])

    def orders(self, epoch: int, most: int | None = None) -> Int[np.ndarray, "S N"]:
        """Return the order of rows of every seed, or the first of it."""
        found = [epoch_order(seed, epoch, self.rows)[:most] for seed in self.order_seeds]
        return np.stack(found).astype(np.int32)


class SideBySide:
    """Some runs of a program: `run` trains them, `params` are those of each run, `best` of each run's best epoch."""

    def __init__(
        self,
        program: Program,
        truth: Truth | None,
        data: Rows,
        held: Rows | None,
        seeds: Seeds,
        chosen: Int[np.ndarray, "S M"] | None,
        start: tuple[PyTree, PyTree],
        table: Gathered,
        shown: Progress,
        stopping: Stopping,
    ) -> None:
        self.program, self.truth, self.seeds, self.start = program, truth, seeds, start
        self.table, self.shown, self.stopping = table, shown, stopping
        self.place = program.place
        self.data, self.held = self.place.everywhere(data), held
        self.chosen = None if chosen is None else self.place.everywhere(chosen)
        self.steps_a_second = 0.0
        self.told = ""  # where the sweep is, for whoever watches

    def at_once(self, runs: Lane, wanted: int | None) -> int:
        """Return how many runs go together: so many as fit into memory, or as are wanted; and compile for them.

        `runs` are all of them. XLA says what a program of some runs takes; fewer take their share of that.
        """
        devices = len(self.place.devices)
        count = len(runs.seed)
        size = evenly(count, min(count, wanted or count), devices)
        limit = room(list(self.place.devices))
        while True:
            some = np.resize(np.arange(count), size)
            self._compile(jax.tree.map(lambda a, some=some: a[some], runs))
            bytes_taken = taken(self.takes[0])
            if wanted is not None or bytes_taken <= limit or size <= devices:
                return size
            size = evenly(count, min(size // 2, int(size * limit / bytes_taken)), devices)

    def _compile(self, lanes: Lane) -> None:
        """Compile the steps for as many runs as there are lanes."""
        state = jax.eval_shape(self.program.begin, lanes, *self.start)
        lanes = self.place.runs(lanes)
        state = jax.tree.map(
            lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s, weak_type=a.weak_type),
            *(state, jax.tree.map(lambda _: lanes.seed.sharding, state)),
        )
        orders = self.place.everywhere(self.seeds.orders(0))
        self.takes = self.program.compiled_for(state, lanes, self.data, orders, *self._counts(0, 1, 0))

    def run(self, lanes: Lane, numbers: list[tuple[int, int]]) -> None:
        """Train runs for all epochs; `numbers` say the setting and the seed of each, without those that fill up."""
        self.lanes = self.place.runs(lanes)
        self.state = self.program.begin(self.lanes, *self.start)
        self.best = self.program.for_use(self.state)
        self.done, self.at = 0, self.table.lanes(numbers)
        if self.held is not None:
            assert self.truth is not None
            size = max(1, ROWS_AT_ONCE * len(self.place.devices) // len(lanes.seed))
            self.parts = [self.place.everywhere(part) for part in parts(self.held, self.truth.expected, size)]
        orders = self.seeds.orders(0)
        for epoch in range(self.table.epochs):
            orders = self._epoch(epoch, orders)

    def _epoch(self, epoch: int, orders: np.ndarray) -> np.ndarray:
        """Go through all rows once, measure, and write it down; return the next epoch's orders."""
        program, count = self.program, len(self.at[0])
        costs, good = self._steps(self.place.everywhere(orders), count)
        measured = [] if self.held is None else [self._measure(part) for part in self.parts]
        if epoch + 1 < self.table.epochs:  # while the devices compute
            orders = self.seeds.orders(epoch + 1)
        costs, good, measured = jax.device_get((costs, good, measured))
        summed = [size * np.asarray(found, np.float64)[:, i:j].sum(axis=1) for found, i, j, size in costs]
        row = {"cost": np.sum(summed, axis=0) / self.seeds.rows}
        if measured:
            assert self.truth is not None
            row |= self.truth.means(*_joined(measured))
        row, fine = {name: values[:count] for name, values in row.items()}, np.all(good, axis=0)
        better = self.table.judged(self.at, row, fine[:count])
        if better.any():
            self.best = program.keep(self.best, self.state, self.place.runs(np.resize(better, len(fine))))
        self.table.write(self.at, epoch, row, fine[:count], better)
        self.shown.latest = f"{self.told} · epoch {epoch + 1} of {self.table.epochs}"
        return orders

    def _steps(self, orders: PyTree, count: int) -> tuple[list, list]:
        """Take the steps of an epoch; return their costs, with which of them are these, and whether all went well."""
        costs, good = [], []
        for take, steps, size in self._plan():
            start = 0
            while start < steps:
                began, in_a_call = time.monotonic(), max(1, int(self.steps_a_second * SECONDS_A_CALL))
                stop = min(steps, start + in_a_call)
                counts = self._counts(start, stop, self.done - start)
                self.state, found, fine = take(self.state, self.lanes, self.data, orders, *counts)
                costs.append((found, start, stop, size))
                good.append(fine)
                if in_a_call < steps:  # a long epoch, or the first call: how fast it goes is to be known
                    jax.block_until_ready(found)
                    self.steps_a_second = (stop - start) / max(time.monotonic() - began, 1e-6)
                self.done += stop - start
                self.shown.advance((stop - start) * count)
                self.stopping.here()
                start = stop
        return costs, good

    def _plan(self) -> list[tuple]:
        """The programs of an epoch, with how many steps each takes, of how many rows."""
        of = [(self.program.full, self.program.batch_size), (1, self.program.rest)]
        return [(take, *one) for take, one in zip(self.takes, [one for one in of if all(one)], strict=True)]

    def _counts(self, start: int, stop: int, done: int) -> tuple:
        return tuple(self.place.everywhere(tuple(np.int32(n) for n in (start, stop, done))))

    def _measure(self, part: tuple[Rows, PyTree]) -> PyTree:
        assert self.truth is not None
        return self.program.measure(self.truth.kind)(self.state, self.lanes, *part, self.data, self.chosen)


def _joined(measured: list) -> tuple[np.ndarray, np.ndarray]:
    """The parts of all rows put together."""
    costs, found = zip(*measured, strict=True)
    return np.concatenate(costs, axis=1), np.concatenate(found, axis=1)
