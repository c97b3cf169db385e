"""Rows of a class of somebody's own, which reads many at once."""

from typing import Any

import jax
import numpy as np

from jaxprop.errors import DataError
from jaxprop.train.sources.grain import as_rows
from jaxprop.train.sources.source import Source, filled, sha256_of


class Own(Source):
    """The rows of an object with `rows`, how many there are, and `read(numbers)`, which returns some as a pair.

    >>> class Squares:
    ...     rows = 1000
    ...     def read(self, numbers):
    ...         return numbers[:, None] / 2, numbers[:, None] ** 2
    >>> Own(Squares()).read(np.array([3, 1])).targets.tolist()
    [[9], [1]]
    """

    def __init__(self, given: Any, name: str = "data") -> None:
        self.given, self.name = given, name

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return int(self.given.rows)

    def read(self, numbers: np.ndarray, out: Any = None) -> Any:
        """Return the rows of these numbers, see `Source`."""
        found = as_rows(self.given.read(numbers), f"{self.name}: what {type(self.given).__name__}.read returns")
        for name, part in zip(found._fields, found, strict=True):
            for array in jax.tree.leaves(part):
                if array.shape[:1] != numbers.shape:
                    raise DataError(
                        f"{self.name}: {type(self.given).__name__}.read was asked for {len(numbers)} rows and returned "
                        f"{name} of shape {list(array.shape)}; expected the rows of these numbers, in their order"
                    )
        return filled(found, out)

    def digest(self) -> dict[str, Any]:
        """Return what tells these rows from others: how many there are, of what kind, the first and the last."""
        sha256 = sha256_of(self.read(np.array([0, self.rows - 1])))
        return {"kind": type(self.given).__name__, "rows": self.rows, "sha256": sha256}


def is_own(given: Any) -> bool:
    """Return whether this is an object with `rows` and `read`."""
    return hasattr(given, "rows") and callable(getattr(given, "read", None))
