"""`sweep`: seeds × settings in as few compiled programs as can be, each run the one that `fit` would make alone.

Settings that may be numbers in a program (a learning rate) go side by side with the seeds, in one; what changes the
program itself (a layer's size, an optimizer's name) has a program each, in turn.
"""

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float, PyTree, Shaped

from jaxprop.backward.rules.edits import RuleLike
from jaxprop.checks import check_whole, is_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.settings import shortly
from jaxprop.network.call import Network
from jaxprop.train.precision import read_precision, with_enough_bits
from jaxprop.train.progress import Progress
from jaxprop.train.rows import Rows
from jaxprop.train.signals import Asked, Stopping
from jaxprop.train.sources import in_precision, read_data
from jaxprop.train.steps import Way
from jaxprop.train.sweeps.result import SweepInterrupted, SweepResult
from jaxprop.train.sweeps.settings import BATCH_SIZE, Makers, Setting, combinations
from jaxprop.train.sweeps.task import Recipes, Task
from jaxprop.train.sweeps.whole import Whole

Pair = tuple[PyTree[Shaped[ArrayLike, "N ..."]], Shaped[ArrayLike, "N ..."]]


@with_enough_bits
def sweep(
    net: Network | Callable[..., Network],
    cost: Cost | Callable[..., Cost],
    make_optimizer: Any,
    data: Pair,
    *,
    settings: Mapping[str, Sequence[Any]] | Sequence[Setting] | None = None,
    seeds: int | Sequence[int] = 8,
    params: PyTree = None,
    epochs: int = 30,
    batch_size: int = 32,
    validation: Pair | tuple[Any, ...] | None = None,
    by: str | None = None,
    grad: Way | None = None,
    progress: bool = True,
    weights: Float[ArrayLike, " N"] | None = None,
    mask: PyTree[Shaped[ArrayLike, "N ..."]] = None,
    rule: RuleLike | None = None,
    precision: str | None = None,
    at_once: int | None = None,
    keep_params: bool = False,
) -> SweepResult:
    """Train f(x, θ) with every setting and from every seed, many runs in one compiled program; return a table of them.

    Each run is `fit(net, cost, make_optimizer(**setting), data, key=jax.random.key(seed), ...)`: the same θ to start
    from, the same order of rows, the same numbers but for rounding. Runs are divided among the devices there are; on a
    CPU, `jax.config.update("jax_num_cpu_devices", n)` before JAX is first used makes n of its cores.

    Args:
        net: a Layer, or any callable f(x, params), or a function of settings that makes one.
        cost: C_n, or a function of settings that makes it, such as the class `Huber`.
        make_optimizer: a function of settings such as `optax.adam`, or an optimizer that is the same for all.
        data: the rows (x, targets), as `fit` takes them.
        settings: a dict of lists, all combinations of which are tried, or a list of dicts. Who takes which is read
            from the parameters' names; `batch_size` is one of `sweep`'s own. What is a number to optimizer or cost is
            one in the program; what cannot be (found out by trying) has a program for each value.
        seeds: how many, from 0 on, or which.
        params: θ to start from, or a function that makes it of `jax.random.key(seed)`; by default `net.init` draws it.
        epochs: how often all rows are gone through.
        batch_size: how many rows a step takes.
        validation: rows measured after every epoch, as in `fit`.
        by: what the best epoch and the best run are judged by: "validation_cost", "validation_accuracy",
            "validation_r2" or "cost". By default the validation cost; where settings change the cost, accuracy or R².
        grad: "auto" for `jax.grad`, "manual" for the hand-derived chain rule.
        progress: whether progress is written to stderr.
        weights: how much each row counts, w `[N]`.
        mask: what padding is masked by, with first axis N.
        rule: how errors come back through layers, one of `jp.rules`.
        precision: what steps are computed in, as in `fit`.
        at_once: how many runs a program takes at most; by default as many as fit into half of the free memory.
        keep_params: whether θ of every run is kept, as `result.params`.

    A run in which a number becomes NaN or infinite is marked with the epoch, and stops none of the others.

    Raises:
        DataError: rows cannot be used.
        JaxpropError: a setting is taken by nobody, or a setting makes something that cannot be trained.
        ShapeError: shapes do not fit.
        SweepInterrupted: Ctrl-C was pressed; a KeyboardInterrupt with `.result`.

    >>> import optax
    >>> from jaxprop import HalfSquaredError, Linear
    >>> x = np.linspace(-1, 1, 64, dtype=np.float32)[:, None]
    >>> result = sweep(
    ...     Linear(1, bias=False), HalfSquaredError(), optax.sgd, (x, 2 * x), settings={"learning_rate": [0.1, 1.0]},
    ...     seeds=4, epochs=20, progress=False,
    ... )
    >>> result.best.setting, round(float(result.best.params.W[0, 0]), 3), result.programs
    ({'learning_rate': 1.0}, 2.0, 1)
    """
    asked = combinations(settings)
    names = tuple(asked[0])
    for name, value in (("epochs", epochs), (BATCH_SIZE, batch_size), ("at_once", 1 if at_once is None else at_once)):
        check_whole(value.item() if isinstance(value, np.integer) else value, f"sweep: {name}")
    task = Task(
        Recipes(Makers.of(net, cost, make_optimizer, names), grad, rule, precision), params,
        _in_memory(data, "data", precision, weights, mask),
        None if validation is None else _in_memory(validation, "validation", precision), batch_size, _seeds(seeds),
    )  # fmt: skip
    whole = Whole(task, asked, epochs, by, at_once, keep_params)
    total = sum(len(plan.members) * plan.steps for plan in whole.plans) * len(task.seeds) * epochs
    shown = Progress(total, epochs, progress)
    with Stopping() as stopping, shown:
        try:
            for plan in whole.plans:
                whole.run(plan, shown, stopping)
            return whole.result("finished")
        except KeyboardInterrupt as stop:
            number = stop.number if isinstance(stop, Asked) else signal.SIGINT
            raise SweepInterrupted(whole.result("interrupted"), number) from None
        except Exception as error:
            with contextlib.suppress(AttributeError):
                error.result = whole.result("failed")  # pyright: ignore[reportAttributeAccessIssue]
            raise


def _in_memory(given: Any, name: str, precision: str | None, weights: Any = None, mask: Any = None) -> Rows:
    rows = in_precision(read_data(given, name, weights, mask), read_precision(precision))
    if not isinstance(rows, Rows):
        raise JaxpropError(
            f"sweep: {name} are read as they are needed, and runs side by side need them in memory: give arrays, such "
            "as np.load(file)[:]"
        )
    return rows


def _seeds(given: Any) -> tuple[int, ...]:
    given = given.item() if isinstance(given, np.integer) else given
    if is_whole(given):
        return tuple(range(given))
    try:
        found = tuple(int(seed) if isinstance(seed, np.integer) else seed for seed in given)
    except TypeError:
        found = ()
    if not found or not all(is_whole(seed, least=0) for seed in found) or len(set(found)) < len(found):
        raise JaxpropError(
            f"sweep: seeds must be how many, such as 8, or which, such as [0, 1, 2], each once, found {shortly(given)}"
        )
    return found
