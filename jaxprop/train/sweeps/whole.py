"""A sweep as it goes on: its programs, one after the other, and what there is so far."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError, pick
from jaxprop.layers.layer import Layer
from jaxprop.layers.settings import shortly
from jaxprop.train.progress import Progress
from jaxprop.train.run import ROWS_TO_FREEZE
from jaxprop.train.signals import Stopping
from jaxprop.train.steps import Recipe
from jaxprop.train.sweeps.gathered import Gathered
from jaxprop.train.sweeps.programs import Lane, Place, Program, program_of
from jaxprop.train.sweeps.result import BestRun, SweepResult
from jaxprop.train.sweeps.scores import Truth
from jaxprop.train.sweeps.settings import BATCH_SIZE, Setting
from jaxprop.train.sweeps.side_by_side import Seeds, SideBySide
from jaxprop.train.sweeps.task import Task
from jaxprop.train.sweeps.tracing import traceable


@dataclass(frozen=True)
class Plan:
    """One program: what its runs have in common, and the numbers of its settings."""

    fixed: Setting
    members: list[int]
    recipe: Recipe
    truth: Truth | None
    steps: int


class Whole:
    """The sweep as it goes on: its plans, and what there is so far."""

    def __init__(
        self, task: Task, settings: list[Setting], epochs: int, by: str | None, at_once: int | None, keep: bool
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
        varied = self.task.recipes.makers.taken("cost")
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
        numbers = self.task.recipes.makers.numeric(self.settings)
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
        starts = jax.tree.map(lambda a: jax.ShapeDtypeStruct((1, *a.shape), a.dtype), self._spec(recipe))
        program = self._program(setting, names)
        lanes = self._lanes([(setting, 0)] * len(self.place.devices), names)
        state = jax.eval_shape(program.begin, lanes, *starts)
        orders = jax.ShapeDtypeStruct((1, self.seeds.rows), np.int32)
        counts = (np.int32(0),) * 3
        jax.eval_shape(program.takes[0], state, lanes, self.task.data, orders, *counts)

    def _program(self, setting: Setting, numbers: tuple[str, ...]) -> Program:
        fixed = {name: value for name, value in setting.items() if name not in numbers}
        size = setting.get(BATCH_SIZE, self.task.batch_size)
        return program_of(self.task.recipes, fixed, self.seeds.rows, size, self.place)

    def _start(self, recipe: Recipe, seeds: int) -> tuple[PyTree, PyTree]:
        """θ and feedback of every seed, stacked."""
        keys = zip(self.seeds.init_keys[:seeds], self.task.seeds, strict=False)
        starts = [self.task.start(recipe, key, seed) for key, seed in keys]
        return jax.tree.map(lambda *a: np.stack([np.asarray(part) for part in a]), *starts)  # compiles nothing

    def _lanes(self, runs: list[tuple[Setting, int]], numbers: tuple[str, ...]) -> Lane:
        """What makes each of some runs another than the others."""
        values: dict[str, Any] = {name: _stacked([setting[name] for setting, _ in runs]) for name in numbers}
        which: Any = np.array([s for _, s in runs], np.int32)
        return Lane(values, which, jax.random.wrap_key_data(jnp.asarray(self.seeds.layer_keys[which])))

    def _spec(self, recipe: Recipe) -> tuple[PyTree, PyTree]:
        """What θ and feedback of a run are like."""
        return jax.eval_shape(lambda key: self.task.start(recipe, key, self.task.seeds[0]), self.seeds.init_keys[0])

    def _plan(self, fixed: Setting, members: list[int]) -> Plan:
        truth = recipe = None
        for k in members:
            setting = self.settings[k]
            try:
                recipe = self.task.checked(setting)
                if k == members[0] or self.task.recipes.makers.taken("cost"):
                    truth = self.task.truth(recipe, self._spec(recipe)[0])
                if k == members[0] and not self.numbers:  # with numbers it has been tried
                    self._try(setting, ())
            except JaxpropError as error:
                where = ", ".join(f"{name}={shortly(value)}" for name, value in setting.items())
                raise type(error)(f"{error} (found with {where})" if where else str(error)) from error
        assert recipe is not None
        size = self.settings[members[0]].get(BATCH_SIZE, self.task.batch_size)
        return Plan(fixed, members, recipe, truth, -(-self.seeds.rows // size))

    def run(self, plan: Plan, shown: Progress, stopping: Stopping) -> None:
        """Train the runs of one program, as many at once as fit."""
        task = self.task
        first = self.settings[plan.members[0]]
        program = self._program(first, self.numbers)
        net = plan.recipe.net
        mixes = task.held is not None and isinstance(net, Layer) and net.mixes_examples
        chosen = self.seeds.orders(0, ROWS_TO_FREEZE) if mixes else None
        start = self.place.everywhere(self._start(plan.recipe, len(task.seeds)))
        runs = SideBySide(
            program, plan.truth, task.data, task.held, self.seeds, chosen, start, self.table, shown, stopping
        )
        numbers = [(k, s) for k in plan.members for s in range(len(task.seeds))]
        lanes = self._lanes([(self.settings[k], s) for k, s in numbers], self.numbers)
        self.at_once = size = runs.at_once(lanes, self.wanted)
        for i in range(0, len(numbers), size):
            own = numbers[i : i + size]
            filled = np.resize(np.arange(i, i + len(own)), size)
            runs.told = self._told(plan, i + 1, len(own), len(numbers))
            before = self.table.done.sum()
            try:
                runs.run(jax.tree.map(lambda a, f=filled: a[f], lanes), own)
                if self.keep:
                    trained = jax.device_get(program.for_use(runs.state))
                    for j, (k, s) in enumerate(own):
                        self.table.params[k, task.seeds[s]] = jax.tree.map(lambda a, j=j: a[j], trained)
            finally:
                self.steps += int(self.table.done.sum() - before) * plan.steps
                self._keep_best(runs, own)

    def _told(self, plan: Plan, first: int, count: int, runs: int) -> str:
        """Where the sweep is, in words."""
        program = f"program {self.plans.index(plan) + 1} of {len(self.plans)}" if len(self.plans) > 1 else ""
        some = f"runs {first} to {first + count - 1} of {runs}" if count < runs else f"{runs} runs"
        return " · ".join(filter(None, (program, some)))

    def _keep_best(self, runs: SideBySide, own: list[tuple[int, int]]) -> None:
        """Keep the parameters of the best run, if it is one of these."""
        number = self.table.ahead(self.table.lanes(own))
        if number is not None:
            self.table.best_params = jax.tree.map(lambda a: np.asarray(a[number]), runs.best)

    def result(self, stopped: str) -> SweepResult:
        """Return what there is now."""
        table, task = self.table, self.task
        best = None
        if table.best is not None:
            k, s = table.best
            epoch = int(table.best_epoch[k, s])
            row: dict[str, float] = {"epoch": epoch} | {
                n: float(v[k, s, epoch - 1]) for n, v in table.histories.items()
            }
            recipe = task.recipes.of(self.settings[k])
            params = jax.tree.map(jnp.asarray, table.best_params)
            best = BestRun(self.settings[k], task.seeds[s], params, row, recipe.net, recipe.cost)
        in_turn = tuple(name for name in self.settings[0] if name not in self.numbers)
        return SweepResult(
            tuple(self.settings), task.seeds, table.histories, table.by, table.diverged, table.best_epoch, table.done,
            best, in_turn, len(self.plans), self.at_once, self.steps, time.monotonic() - self.started, stopped,
            table.params if self.keep else None,
        )  # fmt: skip


def _stacked(values: list[Any]) -> jax.Array:
    """Numbers as an array that takes the dtype of what it meets, as Python's own do."""
    zero = 0 if all(isinstance(value, int) for value in values) else 0.0
    found = jnp.full(len(values), zero)
    return found.at[:].set(np.array(values, found.dtype))


def _same(value: Any) -> Any:
    """What is equal for values that make the same program: 1, 1.0 and True are three."""
    try:
        hash(value)
    except TypeError:
        return type(value), repr(value)
    return type(value), value


def _devices(runs: int) -> tuple[Any, ...]:
    """The devices of this process, or the one that the user made the default; no more than there are runs."""
    chosen = jax.config.jax_default_device  # pyright: ignore[reportAttributeAccessIssue]
    found = list(jnp.zeros(()).devices()) if chosen is not None else jax.local_devices()
    return tuple(found[:runs])
