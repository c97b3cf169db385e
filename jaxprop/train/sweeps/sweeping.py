"""`sweep`: seeds × settings in as few compiled programs as can be, each run the one that `fit` would make alone.

Settings that may be numbers in a program (a learning rate) go side by side with the seeds, in one; what changes the
program itself (a layer's size, an optimizer's name) has a program each, in turn.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree, Shaped

from jaxprop.arrays.shapes import spec
from jaxprop.backward.rules.edits import RuleLike, as_rule
from jaxprop.checks import check_whole, is_whole
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.network.call import Network, call, require, require_layer
from jaxprop.train.precision import kept, read_precision
from jaxprop.train.progress import Progress
from jaxprop.train.rows import Rows, read_rows
from jaxprop.train.run import FEEDBACK, ROWS_TO_FREEZE
from jaxprop.train.steps import Recipe, Way
from jaxprop.train.sweeps.gathered import Gathered
from jaxprop.train.sweeps.programs import Lane, Place, Program
from jaxprop.train.sweeps.result import BestRun, SweepInterrupted, SweepResult
from jaxprop.train.sweeps.scores import Truth
from jaxprop.train.sweeps.settings import BATCH_SIZE, Makers, Setting, combinations
from jaxprop.train.sweeps.together import Seeds, Together
from jaxprop.train.sweeps.tracing import traceable

Pair = tuple[PyTree[Shaped[ArrayLike, "N ..."]], Shaped[ArrayLike, "N ..."]]


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
    task = _Task(
        Makers.of(net, cost, make_optimizer, names), *_way(grad, rule), read_precision(precision), params,
        read_rows(data, "data", weights, mask), None if validation is None else read_rows(validation, "validation"),
        batch_size, _seeds(seeds),
    )  # fmt: skip
    whole = _Whole(task, asked, epochs, by, at_once, keep_params)
    total = sum(len(plan.members) * plan.steps for plan in whole.plans) * len(task.seeds) * epochs
    shown = Progress(total, epochs, progress)
    with shown:
        try:
            for plan in whole.plans:
                whole.run(plan, shown)
            return whole.result("finished")
        except KeyboardInterrupt:
            raise SweepInterrupted(whole.result("interrupted")) from None
        except Exception as error:
            with contextlib.suppress(AttributeError):
                error.result = whole.result("failed")  # pyright: ignore[reportAttributeAccessIssue]
            raise


def _way(grad: Any, rule: RuleLike | None) -> tuple[Way, Any]:
    way = grad if grad is not None else "auto" if rule is None else "manual"
    pick(way, ("auto", "manual"), "grad")
    if rule is not None and way == "auto":
        raise JaxpropError('sweep: found rule= and grad="auto": jax.grad knows the chain rule alone; leave grad out')
    return way, None if rule is None else as_rule(rule, "sweep: rule")


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


@dataclass(frozen=True)
class _Task:
    """What all runs share."""

    makers: Makers
    way: Way
    rule: Any
    precision: Any
    params: Any
    data: Rows
    held: Rows | None
    batch_size: int
    seeds: tuple[int, ...]

    def recipe(self, setting: Mapping[str, Any]) -> Recipe:
        """Make the recipe of a setting, some of whose numbers may be tracers."""
        made = {part: self.makers.made(part, setting) for part in ("net", "cost", "optimizer")}
        return Recipe(made["net"], made["cost"], made["optimizer"], self.way, self.rule, self.precision)

    def checked(self, setting: Setting) -> Recipe:
        """Make the recipe of a setting with its real values, and see that it is one."""
        recipe = self.recipe(setting)
        require(recipe.net, recipe.cost, "sweep")
        if not isinstance(recipe.cost, Cost):
            raise JaxpropError(f"sweep: cost must be one such as HalfSquaredError(), found {shortly(recipe.cost)}")
        if not callable(getattr(recipe.optimizer, "update", None)):
            raise JaxpropError(
                f"sweep: make_optimizer must return one of optax's optimizers, found {shortly(recipe.optimizer)}"
            )
        if self.way == "manual":
            require_layer(recipe.net, 'grad="manual"' if self.rule is None else "sweep with a rule")
        for name in (BATCH_SIZE,):
            check_whole(setting.get(name, 1), f"sweep: {name}")
        return recipe

    def start(self, recipe: Recipe, key: jax.Array, seed: int) -> tuple[PyTree, PyTree]:
        """θ and feedback that a run starts with, as `fit` draws them."""
        net = recipe.net
        if self.params is not None:
            given = self.params(jax.random.key(seed)) if callable(self.params) else self.params
        elif isinstance(net, Layer):
            given = net.init(key, self.data.x)
        else:
            raise JaxpropError("sweep: a plain function f(x, params) needs its params: pass params=")
        params = kept(jax.tree.map(jnp.array, given), self.precision)
        if self.rule is None or not isinstance(net, Layer):
            return params, None
        return params, kept(
            self.rule.init(jax.random.fold_in(key, FEEDBACK), net, params, spec(self.data.x)), self.precision
        )

    def truth(self, recipe: Recipe, start: tuple[PyTree, PyTree]) -> Truth | None:
        """Check that rows, net and cost fit together; return what validation rows are held against."""
        params, feedback = start
        truth = None
        for rows in [self.data] if self.held is None else [self.data, self.held]:
            y = jax.eval_shape(lambda x, p, mask: call(recipe.net, x, p, mask=mask), rows.x, params, rows.mask)
            if isinstance(recipe.net, Layer):
                recipe.net.check_values(rows.x)
            recipe.cost.check(y, rows.targets)
            recipe.cost.check_values(y, rows.targets)
            truth = Truth.of(recipe.cost, rows, y.shape) if rows is self.held else None
        rng = jax.random.key(0) if isinstance(recipe.net, Layer) else None
        jax.eval_shape(recipe.value_and_grad, jax.tree.map(lambda a: a[:1], self.data), params, rng, feedback)
        return truth


@dataclass(frozen=True)
class _Plan:
    """One program: what its runs have in common, and the numbers of its settings."""

    fixed: Setting
    members: list[int]
    recipe: Recipe
    truth: Truth | None
    steps: int


class _Whole:
    """The sweep as it goes on: its plans, and what there is so far."""

    def __init__(
        self, task: _Task, settings: list[Setting], epochs: int, by: str | None, at_once: int | None, keep: bool
    ) -> None:
        self.task, self.settings, self.epochs, self.wanted = task, settings, epochs, at_once
        self.place = Place(_devices(len(settings) * len(task.seeds)))
        self.seeds = Seeds(task.seeds, len(task.data.targets))
        self.numbers = self._numbers()
        self.plans = [self._plan(fixed, members) for fixed, members in self._groups(self.numbers)]
        measured = ["cost"]
        if self.plans[0].truth is not None:
            scores = {plan.truth.score for plan in self.plans if plan.truth is not None and plan.truth.score}
            measured += ["validation_cost", *sorted(scores)]
        self.table = Gathered(settings, task.seeds, epochs, measured, self._by(by, measured))
        self.keep, self.at_once, self.started, self.steps = keep, 0, time.monotonic(), 0

    def _by(self, by: str | None, measured: list[str]) -> str:
        if by is not None:
            return pick(by, measured, "by")
        varied = {name for name in self.task.makers.takes["cost"] or ()}
        return measured[-1] if varied else measured[min(1, len(measured) - 1)]

    def _groups(self, numbers: tuple[str, ...]) -> list[tuple[Setting, list[int]]]:
        """Settings that differ in their numbers alone, together."""
        groups: dict[tuple, tuple[Setting, list[int]]] = {}
        for k, setting in enumerate(self.settings):
            fixed = {name: value for name, value in setting.items() if name not in numbers}
            groups.setdefault(tuple(map(_same, fixed.values())), (fixed, []))[1].append(k)
        return list(groups.values())

    def _numbers(self) -> tuple[str, ...]:
        """The settings that are numbers in a program, found out by trying with every program there would be."""
        numbers = self.task.makers.numeric(self.settings)
        while True:
            found = numbers
            for _, members in self._groups(numbers):
                found = traceable(found, lambda names, k=members[0]: self._try(self.settings[k], names))
            if found == numbers:
                return numbers
            numbers = found

    def _try(self, setting: Setting, names: tuple[str, ...]) -> None:
        """Trace what a program with these numbers would do."""
        recipe = self.task.checked(setting)
        starts = jax.eval_shape(lambda: self._start(recipe, 1))
        program = self._program({n: v for n, v in setting.items() if n not in names}, setting, None)
        lanes = self._lanes([(setting, 0)] * len(self.place.devices), names)
        state = jax.eval_shape(program.begin, lanes, *starts)
        take = program.take_full if program.full else program.take_rest
        orders = jax.ShapeDtypeStruct((1, self.seeds.rows), np.int32)
        counts = (np.int32(0),) * 3
        jax.eval_shape(take, state, lanes, self.task.data, orders, *counts)

    def _program(self, fixed: Setting, setting: Setting, truth: Truth | None) -> Program:
        def recipe_of(numbers: Mapping[str, Any]) -> Recipe:
            return self.task.recipe({**fixed, **numbers})

        size = setting.get(BATCH_SIZE, self.task.batch_size)
        return Program(recipe_of, self.seeds.rows, size, truth, self.place)

    def _start(self, recipe: Recipe, seeds: int) -> tuple[PyTree, PyTree]:
        """θ and feedback of every seed, stacked."""
        keys = zip(self.seeds.init_keys[:seeds], self.task.seeds, strict=False)
        return jax.tree.map(lambda *a: jnp.stack(a), *[self.task.start(recipe, key, seed) for key, seed in keys])

    def _lanes(self, runs: list[tuple[Setting, int]], numbers: tuple[str, ...]) -> Lane:
        """What makes each of some runs another than the others."""
        values = {name: [setting[name] for setting, _ in runs] for name in numbers}
        for name, found in values.items():  # as Python's numbers, which take the dtype of what they meet
            whole = all(isinstance(value, int) for value in found)
            values[name] = jnp.stack([jnp.asarray(value if whole else float(value)) for value in found])
        which = [s for _, s in runs]
        return Lane(values, np.array(which, np.int32), jnp.stack([self.seeds.layer_keys[s] for s in which]))

    def _plan(self, fixed: Setting, members: list[int]) -> _Plan:
        truth = recipe = None
        for k in members:
            setting = self.settings[k]
            try:
                recipe = self.task.checked(setting)
                if k == members[0] or self.task.makers.takes["cost"]:
                    start = jax.eval_shape(lambda r=recipe: self.task.start(r, self.seeds.init_keys[0], self.task.seeds[0]))
                    truth = self.task.truth(recipe, start)
                if k == members[0]:
                    self._try(setting, self.numbers)
            except JaxpropError as error:
                where = ", ".join(f"{name}={shortly(value)}" for name, value in setting.items())
                raise type(error)(f"{error} (found with {where})" if where else str(error)) from error
        assert recipe is not None
        size = self.settings[members[0]].get(BATCH_SIZE, self.task.batch_size)
        return _Plan(fixed, members, recipe, truth, -(-self.seeds.rows // size))

    def run(self, plan: _Plan, shown: Progress) -> None:
        """Train the runs of one program, as many at once as fit."""
        task = self.task
        first = self.settings[plan.members[0]]
        program = self._program(plan.fixed, first, plan.truth)
        net = plan.recipe.net
        mixes = task.held is not None and isinstance(net, Layer) and net.mixes_examples
        chosen = self.seeds.orders(0, ROWS_TO_FREEZE) if mixes else None
        start = self.place.everywhere(self._start(plan.recipe, len(task.seeds)))
        together = Together(program, task.data, task.held, self.seeds, chosen, start)
        numbers = [(k, s) for k in plan.members for s in range(len(task.seeds))]
        lanes = self._lanes([(self.settings[k], s) for k, s in numbers], self.numbers)
        self.at_once = size = together.at_once(lanes, self.wanted)
        for i in range(0, len(numbers), size):
            own = numbers[i : i + size]
            filled = np.resize(np.arange(i, i + len(own)), size)
            before = self.table.done.sum()
            try:
                together.run(jax.tree.map(lambda a, f=filled: a[f], lanes), own, self.epochs, self.table, shown)
                if self.keep:
                    trained = jax.device_get(program.for_use(together.state))
                    for j, (k, s) in enumerate(own):
                        self.table.params[k, task.seeds[s]] = jax.tree.map(lambda a, j=j: a[j], trained)
            finally:
                self.steps += int(self.table.done.sum() - before) * plan.steps
                self._keep_best(together, own)

    def _keep_best(self, together: Together, own: list[tuple[int, int]]) -> None:
        """Keep the parameters of the best run, if it is one of these."""
        number = self.table.ahead(self.table.lanes(own))
        if number is not None:
            self.table.best_params = jax.tree.map(lambda a: np.asarray(a[number]), together.best)

    def result(self, stopped: str) -> SweepResult:
        """Return what there is now."""
        table, task = self.table, self.task
        best = None
        if table.best is not None:
            k, s = table.best
            epoch = int(table.best_epoch[k, s])
            row = {"epoch": float(epoch)} | {n: float(v[k, s, epoch - 1]) for n, v in table.histories.items()}
            recipe = task.recipe(self.settings[k])
            params = jax.tree.map(jnp.asarray, table.best_params)
            best = BestRun(self.settings[k], task.seeds[s], params, row, recipe.net, recipe.cost)
        in_turn = tuple(name for name in self.settings[0] if name not in self.numbers)
        return SweepResult(
            tuple(self.settings), task.seeds, table.histories, table.by, table.diverged, table.best_epoch, table.done,
            best, in_turn, len(self.plans), self.at_once, self.steps, time.monotonic() - self.started, stopped,
            table.params if self.keep else None,
        )  # fmt: skip


def _same(value: Any) -> Any:
    """What is equal for values that make the same program: 1, 1.0 and True are three."""
    try:
        hash(value)
    except TypeError:
        return type(value), repr(value)
    return type(value), value


def _devices(runs: int) -> tuple[jax.Device, ...]:
    """The devices of this process, or the one that the user made the default; no more than there are runs."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    found = list(jnp.zeros(()).devices()) if chosen is not None else jax.local_devices()
    return tuple(found[:runs])
