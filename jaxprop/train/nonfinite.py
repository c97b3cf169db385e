"""When numbers stop being numbers: which step, and which layer was the first; of a plain function, which equation."""

from typing import Any, NoReturn

import jax
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.backward import manual
from jaxprop.backward.rules import Rule, prepare
from jaxprop.costs import Cost
from jaxprop.errors import TrainingError
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.network.call import Network, Rng, Targets, call, environment
from jaxprop.train.optimizers import point
from jaxprop.train.precision import LOST_AFTER, Computed
from jaxprop.train.rows import Rows
from jaxprop.train.steps import Recipe, State, batch, taking
from jaxprop.train.together import at_home
from jaxprop.xray.findings import Finding
from jaxprop.xray.report import report

ADVICE = (
    "Try a smaller learning rate, standardised inputs (a Standardize layer first), "
    "clipped gradients (optax.chain(optax.clip_by_global_norm(1.0), ...)), or another init"
)

IN_FLOAT16 = (
    f"It was so in {LOST_AFTER} steps in a row, in float16, which ends at 65504. "
    'precision="bfloat16" has the range of float32. '
)


def explain(
    recipe: Recipe,
    state: State,
    batches: Rows,
    start: int,
    stop: int,
    rng: Key[Array, ""],
    done: int,
    epoch: int,
) -> NoReturn:
    """Take the steps of `take` again, one at a time, to the first that is not finite, and raise TrainingError."""
    for i in range(start, stop):
        after, _, good = taking(recipe)(state, batches, np.int32(i), np.int32(i + 1), rng, np.int32(done))
        if not good:
            rows, params = batch(jax.tree.map(lambda a, i=i: a[i], batches)), point(state.params)
            key, scale = recipe.key(rng, done + i), None if state.scaling is None else state.scaling.scale
            low = recipe.computed(rows, params, state.feedback, scale)
            by_rule = {} if recipe.rule is None else {"rule": recipe.rule, "feedback": low.feedback, "rng": key}
            where = first_nonfinite(
                low.net, low.cost, low.rows.x, low.params, low.rows.targets, low.rows.mask, **by_rule
            )
            if where is None:
                _, grads = jax.jit(recipe.value_and_grad)(rows, params, key, state.feedback, scale)
                where = _first(grads, "the gradient of")
            found = None if isinstance(recipe.net, Layer) or where is None else _made_by(low)
            where = where or "the update of the parameters"
            raise _error(done + i + 1, epoch, where, state.scaling is not None, found)
        state = after
    raise _error(done + stop, epoch, "something that another run of the same steps does not show")


def first_nonfinite(
    net: Network, cost: Cost, x: PyTree, params: PyTree, targets: Targets, mask: PyTree = None, **by_rule: Any
) -> str | None:
    """Say where the first non-finite number of a pass arises: in a parameter, a layer's output, the cost or an error.

    Forward order first, then backward order; None if all are finite. by_rule: rule, feedback and rng of a pass by one
    of `jp.rules`.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, ReLU
    >>> net, x = Chain(Linear(2), ReLU()), jnp.array([[jnp.inf]])
    >>> first_nonfinite(net, HalfSquaredError(), x, net.init(jax.random.key(0), x), jnp.zeros((1, 2)))
    'the output of layer 0, Linear(2)'
    """
    if where := _first(params, "parameter"):
        return where
    y, costs, tape = _pass(net, cost, x, params, targets, mask, **by_rule)
    layers = {leaf.path: repr(leaf.layer) for leaf in leaves(net)} if isinstance(net, Layer) else {}
    for path, layer in layers.items():
        if not _is_finite(tape[path].y):
            return f"the output of layer {path}, {layer}"
    if not _is_finite(y):
        return "the output of the network" if layers else "the output of f(x, params)"
    if not _is_finite(costs):
        return f"the cost, {cost!r}"
    for path, layer in reversed(layers.items()):
        if not _is_finite(tape[path].dx):
            return f"the error going back through layer {path}, {layer}"
    return None


def _pass(
    net: Network,
    cost: Cost,
    x: PyTree,
    params: PyTree,
    targets: Targets,
    mask: PyTree,
    rule: Rule | None = None,
    feedback: PyTree = None,
    rng: Rng = None,
) -> tuple[PyTree, Array, dict[str, manual.Record]]:
    """The output y, C_n and what every layer saw, by one program; of a plain function the tape is empty."""

    def run(
        x: PyTree, params: PyTree, targets: Targets, mask: PyTree, feedback: PyTree, rng: Rng
    ) -> tuple[PyTree, Array, dict[str, manual.Record]]:
        if isinstance(net, Layer):
            walk, params = prepare(rule, net, params, feedback, rng)
            tape = manual.Tape().over(walk)
            passed = manual.backpropagate(tape, net, cost, x, params, targets, environment(rng, mask))
            return passed.y, passed.costs, passed.notes
        y = call(net, x, params, mask=mask)
        return y, cost(y, targets), {}

    return jax.jit(run)(x, params, targets, mask, feedback, rng)


def _made_by(low: Computed) -> Finding | None:
    """Look into a plain function with the X-ray: which equation made the first number that is not finite, and why."""

    def cost(params: PyTree, rows: Rows) -> Array:
        return low._replace(params=params, rows=rows).value()

    try:
        found = report(cost)(at_home(low.params), at_home(low.rows)).nonfinite()
    except Exception:  # whatever cannot be looked into: the error of the training is the one to raise
        return None
    return found[0] if found else None


def _first(tree: PyTree, what: str) -> str | None:
    """The first array of a tree that is not finite, by its path."""
    return next((f"{what} {path or 'θ'}" for path, leaf in by_path(tree).items() if not _is_finite(leaf)), None)


def _is_finite(tree: PyTree) -> bool:
    """Whether all numbers of a tree are finite, asked on the host: nothing is compiled for it."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(at_home(tree)))


def _error(step: int, epoch: int, where: str, in_float16: bool = False, found: Finding | None = None) -> TrainingError:
    """Say so; what numbers themselves do, by growing too large, is helped as in layers, and else as the X-ray says."""
    made = "" if found is None else f", made by {found.place} ({found.cause}: {found.why})"
    better = "" if found is None or "overflow" in found.cause else found.instead
    advice = f"Write instead: {better}" if better else f"{IN_FLOAT16 if in_float16 else ''}{ADVICE}"
    return TrainingError(
        f"training stopped at step {step} (epoch {epoch}): the first not finite is {where}{made}. {advice}"
    )
