"""`fit`: an optax training run at full speed, for a Layer or for any f(x, params).

An epoch is a loop compiled once (`steps.py`): batch, gradient, update, with donated state. A thread shuffles and
gathers rows meanwhile (`batches.py`); `run.py` keeps the state, and Ctrl-C leaves the best so far.
"""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jaxtyping import ArrayLike, Key, PyTree, Shaped

from jaxprop.checks import check_rows, check_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.network.call import Network, require_layer
from jaxprop.train.progress import Progress
from jaxprop.train.result import FitResult, TrainingInterrupted
from jaxprop.train.run import Rows, Run
from jaxprop.train.steps import Recipe, Way


def fit(
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    data: tuple[PyTree[Shaped[ArrayLike, "N ..."]], Shaped[ArrayLike, "N ..."]],
    *,
    params: PyTree = None,
    epochs: int = 30,
    batch_size: int = 32,
    key: Key[Array, ""] | None = None,
    validation: tuple[PyTree[Shaped[ArrayLike, "M ..."]], Shaped[ArrayLike, "M ..."]] | None = None,
    patience: int | None = None,
    grad: Way = "auto",
    progress: bool = True,
) -> FitResult:
    """Train f(x, θ) on rows `(x, targets)`, first axis N, and return the parameters with their history.

    Every row is used in every epoch, the last partial batch in one smaller step.

    Args:
        net: a Layer, or any callable f(x, params); then `params` is required and `grad="manual"` refused.
        cost: C_n, such as `HalfSquaredError()`.
        optimizer: one of optax's; the learning rate is its.
        data: the rows (x, targets).
        params: θ to start from, which is copied; by default `net.init` draws it.
        epochs: how often all rows are gone through.
        batch_size: how many rows a step takes.
        key: where all that is random comes from (init, the order of rows, what layers draw); by default
            `jax.random.key(0)`.
        validation: rows measured after every epoch: cost, and accuracy (labels) or R² (numbers). A BatchNorm then has
            the statistics of at most 4096 training rows; for use, `result.params` still need `freeze_statistics`.
        patience: after how many epochs without a better (validation) cost it stops, with the best parameters.
        grad: "auto" for `jax.grad`, "manual" for the hand-derived chain rule; the numbers are the same.
        progress: whether a bar, or a line now and then, is written to stderr.

    Raises:
        DataError: rows cannot be used.
        ShapeError: shapes do not fit.
        TrainingError: a number became NaN or infinite; the text names the step and the first such layer.
        TrainingInterrupted: Ctrl-C was pressed; a KeyboardInterrupt with `.result`.

    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> from jaxprop import HalfSquaredError, Linear
    >>> result = fit(Linear(1, bias=False), HalfSquaredError(), optax.sgd(1.0), (x, 2 * x), epochs=20, progress=False)
    >>> round(float(result.params.W[0, 0]), 3)
    2.0
    """
    _check_counts(epochs=epochs, batch_size=batch_size, patience=1 if patience is None else patience)
    key = _key(key)
    held = None if validation is None else _rows(validation, "validation")
    run = Run(_recipe(net, cost, optimizer, grad), _rows(data, "data"), held, params, batch_size, key)
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


def _recipe(net: Network, cost: Cost, optimizer: optax.GradientTransformation, grad: Way) -> Recipe:
    if not callable(getattr(optimizer, "update", None)):
        raise JaxpropError(f"fit: optimizer must come from optax, such as optax.adam(0.01), found {optimizer!r}")
    pick(grad, ("auto", "manual"), "grad")
    if grad == "manual":
        require_layer(net, 'grad="manual"')
    return Recipe(net, cost, optimizer, grad)


def _key(key: Key[Array, ""] | None) -> Key[Array, ""]:
    if key is None:
        return jax.random.key(0)
    if not (isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        raise JaxpropError(f"fit: key must be a JAX key such as jax.random.key(0), found {key!r}")
    return key


def _rows(data: tuple[PyTree, ArrayLike], name: str) -> Rows:
    """Rows as numpy arrays in JAX's own precision, checked."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise JaxpropError(f"fit: {name} must be a pair (x, targets), found {type(data).__name__}")
    x, targets = (jax.tree.map(np.asarray, part) for part in data)
    for part in jax.tree.leaves(x):
        check_rows(part, targets, name)
    return jax.tree.map(lambda a: a.astype(jax.dtypes.canonicalize_dtype(a.dtype), copy=False), (x, targets))


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        check_whole(value.item() if isinstance(value, np.integer) else value, f"fit: {name}")
