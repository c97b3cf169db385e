"""What all processes of a run must decide alike, since each has a clock and signals of its own."""

from collections.abc import Callable

import jax
import numpy as np


def any_process(flag: bool) -> bool:
    """Return whether any process of the run says so; all must ask at the same place.

    >>> any_process(False), any_process(True)
    (False, True)
    """
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def of_first_process(find: Callable[[], int]) -> int:
    """Return the whole number that the first process finds, in all of them.

    >>> of_first_process(lambda: 3)
    3
    """
    if jax.process_count() == 1:
        return find()
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.array(find() if jax.process_index() == 0 else 0)))
