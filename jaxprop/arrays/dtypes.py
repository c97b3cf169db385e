"""What arrays of a dtype are computed in: half precision in float32, 64 bits with JAX's 64 bits on."""

import contextlib
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

SIXTY_FOUR_BITS = frozenset({"float64", "int64", "uint64", "complex128"})


def wide(dtype: DTypeLike) -> DTypeLike:
    """Return `dtype`, or float32 for half precision, which is for keeping numbers and not for summing them.

    >>> wide("bfloat16").__name__, wide(jnp.dtype("float64")).name
    ('float32', 'float64')
    """
    return jnp.float32 if jnp.dtype(dtype).itemsize < 4 else dtype


def has_64_bits(*dtypes: DTypeLike) -> bool:
    """Return whether one of `dtypes` is what JAX computes with only when its 64 bits are on.

    >>> has_64_bits("float32", "int64"), has_64_bits("complex64")
    (True, False)
    """
    return any(jnp.dtype(dtype).name in SIXTY_FOUR_BITS for dtype in dtypes)


@contextlib.contextmanager
def enough_bits(*dtypes: DTypeLike) -> Iterator[None]:
    """Set JAX's 64 bits on if one of `dtypes` has them, else off, and its standard promotion, whatever is set outside.

    >>> with enough_bits("float32", "int64"):
    ...     jnp.arange(2).dtype.name
    'int64'
    """
    with jax.enable_x64(has_64_bits(*dtypes)), jax.numpy_dtype_promotion("standard"):  # pyright: ignore[reportAttributeAccessIssue]
        yield
