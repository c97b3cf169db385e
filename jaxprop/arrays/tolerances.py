"""The one tolerance table: how far apart two ways to one number may be, as `relative` measures it.

The gates hold between two right ways to compute one gradient: they are a few hundred units in the last place of the
dtype, which leaves room for sums taken in another order and for nothing else.
"""

from typing import Any

import jax
import numpy as np

# Manual against auto: on the CPU, and on any accelerator, whose sums and exponentials are its own
MANUAL_AUTO = {
    "float64": (1e-12, 1e-12),
    "float32": (1e-5, 2e-5),
    "float16": (1e-2, 1e-2),
    "bfloat16": (4e-2, 4e-2),
}
DIFFERENCES = 1e-7  # central differences with h = 1e-5 in float64, away from kinks
FACTOR = 1e-10  # one layer inside of a network, in float64, for an error drawn at random


def tolerance(dtype: Any, platform: str | None = None) -> float:
    """Return the gate of manual against auto for a floating dtype.

    platform: "cpu", "gpu" and so on, as JAX names them; by default the one that JAX computes on.

    >>> tolerance("float32", "cpu"), tolerance("float32", "gpu")
    (1e-05, 2e-05)
    """
    on_cpu, elsewhere = MANUAL_AUTO[np.dtype(dtype).name]
    return on_cpu if (platform or jax.default_backend()) == "cpu" else elsewhere
