"""Norms of uses in half precision, whose squares are too large for it: taken in float32."""

from dataclasses import fields, replace
from typing import Any

import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.dtypes import wide
from jaxprop.uses.use import Use, is_use


def squared_norms(use: Use) -> Array:
    """Return ‖∂C_n/∂θ‖² of a use, `[N]`, as wide as sums are taken: 65,504, the largest float16, is a norm of 256.

    >>> from jaxprop.uses import Shift
    >>> print(squared_norms(Shift(jnp.array([[300.0, 400.0]], "float16"), (2,), jnp.float16)))
    [250000.]
    """
    return (use if wide(use.dtype) == use.dtype else widened(use)).squared_norms()


def widened(value: Any) -> Any:
    """Return a use, and those in it, in the dtype that sums are taken in; anything else as it is.

    >>> from jaxprop.uses import Shift
    >>> widened(Shift(jnp.array([[3.0]], "float16"), (1,), jnp.float16)).per_example().dtype.name
    'float32'
    """
    if is_use(value):
        inside = {field.name: widened(getattr(value, field.name)) for field in fields(value)}
        return replace(value, **inside | {"dtype": wide(value.dtype)})
    if isinstance(value, tuple) and all(map(is_use, value)):
        return tuple(map(widened, value))
    if isinstance(value, Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value.astype(wide(value.dtype))
    return value
