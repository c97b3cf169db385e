"""`fit`: an optax training run at full speed, for a Layer or for any f(x, params).

An epoch is a loop compiled once (`steps.py`): batch, gradient, update. A thread shuffles and
gathers rows meanwhile (`batches.py`); `run.py` keeps the state, and Ctrl-C leaves the best so far.
"""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh
from jaxtyping import ArrayLike, Float, Key, PyTree, Shaped

from jaxprop.arrays.given import as_key
from jaxprop.arrays.paths import by_path, join
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.checks import check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.network.call import Network
from jaxprop.stats import Quantity
from jaxprop.train.checkpoints import Checkpoints, identity, read_checkpoints
from jaxprop.train.devices import await_news, read_mesh, refuse_spread
from jaxprop.train.logs import read_log
from jaxprop.train.monitor import read_monitor
from jaxprop.train.parts import read_recipe
from jaxprop.train.precision import with_enough_bits
from jaxprop.train.progress import Progress
from jaxprop.train.result import FitResult, FitState, Row, TrainingInterrupted
from jaxprop.train.run import Run
from jaxprop.train.signals import Asked
from jaxprop.train.sources import Source, Stream, in_precision, read_data
from jaxprop.train.steps import Way
from jaxprop.train.together import alone, any_process, at_home, check_same, is_first
from jaxprop.train.watching import Start, starter, together

Pair = tuple[PyTree[Shaped[ArrayLike, "N ..."]], Shaped[ArrayLike, "N ..."]]


@with_enough_bits
def fit(
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    data: Pair | Source | Stream | Iterable[Any],
    *,
    params: PyTree = None,
    epochs: int = 30,
    batch_size: int = 32,
    key: Key[Array, ""] | None = None,
    weights: Float[ArrayLike, " N"] | None = None,
    mask: PyTree[Shaped[ArrayLike, "N ..."]] = None,
    validation: Pair | tuple[Any, ...] | Source | Iterable[Any] | None = None,
    patience: int | None = None,
    grad: Way | None = None,
    rule: RuleLike | None = None,
    feedback: PyTree = None,
    precision: str | None = None,
    mesh: str | Mesh | None = None,
    progress: bool = True,
    on_epoch: Callable[[Row, FitState], object] | None = None,
    monitor: Mapping[str, Quantity] | None = None,
    every: int = 20,
    log: str | Path | Start | Sequence[str | Path | Start] | None = None,
    explore: bool | Start = False,
    state: FitState | None = None,
    checkpoints: str | Path | Checkpoints | None = None,
    resume: bool = False,
) -> FitResult:
    """Train f(x, θ) on rows `(x, targets)`, first axis N, and return the parameters with their history.

    Every row is used in every epoch, the last partial batch in one smaller step. The cost of a batch of B rows is
    Σ_n w_n C_n / (B w̄), with w̄ the mean weight of all N rows: a row counts the same in whatever batch it comes, and
    the cost in the history is Σ w_n C_n / Σ w_n over the epoch.

    The arguments stand in groups: the training; its start and its rows; validation; how a step is computed; what is to
    be seen of it; and going on later. docs/training/ has a page for most of these.

    Args:
        net: a Layer, or any callable f(x, params); then `params` is required and `grad="manual"` refused.
        cost: C_n, such as `HalfSquaredError()`.
        optimizer: one of optax's; the learning rate is its. Those that need more than a gradient get value, grad,
            value_fn, obj_fn, grad_fn and collect_fn of the batch; of those that keep two θ, `result.params` is the one
            for use.
        data: the rows (x, targets): arrays, lists or data frames. Or rows that stay in their files:
            `jp.data.stored(...)`, a data set of Grain's, a `jp.train.Stream`, or a `jp.train.Source` of your own.

        params: θ to start from, which is copied; by default `net.init` draws it.
        epochs: how often all rows are gone through.
        batch_size: how many rows a step takes.
        key: where all that is random comes from (init, the order of rows, what layers draw); by default
            `jax.random.key(0)`.
        weights: how much each row counts, w `[N]`, none below 0; by default all alike.
        mask: what padding is masked by, with first axis N such as `[N, T]`, as the layers take it. Targets of padding
            are what the cost ignores, such as label −1.

        validation: rows measured after every epoch: cost, and accuracy (labels) or R² (numbers); (x, targets), or
            with their weights and mask (x, targets, weights, mask). A BatchNorm then has the statistics of at most
            4096 training rows, chosen at random; for use, `result.params` still need `freeze_statistics`.
        patience: after how many epochs without a better (validation) cost it stops, with the best parameters.

        grad: "auto" for `jax.grad`, "manual" for the hand-derived chain rule; the numbers are the same. By default
            "auto", with a rule "manual".
        rule: how errors come back through layers, one of `jp.rules`; by default as the chain rule says.
        feedback: the arrays of the rule, as `rule.init` makes them; by default they are drawn from `key`. They end as
            `result.feedback`, and go on with `state`.
        precision: "bfloat16" or "float16" computes steps in it and keeps θ in float32; "float32" and "float64" do both
            in one. By default as θ and rows are.
        mesh: the devices to compute on, by default one: axes and how many devices each has, such as "data=8" (each
            takes some of a batch's rows), "fsdp=8" (each also holds some of θ and of the optimizer's state) or
            "data=4,model=2" (two share the work on the same rows), -1 for all that are left; or a `jax.sharding.Mesh`
            with such axes. θ comes back as it lies there.

        progress: whether a bar, or in a file or pipe a line an epoch, is written to stderr.
        on_epoch: called after every epoch with its row of the history, to which it may add, and with the state, which
            is safe to keep; training stops if it returns something true.
        monitor: quantities of jp.stats by name, taken of θ and the next batch as training goes: `result.monitor`. The
            numbers are also in each epoch's row, the latest of that epoch.
        every: how many steps lie from one record to the next, counted from step 0 of the first run. One that would fall
            on a smaller last batch is left out.
        log: where the run is written down while it goes on: "run.csv" (a table), "run.jsonl" (JSON lines), or a folder
            for TensorBoard; several in a list.
        explore: whether training can be watched in the browser while it runs, with the extra `explore`; the page's
            address is printed. Numbers stay the same, bit for bit. A function starts a watcher of your own, see
            jaxprop/train/watching.py.

        state: what an earlier run left as `result.state`, to go on from: with the same key, rows and batch size two
            runs of 5 epochs are one of 10, bit for bit; one that was interrupted ends its epoch first.
        checkpoints: a folder that keeps the run as it goes on, so that it can go on after a `kill -9`; a path, or
            `jp.train.Checkpoints(path, every_seconds=)`. A folder that keeps a run already is refused without `resume`.
        resume: whether to go on from what the folder keeps, bit for bit; `epochs` is then the number in all. One that
            keeps nothing yet is begun with, and a run that had ended gives its result again.

    Raises:
        DataError: rows cannot be used.
        JaxpropError: the optimizer needs what `fit` does not have, there are not the devices that `mesh` asks for, or
            rows lie on several devices and `mesh` is not given.
        ShapeError: shapes do not fit.
        TrainingError: a number became NaN or infinite; the text names the step and the first such layer. What there
            was before is its `.result`, as it is that of whatever else ends training, such as an error in on_epoch.
        TrainingInterrupted: Ctrl-C was pressed, or SIGTERM came; a KeyboardInterrupt with `.result`.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> from jaxprop import HalfSquaredError, Linear
    >>> result = fit(Linear(1, bias=False), HalfSquaredError(), optax.sgd(1.0), (x, 2 * x), epochs=20, progress=False)
    >>> round(float(result.params.W[0, 0]), 3)
    2.0
    """
    counts = {"epochs": epochs, "batch_size": batch_size, "patience": 1 if patience is None else patience}
    for name, value in counts.items():
        check_whole(value.item() if isinstance(value, np.integer) else value, f"fit: {name}")
    _check_going_on(params, state, on_epoch)
    _check_feedback(rule, feedback, state)
    explorer = starter(explore)
    if explorer is not None and not alone():
        raise JaxpropError("fit: explore watches a run of one process, and this job has several: leave it out")
    logs = read_log(log if is_first() else None)
    key, start = _key(key), together([*([] if explorer is None else [explorer]), *logs])
    held = None if validation is None else read_data(validation, "validation")
    devices = read_mesh(mesh, net, batch_size)
    if devices is None:
        for name, tree in (("data", data), ("params", params), ("state", state), ("validation", validation)):
            refuse_spread(tree, name)
    recipe = read_recipe("fit", net, cost, optimizer, grad, rule, precision, devices)
    rows = read_data(data, "data", weights, mask)
    rows, held = (in_precision(part, recipe.precision) for part in (rows, held))
    watching, keeper = read_monitor(monitor, every, recipe), read_checkpoints(checkpoints, resume)
    begin = params if state is None else state
    run = Run(recipe, rows, held, begin, batch_size, key, watching, feedback, devices, keeper)
    turns = {"params": begin, "epochs": epochs, "patience": patience, "resume": resume, "mesh": str(mesh)}
    check_same(lambda: identity(run) | turns)
    said = keeper.restore(run)
    if said and progress and is_first():
        print(f"fit: {said}", file=sys.stderr)
    until = run.began + epochs
    steps = run.batches.steps
    shown = Progress(
        None if steps is None else (until - run.epochs) * steps - run.place, until, progress and is_first()
    )
    with run.stopping, run.watched(start, until - run.epochs), shown, ThreadPoolExecutor(1) as pool:
        try:
            return _epochs(run, until, patience, on_epoch, shown, pool)
        except KeyboardInterrupt as stop:
            asked = stop if isinstance(stop, Asked) else None
            number = signal.SIGINT if asked is None else asked.number
            raise TrainingInterrupted(run.end("interrupted", whole=asked is not None), number) from None
        except Exception as error:
            await_news(error)
            with contextlib.suppress(AttributeError):
                error.result = run.end("failed")  # pyright: ignore[reportAttributeAccessIssue]
            raise


def _epochs(
    run: Run,
    until: int,
    patience: int | None,
    on_epoch: Callable[[Row, FitState], object] | None,
    shown: Progress,
    pool: ThreadPoolExecutor,
) -> FitResult:
    """Train until that epoch, or until there is a reason to stop."""
    if run.stopped == "callback":  # a kept run that on_epoch had ended: it may be of another mind now
        if any_process(on_epoch is not None and bool(on_epoch(run.history[-1], at_home(run.going_on())))):
            return run.end("callback")
        run.stopped = "failed"
    while True:
        run.stopping.here()  # also after the last epoch, whose result would be lost with a signal that ends the program
        if patience is not None and run.epochs - run.best.epoch >= patience:
            return run.end("early")
        if run.epochs >= until:
            return run.end("finished")
        row = run.epoch(shown, pool, more=run.epochs + 1 < until)
        done = any_process(on_epoch is not None and bool(on_epoch(row, at_home(run.going_on()))))
        run.stopped = "callback" if done else run.stopped
        run.tell(row)
        if done:
            return run.end("callback")


def _key(given: Any) -> Key[Array, ""]:
    key = as_key(given, "fit: key")
    if key is not None and key.ndim:
        raise JaxpropError(f"fit: key must be one key, found an array of keys of shape {list(key.shape)}")
    return jax.random.key(0) if key is None else key


def _check_feedback(rule: Any, feedback: PyTree, state: FitState | None) -> None:
    held = None if state is None else state.feedback
    if rule is None and (feedback is not None or held is not None):
        what = "feedback" if feedback is not None else "a state with the feedback of a rule"
        raise JaxpropError(f"fit: found {what} and no rule: say rule=, such as rule=jp.rules.FeedbackAlignment()")
    if feedback is not None and held is not None:
        raise JaxpropError("fit: found both feedback and state, which holds its own: give one of them")


def _check_going_on(params: Any, state: Any, on_epoch: Any) -> None:
    if state is not None and params is not None:
        raise JaxpropError("fit: found both params and state, which holds its own: give one of them")
    if not isinstance(state, FitState | None):
        hint = "write state=result.state" if isinstance(state, FitResult) else "it is what a run leaves as result.state"
        raise JaxpropError(f"fit: state must be a FitState, found {type(state).__name__}; {hint}")
    if not (on_epoch is None or callable(on_epoch)):
        raise JaxpropError(f"fit: on_epoch must be a function of (row, state), found {on_epoch!r}")
    for path, leaf in by_path(params).items():
        dtype = getattr(leaf, "dtype", type(leaf))
        if not (isinstance(leaf, float | complex) or jnp.issubdtype(dtype, jnp.inexact)):
            where = join("params", path).rstrip(".")
            raise ShapeError(f"fit: {where} must be floating, found {getattr(dtype, '__name__', dtype)}")
