"""How the processes of a job agree: each computes its part of every step, so all must take the same turns.

What only one of them knows (the time, a signal, what a callback said) is exchanged before anybody acts on it. In a
job of one process nothing here computes anything.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Float

from jaxprop.arrays.paths import by_path
from jaxprop.errors import DataError


def alone() -> bool:
    """Return whether the job is this process alone."""
    return jax.process_count() == 1


def is_first() -> bool:
    """Return whether this is the process that shows, writes and saves: process 0."""
    return jax.process_index() == 0


def of_all(numbers: Sequence[float]) -> Float[np.ndarray, "P K"]:
    """Return the numbers of every process, one row each.

    >>> of_all([1.0, 2.0]).tolist()
    [[1.0, 2.0]]
    """
    own = np.array(numbers, np.float64)
    return own[None] if alone() else _gathered(own.view(np.uint8)).view(np.float64)


def of_first(numbers: Sequence[float]) -> list[float]:
    """Return the numbers of process 0, to the bit.

    >>> of_first([0.1, float("inf")])
    [0.1, inf]
    """
    own = np.array(numbers, np.float64)
    if alone() or not len(own):
        return own.tolist()
    return multihost_utils.broadcast_one_to_all(own.view(np.uint8)).view(np.float64).tolist()


def check_same(**given: Any) -> None:
    """Raise DataError, in every process, where one of them was given other things than process 0, by their names.

    >>> check_same(rows=np.zeros(3))
    """
    if alone():
        return
    digests = _gathered(np.stack([_digest(what) for what in given.values()]))
    for process, own in enumerate(digests):
        for name, digest, first in zip(given, own, digests[0], strict=True):
            if not np.array_equal(digest, first):
                error = DataError(
                    f"fit: process {process} of {len(digests)} has other {name.replace('_', ' ')} than process 0: all "
                    "must be given the same, of which each takes its part"
                )
                error.everywhere = True  # pyright: ignore[reportAttributeAccessIssue]
                raise error


def _gathered(data: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(multihost_utils.process_allgather(data))


def _digest(given: Any) -> np.ndarray:
    """16 bytes that stand for a tree: arrays by their bytes, all else by its text."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in by_path(given).items():
        is_array = isinstance(leaf, np.ndarray | jax.Array)
        array = np.ascontiguousarray(leaf) if is_array else None
        said = repr(leaf) if array is None else f"{array.dtype} {array.shape}"
        digest.update(f"{path} {said}\0".encode())
        if array is not None:
            digest.update(array.reshape(-1).view(np.uint8))
    return np.frombuffer(digest.digest(), np.uint8)
