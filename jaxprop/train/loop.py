"""`fit`: an optax training run at full speed, for a Layer or for any f(x, params).

An epoch is a loop compiled once: batch, gradient, update, with donated state. It runs in chunks of at most about a
second, so that progress moves, Ctrl-C works and a NaN is found soon; a thread shuffles and gathers rows meanwhile.
"""

import functools
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxprop.backward import auto, manual
from jaxprop.checks import check_rows, check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, TrainingError, pick
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network, call, require_layer
from jaxprop.network.freeze import freeze_statistics
from jaxprop.train.batches import Batches, Chunk, epoch_order
from jaxprop.train.metrics import evaluate
from jaxprop.train.nonfinite import ADVICE, all_finite, first_nonfinite
from jaxprop.train.progress import Progress

Way = Literal["auto", "manual"]
SECONDS_A_CHUNK = 1.0
ROWS_TO_FREEZE = 4096  # of the training rows, for the statistics of a BatchNorm


class State(NamedTuple):
    """What a step changes."""

    params: Any
    optimizer: Any


@dataclass(frozen=True)
class Best:
    """The parameters of the best epoch so far, by validation cost (by training cost without validation)."""

    params: Any
    epoch: int
    cost: float


@dataclass(frozen=True)
class FitResult:
    """What training gave: `params` (the last; the best if it stopped early), `history`, `best`.

    `history` has a dict an epoch: epoch, cost (the mean over the epoch's batches, each before its step), with
    validation rows validation_cost and validation_accuracy or validation_r2, and seconds since the start.
    `stopped` is 'finished', 'early' or 'interrupted'.

    >>> from jaxprop import HalfSquaredError
    >>> ones = np.ones((4, 1), np.float32)
    >>> f = lambda x, w: w * x
    >>> result = fit(f, HalfSquaredError(), optax.sgd(0.5), (ones, 2 * ones), params=0.0, epochs=2, progress=False)
    >>> [row["cost"] for row in result.history], float(result.params), result.stopped
    ([2.0, 0.5], 1.5, 'finished')
    """

    params: Any
    history: tuple[dict[str, float], ...]
    best: Best
    steps: int
    seconds: float
    stopped: str = "finished"


class TrainingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `fit`: `.result` holds what there was, its params the best so far.

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


@functools.partial(jax.jit, static_argnames=("net", "cost", "optimizer", "way"), donate_argnames="state")
def _run(
    net: Network,
    cost: Cost,
    optimizer: Any,
    way: Way,
    state: State,
    batches: Any,
    start: Any,
    stop: Any,
    rng: Any,
    done: Any,
) -> tuple[State, Array, Array]:
    """Take the steps `start` to `stop` of a chunk; return the new state, every step's cost, and whether θ is finite.

    `done` counts the steps before this chunk: every step of a run has an rng key of its own, fold_in(rng, step).
    """
    capacity = jax.tree.leaves(batches)[0].shape[0]

    def step(i: Any, carry: tuple[State, Array]) -> tuple[State, Array]:
        state, costs = carry
        x, targets = jax.tree.map(lambda a: jax.lax.dynamic_index_in_dim(a, i, keepdims=False), batches)
        key = _step_key(net, rng, done + i)  # XLA drops it where no layer asks
        state, value, _ = _step(net, cost, optimizer, way, state, x, targets, key)
        return state, costs.at[i].set(value.astype(costs.dtype))

    state, costs = jax.lax.fori_loop(start, stop, step, (state, jnp.zeros(capacity)))
    return state, costs, all_finite(state.params)


def _step(
    net: Network, cost: Cost, optimizer: Any, way: Way, state: State, x: Any, targets: Any, rng: Any
) -> tuple[State, Array, Any]:
    """θ ← θ + update(∂C/∂θ): the new state, the cost before it, and the gradient."""
    value, grads = _gradient(net, cost, way)(x, state.params, targets, rng=rng)
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        update = optax.with_extra_args_support(optimizer).update
        updates, optimizer_state = update(grads, state.optimizer, state.params, value=value)
        return State(optax.apply_updates(state.params, updates), optimizer_state), value, grads


def _step_key(net: Network, rng: Array, step: Any) -> Array | None:
    return jax.random.fold_in(rng, step) if isinstance(net, Layer) else None


def _gradient(net: Any, cost: Cost, way: Way) -> Any:
    return (manual if way == "manual" else auto).value_and_grad(net, cost)


_copy = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))


def fit(
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    data: tuple[Any, Any],
    *,
    params: Any = None,
    epochs: int = 30,
    batch_size: int = 32,
    key: Array | None = None,
    validation: tuple[Any, Any] | None = None,
    patience: int | None = None,
    grad: Way = "auto",
    progress: bool = True,
) -> FitResult:
    """Train f(x, θ) on rows `(x, targets)`, first axis N, and return the parameters with their history.

    net: a Layer, or any callable f(x, params) (then `params` is required and `grad="manual"` refused).
    optimizer: from optax; the learning rate is its.    params: the start (copied first), else `net.init`.
    key: everything random comes from it (init, shuffling, rng of layers); None means `jax.random.key(0)`.
    validation: rows measured after every epoch: cost, and accuracy (labels) or R² (numbers); a BatchNorm with the
    statistics of (at most 4096) training rows, by `freeze_statistics`, which `result.params` still need for use.
    patience: stop after so many epochs without a better (validation) cost, with the best parameters.
    grad: "auto" is `jax.grad`, "manual" the hand-derived chain rule: the same numbers.

    Every row is used in every epoch, the last partial batch in one smaller step. Raises DataError for rows that cannot
    be used, ShapeError for shapes that do not fit, TrainingError at NaN or infinity (naming the step and the first
    non-finite layer), TrainingInterrupted (a KeyboardInterrupt with `.result`) at Ctrl-C.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> from jaxprop import HalfSquaredError, Linear
    >>> result = fit(Linear(1, bias=False), HalfSquaredError(), optax.sgd(1.0), (x, 2 * x), epochs=20, progress=False)
    >>> round(float(result.params.W[0, 0]), 3)
    2.0
    """
    key = jax.random.key(0) if key is None else key
    run = _Run(net, cost, optimizer, _as_numpy(data, "data"), batch_size, key, grad)
    run.begin(params, None if validation is None else _as_numpy(validation, "validation"))
    _check_counts(epochs=epochs, patience=1 if patience is None else patience)
    with Progress(epochs * run.batches.steps, epochs, progress) as shown, ThreadPoolExecutor(1) as pool:
        try:
            for epoch in range(epochs):
                run.epoch(epoch, shown, pool)
                if patience is not None and epoch + 1 - run.best.epoch >= patience:
                    return run.result(run.best.params, "early")
        except KeyboardInterrupt:
            so_far = run.best.params if run.best.epoch else run.latest.params  # no epoch yet: as of the last chunk
            raise TrainingInterrupted(run.result(so_far, "interrupted")) from None
    return run.result(run.state.params, "finished")


class _Run:
    """One training run: its state, and what has been measured so far."""

    def __init__(
        self, net: Network, cost: Cost, optimizer: Any, data: Any, batch_size: int, key: Array, grad: Way
    ) -> None:
        _check_counts(batch_size=batch_size)
        if not (isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
            raise JaxpropError(f"fit: key must be a JAX key such as jax.random.key(0), found {key!r}")
        if not callable(getattr(optimizer, "update", None)):
            raise JaxpropError(f"fit: optimizer must come from optax, such as optax.adam(0.01), found {optimizer!r}")
        pick(grad, ("auto", "manual"), "grad")
        if grad == "manual":
            require_layer(net, 'grad="manual"')
        self.net, self.cost, self.optimizer = net, cost, optimizer
        self.way: Way = grad
        self.data, self.batches = data, Batches(data, batch_size)
        self.init_key, order_key, self.layer_key = jax.random.split(key, 3)
        self.order_seed = np.asarray(jax.random.key_data(order_key))
        self.steps, self.history = 0, []
        self.steps_a_second = 0.0

    def begin(self, params: Any, validation: Any) -> None:
        """Copy or make the parameters, and find out before the first step whether everything fits."""
        self.validation = validation
        x, targets = jax.tree.map(lambda a: a[:1], self.data)
        if params is None:
            if not isinstance(self.net, Layer):
                raise JaxpropError("fit: a plain function f(x, params) needs its params: pass params=")
            params = self.net.init(self.init_key, x)
        params = jax.tree.map(jnp.array, params)  # a copy: ours is donated
        for rows in (self.data, *([] if validation is None else [validation])):
            y = jax.eval_shape(lambda x, p: call(self.net, x, p, None), rows[0], params)
            self.cost.check(y, rows[1])
            self.cost.check_values(y, rows[1])
        jax.eval_shape(_gradient(self.net, self.cost, self.way), x, params, targets)
        with jax.numpy_dtype_promotion("standard"):
            # copied as a whole: some optimizers keep params themselves, and a buffer is donated only once
            self.state = _copy(State(params, self.optimizer.init(params)))
        self.latest = _copy(self.state)
        self.best = Best(self.latest.params, 0, float("inf"))
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
        row = {"epoch": epoch + 1, "cost": summed / self.batches.rows}
        if self.validation is not None:
            net, params = self._for_use()
            measured = evaluate(net, self.cost)(self.validation[0], params, self.validation[1])
            row |= {f"validation_{name}": value for name, value in measured.items()}
        row["seconds"] = time.monotonic() - self.started
        self.history.append(row)
        judged = row.get("validation_cost", row["cost"])
        if judged < self.best.cost:
            self.best = Best(_copy(self.state.params), epoch + 1, judged)
        shown.epoch(row)

    def _for_use(self) -> tuple[Network, Any]:
        """What is validated: the network as it is, or with its batch statistics frozen."""
        net, params = self.net, self.state.params
        if isinstance(net, Layer) and net.mixes_examples:
            x = jax.tree.map(lambda a: a[:ROWS_TO_FREEZE], self.data[0])
            net, params = freeze_statistics(net, x, params)
        return net, params

    def advance(self, chunk: Chunk, start: int, stop: int) -> float:
        """Take some steps; return the sum of their costs."""
        self.latest, began = _copy(self.state), time.monotonic()  # what is donated is gone
        arguments = (self.net, self.cost, self.optimizer, self.way)
        done = self.steps - start
        self.state, costs, good = _run(*arguments, self.state, chunk.batches, start, stop, self.layer_key, done)
        costs = np.asarray(costs, np.float64)[start:stop]
        if not (good and np.all(np.isfinite(costs))):
            self.explain(self.latest, chunk, start, stop)
        self.steps += stop - start
        seconds = time.monotonic() - began
        # the first call compiles: its rate says nothing but "at least"
        self.steps_a_second = min(1e9, max((stop - start) / seconds, 2.0 * self.steps_a_second * (seconds < 0.5)))
        return float(np.sum(costs))

    def explain(self, state: State, chunk: Chunk, start: int, stop: int) -> NoReturn:
        """Go through the steps again, one at a time, to the first that is not finite, and raise."""
        what: tuple[Network, Cost, Any, Way] = (self.net, self.cost, self.optimizer, self.way)
        done = self.steps - start
        for i in range(start, stop):
            after, costs, good = _run(*what, _copy(state), chunk.batches, i, i + 1, self.layer_key, done)
            if not (good and np.isfinite(costs[i])):
                x, targets = jax.tree.map(lambda a, i=i: a[i], chunk.batches)
                _, _, grads = _step(*what, state, x, targets, _step_key(self.net, self.layer_key, done + i))
                where = first_nonfinite(self.net, self.cost, x, state.params, targets, grads)
                self.stop(done + i + 1, where or "the update of the parameters")
            state = after
        self.stop(self.steps + stop - start, "something that another run of the same steps does not show")

    def stop(self, step: int, where: str) -> NoReturn:
        """Say where it went wrong."""
        epoch = len(self.history) + 1
        raise TrainingError(
            f"training stopped at step {step} (epoch {epoch}): the first not finite is {where}. {ADVICE}"
        )

    def result(self, params: Any, stopped: str) -> FitResult:
        """What there is now."""
        seconds = time.monotonic() - self.started
        return FitResult(params, tuple(self.history), self.best, self.steps, seconds, stopped)


def _as_numpy(data: Any, name: str) -> tuple[Any, Any]:
    """Rows as numpy arrays in JAX's own precision, checked."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise JaxpropError(f"fit: {name} must be a pair (x, targets), found {type(data).__name__}")
    x, targets = (jax.tree.map(np.asarray, part) for part in data)
    for part in jax.tree.leaves(x):
        check_rows(part, targets, name)
    return jax.tree.map(lambda a: a.astype(jax.dtypes.canonicalize_dtype(a.dtype), copy=False), (x, targets))


def _check_counts(**counts: Any) -> None:
    for name, value in counts.items():
        check_whole(value.item() if isinstance(value, np.integer) else value, f"fit: {name}")
