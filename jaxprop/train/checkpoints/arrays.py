"""Arrays by path, written and read by Orbax: asynchronously, from and to many devices and processes.

Orbax is imported here, when it is used: it takes a second. What it logs is dropped, since what matters is said by
whoever calls.
"""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from orbax.checkpoint import AsyncCheckpointer

Arrays = dict[str, Any]


def opened() -> "AsyncCheckpointer":
    """Return what writes and reads."""
    import orbax.checkpoint as ocp

    with _quiet():
        return ocp.AsyncCheckpointer(ocp.StandardCheckpointHandler())


def begin(checkpointer: "AsyncCheckpointer", folder: Path, arrays: Arrays) -> None:
    """Begin to write arrays to a new folder; they may change once this returns. All processes do it at once."""
    import orbax.checkpoint as ocp

    with _quiet():  # Orbax writes no array of size 0
        checkpointer.save(folder, args=ocp.args.StandardSave({path: a for path, a in arrays.items() if a.size}))


def wait(checkpointer: "AsyncCheckpointer") -> None:
    """Wait until what was begun is written and has its name; raise what went wrong."""
    with _quiet():
        checkpointer.wait_until_finished()


def close(checkpointer: "AsyncCheckpointer") -> None:
    """End the threads of what writes and reads."""
    with _quiet():
        checkpointer.close()


def restored(checkpointer: "AsyncCheckpointer", folder: Path, targets: Arrays) -> Arrays:
    """Return the arrays of a folder, each of its target's kind: numpy's, or a JAX array where its sharding says."""
    import orbax.checkpoint as ocp

    with _quiet():
        wanted = {path: target for path, target in targets.items() if target.size}
        found = checkpointer.restore(folder, args=ocp.args.StandardRestore(wanted))
    return {path: found[path] if path in found else _empty(target) for path, target in targets.items()}


def _empty(target: Any) -> Any:
    made = target if isinstance(target, np.ndarray) else jnp.zeros(target.shape, target.dtype)
    return made if isinstance(target, np.ndarray) else jax.device_put(made, target.sharding)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    log, drop = logging.getLogger("absl"), lambda record: "orbax" not in record.pathname
    log.addFilter(drop)
    try:
        yield
    finally:
        log.removeFilter(drop)
