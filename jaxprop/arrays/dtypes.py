"""Half precision is for keeping numbers, not for sums and exponentials of them."""

from typing import Any

import jax.numpy as jnp


def wide(dtype: Any) -> Any:
    """Return `dtype`, or float32 for half precision: what to compute in.

    >>> wide("bfloat16").__name__, wide(jnp.dtype("float64")).name
    ('float32', 'float64')
    """
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype
