"""How much of a gradient is rounding: how far `jax.grad` moves when what it is given moves by a rounding error.

A gradient of exactly 0 (a bias before a BatchNorm, a saturated softmax) is found as the rounding of its terms, by one
way as by another. What is asked here is JAX's own computation, never the rule under test, so that a wrong rule gets no
allowance for being wrong.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxprop.checks import is_floating

ANGLES = np.random.default_rng(7).uniform(1, 3, size=8).astype("float32")  # one a draw
UNITS = 4  # in the last place: by so much every number moves, up or down
MARGIN = 8  # between the most that was seen in the draws and what is allowed


def rounding_of(f: Callable[[PyTree], PyTree], at: PyTree) -> PyTree:
    """Return f's tree with, for every array, `MARGIN` times the most that any of its entries moved in a few draws.

    Every floating number a of `at` becomes a (1 ± 4ε), with the ε of its dtype. For use under `jit`.

    >>> moved = rounding_of(lambda a: {"zero": jnp.sum(a) - 6.0, "one": 0 * a + 1}, jnp.array([1.0, 2.0, 3.0]))
    >>> bool(0 < moved["zero"] < 1e-3), float(moved["one"])
    (True, 0.0)
    """
    still = f(at)

    def draw(angle: Array) -> PyTree:
        return jax.tree.map(lambda a, b: jnp.max(jnp.abs(a - b), initial=0), f(_moved(at, angle)), still)

    moved = jax.lax.map(draw, jnp.asarray(ANGLES))
    return jax.tree.map(lambda sizes: MARGIN * jnp.max(sizes), moved)


def _moved(tree: PyTree, angle: Array) -> PyTree:
    """Every number i of an array up where cos(i · angle) > 0, else down: signs that compile faster than random ones."""

    def one(a: Array) -> Array:
        if not is_floating(a):
            return a
        step = UNITS * float(jnp.finfo(a.dtype).eps)
        up = jnp.cos(angle * jnp.arange(1, a.size + 1, dtype=angle.dtype)).reshape(a.shape) > 0
        return jnp.where(up, a * a.dtype.type(1 + step), a * a.dtype.type(1 - step))

    return jax.tree.map(one, tree)
