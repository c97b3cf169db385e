"""`step` and `epoch`: training as pure functions, for a loop of one's own.

Both are made of a network, a cost and an optimizer, as `value_and_grad` is of the first two, and then called with rows
and a state. `fit` is a loop around the same step: shuffled rows, progress, validation, a history.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jaxtyping import Array, Float, PyTree, Shaped

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.backward.rules.edits import RuleLike, as_rule
from jaxprop.checks import check_whole, kind_of
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError, pick
from jaxprop.layers.settings import shortly
from jaxprop.network.call import Network, Rng, Targets, Weights, require, require_layer
from jaxprop.train import steps
from jaxprop.train.devices import Devices
from jaxprop.train.precision import kept, read_precision, scaling
from jaxprop.train.result import FitState
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, State, Way, batch, begin, copied


@dataclass(frozen=True)
class Step:
    """Take one step of training: `state, cost = step(x, state, targets)`; made by `jaxprop.train.step`."""

    recipe: Recipe

    def __call__(
        self,
        x: PyTree[Shaped[Any, "N ..."]],
        state: State,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
    ) -> tuple[State, Float[Array, ""]]:
        """Return the state after a step, and C = Σ_n w_n C_n before it."""
        rows, rng = _read(self, x, state, targets, weights, rng, mask)
        return steps.step(self.recipe, state, rows, rng)

    def start(self, params: PyTree, *, feedback: PyTree = None) -> State:
        """Return the state before the first step, in arrays of its own.

        Args:
            params: θ, or what `fit` left as `result.state`, to go on from.
            feedback: what `rule.init` made, for a rule that has some.

        Raises:
            JaxpropError: a state comes with feedback beside its own.
            ShapeError: the state is that of another optimizer.
        """
        if isinstance(params, FitState):
            if feedback is not None:
                raise JaxpropError("start: found both feedback and a state, which holds its own: give one of them")
            scale = scaling(self.recipe.precision, params.scaling)
            state = State(params.params, params.optimizer, params.feedback, scale)
            fresh = jax.eval_shape(lambda: begin(self.recipe, state.for_use(), state.feedback))
            if jax.tree.structure(fresh) != jax.tree.structure(state):
                raise ShapeError("start: state is that of another optimizer: give the one that it was made with")
            state = copied(state)
        else:
            arrays = jax.tree.map(jnp.asarray, (params, feedback))
            state = begin(self.recipe, *kept(arrays, self.recipe.precision))
        return state if self.recipe.devices is None else self.recipe.devices.place(state)

    def params(self, state: State) -> PyTree:
        """Return θ for use: that which is trained, or for some optimizers another (an average, the slow of two)."""
        return state.for_use()


@dataclass(frozen=True)
class Epoch(Step):
    """Go through all rows once: `state, costs = epoch(x, state, targets)`; made by `jaxprop.train.epoch`."""

    batch_size: int

    def __call__(
        self,
        x: PyTree[Shaped[Any, "N ..."]],
        state: State,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
    ) -> tuple[State, Float[Array, " steps"]]:
        """Return the state after an epoch, and the cost of every batch before its step."""
        rows, rng = _read(self, x, state, targets, weights, rng, mask)
        rows = jax.tree.map(jnp.asarray, rows)
        if rows.weights is not None:
            rows = rows._replace(weights=rows.weights / jnp.mean(rows.weights))
        many = len(rows.targets)
        full = many // self.batch_size
        order, layer_key = None, None
        if rng is not None:
            order_key, layer_key = jax.random.split(rng)
            order = jax.random.permutation(order_key, many)

        def one(state: State, i: Any, size: int = self.batch_size) -> tuple[State, Array]:
            def part(a: Array) -> Array:
                return jax.lax.dynamic_slice_in_dim(a, i * self.batch_size, size)

            numbers = None if order is None else part(order)
            chosen = jax.tree.map(part if numbers is None else lambda a: a[numbers], rows)
            key = None if layer_key is None else self.recipe.key(layer_key, i)
            state, cost = steps.step(self.recipe, state, batch(chosen), key)
            return state, cost

        state, costs = jax.lax.scan(one, state, jnp.arange(full)) if full else (state, None)
        if many % self.batch_size:
            state, last = one(state, full, many % self.batch_size)
            costs = last[None] if costs is None else jnp.append(costs, last)
        return state, costs  # pyright: ignore[reportReturnType]


def step(
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    *,
    grad: Way | None = None,
    rule: RuleLike | None = None,
    precision: str | None = None,
    mesh: str | Mesh | None = None,
) -> Step:
    """Return `run`, which takes one step of training: θ ← θ + update(∂C/∂θ), with C = Σ_n w_n C_n.

    It is pure, and works under `jit`, `vmap` (many states, many batches), `scan` and with arrays spread over devices.

    Args:
        net: a Layer, or any callable f(x, params).
        cost: C_n, such as `HalfSquaredError()`.
        optimizer: one of optax's; those that need more than a gradient get it, as `fit` tells.
        grad: "auto" for `jax.grad`, "manual" for the hand-derived chain rule. By default "auto", with a rule "manual".
        rule: how errors come back through layers, one of `jp.rules`.
        precision: what a step computes in, as `fit` takes it.
        mesh: the devices to compute on, as `fit` takes it: `run.start` spreads θ over them, and rows are spread as a
            step begins, unless `jp.train.Devices` has done so.

    Returns:
        `run(x, state, targets, *, weights=None, rng=None, mask=None)`, which returns (state, C before the step).
        weights: w `[N]`, by default 1/N each. rng: what layers draw from in this step; without it they draw nothing.
        `run.start(params, feedback=None)` makes the first state, a copy; `run.params(state)` is θ for use.

    Raises:
        JaxpropError: something is no network, cost, optimizer or rule, or they do not go together.
        ShapeError: (by `run`) shapes do not fit.

    >>> import numpy as np
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1, bias=False), np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    >>> run = step(net, HalfSquaredError(), optax.sgd(1.0))
    >>> state = run.start(net.init(jax.random.key(0), x))
    >>> for _ in range(30):
    ...     state, value = jax.jit(run)(x, state, 2 * x)
    >>> round(float(run.params(state).W[0, 0]), 3)
    2.0
    """
    return Step(read_recipe("train.step", net, cost, optimizer, grad, rule, precision, _devices(mesh, net)))


def epoch(
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    *,
    batch_size: int = 32,
    grad: Way | None = None,
    rule: RuleLike | None = None,
    precision: str | None = None,
    mesh: str | Mesh | None = None,
) -> Epoch:
    """Return `run`, which goes through all rows once in shuffled batches, each a step as `step` takes it.

    It is pure, and works under `jit` and `vmap`: many runs are one program. Every row is used, the last partial batch
    in one smaller step; the cost of a batch of B rows is Σ_n w_n C_n / (B w̄), with w̄ the mean weight, as in `fit`.
    Rows are shuffled on the device, which on a CPU costs about as much as a step of a small network: `fit` lets a
    thread do it.

    Args:
        net, cost, optimizer, grad, rule, precision, mesh: as for `step`.
        batch_size: how many rows a step takes.

    Returns:
        `run(x, state, targets, *, weights=None, rng=None, mask=None)`, which returns (state, costs): the cost of every
        batch before its step, `[steps]`. weights: how much each row counts, w `[N]`. rng: what the order of rows and
        layers are drawn from; without it rows come as they lie, and layers draw nothing. `run.start` and `run.params`
        are those of `step`.

    Raises:
        JaxpropError: as `step` does, or for a batch size that is no whole number.
        ShapeError: (by `run`) shapes do not fit.

    >>> import numpy as np
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1, bias=False), np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
    >>> run = epoch(net, HalfSquaredError(), optax.sgd(1.0), batch_size=3)
    >>> state = run.start(net.init(jax.random.key(0), x))
    >>> for key in jax.random.split(jax.random.key(1), 20):
    ...     state, costs = jax.jit(run)(x, state, 2 * x, rng=key)
    >>> round(float(run.params(state).W[0, 0]), 3), costs.shape
    (2.0, (3,))
    """
    check_whole(batch_size, "train.epoch: batch_size")
    devices = _devices(mesh, net)
    return Epoch(read_recipe("train.epoch", net, cost, optimizer, grad, rule, precision, devices), batch_size)


def read_recipe(
    what: str,
    net: Network,
    cost: Cost,
    optimizer: optax.GradientTransformation,
    grad: Way | None = None,
    rule: RuleLike | None = None,
    precision: str | None = None,
    devices: Devices | None = None,
) -> Recipe:
    """Return what every step shares, or raise JaxpropError for what does not go together; `what` is who asks."""
    require(net, cost, what)
    if not isinstance(cost, Cost):
        raise JaxpropError(
            f"{what}: cost must be one such as HalfSquaredError(), found {shortly(cost)}; of a function of one "
            "example's outputs and targets jaxprop.Cost.of makes a cost"
        )
    if not callable(getattr(optimizer, "update", None)):
        raise JaxpropError(f"{what}: optimizer must come from optax, such as optax.adam(0.01), found {optimizer!r}")
    grad = grad if grad is not None else "auto" if rule is None else "manual"
    pick(grad, ("auto", "manual"), "grad")
    if rule is not None and grad == "auto":
        raise JaxpropError(f'{what}: found rule= and grad="auto": jax.grad knows the chain rule alone; leave grad out')
    if grad == "manual":
        require_layer(net, 'grad="manual"' if rule is None else f"{what} with a rule")
    given_rule = None if rule is None else as_rule(rule, f"{what}: rule")
    return Recipe(net, cost, optimizer, grad, given_rule, read_precision(precision), devices)


def _devices(mesh: str | Mesh | None, net: Network) -> Devices | None:
    return None if mesh is None else Devices.of(mesh, net)


def _read(run: Step, x: PyTree, state: Any, targets: Any, weights: Any, rng: Any, mask: PyTree) -> tuple[Rows, Rng]:
    """What was given for a step, as rows and a key."""
    name = f"train.{type(run).__name__.lower()}"
    if not isinstance(state, State):
        found = f"found {kind_of(state)}; the order is x, state, targets, and run.start(params) makes the first state"
        raise JaxpropError(f"{name}: state must be what run.start or the step before returned, {found}")
    x, targets, weights = as_arrays(x, "x"), as_arrays(targets, "targets"), as_arrays(weights, "weights")
    parts = {"x": x, "weights": weights, "mask": mask}
    many = jnp.shape(targets)[:1]
    for part, leaf in ((part, leaf) for part, tree in parts.items() for leaf in jax.tree.leaves(tree)):
        if not many or jnp.shape(leaf)[:1] != many:
            raise ShapeError(
                f"{name}: found {part} of shape {list(jnp.shape(leaf))} and targets of shape "
                f"{list(jnp.shape(targets))}; expected one first axis, that of the rows"
            )
    return Rows(x, targets, weights, as_arrays(mask, "mask")), as_key(rng, "rng")
