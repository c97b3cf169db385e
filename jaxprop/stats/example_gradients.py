"""The gradient of every example: ∂C_n/∂θ, `[N, *shape]` for each array of θ.

This is what all other quantities do without: N copies of θ in memory. It is for small networks, for looking at a few
examples, and to check shortcuts with.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use


@dataclass(frozen=True)
class ExampleGradients(Quantity):
    """Find ∂C_n/∂θ for every example: the tree of θ, each array `[N, *shape]`.

    It is not divided by N and not weighted. Where θ is stacked by a `Repeat`, shapes are `[N, L, ...]`. Of an array in
    several places (`Shared`) it is the sum over the places.

    Source: Dangel et al., "BackPACK: Packing more into Backprop" (2020), `BatchGrad`.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> run = stats.collect(net, HalfSquaredError(), [ExampleGradients()])
    >>> print(run(x, params, jnp.zeros((2, 1))).found[0].W.ravel())
    [ 3. 12.]
    """

    def close(self, use: Use, path: str, weights: Array | None) -> "_Examples":
        """Keep the gradients of a use's examples."""
        return _Examples(use.per_example(), len(use.shape))

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Put the axis of the examples first."""
        return jax.tree.map(lambda examples: examples.first(), kept, is_leaf=lambda node: isinstance(node, _Examples))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class _Examples:
    """Gradients `[(L, …) N, *shape]` of a shape of so many axes: scans have put theirs before N."""

    gradients: Array
    axes: int = field(metadata={"static": True})

    def first(self) -> Array:
        g: Any = self.gradients
        return jnp.moveaxis(g, g.ndim - 1 - self.axes, 0)
