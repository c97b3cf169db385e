"""An experiment: a problem, a network, a cost, an optimizer and θ, and all that a page may do to them."""

import time
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.backward.manual import Record
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers import Layer
from jaxprop.network import by_path
from jaxprop.train.batches import epoch_order
from jaxprop.train.steps import Recipe, State, begin
from jaxprop_explorer.experiments import programs, wanted
from jaxprop_explorer.experiments.history import MOST_STEPS, Change, read_changes, remember
from jaxprop_explorer.experiments.making import made, same_rows
from jaxprop_explorer.experiments.measuring import Measured, accuracy, rows_measured
from jaxprop_explorer.experiments.problems import Problem, Source
from jaxprop_explorer.experiments.settings import KEPT, RULES, Settings, changed, optimizer, read
from jaxprop_explorer.experiments.theta import array_at, is_in, with_number

POINTS = 200  # of the history
LOOK_UP = 0.5  # seconds of training, about, after which it is asked whether anybody still wants it
FEEDBACK = 1  # folded into the key of the first weights, for a rule's own matrices

Phase = Literal["forward", "backward", "update"]


class Passed(NamedTuple):
    """One forward and one backward pass of the example in view: its row, the tape, C and ∂C/∂θ."""

    x: Array
    targets: Array
    tape: dict[str, Record]
    cost: Array
    grads: PyTree


class Experiment:
    """θ of one network on its way, from its settings on.

    `version` grows with every change, `step` counts updates, `history` holds what was changed at which step: from the
    settings it began with, history and steps the same θ comes again, to the last bit. `pulled` says whether a backward
    pass of the example in view is known; `phase` where a pass taken slowly stands.

    Args:
        net: a Layer.
        cost: C.
        rows: what is learned, targets as the cost wants them.
        params: θ.
        settings: how it is trained: learning rate, optimizer, batch size, seed and rule.
        steerable: whether a page may change it.
        source: where the rows come from; without it, only what keeps θ can be changed.
    """

    def __init__(
        self,
        net: Layer,
        cost: Cost,
        rows: Problem,
        params: PyTree,
        settings: Settings,
        steerable: bool = True,
        source: Source | None = None,
    ) -> None:
        self.steerable, self.source, self.began = steerable, source, settings
        self.version = 0
        self.chosen: tuple[str, tuple[int, ...]] | None = None  # a number of θ that a frame must have
        self._start(net, cost, rows, params, settings)

    @classmethod
    def of(cls, settings: Settings, history: Sequence[Any] = (), steps: int = 0) -> "Experiment":
        """Return the experiment that these settings describe, after the same changes and steps."""
        source = settings.source()
        found = cls(*made(settings, source), settings.complete(source), source=source)
        found.began = settings
        found.again(history, steps)
        return found

    def _start(self, net: Layer, cost: Cost, rows: Problem, params: PyTree, settings: Settings) -> None:
        """Begin: θ as given, no step taken, nothing changed."""
        self.net, self.cost, self.rows, self.settings = net, cost, rows, settings
        self.step = self.example = self._cursor = 0
        self.history: list[dict[str, Any]] = []
        self.costs: list[tuple[int, float, float | None]] = []
        self.diverged: str | None = None
        self.phase: Phase | None = None
        self.pulled = False
        self.gradient: PyTree = None  # that the last step went by, over its batch
        self._pace = 0.0  # steps a second, as measured
        self._passed: tuple[int, Passed] | None = None
        self._measured: tuple[int, Measured, Measured | None] | None = None
        self._shown: Passed | None = None  # the pass that the last update went by
        self._x, self._targets = jnp.asarray(rows.x), jnp.asarray(rows.targets)
        self._rows_measured = rows_measured(rows)
        self._kept = jax.tree.map(lambda p: np.ones(np.shape(p), bool), params)
        self._state = State(params, None)
        if self.steerable:
            self._recipe()
        self._changed()

    def _recipe(self) -> None:
        """Begin with the optimizer and the rule of the settings, at the θ that is there."""
        rule = RULES[self.settings.rule]
        self.recipe = Recipe(self.net, self.cost, optimizer(self.settings.optimizer or "sgd"), "manual", rule)
        feedback = None
        if rule is not None:
            key = jax.random.fold_in(jax.random.key(self.settings.seed), FEEDBACK)
            feedback = rule.init(key, self.net, self.params, self._x[:1])
        self._state = begin(self.recipe, self.params, feedback)
        self._rate()

    def _rate(self) -> None:
        self._state = programs.with_rate(self._state, self.settings.learning_rate or 0.01)

    # what it is

    @property
    def params(self) -> PyTree:
        """θ."""
        return self._state.params

    @params.setter
    def params(self, params: PyTree) -> None:
        self._state = self._state._replace(params=params)

    @property
    def feedback(self) -> PyTree:
        """The matrices that the rule brings errors back through; None for backpropagation."""
        return self._state.feedback

    @property
    def rule(self) -> Any:
        """The rule that errors come back by; None for backpropagation."""
        return RULES[self.settings.rule]

    @property
    def batch_size(self) -> int:
        """Rows a step."""
        return min(self.settings.batch_size or 32, len(self.rows.x))

    @property
    def epoch(self) -> int:
        """How many times the rows were gone through."""
        return self._cursor // len(self.rows.x)

    @property
    def row(self) -> tuple[Array, Array]:
        """The example in view, x `[1, ...]` and its target."""
        at = slice(self.example, self.example + 1)
        return jnp.asarray(self.rows.x[at]), jnp.asarray(self.rows.targets[at])

    @property
    def pruned(self) -> dict[str, list[list[int]]]:
        """Where weights are kept at 0, by path."""
        found = {path: np.argwhere(~np.asarray(kept)).tolist() for path, kept in by_path(self._kept).items()}
        return {path: places for path, places in found.items() if places}

    def batch(self, ahead: int = 0) -> np.ndarray:
        """Return the numbers of the rows that the next step goes by, or one further ahead."""
        return self._order(self._cursor + ahead * self.batch_size, 1)[0]

    def passed(self) -> Passed:
        """Return a forward and a backward pass of the example in view, by the rule; it is made once a version."""
        if self._shown is not None:
            return self._shown
        if self._passed is None or self._passed[0] != self.version:
            x, targets = self.row
            run = programs.passing(self.net, self.cost, self.rule)
            self._passed = self.version, Passed(x, targets, *run(self.params, self.feedback, x, targets))
        return self._passed[1]

    def measured(self) -> tuple[Measured, Measured | None]:
        """Return how good the network is on rows it trains on, and on those held out; once a version."""
        if self._measured is None or self._measured[0] != self.version:
            (x, targets), trained = self._rows_measured
            costs, expected = jax.device_get(programs.measuring(self.net, self.cost)(self.params, x, targets))
            parts = [slice(None, trained), slice(trained, None)]
            training, held = (self._measure(costs[part], expected[part], targets[part]) for part in parts)
            validation = held if len(costs) > trained else None
            self._measured = self.version, training, validation
            self._note(training.cost, None if validation is None else validation.cost)
        return self._measured[1:]

    def _measure(self, costs: np.ndarray, expected: np.ndarray, targets: np.ndarray) -> Measured:
        if not len(costs):
            return Measured(0.0, None)
        return Measured(float(np.mean(costs, dtype=np.float64)), accuracy(self.rows, self.cost, expected, targets))

    def _note(self, cost: float, validation: float | None) -> None:
        """Add a point to the history of the cost; every second one goes where they become too many."""
        if self.costs and self.costs[-1][0] == self.step:
            self.costs.pop()
        self.costs.append((self.step, cost, validation))
        if len(self.costs) > POINTS:
            self.costs[1:-1] = self.costs[1:-1:2]

    # what may be done

    def advance(self, steps: int) -> None:
        """Take some steps of the optimizer, each on a batch."""
        self._steer()
        self._shown, self.phase, self.pulled = None, None, True
        try:
            self._train(steps)
        finally:
            self._changed()  # what was trained before it was given up holds

    def run(self, seconds: float, most: int | None = None) -> bool:
        """Train for about so long, or for `most` steps; return whether it can go on."""
        self._steer()
        began, left = time.monotonic(), most or MOST_STEPS
        self._shown, self.phase, self.pulled = None, None, True
        while left > 0 and self.diverged is None:
            time_left = seconds - (time.monotonic() - began)
            if time_left <= 0:
                break
            steps = max(1, min(left, programs.STEPS_AT_ONCE, int(self._pace * time_left)))
            self._train(steps)
            left -= steps
        self._changed()
        return self.diverged is None

    def prepare(self) -> None:
        """Compile what a step needs, without taking one: while a page is being read, its first step gets ready."""
        if self.steerable:
            order = np.zeros((programs.STEPS_AT_ONCE, self.batch_size), np.int32)
            programs.training(self.recipe)(self._state, self._kept, self._x, self._targets, order, np.int32(0))

    def _train(self, steps: int) -> None:
        run = programs.training(self.recipe)
        while steps > 0 and self.diverged is None:
            wanted.check()
            soon = max(1, int(self._pace * LOOK_UP))
            now = min(steps, programs.STEPS_AT_ONCE, MOST_STEPS - self.step, soon)
            if now <= 0:
                self.diverged = f"Training stopped: {MOST_STEPS:,} steps are the most that an address brings back."
                break
            order = np.zeros((programs.STEPS_AT_ONCE, self.batch_size), np.int32)
            order[:now] = self._order(self._cursor, now)
            started = time.monotonic()
            trained = run(self._state, self._kept, self._x, self._targets, order, np.int32(now))
            taken, finite = jax.device_get((trained.steps, trained.finite))
            self._pace = min(2 * self._pace + 1, now / max(time.monotonic() - started, 1e-6))
            self._state = trained.state
            if taken:
                self.gradient = trained.grads
            self.step += int(taken)
            self._cursor += int(taken) * self.batch_size
            steps -= now
            if not finite:
                self.diverged = (
                    f"Training stopped after step {self.step}: the next one would make C or a weight infinite or NaN. "
                    f"The learning rate {self.settings.learning_rate:g} is probably too large here: lower it, or start "
                    "anew."
                )

    def _order(self, cursor: int, steps: int) -> np.ndarray:
        """Rows `[steps, B]` from a place in the endless order on: epoch after epoch, each in an order of its own."""
        rows, wanted, found = len(self.rows.x), steps * self.batch_size, []
        while wanted > 0:
            epoch, at = divmod(cursor, rows)
            part = self._epoch(epoch)[at : at + wanted]
            found.append(part)
            cursor, wanted = cursor + len(part), wanted - len(part)
        return np.concatenate(found).reshape(steps, self.batch_size)

    def _epoch(self, epoch: int) -> np.ndarray:
        seed = np.array([0, self.settings.seed], np.uint32)
        key = (epoch, self.settings.seed, len(self.rows.x))
        if getattr(self, "_latest", (None, None))[0] != key:
            self._latest = key, epoch_order(seed, epoch, len(self.rows.x))
        return self._latest[1]

    def forward(self) -> None:
        """Run a forward pass, slowly: of the example that the next step goes by, if it goes by one alone."""
        if self.steerable and self.batch_size == 1:
            self.example = int(self.batch()[0])
        self._shown, self.phase, self.pulled = None, "forward", False
        self._changed()

    def backward(self) -> None:
        """Run a backward pass of the example in view."""
        self._shown, self.phase, self.pulled = None, "backward", True
        self._changed()

    def update(self) -> None:
        """Take the step that the passes led to; they stay in view, for it went by them."""
        self._steer()
        if self.phase != "backward":
            self.backward()
        shown, alone = self.passed(), self.batch_size == 1 and self.example == self.batch()[0]
        self._train(1)
        self._shown, self.phase = shown._replace(grads=self.gradient) if alone else shown, "update"
        self._changed()

    def look(self, example: int) -> None:
        """Take another example into view."""
        if not isinstance(example, int) or not 0 <= example < len(self.rows.x):
            raise JaxpropError(
                f"example: found {example}, expected 0 to {len(self.rows.x) - 1}, as many as are trained on"
            )
        self.example, self.pulled, self.phase, self._shown = example, False, None, None
        self._changed()

    def choose(self, path: str, index: Sequence[int]) -> None:
        """Have a number of θ in every frame, however small it is among others."""
        self._at(self.params, path, index)
        self.chosen = path, tuple(index)

    def edit(self, path: str, index: Sequence[int], value: float) -> None:
        """Set one number of θ."""
        self._steer()
        kept = self._at(self._kept, path, index)
        if not np.isfinite(np.float32(value)):
            raise JaxpropError(f"{path}: found {value}, expected a finite number")
        if not bool(kept):
            raise JaxpropError(f"{path} at {list(index)} is pruned, so it stays 0: restore it first")
        self._put(path, index, value)
        remember(self.history, self.step, "edit", [path, list(index), float(value)])
        self._touched()

    def prune(self, path: str, index: Sequence[int], pruned: bool = True) -> None:
        """Set one weight to 0 and keep it there, or let it go again."""
        self._steer()
        self._at(self._kept, path, index)
        self._kept = with_number(self._kept, path, index, not pruned)
        self._put(path, index, 0.0)
        remember(self.history, self.step, "prune", [path, list(index), bool(pruned)])
        self._touched()

    def set(self, **changes: Any) -> None:
        """Change settings: some keep θ and the steps, with others everything starts anew."""
        self._steer()
        settings = changed(self.now(), changes)
        anew = [name for name in changes if name not in KEPT]
        if anew and self.source is None:
            raise JaxpropError(
                f"{anew[0]} belongs to the model that was opened; expected a change of one of: {', '.join(KEPT)}"
            )
        if anew:
            self.restart(settings)
        elif self.step or self.history:
            self._keep_on({name: value for name, value in changes.items()})
            self._touched()
        elif self.source is not None:
            self.restart(settings)
        else:
            self._keep_on(changes)
            self._touched()

    def restart(self, settings: Settings | None = None) -> None:
        """Start anew, with other settings if some are given."""
        self._steer()
        if self.source is None:
            raise JaxpropError("this model was opened as it is: open it again to start anew")
        settings = self.began if settings is None else settings
        source = self.source if same_rows(settings, self.began) else settings.source()
        parts = made(settings, source)
        complete = settings.complete(source)
        kept = vars(self).copy()
        try:
            self.source, self.began = source, settings
            self._start(*parts, complete)
        except JaxpropError:
            vars(self).update(kept)
            raise

    def again(self, history: Sequence[Any], steps: int) -> None:
        """Do the same changes and steps again."""
        found = read_changes(history, steps)
        every = max(1, steps // 50)
        for change in [*found, None]:
            until = steps if change is None else change.at
            while self.step < until and self.diverged is None:
                self.advance(min(every, until - self.step))
                self.measured()
            if change is not None and self.diverged is None:
                self._redo(change)

    def _redo(self, change: Change) -> None:
        if change.edit is not None:
            self.edit(*change.edit)
        elif change.prune is not None:
            self.prune(*change.prune)
        elif change.set is not None:
            unknown = [name for name in change.set if name not in KEPT]
            if unknown:
                raise JaxpropError(f"history: found a change of {unknown[0]}, expected one of {', '.join(KEPT)}")
            self._keep_on(change.set)
            self._touched()

    def given(self) -> dict[str, Any]:
        """Return what an address holds: from it comes the same experiment again."""
        return {"settings": self.began.given(), "history": self.history, "steps": self.step, "example": self.example}

    def now(self) -> Settings:
        """Return the settings that it goes by now, those that were changed on the way included."""
        on_the_way = {name: value for change in self.history for name, value in change.get("set", {}).items()}
        return changed(self.began, on_the_way)

    # how it is done

    def _keep_on(self, changes: dict[str, Any]) -> None:
        """Change settings that keep θ, from here on."""
        before = self.settings
        self.settings = read({**self.settings.model_dump(), **changes})
        try:
            if self.settings.optimizer != before.optimizer or self.settings.rule != before.rule:
                self._recipe()
            else:
                self._rate()
        except JaxpropError:
            self.settings = before
            raise
        for name, value in changes.items():
            remember(self.history, self.step, "set", {name: value})

    def _steer(self) -> None:
        if not self.steerable:
            raise JaxpropError(
                "this training runs elsewhere and is only watched here: it cannot be changed from the page"
            )

    def _at(self, tree: PyTree, path: str, index: Sequence[int]) -> Any:
        array = array_at(tree, path)
        if not is_in(index, np.shape(array)):
            raise JaxpropError(
                f"{path}: found the place {list(index)}, expected one within {list(np.shape(array))}, counted from 0"
            )
        return array[tuple(index)]

    def _put(self, path: str, index: Sequence[int], value: float) -> None:
        self.params = with_number(self.params, path, index, value)

    def _touched(self) -> None:
        """Forget the passes: θ is another one than they were made with."""
        self.pulled, self.phase, self._shown, self.diverged = False, None, None, None
        self._changed()

    def changed(self) -> None:
        """Note that θ was replaced from outside."""
        self._touched()

    def _changed(self) -> None:
        self.version += 1
