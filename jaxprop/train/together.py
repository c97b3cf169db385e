"""How the processes of a run agree: each computes its part of every step, so all must take the same turns.

Each has a clock and signals of its own. What only one of them knows is exchanged before anybody acts on it, and all
must ask at the same place. In one process nothing here computes anything.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.errors import DataError


def alone() -> bool:
    """Return whether this process is the only one."""
    return jax.process_count() == 1


def is_first() -> bool:
    """Return whether this is the process that shows, writes and saves."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Return whether any process of the run says so; all must ask at the same place.

    >>> any_process(False), any_process(True)
    (False, True)
    """
    return flag if alone() else bool(np.any(_gathered(np.array(flag))))


def of_first_process(find: Callable[[], int]) -> int:
    """Return the whole number that the first process finds, in all of them.

    >>> of_first_process(lambda: 3)
    3
    """
    if alone():
        return find()
    return int(_of_first(np.array(find() if is_first() else 0)))


def numbers_of_first(numbers: Sequence[float]) -> list[float]:
    """Return the numbers that the first process has, in all of them and to the bit.

    >>> numbers_of_first([0.1, float("inf")])
    [0.1, inf]
    """
    own = np.array(numbers, np.float64)
    return [*numbers] if alone() else _of_first(own.view(np.uint8)).view(np.float64).tolist()


def at_home(tree: PyTree, gather: bool = True) -> PyTree:
    """Return a tree whose arrays this process can read by itself, whatever the others do.

    Those that lie whole in every process are this one's own; those that are spread over several are put together, which
    all must do at once (`gather`), or left as they are.
    """

    def home(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
            return leaf
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(home(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        if leaf.is_fully_replicated:
            return leaf.addressable_data(0)
        return jnp.asarray(_gathered(leaf)) if gather else leaf

    return tree if alone() else jax.tree.map(home, tree)


def check_same(given: Callable[[], Mapping[str, Any]]) -> None:
    """Raise DataError, in every process, where one of them was given other things than the first, by their names.

    given: returns trees by name; it is not called where there is one process.

    >>> check_same(lambda: {"rows": np.zeros(3)})
    """
    if alone():
        return
    named = given()
    digests = _gathered(np.stack([_digest(what) for what in named.values()]))
    for process, own in enumerate(digests):
        other = [name for name, a, b in zip(named, own, digests[0], strict=True) if not np.array_equal(a, b)]
        if other:
            error = DataError(
                f"fit: process {process} of {len(digests)} has other {' and '.join(other)} than process 0: give all of "
                "them the same, and each takes its part"
            )
            error.everywhere = True  # pyright: ignore[reportAttributeAccessIssue]
            raise error


def _gathered(array: Any) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.ascontiguousarray(multihost_utils.process_allgather(array, tiled=isinstance(array, jax.Array)))


def _of_first(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return multihost_utils.broadcast_one_to_all(array)


def _digest(given: Any) -> np.ndarray:
    """16 bytes that stand for a tree: arrays by their bytes, all else by its text."""
    digest = hashlib.blake2b(digest_size=16)
    for path, leaf in by_path(at_home(given)).items():
        array = np.asarray(leaf) if isinstance(leaf, np.ndarray | jax.Array) else None
        digest.update(
            f"{path} {leaf!r}\0".encode() if array is None else f"{path} {array.dtype} {array.shape}\0".encode()
        )
        if array is not None:
            digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return np.frombuffer(digest.digest(), np.uint8)
