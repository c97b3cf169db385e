"""One number a channel, beside an array of more axes."""

from jax import Array, lax


def across(numbers: Array, like: Array) -> Array:
    """Return `numbers` `[C]`, or `[T, C]`, with as many axes as `like` `[N, (T,) C]` has, the new ones of extent 1.

    It is what numpy does unasked, and what `jax_numpy_rank_promotion="raise"` forbids it to.

    >>> import jax.numpy as jnp
    >>> across(jnp.ones(3), jnp.ones((5, 2, 3))).shape
    (1, 1, 3)
    """
    return lax.broadcast_to_rank(numbers, like.ndim) if numbers.ndim else numbers
