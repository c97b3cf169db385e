"""One training run: its state, epoch after epoch, and what has been measured so far.

An epoch runs in chunks of at most about a second, so that progress moves, Ctrl-C works and a NaN is found soon.
"""

import time
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network, call
from jaxprop.network.freeze import freeze_statistics
from jaxprop.train.batches import Batches, Chunk, epoch_order
from jaxprop.train.metrics import evaluate
from jaxprop.train.nonfinite import explain
from jaxprop.train.progress import Progress
from jaxprop.train.result import Best, FitResult
from jaxprop.train.steps import Recipe, begin, copied, take

Rows = tuple[PyTree[np.ndarray], np.ndarray]  # x and targets, first axis N

SECONDS_A_CHUNK = 1.0
ROWS_TO_FREEZE = 4096  # of the training rows, for the statistics of a BatchNorm


class Run:
    """A training run on some rows: `epoch` goes through them once, `result` says what there is."""

    def __init__(
        self,
        recipe: Recipe,
        data: Rows,
        validation: Rows | None,
        params: PyTree,
        batch_size: int,
        key: Key[Array, ""],
    ) -> None:
        self.recipe, self.data, self.validation = recipe, data, validation
        self.batches = Batches(data, batch_size)
        init_key, order_key, self.layer_key = jax.random.split(key, 3)
        self.order_seed = np.asarray(jax.random.key_data(order_key))
        params = self._start(params, init_key)
        self._check_fit(params)
        self.state = begin(recipe, params)
        self.latest = copied(self.state)
        self.best = Best(self.latest.params, 0, float("inf"))
        self.history: list[dict[str, float]] = []
        self.steps, self.steps_a_second = 0, 0.0
        self.started = time.monotonic()

    def epoch(self, epoch: int, shown: Progress, pool: ThreadPoolExecutor) -> None:
        """Go through all rows once, then measure."""
        summed = 0.0
        for chunk in self.batches.epoch(epoch_order(self.order_seed, epoch, self.batches.rows), pool):
            start = 0
            while start < chunk.steps:
                stop = min(chunk.steps, start + max(1, int(self.steps_a_second * SECONDS_A_CHUNK)))
                summed += chunk.rows * self.advance(chunk, start, stop)
                shown.advance(stop - start)
                start = stop
        row = {"epoch": epoch + 1, "cost": summed / self.batches.rows} | self._validated()
        row["seconds"] = time.monotonic() - self.started
        self.history.append(row)
        judged = row.get("validation_cost", row["cost"])
        if judged < self.best.cost:
            self.best = Best(copied(self.state.params), epoch + 1, judged)
        shown.epoch(row)

    def advance(self, chunk: Chunk, start: int, stop: int) -> float:
        """Take some steps; return the sum of their costs."""
        self.latest, began = copied(self.state), time.monotonic()  # what is donated is gone
        batches, done = chunk.batches, self.steps - start
        self.state, costs, good = take(self.recipe, self.state, batches, start, stop, self.layer_key, done)
        costs = np.asarray(costs, np.float64)[start:stop]
        if not (good and np.all(np.isfinite(costs))):
            epoch = len(self.history) + 1
            explain(self.recipe, self.latest, batches, start, stop, self.layer_key, done, epoch)
        self.steps += stop - start
        seconds = time.monotonic() - began
        # the first call compiles: its rate says nothing but "at least"
        self.steps_a_second = min(1e9, max((stop - start) / seconds, 2.0 * self.steps_a_second * (seconds < 0.5)))
        return float(np.sum(costs))

    def result(self, params: PyTree, stopped: str) -> FitResult:
        """Return what there is now."""
        seconds = time.monotonic() - self.started
        return FitResult(params, tuple(self.history), self.best, self.steps, seconds, stopped)

    def _start(self, params: PyTree, key: Key[Array, ""]) -> PyTree:
        """θ to start with, as arrays."""
        if params is None:
            if not isinstance(self.recipe.net, Layer):
                raise JaxpropError("fit: a plain function f(x, params) needs its params: pass params=")
            params = self.recipe.net.init(key, self.data[0])
        return jax.tree.map(jnp.array, params)

    def _check_fit(self, params: PyTree) -> None:
        """Find out before the first step whether everything fits."""
        net, cost = self.recipe.net, self.recipe.cost
        for x, targets in [self.data] if self.validation is None else [self.data, self.validation]:
            y = jax.eval_shape(lambda x, p: call(net, x, p), x, params)
            if isinstance(net, Layer):
                net.check_values(x)
            cost.check(y, targets)
            cost.check_values(y, targets)
        x, targets = jax.tree.map(lambda a: a[:1], self.data)
        jax.eval_shape(self.recipe.value_and_grad, x, params, targets)

    def _validated(self) -> dict[str, float]:
        """Cost and score on the validation rows, if there are any."""
        if self.validation is None:
            return {}
        x, targets = self.validation
        net, params = self._for_use()
        return {
            f"validation_{name}": value for name, value in evaluate(net, self.recipe.cost)(x, params, targets).items()
        }

    def _for_use(self) -> tuple[Network, PyTree]:
        """What is validated: the network as it is, or with its batch statistics frozen."""
        net, params = self.recipe.net, self.state.params
        if isinstance(net, Layer) and net.mixes_examples:
            x = jax.tree.map(lambda a: a[:ROWS_TO_FREEZE], self.data[0])
            net, params = freeze_statistics(net, x, params)
        return net, params
