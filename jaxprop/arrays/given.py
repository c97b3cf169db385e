"""What a user gave as rows, as targets or as a key, made into what JAX takes: the one conversion, for every door.

Inside `jit` nothing happens here: arrays of JAX's and tracers pass as they are, after one look at their type.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.errors import DataError, JaxpropError

PASS = (Array, jax.ShapeDtypeStruct, bool, int, float, complex)
TEXT = "for labels write classes, labels = np.unique(targets, return_inverse=True)"
WHOLE = "number labels and ids from 0 with np.unique(..., return_inverse=True)[1], or turn on jax_enable_x64"
LARGE = "rescale, as with a smaller unit"
OBJECTS = "convert with x.astype('float32'), categories and dates to numbers first"


def as_arrays(given: PyTree, what: str) -> PyTree:
    """Return rows as arrays in JAX's own precision: lists, data frames, and whatever else has `__array__`.

    A list or tuple of numbers, of lists or of rows is one array; a tuple of arrays, a list of JAX's arrays, a dict, a
    NamedTuple and every other tree of arrays keep their structure, and each part is converted. Arrays of JAX's,
    tracers, single numbers and `jax.ShapeDtypeStruct`s pass as they are.

    what: what the numbers are called in an error, such as "x" or "targets".

    Raises DataError for text, for what holds no numbers, for rows of different lengths, and for numbers that JAX would
    wrap around or make infinite while its 64 bits are off.

    >>> as_arrays([[0, 1], [1, 0]], "x").shape, as_arrays({"ids": (1, 2)}, "x")["ids"].dtype.name
    ((2, 2), 'int32')
    >>> as_arrays(["cat", "dog"], "targets")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: targets: found text such as 'cat', expected numbers; for labels write classes, labels ...
    """
    return given if isinstance(given, PASS) else _each(in_own_precision, as_numbers(given, what), what)


def as_numbers(given: PyTree, what: str) -> PyTree:
    """Return what `as_arrays` does with every number as it was given: float64 and int64 stay what they are.

    >>> as_numbers([0.1, 0.2], "x").dtype.name
    'float64'
    """
    if isinstance(given, PASS):
        return given
    if isinstance(given, np.ndarray | np.generic):
        return _of_numbers(given, what)
    if isinstance(given, list | tuple) and not _has_parts(given):
        return _of_numbers(_read(given, what), what)
    if hasattr(given, "__array__") or jax.tree_util.all_leaves([given]):
        return _foreign(given, what)
    return _each(as_numbers, given, what)


def in_own_precision(array: Any, what: str) -> Any:
    """Return an array as JAX holds it, in 32 bits unless its 64 bits are on; DataError where a number does not fit.

    >>> in_own_precision(np.array([0.5], ">f8"), "x").dtype == np.float32
    True
    >>> in_own_precision(np.array([1, 2**32 + 1]), "targets")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: targets: row 1 is 4294967297, beyond int32; number labels and ids from 0 with ...
    """
    if not isinstance(array, np.ndarray | np.generic):
        return array
    own = jax.dtypes.canonicalize_dtype(array.dtype.newbyteorder("="))  # files of other machines have the other order
    if own == array.dtype:
        return array
    with np.errstate(over="ignore"):
        held = array.astype(own)
    whole = array.dtype.kind in "iu"
    lost = held != array if whole else np.isinf(held) & np.isfinite(array)
    if np.any(lost):
        row, *rest = index = tuple(int(i) for i in np.argwhere(np.atleast_1d(lost))[0])
        where = f"row {row}" + (f", column {', '.join(map(str, rest))}" if rest else "")
        raise DataError(f"{what}: {where} is {np.atleast_1d(array)[index]}, beyond {own}; {WHOLE if whole else LARGE}")
    return held


def as_key(key: Any, what: str) -> Array | None:
    """Return a key of JAX's, made of an old one (`jax.random.PRNGKey(0)`) if need be; None stays None.

    Raises JaxpropError for anything else, such as a seed.

    >>> bool(as_key(jax.random.PRNGKey(3), "rng") == jax.random.key(3))
    True
    >>> as_key(3, "rng")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: rng must be a key such as jax.random.key(3), found 3
    """
    if key is None or (isinstance(key, Array) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)):
        return key
    if isinstance(key, Array | np.ndarray) and key.dtype == np.uint32 and key.ndim == 1:
        return jax.random.wrap_key_data(jnp.asarray(key))
    whole = isinstance(key, int | np.integer) and not isinstance(key, bool)
    found = f"{key.dtype}{list(key.shape)}" if isinstance(key, Array | np.ndarray) else f"{key}" if whole else repr(key)
    raise JaxpropError(f"{what} must be a key such as jax.random.key({key if whole else 0}), found {found}")


def _each(convert: Callable[[Any, str], Any], tree: PyTree, what: str) -> PyTree:
    """Convert the children of a tree, or what is no tree."""
    if isinstance(tree, np.ndarray | np.generic):
        return convert(tree, what)
    return jax.tree.map(lambda part: convert(part, what), tree, is_leaf=lambda node: node is not tree)


def _has_parts(given: list[Any] | tuple[Any, ...]) -> bool:
    """Whether this is a tree of arrays, and not the rows of one."""
    if isinstance(given, list):  # a list of numpy's rows is one array; JAX's own are a tree, as JAX has it
        return any(isinstance(item, Array) or len(getattr(item, "shape", ())) > 1 for item in given)
    parts = any(item is None or len(getattr(item, "shape", ())) > 0 for item in given)
    return hasattr(given, "_fields") or not given or parts


def _read(given: Any, what: str) -> np.ndarray:
    """What numpy makes of it."""
    try:
        return np.asarray(given)
    except ValueError as error:
        if "inhomogeneous" in str(error):
            raise DataError(
                f"{what} has rows of different lengths; expected one shape for all: pad or cut them"
            ) from None
        raise DataError(f"{what}: numpy cannot read this {type(given).__name__}: {error}") from None
    except (TypeError, RuntimeError) as error:  # a tensor on another device, or one that wants a gradient
        raise DataError(f"{what}: numpy cannot read this {type(given).__name__}: {error}") from None


def _of_numbers(array: Any, what: str) -> Any:
    """The array, if it holds real numbers that JAX can hold."""
    if np.ma.isMaskedArray(array) and np.any(np.ma.getmaskarray(array)):
        raise DataError(f"{what} is a masked array with masked entries; fill them first, as with x.filled(0)")
    kind = array.dtype.kind
    if kind in "OUS" or array.dtype.names:
        entries = array.ravel().tolist()
        text = next((entry for entry in entries if isinstance(entry, str | bytes)), None)
        if text is not None:
            raise DataError(f"{what}: found text such as {text!r}, expected numbers; {TEXT}")
        odd = next((entry for entry in entries if not isinstance(entry, bool | int | float)), "numbers kept as objects")
        raise DataError(f"{what}: found objects such as {odd!r}, expected numbers; {OBJECTS}")
    if kind in "mM":
        raise DataError(f"{what}: found dates ({array.dtype}), expected numbers; {OBJECTS}")
    return array


def _foreign(given: Any, what: str) -> Any:
    """What is neither JAX's nor numpy's: a data frame, a tensor, a sparse matrix, text."""
    if hasattr(given, "toarray"):
        raise DataError(f"{what} is a sparse {type(given).__name__}; expected an array: write x.toarray()")
    if hasattr(given, "__jax_array__") or (not hasattr(given, "__array__") and hasattr(given, "dtype")):
        return given  # JAX reads it, or it describes an array
    if isinstance(given, str | bytes):
        raise DataError(f"{what}: found the text {given!r}, expected rows of numbers")
    if not hasattr(given, "__array__") and not isinstance(given, range):
        raise DataError(
            f"{what}: found a {type(given).__name__}, expected an array of rows, such as np.asarray(list(x))"
        )
    return _of_numbers(_read(given, what), what)
