"""Quantities of a whole tree of uses: of one example, all its parameters together."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.given import as_arrays
from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.uses.use import Use, is_use
from jaxprop.uses.widened import squared_norms


def norms(uses: PyTree) -> Float[Array, " N"]:
    """Return the norm of every example's gradient over all parameters, ‖∂C_n/∂θ‖ = √(Σ_θ ‖∂C_n/∂θ‖²), `[N]`.

    Exact, also where a parameter is used more than once (`Several`) or stacked in a `Repeat` (`Stacked`); no gradient
    of one example is built where shapes allow. δ is per example and not divided by N, and so are the norms.

    uses: a tree of uses, such as `manual.uses` returns, or any part of one: `norms(uses[0])` is the first layer's.

    Raises:
        JaxpropError: there is no use in the tree, or something that is none (a gradient, say).
        ShapeError: the uses are of different numbers of examples.

    >>> from jaxprop.uses import Shift
    >>> use = Shift(jnp.array([[3.0], [0.0]]), (1,), jnp.float32)
    >>> print(norms({"b": use, "c": Shift(jnp.array([[4.0], [1.0]]), (1,), jnp.float32)}))
    [5. 1.]
    """
    squared = [squared_norms(use) for use in _uses_of(uses, "norms")]
    dtype = wide(jnp.result_type(*(s.dtype for s in squared)))
    return jnp.sqrt(sum((s.astype(dtype) for s in squared[1:]), squared[0].astype(dtype)))


def gradients(uses: PyTree, weights: Any = None) -> PyTree:
    """Return Σ_n w_n ∂C_n/∂θ of every parameter: the tree of params, in their shapes and dtypes.

    Args:
        uses: a tree of uses, such as `manual.uses` returns.
        weights: w `[N]`; a number for all examples, so that 1.0 is the sum; or a tree with one of these for every part
            of `uses` (a prefix of its tree), as for clipping layer by layer. By default 1/N each, the mean.

    Raises:
        JaxpropError: there is no use in the tree, or something that is none.
        ShapeError: weights are not one number per example.

    >>> from jaxprop.uses import Shift
    >>> uses = {"b": Shift(jnp.array([[3.0], [4.0]]), (1,), jnp.float32)}
    >>> print(gradients(uses)["b"], gradients(uses, 1.0)["b"])
    [3.5] [7.]
    >>> clipped = jnp.minimum(1, 1 / norms(uses)) / 2
    >>> print(gradients(uses, clipped)["b"], gradients(uses, {"b": clipped})["b"])
    [1.] [1.]
    """
    examples = _uses_of(uses, "gradients")[0].examples
    if weights is None:
        return jax.tree.map(lambda use: use.gradient(), uses, is_leaf=is_use)

    def part(w: Array, uses: PyTree) -> PyTree:
        w = as_arrays(w, "weights")
        w = jnp.full(examples, w) if jnp.ndim(w) == 0 else w
        return jax.tree.map(lambda use: use.gradient(w), uses, is_leaf=is_use)

    weights = as_arrays(weights, "weights") if isinstance(weights, list) else weights  # a list of numbers is an array
    try:
        return jax.tree.map(part, weights, uses)
    except ShapeError:
        raise
    except ValueError as error:
        said = str(error).splitlines()[0]
        raise ShapeError(f"gradients: weights are a tree that is no prefix of the tree of uses: {said}") from None


def _uses_of(tree: PyTree, what: str) -> list[Use]:
    """All of them, of one number of examples."""
    found = by_path(tree, is_use)
    if not found:
        raise JaxpropError(
            f"{what}: found no uses; expected a tree of them, such as manual.uses returns beside the value"
        )
    for path, leaf in found.items():
        if not is_use(leaf):
            raise JaxpropError(
                f"{what}: found {type(leaf).__name__} at {path or 'the root'}, expected a tree of uses: "
                "value, uses = jp.manual.uses(net, cost)(x, params, targets)"
            )
    examples = {path: use.examples for path, use in found.items()}
    if len(set(examples.values())) > 1:
        raise ShapeError(f"{what}: the uses are of different numbers of examples: {examples}")
    return list(found.values())
