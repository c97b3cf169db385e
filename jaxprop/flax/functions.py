"""A Flax module as a plain function f(x, θ): then everything that takes one takes it."""

from dataclasses import dataclass, field
from typing import Any

import jax
from flax import linen, nnx
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.errors import JaxpropError
from jaxprop.flax.layers import Tree


@dataclass(frozen=True, eq=False)
class LinenFunction:
    """f(x, θ) of a linen module; `others` are its collections beside "params" (batch statistics, say), held still.

    >>> f = LinenFunction(linen.Dense(2), {})
    >>> f(jax.numpy.ones((1, 3)), linen.Dense(2).init(jax.random.key(0), jax.numpy.ones((1, 3)))["params"]).shape
    (1, 2)
    """

    module: linen.Module
    others: Tree
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: PyTree, params: Tree) -> Any:
        """module.apply."""
        return self.module.apply({"params": params, **self.others}, x, **self.options)


@dataclass(frozen=True, eq=False)
class NnxFunction:
    """f(x, θ) of an nnx module, taken apart into its graph, its parameters (θ) and the rest, held still."""

    graph: Any
    rest: Any

    def __call__(self, x: PyTree, params: Tree) -> Any:
        """The module put together again, and called."""
        state = nnx.State(jax.tree.map(nnx.Param, params))
        return nnx.merge(self.graph, state, self.rest)(x)


def from_flax(
    module: linen.Module | nnx.Module,
    variables: Tree | None = None,
    *,
    inputs: PyTree = None,
    key: Key[Array, ""] | None = None,
    **options: Any,
) -> tuple[LinenFunction | NnxFunction, Tree]:
    """Return (f, params), f(x, θ) of a Flax module, for `auto`, `fit`, `evaluate`, `export`.

    Args:
        module: of linen, or of nnx, which holds its own parameters.
        variables: of a linen module, what `module.init` made; collections other than "params" are held still.
        inputs: an example x `[N, ...]`, to make the variables where none are given.
        key: the key to make them with.
        options: of linen, what goes to every call (`train=False`).

    Raises:
        JaxpropError: the module is of neither kind, or there is nothing to make its variables from.

    >>> import jaxprop as jp, jax.numpy as jnp
    >>> f, params = from_flax(linen.Dense(1), inputs=jnp.ones((4, 3)), key=jax.random.key(0))
    >>> value, grads = jp.auto.value_and_grad(f, jp.HalfSquaredError())(jnp.ones((4, 3)), params, jnp.ones((4, 1)))
    >>> grads["kernel"].shape
    (3, 1)
    """
    if isinstance(module, linen.Module):
        if variables is None:
            if inputs is None or key is None:
                raise JaxpropError("from_flax: a linen module needs its variables, or inputs and a key to make them")
            variables = dict(module.init(key, inputs, **options))
        others = {name: tree for name, tree in variables.items() if name != "params"}
        return LinenFunction(module, others, options), variables.get("params", {})
    if isinstance(module, nnx.Module):
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        return NnxFunction(graph, rest), nnx.to_pure_dict(params)
    raise JaxpropError(f"from_flax: found {type(module).__name__}, expected a flax.linen or flax.nnx module")
