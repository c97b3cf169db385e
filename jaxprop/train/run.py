"""One training run: its state, epoch after epoch, and what has been measured so far.

An epoch runs in chunks of at most about a second, so that progress moves, Ctrl-C works and a NaN is found soon.
"""

import contextlib
import math
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.one_run import quickly
from jaxprop.arrays.shapes import spec
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import call
from jaxprop.network.freeze import freeze_statistics
from jaxprop.train.batches import Batches, Chunk
from jaxprop.train.checkpoints import Keeper
from jaxprop.train.devices import Devices, devices_of
from jaxprop.train.metrics import measured
from jaxprop.train.monitor import Monitor
from jaxprop.train.nonfinite import explain
from jaxprop.train.optimizers import point
from jaxprop.train.precision import as_kept, check_bits, kept, scaling
from jaxprop.train.progress import Progress
from jaxprop.train.result import Best, FitResult, FitState, Row, Within
from jaxprop.train.rows import Rows
from jaxprop.train.signals import Stopping
from jaxprop.train.sources import Checked, InMemory, Source, Stream, check_read, sample
from jaxprop.train.steps import Recipe, State, begin, copied, taking
from jaxprop.train.streamed import Streamed
from jaxprop.train.together import at_home, numbers_of_first, of_first_process
from jaxprop.train.watching import Moment, Start, Watched, Watcher

SECONDS_A_CHUNK = 1.0
SECONDS_WATCHED = 0.1  # of a chunk, while somebody looks
FEEDBACK = 41  # folded into the key that draws θ: feedback is drawn with one of its own
ROWS_TO_FREEZE = 4096  # of the training rows, for the statistics of a BatchNorm


class Run:
    """A training run on some rows: `epoch` goes through them once, `result` says what there is."""

    def __init__(
        self,
        recipe: Recipe,
        data: Rows | Source | Stream,
        validation: Rows | Source | None,
        start: PyTree | FitState,
        batch_size: int,
        key: Key[Array, ""],
        monitor: Monitor | None = None,
        feedback: PyTree = None,
        devices: Devices | None = None,
        keeper: Keeper | None = None,
    ) -> None:
        self.recipe, self.outputs = recipe, None  # of some rows, once they are known
        self.source = InMemory(data) if isinstance(data, Rows) else data
        self.data = data if isinstance(data, Rows) else sample(data)  # what shapes are known from
        self.validation = Checked(validation, self._check_values) if isinstance(validation, Source) else validation
        self.held = validation if validation is None or isinstance(validation, Rows) else sample(validation)
        self.monitor, self.devices, self.keeper = monitor, devices, keeper or Keeper()
        self.batches, self.take = self._batches(batch_size), taking(recipe)
        init_key, order_key, self.layer_key = _three_keys(key)
        self.order_seed = np.asarray(jax.random.key_data(order_key))
        self.key, self.batch_size = key, batch_size
        self.state = self._start(start, init_key, feedback)
        if devices is not None:
            devices.warn(point(self.state.params), "fit")
            self.state = devices.place(self.state)
        self.latest = self.state
        self.epochs, self.steps = (start.epochs, start.steps) if isinstance(start, FitState) else (0, 0)
        self.began = self.epochs
        self.best = Best(self.latest.for_use(), self.epochs, math.inf)
        self.history: list[Row] = []
        self.epoch_costs: list[np.ndarray] = []  # of the steps that the epoch has behind it, by chunk of rows
        if isinstance(start, FitState) and start.within is not None and start.within.of(self.batches.rows, batch_size):
            self.epoch_costs = [np.asarray(start.within.costs)]
        self.stopping = Stopping()
        self.steps_a_second = 0.0
        self.order: Any = None  # a future of the order of the epoch to come
        self.watcher: Watcher | None = None
        self.cost: float | None = None  # the mean over the latest chunk's steps
        self.stopped = "failed"
        self.started = time.monotonic()

    def epoch(self, shown: Progress, pool: ThreadPoolExecutor, more: bool = False) -> Row:
        """Go through all rows once, or through what a kept run has left of them, then measure.

        Return the epoch's row of the history. more: whether another epoch is to follow, whose rows may be gathered.
        """
        first = self.place
        order: Any = self.order or pool.submit(self.batches.order, self.order_seed, self.epochs)
        self.order = pool.submit(self.batches.order, self.order_seed, self.epochs + 1) if more else None
        before = self.steps - first
        for chunk in self.batches.epoch(order, pool, first, self.order):
            start = 0
            while start < chunk.steps:
                stop = min(chunk.steps, start + self._steps_at_once())
                stop = min(stop, start + self._look(chunk, start))
                self.epoch_costs.append(self.advance(chunk, start, stop))
                shown.advance(stop - start)
                start = stop
                self.keeper.after_steps(self)
                self.stopping.here()
        cost, self.epoch_costs = self._mean_cost(), []
        self.epochs += 1
        params = self.state.for_use()
        row: Row = {"epoch": self.epochs, "cost": cost} | self._validated(params)
        if self.state.scaling is not None:
            row |= {"loss_scale": float(self.state.scaling.scale), "skipped_steps": int(self.state.scaling.skipped)}
        if self.monitor is not None:
            row |= self.monitor.latest(before)
        row["seconds"] = time.monotonic() - self.started
        row = {
            name: type(row[name])(number) for name, number in zip(row, numbers_of_first([*row.values()]), strict=True)
        }
        self.history.append(row)
        judged = row.get("validation_cost", row["cost"])
        if judged < self.best.cost or not math.isfinite(self.best.cost):  # never better than NaN would lose the run
            self.best = Best(params, self.epochs, judged)
        shown.epoch(row)
        return row

    def tell(self, row: Row) -> None:
        """Tell whoever watches and keeps of an epoch that is over: its row now has what `on_epoch` added to it."""
        for name, value in row.items():  # numbers and arrays of numpy or JAX become Python's, which every log can hold
            row[name] = jax.tree.map(lambda v: np.asarray(v).tolist() if hasattr(v, "dtype") else v, value)
        if self.watcher is not None:
            self.watcher.epoch(row)
        self.keeper.after_epoch(self)

    @property
    def place(self) -> int:
        """How many steps of the epoch are behind."""
        return sum(map(len, self.epoch_costs))

    def _mean_cost(self) -> float:
        """The mean over the rows of an epoch of its batches' costs, at once: it does not tell how long chunks were."""
        costs = np.concatenate(self.epoch_costs)
        rows = self.batches.sizes(len(costs))
        counted = np.isfinite(costs)  # of a step that overflowed float16 and was not taken there may be none
        if not np.any(counted):
            return math.nan
        return float(np.sum((rows * costs)[counted]) * (np.sum(rows) / np.sum(rows[counted]))) / int(np.sum(rows))

    @contextlib.contextmanager
    def watched(self, start: Start | None, epochs: int) -> Iterator[None]:
        """Let a watcher see the next epochs, from the θ that they start with to the one that they end with."""
        if start is None:
            yield
            return
        batches = self.batches
        until = self.epochs + epochs
        self.watcher = start(Watched(self.recipe, self.data, self.held, batches.batch_size, until, batches.steps))
        try:
            self.watcher.report(self._moment())
            yield
        finally:
            self.watcher.close(self._moment(), self.stopped)

    def _moment(self) -> Moment:
        """Where the run is, for whoever watches."""
        return Moment(self.latest.for_use(), self.epochs, self.steps, self.cost)

    def _steps_at_once(self) -> int:
        """How many steps a chunk is to have: every process of a job takes as many as the first."""
        return of_first_process(lambda: max(1, int(self.steps_a_second * self.seconds_a_chunk)))

    @property
    def seconds_a_chunk(self) -> float:
        """How long a chunk of steps is to last."""
        return SECONDS_WATCHED if self.watcher is not None and self.watcher.looking else SECONDS_A_CHUNK

    def _look(self, chunk: Chunk, start: int) -> int:
        """Let the monitor look, if it is time to; return how many steps may follow."""
        if self.monitor is None:
            return chunk.steps
        smaller = chunk.rows < min(self.batches.batch_size, self.batches.rows)  # results would be of other shapes
        if not smaller:
            self.monitor.look(self.state, chunk.batches, start, self.layer_key, self.steps)
        return self.monitor.left(self.steps)

    def advance(self, chunk: Chunk, start: int, stop: int) -> np.ndarray:
        """Take some steps; return their costs."""
        self.latest = self.state
        if self.watcher is not None:
            self.watcher.report(self._moment())
        began = time.monotonic()
        batches, done = chunk.batches, self.steps - start
        counts = (np.int32(start), np.int32(stop), np.int32(done))
        with jax.transfer_guard("allow"):  # `device_put` and `device_get` take longer than ten steps of a small network
            state, costs, good = self.take(self.state, batches, *counts[:2], self.layer_key, counts[2])
            costs, good = np.asarray(costs, np.float64)[start:stop], bool(good)
        if not good:  # what is not finite is of no use
            explain(self.recipe, self.latest, batches, start, stop, self.layer_key, done, self.epochs + 1)
        self.state, self.steps = state, self.steps + stop - start  # at once: a second Ctrl-C may come anywhere
        self.cost, seconds = float(np.mean(costs)), time.monotonic() - began
        # the first call compiles: its rate says nothing but "at least"
        least = 2.0 * self.steps_a_second * (seconds < self.seconds_a_chunk / 2)
        self.steps_a_second = min(1e9, max((stop - start) / seconds, least))
        return costs

    def going_on(self) -> FitState:
        """Return what another run goes on from."""
        params, optimizer, feedback, scaling = self.state
        within = None
        if self.epoch_costs:
            within = Within(self.batches.rows, self.batches.batch_size, np.concatenate(self.epoch_costs))
        return FitState(params, optimizer, self.epochs, self.steps, feedback, scaling, within)

    def end(self, stopped: str, whole: bool = True) -> FitResult:
        """Return what there is at last, kept where it is to be; not whole: stopped where something may be half done."""
        result = self.result(stopped)
        self.keeper.close(self, whole)
        return result

    def at_home(self, tree: PyTree) -> PyTree:
        """Arrays as whoever called `fit` gets them: in its own process, but for those spread over a job that fails."""
        return at_home(tree, gather=self.stopped != "failed")

    def result(self, stopped: str) -> FitResult:
        """Return what there is now: the best parameters if it stopped before its end, else the last."""
        self.stopped = stopped
        state = self.at_home(self.going_on())
        self.latest = State(state.params, state.optimizer, state.feedback, state.scaling)
        params, row = self.latest.for_use(), self.history[-1] if self.history else {}
        if stopped not in ("finished", "callback") and self.history:
            params = self.at_home(self.best.params)
            row = next(row for row in self.history if row["epoch"] == self.best.epoch)
        seconds, best = time.monotonic() - self.started, replace(self.best, params=self.at_home(self.best.params))
        monitored = None if self.monitor is None else self.monitor.monitored()
        return FitResult(params, tuple(self.history), best, self.steps, seconds, stopped, row, state, monitored)

    def _batches(self, batch_size: int) -> Batches | Streamed:
        """What goes through the rows; those that are not in memory are looked at as they come."""
        if isinstance(self.source, Stream):
            return Streamed(self.source, self.devices, self._check_values)
        source = self.source if isinstance(self.source, InMemory) else Checked(self.source, self._check_values)
        return Batches(source, batch_size, self.devices)

    def _start(self, start: PyTree | FitState, key: Key[Array, ""], feedback: PyTree) -> State:
        """The state to start with, as arrays, when everything fits."""
        if self.recipe.precision is None and start is not None:
            check_bits(start.params if isinstance(start, FitState) else start)
        if start is None:
            if not isinstance(self.recipe.net, Layer):
                raise JaxpropError("fit: a plain function f(x, params) needs its params: pass params=")
            start = self.recipe.net.init(key, self.data.x)
        if not isinstance(start, FitState):
            params = kept(_as_jax(start), self.recipe.precision)
            feedback = kept(self._feedback(params, feedback, key), self.recipe.precision)
            self._check_fit(params, feedback)
            return begin(self.recipe, params, feedback)
        precision = self.recipe.precision
        given = State(*_as_jax((start.params, start.optimizer, start.feedback, start.scaling)))
        given = given._replace(params=kept(given.params, precision), feedback=kept(given.feedback, precision))
        given = given._replace(scaling=scaling(precision, given.scaling))
        if given.feedback is None:
            given = given._replace(feedback=kept(self._feedback(given.for_use(), feedback, key), precision))
        self._check_fit(given.for_use(), given.feedback)
        fresh = jax.eval_shape(lambda: begin(self.recipe, given.for_use(), given.feedback))
        if jax.tree.structure(fresh) != jax.tree.structure(given):
            raise ShapeError("fit: state is that of another optimizer: give the one that it was made with")
        return copied(given if precision is None else as_kept(given, fresh))

    def _feedback(self, params: PyTree, given: PyTree, key: Key[Array, ""]) -> PyTree:
        """The feedback to start with: what was given, or for a rule a fresh one."""
        rule, net = self.recipe.rule, self.recipe.net
        if given is not None or rule is None or not isinstance(net, Layer):
            return _as_jax(given)
        return rule.init(jax.random.fold_in(key, FEEDBACK), net, params, spec(self.data.x))

    def _check_fit(self, params: PyTree, feedback: PyTree) -> None:
        """Find out before the first step whether everything fits."""
        net, cost = self.recipe.net, self.recipe.cost
        for rows, origin in ((self.held, self.validation), (self.data, self.source)):
            if rows is None:
                continue
            y = jax.eval_shape(lambda x, p, mask: call(net, x, p, mask=mask), rows.x, params, rows.mask)
            cost.check(y, rows.targets)
            self.outputs = y
            if isinstance(origin, Source) and not isinstance(origin, InMemory):
                check_read(origin.where, range(len(rows.targets)), rows, self._check_values)
            else:
                self._check_values(rows)
        rng = None if self.recipe.rule is None else self.layer_key  # a rule may draw
        jax.eval_shape(self.recipe.value_and_grad, jax.tree.map(lambda a: a[:1], self.data), params, rng, feedback)

    def _check_values(self, rows: Rows) -> None:
        """Refuse rows that no layer or cost can take, as they are read."""
        if isinstance(self.recipe.net, Layer):
            self.recipe.net.check_values(rows.x)
        if self.outputs is not None:
            y = jax.ShapeDtypeStruct((len(rows.targets), *self.outputs.shape[1:]), self.outputs.dtype)
            self.recipe.cost.check_values(y, rows.targets)  # pyright: ignore[reportArgumentType] (its shape is asked for)

    def _validated(self, params: PyTree) -> dict[str, float]:
        """Cost and score on the validation rows, if there are any."""
        if self.validation is None:
            return {}
        net, params = self.recipe.net, at_home(params)  # each process measures on all of them
        if isinstance(net, Layer) and net.mixes_examples:  # statistics of a random subset: rows may lie sorted
            devices = devices_of(params, net)
            x = self.batches.some(self.order_seed, ROWS_TO_FREEZE).x
            x = jax.device_put(x) if devices is None else devices.rows(x)
            net, params = freeze_statistics(net, x, params)
        found, costs = measured(net, self.recipe.cost, self.validation, params)
        if not math.isfinite(found["cost"]) and all(math.isfinite(row["validation_cost"]) for row in self.history):
            row = int(np.argmin(np.isfinite(costs)))
            warnings.warn(
                f"fit: the validation cost of epoch {self.epochs} is {found['cost']}, since that of validation row "
                f"{row} is {costs[row]}: look at its x and targets. Training goes on; until a validation cost is "
                "finite, the latest parameters count as the best",
                stacklevel=3,
            )
        return {f"validation_{name}": value for name, value in found.items()}


@quickly()
def _three_keys(key: Key[Array, ""]) -> tuple[Key[Array, ""], ...]:
    """Keys for θ, for the order of rows and for what layers draw."""
    return tuple(jax.random.split(key, 3))


def _as_jax(tree: PyTree) -> PyTree:
    """A tree's numbers as arrays of JAX's, none of which is an array of numpy's that could change."""
    return jax.tree.map(lambda leaf: leaf if isinstance(leaf, jax.Array) else jnp.array(leaf), tree)
