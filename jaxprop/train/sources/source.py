"""What `fit` asks of the rows that it trains on: how many there are, and some of them, by number."""

from typing import Protocol

import numpy as np

from jaxprop.train.rows import Rows


class Source(Protocol):
    """Rows that are read by number, in any order. What reads them is called by a thread of its own."""

    @property
    def rows(self) -> int:
        """How many rows there are, N."""
        ...

    def read(self, numbers: np.ndarray, out: Rows | None = None) -> Rows:
        """Return the rows of these numbers `[K]`, in this order, as numpy arrays with the first axis K.

        Into `out`, arrays with at least K rows, if they are given: then the result has all the rows of `out`.
        """
        ...
