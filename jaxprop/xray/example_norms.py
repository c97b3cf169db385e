"""`example_norms`: the norm of every example's gradient, of any JAX function."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.errors import ShapeError
from jaxprop.uses.widened import squared_norms
from jaxprop.xray.arguments import ArgNums
from jaxprop.xray.following.examples import InAxes
from jaxprop.xray.following.foreign import foreign


def example_norms(
    f: Callable[..., Any], argnums: ArgNums = 0, in_axes: InAxes = (None, 0, 0)
) -> Callable[..., Float[Array, " N"]]:
    """Return the function that computes ‖∂C_n/∂θ‖, `[N]`, the norm of every example's gradient over all parameters.

    It stands where one would write `jax.vmap(jax.grad(f, argnums), in_axes)` and then take norms, is called as that is,
    and is as pure as f: jit it. The gradients of single examples are not built where the parameters' shapes allow
    (`jp.xray.leaves` lists where); the rest is computed as it would be there.

    Args:
        f: f(params, x, y), which returns C_n, the cost of ONE example, one real number.
        argnums: the arguments to differentiate, as for `jax.grad`.
        in_axes: where each argument has its axis of examples, as for `jax.vmap`; None for what all examples share.
            Keyword arguments are shared.

    Raises:
        JaxpropError: an argument to differentiate holds no real numbers, argnums names none, or it is mapped.
        ShapeError: f returns no single number, or in_axes do not fit the arguments.

    Source: Goodfellow 2015, arXiv 1510.01799; Bu et al. 2022, arXiv 2205.10683, for more than one position.

    >>> import jax, jax.numpy as jnp
    >>> cost = lambda params, x, y: 0.5 * jnp.sum((x @ params["w"] + params["b"] - y) ** 2)
    >>> params = {"w": jnp.ones((2, 1)), "b": jnp.zeros(1)}
    >>> x, y = jnp.array([[1.0, 1.0], [3.0, 0.0], [0.0, 0.0]]), jnp.array([[1.0], [3.0], [2.0]])
    >>> print(jax.jit(example_norms(cost))(params, x, y))
    [1.7320508 0.        2.       ]
    """
    run = foreign(f, argnums, in_axes)

    def of_examples(*args: Any, **kwargs: Any) -> Float[Array, " N"]:
        forward = run(*args, **kwargs)
        squares = jax.tree.leaves(forward.close(ones_of, lambda use, path: squared_norms(use)))
        dtype = wide(jnp.result_type(*squares))
        # of a leaf that scans go over, those of every step
        totals = [jnp.sum(each.astype(dtype).reshape(-1, forward.examples), axis=0) for each in squares]
        return jnp.sqrt(sum(totals[1:], totals[0]))

    return of_examples


def uses(f: Callable[..., Any], argnums: ArgNums = 0, in_axes: InAxes = (None, 0, 0)) -> Callable[..., PyTree]:
    """Return the function that computes C_n of every example, `[N]`, and the tree of θ with a `Use` at each leaf.

    With these, `jp.gradients` and `jp.norms` work for any model, as every method of a use does.

    Args:
        f: f(params, x, y), which returns C_n, the cost of ONE example, one real number.
        argnums: the arguments to differentiate, as for `jax.grad`; the tree is as it returns gradients.
        in_axes: where each argument has its axis of examples, as for `jax.vmap`.

    Raises:
        JaxpropError: an argument to differentiate holds no real numbers, argnums names none, or it is mapped.
        ShapeError: f returns no single number, or in_axes do not fit the arguments.

    >>> import jax.numpy as jnp
    >>> cost = lambda w, x: jnp.sum(x @ w)
    >>> values, use = uses(cost, in_axes=(None, 0))(jnp.ones((2, 1)), jnp.array([[1.0, 2.0], [0.0, 3.0]]))
    >>> print(values, use.gradient().ravel())
    [3. 3.] [0.5 2.5]
    """
    run = foreign(f, argnums, in_axes)

    def of_examples(*args: Any, **kwargs: Any) -> tuple[Float[Array, " N"], PyTree]:
        forward = run(*args, **kwargs)
        uses = forward.uses(ones_of)
        return jax.tree.leaves(forward.y)[0], uses

    return of_examples


def ones_of(costs: PyTree) -> PyTree:
    """The error of every C_n, which is 1. Raises ShapeError where f returned anything else than its cost."""
    leaves = jax.tree.leaves(costs)
    if len(leaves) != 1 or leaves[0].ndim != 1 or not jnp.issubdtype(leaves[0].dtype, jnp.floating):
        found = ", ".join(f"{leaf.dtype}{list(leaf.shape[1:])}" for leaf in leaves)
        raise ShapeError(f"f returns {found} for one example, expected its cost, one real number: take a sum or a mean")
    return jax.tree.map(jnp.ones_like, costs)
