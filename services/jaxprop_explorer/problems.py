"""What a network is asked to learn: rows to train on, and what the page draws of them."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Num

from jaxprop import data
from jaxprop.errors import pick


class Problem(NamedTuple):
    """Rows x `[N, I]` and targets `[N, O]` or labels `[N]`, the names of the inputs, and the classes, if any."""

    x: Float[np.ndarray, "N I"]
    targets: Num[np.ndarray, "N ..."]
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """How many numbers a network answers."""
        return len(self.classes) or self.targets.shape[1]


def problem(name: str) -> Problem:
    """Return the problem of that name."""
    return PROBLEMS[pick(name, PROBLEMS, "data")]()


def _xor() -> Problem:
    rows = data.xor()
    return Problem(rows.x, np.asarray(rows.targets, rows.x.dtype).reshape(len(rows.x), -1), ("x₁", "x₂"))


PROBLEMS = {"xor": _xor}
