"""What optax's optimizers need beside a gradient, and which parameters are for use once they have run.

    value, grad          C and ∂C/∂θ of the batch             line searches, L-BFGS, Polyak's step, plateaus
    value_fn, obj_fn     C of the batch as a function of θ    line searches, L-BFGS; Sophia
    grad_fn              ∂C/∂θ as a function of (θ, i)        sharpness-aware minimization in one step (opaque_mode)
    collect_fn           found as a function of quantities    `jaxprop.stats.precondition`

What an optimizer refuses by name is left out, since wrappers pass on all they get. Four keep two points: θ where the
gradient is taken, and θ that is for use.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PyTree

from jaxprop.errors import JaxpropError
from jaxprop.stats import Quantity
from jaxprop.train.parameters import AveragedState, with_extra_args

TWO_POINTS = (optax.contrib.SAMState, optax.contrib.ScheduleFreeState, AveragedState)


def start(optimizer: optax.GradientTransformation, params: PyTree) -> tuple[PyTree, PyTree]:
    """Return θ as the optimizer steps it, and its state; lookahead steps a pair of θ."""
    log = logging.getLogger("absl")
    log.addFilter(_no_word_of_fast)
    try:
        state = optimizer.init(params)
    finally:
        log.removeFilter(_no_word_of_fast)
    return optax.LookaheadParams.init_synced(params) if isinstance(state, optax.LookaheadState) else params, state


def _no_word_of_fast(record: logging.LogRecord) -> bool:
    """Drop what `optax.lookahead` logs when it gets plain parameters; it gets its pair right after."""
    return "no attribute `fast`" not in record.getMessage()


def point(params: PyTree) -> PyTree:
    """Return θ where the gradient is taken."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params


def for_use(params: PyTree, state: PyTree) -> PyTree:
    """Return θ that is for use: what training steps itself, but for four optimizers.

    Lookahead has the slow of its two; schedule-free and `averaged` their average; sharpness-aware minimization what it
    had before it climbed, when it stands at an adversarial point. An array that none of them sees, since it is frozen
    or another optimizer's, is for use as it is.
    """
    if isinstance(params, optax.LookaheadParams):
        return params.slow
    with jax.numpy_dtype_promotion("standard"):  # optax mixes dtypes
        for node in filter(_keeps_two, jax.tree.leaves(state, is_leaf=_keeps_two)):
            params = _of_two(params, node)
    return params


def _of_two(params: PyTree, node: Any) -> PyTree:
    """The θ for use of one that keeps two; where it keeps none of an array, the array itself."""
    other = node.average if isinstance(node, AveragedState) else node.z if _is_free(node) else node.cache
    seen = jax.tree.map(lambda p, o: o if isinstance(o, optax.MaskedNode) else p, params, other)
    if isinstance(node, AveragedState):
        chosen = other
    elif _is_free(node):
        chosen = optax.contrib.schedule_free_eval_params(node, seen)
    else:
        chosen = jax.tree.map(lambda p, before: jnp.where(node.steps_since_sync == 0, p, before), seen, other)
    return jax.tree.map(lambda p, c: p if isinstance(c, optax.MaskedNode) else c, params, chosen)


def _is_free(node: Any) -> bool:
    return isinstance(node, optax.contrib.ScheduleFreeState)


def _keeps_two(node: Any) -> bool:
    return isinstance(node, TWO_POINTS) and getattr(node, "cache", ()) is not None


def update(
    optimizer: optax.GradientTransformation,
    params: PyTree,
    state: PyTree,
    value: Array,
    grads: PyTree,
    cost: Callable[[PyTree], Array],
    gradient: Callable[[PyTree], PyTree],
    found: Callable[[Sequence[Quantity]], tuple[PyTree, ...]],
) -> tuple[PyTree, PyTree]:
    """Return the update of θ and the optimizer's new state.

    `cost` and `gradient` are functions of θ on this batch, and `found` one of the quantities to collect there.
    """
    extra = {"value": value, "grad": grads, "value_fn": cost, "obj_fn": cost, "grad_fn": lambda p, i: gradient(p)}
    extra["collect_fn"] = found
    step, left = with_extra_args(optimizer).update, extra
    with jax.numpy_dtype_promotion("standard"):
        while True:
            try:
                return step(grads, state, params, **left)
            except (TypeError, ValueError, AttributeError) as error:
                refused = [name for name in left if f"'{name}'" in str(error)]
                left = {name: given for name, given in left.items() if name not in refused}
                if not refused:
                    raise JaxpropError(
                        f"fit: this optimizer takes no step: {str(error).rstrip('.')}. What fit gives to its update is "
                        f"the gradient, the state, the parameters, and if it takes them {', '.join(extra)}; for one "
                        "that needs more write a loop around jaxprop.auto.value_and_grad"
                    ) from error
