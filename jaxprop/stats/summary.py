"""Four numbers that stand for an array: what is kept of results that are too large to keep."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.arrays.dtypes import wide


class Summary(NamedTuple):
    """Hold the mean of an array's numbers, their RMS, the smallest and the largest.

    >>> print(Summary.of(jnp.array([3.0, -1.0])))
    Summary(mean=Array(1., dtype=float32), root_mean_square=Array(2.23..., ...), smallest=..., largest=Array(3., ...))
    """

    mean: Float[Array, ""]
    root_mean_square: Float[Array, ""]
    smallest: Float[Array, ""]
    largest: Float[Array, ""]

    @classmethod
    def of(cls, array: Array) -> "Summary":
        """Return that of an array."""
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        a = array.astype(wide(array.dtype) if floating else float)
        return cls(jnp.mean(a), jnp.sqrt(jnp.mean(jnp.square(a))), jnp.min(a), jnp.max(a))


def summarised(tree: PyTree, most: int) -> PyTree:
    """Return a tree with a `Summary` in the place of every array of more than `most` numbers.

    >>> summarised({"few": jnp.ones(2), "many": jnp.ones(3)}, most=2)["many"].largest.shape
    ()
    """
    return jax.tree.map(lambda a: Summary.of(a) if jnp.size(a) > most else a, tree)
