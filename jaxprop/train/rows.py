"""The rows that training and measuring go through: x, targets, and if given a weight and a mask for each."""

from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import ArrayLike, Float, PyTree, Shaped

from jaxprop.arrays.given import as_numbers, in_own_precision
from jaxprop.checks import check_finite, check_rows
from jaxprop.errors import DataError, JaxpropError


class Rows(NamedTuple):
    """Arrays with one first axis N; what is None is not there. The weights of training rows have the mean 1."""

    x: PyTree[Shaped[Any, "N ..."]]
    targets: Shaped[Any, "N ..."]
    weights: Float[Any, " N"] | None = None
    mask: PyTree[Shaped[Any, "N ..."]] = None


def read_rows(given: Any, name: str, weights: ArrayLike | None = None, mask: PyTree = None) -> Rows:
    """Return rows as numpy arrays in JAX's own precision, checked.

    given: a tuple (x, targets) of arrays, lists or data frames; or (x, targets, weights), or (x, targets, weights,
    mask). name: what they are called in errors.

    >>> read_rows(([[1.0], [2.0]], [0, 1], [3, 1]), "data").weights.tolist()
    [1.5, 0.5]
    """
    if not isinstance(given, tuple | list) or not 2 <= len(given) <= 4:
        of_how_many = f" of {len(given)}" if isinstance(given, tuple | list) else ""
        raise JaxpropError(f"fit: {name} must be a pair (x, targets), found {type(given).__name__}{of_how_many}")
    if (weights is not None and len(given) > 2) or (mask is not None and len(given) > 3):
        raise JaxpropError(f"fit: {name} brings what weights= and mask= give as well: give them once")
    x, targets, weights, mask = (*given, *(weights, mask)[len(given) - 2 :])
    x, targets = as_numpy(x, f"{name}: x"), as_numpy(targets, f"{name}: targets")
    for part in jax.tree.leaves(x):
        check_rows(part, targets, name)
    x = jax.tree.map(lambda part: in_own_precision(part, f"{name}: x"), x)
    targets = in_own_precision(targets, f"{name}: targets")
    if weights is not None:
        weights = read_weights(weights, len(targets), f"{name}: weights")
        weights = weights / np.mean(weights, dtype=weights.dtype)
    return Rows(x, targets, weights, read_mask(mask, len(targets), f"{name}: mask"))


def as_numpy(given: PyTree, what: str) -> PyTree[np.ndarray]:
    """Return what a user gave as numpy arrays, with every number as it was given."""
    return jax.tree.map(np.asarray, as_numbers(given, what))


def read_weights(given: ArrayLike, rows: int, what: str = "weights") -> np.ndarray:
    """Return one weight a row, or raise DataError: they are finite, none below 0 and one above.

    >>> read_weights([1, 2], 3)
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: weights are of shape [2], expected one weight a row, [3]
    """
    weights = check_finite(as_numpy(given, what), what)
    if weights.shape != (rows,):
        raise DataError(f"{what} are of shape {list(weights.shape)}, expected one weight a row, [{rows}]")
    if weights.min() < 0 or weights.max() == 0:
        which = f"row {int(weights.argmin())} has {weights.min()}" if weights.min() < 0 else "all are 0"
        raise DataError(f"{what}: {which}, expected none below 0 and one above")
    return weights.astype(jax.dtypes.canonicalize_dtype(np.float64))


def read_mask(given: PyTree, rows: int, what: str = "mask") -> PyTree[np.ndarray]:
    """Return a mask, or each array of a tree of them, with one first axis N; DataError where it is another."""
    mask = as_numpy(given, what)
    for part in jax.tree.leaves(mask):
        if part.shape[:1] != (rows,):
            raise DataError(f"{what} is of shape {list(part.shape)}, expected [{rows}, ...], as x has rows")
    return jax.tree.map(lambda part: in_own_precision(part, what), mask)
