"""A Flax module as a plain function f(x, θ): then everything that takes one takes it."""

from dataclasses import dataclass, field
from typing import Any

import jax
from flax import linen, nnx

from jaxprop.errors import JaxpropError


@dataclass(frozen=True, eq=False)
class LinenFunction:
    """f(x, θ) of a linen module; `others` are its collections beside "params" (batch statistics, say), held still.

    >>> f = LinenFunction(linen.Dense(2), {})
    >>> f(jax.numpy.ones((1, 3)), linen.Dense(2).init(jax.random.key(0), jax.numpy.ones((1, 3)))["params"]).shape
    (1, 2)
    """

    module: linen.Module
    others: dict[str, Any]
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Any, params: Any) -> Any:
        """module.apply."""
        return self.module.apply({"params": params, **self.others}, x, **self.options)


@dataclass(frozen=True, eq=False)
class NnxFunction:
    """f(x, θ) of an nnx module, taken apart into its graph, its parameters (θ) and the rest, held still."""

    graph: Any
    rest: Any

    def __call__(self, x: Any, params: Any) -> Any:
        """The module put together again, and called."""
        return nnx.merge(self.graph, _state(params), self.rest)(x)


def _state(params: Any) -> Any:
    """θ, a plain dict, as nnx keeps it."""
    return nnx.State(jax.tree.map(nnx.Param, params))


def from_flax(module: Any, variables: Any = None, *, inputs: Any = None, key: Any = None, **options: Any) -> Any:
    """Return (f, params), f(x, θ) of a Flax module, linen or nnx, for `auto`, `fit`, `evaluate`, `export`.

    linen: give `variables` (what `module.init` made), or `inputs` and a `key` to make them; `options` go to every call
    (`train=False`). Collections other than "params" are held still.    nnx: the module holds its own parameters.
    Raises JaxpropError for anything else.

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
            variables = module.init(key, inputs, **options)
        others = {name: tree for name, tree in variables.items() if name != "params"}
        return LinenFunction(module, others, options), variables.get("params", {})
    if isinstance(module, nnx.Module):
        graph, params, rest = nnx.split(module, nnx.Param, ...)
        return NnxFunction(graph, rest), nnx.to_pure_dict(params)
    raise JaxpropError(f"from_flax: found {type(module).__name__}, expected a flax.linen or flax.nnx module")
