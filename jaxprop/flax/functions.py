"""A Flax module as a plain function f(x, θ): then everything that takes one takes it."""

from dataclasses import dataclass, field
from typing import Any

import jax
from flax import linen, nnx
from flax.errors import InvalidRngError
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.errors import JaxpropError
from jaxprop.flax.layers import Tree


@dataclass(frozen=True, eq=False)
class LinenFunction:
    """f(x, θ) of a linen module; `others` are its collections beside "params" (batch statistics, say), held still.

    What a call writes into them (a BatchNorm in training mode does) is thrown away.

    >>> f = LinenFunction(linen.Dense(2), {})
    >>> f(jax.numpy.ones((1, 3)), linen.Dense(2).init(jax.random.key(0), jax.numpy.ones((1, 3)))["params"]).shape
    (1, 2)
    """

    module: linen.Module
    others: Tree
    options: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: PyTree, params: Tree) -> Any:
        """module.apply."""
        variables = {"params": params, **self.others}
        try:
            return self.module.apply(variables, x, mutable=list(self.others), **self.options)[0]
        except InvalidRngError as error:
            raise JaxpropError(
                f"from_flax: {type(self.module).__name__} draws random numbers, and f(x, θ) has no key: make it "
                f"deterministic (Dropout(deterministic=True), or an option of the call, such as train=False): {error}"
            ) from error


@dataclass(frozen=True, eq=False)
class NnxFunction:
    """f(x, θ) of an nnx module, taken apart into its graph, its parameters (θ) and the rest, held still."""

    graph: Any
    rest: Any

    def __call__(self, x: PyTree, params: Tree) -> Any:
        """A new module of the parts, called: what it writes into its variables is lost with it."""
        state = nnx.State(jax.tree.map(nnx.Param, params))
        return nnx.merge(self.graph, state, self.rest, copy=True)(x)


def from_flax(
    module: linen.Module | nnx.Module,
    variables: Tree | None = None,
    *,
    inputs: PyTree = None,
    key: Key[Array, ""] | None = None,
    **options: Any,
) -> tuple[LinenFunction | NnxFunction, Tree]:
    """Return (f, params), f(x, θ) of a Flax module, for `auto`, `fit`, `evaluate`, `export`.

    f is pure: the module is left as it is, and so are its statistics. Dropout drops nothing, for f has no key. A
    BatchNorm uses its running statistics where it is told to (`use_running_average=True`, or nnx's `module.eval()`
    before), and those of the batch otherwise; new ones come of training in Flax itself.

    Args:
        module: of linen, or of nnx, which holds its own parameters.
        variables: of a linen module, what `module.init` made; collections other than "params" are held still.
        inputs: an example x `[N, ...]`, to make the variables where none are given.
        key: the key to make them with.
        options: of linen, what goes to every call (`train=False`); of nnx, attributes of its modules
            (`use_running_average=True`), as in `nnx.view`.

    Raises:
        JaxpropError: the module is of neither kind, there is nothing to make its variables from, or none of its modules
            has an attribute that the options name. Of f: a linen module asks for a key.

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
        graph, params, rest = nnx.split(_still(module, options), nnx.Param, ...)
        return NnxFunction(graph, rest), nnx.to_pure_dict(params)
    raise JaxpropError(f"from_flax: found {type(module).__name__}, expected a flax.linen or flax.nnx module")


def _still(module: nnx.Module, options: dict[str, Any]) -> nnx.Module:
    """A copy of an nnx module that draws nothing, with the attributes that the options name."""
    still = nnx.clone(module)
    still.set_attributes(deterministic=True, raise_if_not_found=False)
    methods = [name for name in options if hasattr(nnx.Module, name)]  # `train` is one, and no attribute to set
    try:
        if not methods:
            still.set_attributes(**options)
            return still
    except ValueError:
        pass
    raise JaxpropError(
        f"from_flax: found options {', '.join(methods or options)}, expected attributes of modules inside "
        f"{type(module).__name__}, such as use_running_average=True"
    )
