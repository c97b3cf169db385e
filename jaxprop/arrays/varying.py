"""Which mesh axes an array varies over, under `shard_map`."""

import jax
from jax import Array
from jaxtyping import PyTree


def vary_with(param: Array, x: PyTree) -> Array:
    """Under `shard_map`, mark θ as varying over x's mesh axes; else `jax.grad` would sum it over them, unasked.

    >>> import jax.numpy as jnp
    >>> float(vary_with(jnp.ones(()), jnp.zeros(3)))
    1.0
    """
    axes = frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(x)))
    missing = tuple(axes - jax.typeof(param).manual_axis_type.varying)
    return jax.lax.pcast(param, missing, to="varying") if missing else param
