"""Which mesh axes an array varies over, under `shard_map`."""

from collections.abc import Iterable

import jax
from jax import Array
from jaxtyping import PyTree


def varying(value: Array, axes: Iterable[str]) -> Array:
    """Say of a value inside a shard_map that it differs over these mesh axes, as far as it is not said yet."""
    missing = tuple(set(axes) - jax.typeof(value).manual_axis_type.varying)
    return jax.lax.pcast(value, missing, to="varying") if missing else value


def vary_with(param: Array, x: PyTree) -> Array:
    """Under `shard_map`, mark θ as varying over x's mesh axes; else `jax.grad` would sum it over them, unasked.

    >>> import jax.numpy as jnp
    >>> float(vary_with(jnp.ones(()), jnp.zeros(3)))
    1.0
    """
    axes = frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(x)))
    return varying(param, axes)
