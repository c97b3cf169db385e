"""Rows that lie in memory, as numpy arrays."""

from dataclasses import dataclass

import jax
import numpy as np
from jaxtyping import PyTree, Shaped

from jaxprop.train.sources.source import Source


@dataclass(frozen=True, eq=False)  # arrays have no single answer to ==
class InMemory(Source):
    """Arrays with one first axis N.

    >>> InMemory((np.arange(4), np.arange(4) ** 2)).read(np.array([3, 1]))
    (array([3, 1]), array([9, 1]))
    """

    data: PyTree[Shaped[np.ndarray, "N ..."]]

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        return jax.tree.leaves(self.data)[0].shape[0]

    def read(self, numbers: np.ndarray, out: PyTree = None) -> PyTree:
        """Return the rows of these numbers, in this order; see `Source`."""
        if out is None:
            return jax.tree.map(lambda a: a[numbers], self.data)

        def fill(array: np.ndarray, buffer: np.ndarray) -> np.ndarray:
            np.take(array, numbers, axis=0, out=buffer[: len(numbers)], mode="clip")
            return buffer

        return jax.tree.map(fill, self.data, out)
