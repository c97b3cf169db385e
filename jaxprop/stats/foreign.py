"""Quantities of a function that nobody here wrote, of one example: models of Flax, Equinox and plain JAX.

The function is traced for one example and mapped over all of them, so that none of them can see another. Its way back
leaves the same uses as that of a network of jaxprop's, wherever it can be followed to an activation and an error
(`xray/following`), and gradients of examples (`Dense`) elsewhere. All that is asked of uses works for them as it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.checks import kind_of
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.settings import shortly
from jaxprop.network.call import Rng, Weights, require, require_cost
from jaxprop.stats.errors import SAMPLED, Errors, Kind, of_cost
from jaxprop.stats.gather import Asked, Collected, Passed, gather
from jaxprop.stats.quantity import Quantity
from jaxprop.stats.visits import Close, bytes_of
from jaxprop.uses import Stacked, is_use
from jaxprop.xray.following import ForeignPass, foreign

Argnums = int | Sequence[int]
Function = Callable[..., PyTree]


class Axes(NamedTuple):
    """Hold which arguments are θ, as for `jax.grad`, and where the axis N of all others is, as for `jax.vmap`.

    >>> Axes(0, (None, 0)).argnums
    0
    """

    argnums: Argnums
    in_axes: Any


def of_function(
    f: Function, cost: Any, quantities: Any, axes: Axes, rule: RuleLike | None, memory: int | None
) -> Callable[..., Collected]:
    """Return the `run` of `collect` for a function: of C_n without a cost, or of y_n with one.

    >>> run = of_function(lambda w, x: w * x, [], None, Axes(0, (None, 0)), None, None)
    >>> print(*run(2.0, jnp.array([1.0, 3.0]))[:2])
    4.0 2.0
    """
    if quantities is None and not isinstance(cost, Cost):  # collect(f, quantities)
        cost, quantities = None, cost
    else:
        require_cost(cost, "stats.collect")
    _check(f, axes, rule)
    asked, passed = Asked.of(quantities, None, memory), foreign(f, *axes)
    for quantity in asked.quantities:
        _refuse(quantity, cost)

    def run(*args: Any, weights: Weights = None, rng: Rng = None, **shared: Any) -> Collected:
        inputs, targets = (args, None) if cost is None else (args[:-1], args[-1])
        _count(inputs, axes, cost)
        forward = passed(*inputs, **shared)
        _check_complex(forward)
        if cost is None:
            errors = _of_itself(forward.y)
        else:
            errors = of_cost(cost, forward.y, as_arrays(targets, "targets"), as_key(rng, "rng"))
        way = _ForeignWay(forward)
        return gather(asked, Passed(forward.y, errors, forward.params, way, way), as_arrays(weights, "weights"))

    return run


@dataclass(frozen=True, eq=False)
class _ForeignWay:
    """The way back through a function, which has no layers to take notes of."""

    forward: ForeignPass

    @property
    def stacks(self) -> bool:
        """Tell whether there is a scan over parameters."""
        return any(isinstance(use, Stacked) for use in jax.tree.leaves(self._shapes, is_leaf=is_use))

    @property
    def held(self) -> int:
        """The bytes of the uses, and of θ: most of what goes back with an error."""
        return bytes_of((self._shapes, self.forward.params))

    @cached_property
    def _shapes(self) -> PyTree:
        return jax.eval_shape(self.forward.uses, self.forward.y)

    def close(self, dy: PyTree, close: Close) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy; return the tree of θ with what `close` keeps of each use."""
        return self.forward.close(dy, close), {}

    def uses(self, dy: PyTree) -> tuple[PyTree, dict[str, PyTree]]:
        """Go back with the error dy and keep the uses themselves."""
        return self.forward.uses(dy), {}


def _of_itself(y: PyTree) -> Errors:
    """The errors of a function that returns C_n itself, of which each is 1."""
    if not isinstance(y, Array) or y.ndim != 1 or not jnp.issubdtype(y.dtype, jnp.floating):
        one = jax.tree.map(lambda a: kind_of(jax.ShapeDtypeStruct(a.shape[1:], a.dtype)), y)
        raise ShapeError(
            f"stats.collect: f returns {one} for one example, expected one real number, its cost; where f returns "
            "outputs, write stats.collect(f, cost, quantities, ...)(*args, targets)"
        )

    def columns(kind: Kind) -> Array:
        raise JaxpropError(f"stats.collect: {kind[0]} errors are those of a cost, and there is none")

    return Errors(y, jnp.ones_like(y), columns)


def _check(f: Any, axes: Axes, rule: RuleLike | None) -> None:
    require(f, None, "stats.collect")
    if hasattr(f, "init") and hasattr(f, "apply"):
        raise JaxpropError(
            f"stats.collect: found {type(f).__name__}, a module of Flax, expected a function f(params, x) of one "
            "example, such as model.apply"
        )
    if axes.in_axes is None:
        raise JaxpropError(
            f"stats.collect needs a jaxprop Layer such as Chain(...), or in_axes= for a plain function: {shortly(f)} "
            "of one example, as for jax.vmap. Write stats.collect(f, cost, quantities, argnums=0, in_axes=(None, 0))"
            "(params, x, targets), where f(params, x) returns the outputs of one example, or "
            "stats.collect(f, quantities, argnums=0, in_axes=(None, 0, 0))(params, x, targets), where "
            "f(params, x, target) returns its cost"
        )
    if rule is not None:
        raise JaxpropError(
            f"stats.collect: rule={shortly(rule)} says how errors come back through jaxprop's layers, and a function "
            "has none: leave rule out, or build the network of jp.Chain and its layers"
        )


def _refuse(quantity: Quantity, cost: Cost | None) -> None:
    """Raise if a quantity needs what a function does not have."""
    if quantity.layered:
        raise JaxpropError(
            f"stats.collect: {quantity} reads the layers of a jaxprop network, and a function has none; "
            "jp.xray.report(f)(*args) shows values and errors inside of any function"
        )
    if quantity.errors in SAMPLED and cost is None:
        raise JaxpropError(
            f"stats.collect: {quantity} reads {quantity.errors} errors, which are those of a cost: let f return the "
            "outputs of one example and write stats.collect(f, cost, quantities, argnums=0, in_axes=(None, 0))"
            "(params, x, targets)"
        )


def _check_complex(forward: ForeignPass) -> None:
    """Raise for a parameter of complex numbers: variances and moments are of real ones."""
    for i in forward.traced.asked:
        if jnp.issubdtype(forward.traced.one(i).dtype, jnp.complexfloating):
            raise JaxpropError(
                f"stats.collect: {forward.traced.names[i]} is {kind_of(forward.traced.one(i))}, expected real numbers: "
                "make two parameters of its real and its imaginary part; jp.example_norms takes it as it is"
            )


def _count(inputs: tuple[Any, ...], axes: Axes, cost: Cost | None) -> None:
    """Raise unless there are as many arguments before the targets as there are axes."""
    if cost is None or not isinstance(axes.in_axes, tuple | list) or len(inputs) == len(axes.in_axes):
        return
    raise ShapeError(
        f"stats.collect: found {len(inputs)} arguments of f and then the targets, expected {len(axes.in_axes)} and "
        f"then the targets, as in_axes={axes.in_axes} has it"
    )
