"""How far two arrays, or two trees of them, are apart: what every gate of the tolerance table is a bound on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import PyTree


def relative(found: PyTree, reference: PyTree) -> Any:
    r"""Return max|Δ| / max|reference| of the array that is farthest off.

    Every array is measured by its own largest entry; by 1 where the reference is 0 everywhere. NaN stays NaN, and
    arrays of different shapes, or different numbers of them, are infinitely far apart.

    found, reference: arrays, or trees of arrays, of any dtype; their leaves are compared in order.
    Returns a float, computed by numpy in float64; a traced scalar where an array is traced.

    >>> relative(np.array([1.0, 2.5]), np.array([1.0, 2.0])), relative(np.ones(2), np.ones((2, 1)))
    (0.25, inf)
    """
    found, reference = jax.tree.leaves(found), jax.tree.leaves(reference)
    if list(map(np.shape, found)) != list(map(np.shape, reference)):
        return float("inf")
    if any(isinstance(leaf, Tracer) for leaf in [*found, *reference]):
        errors = [_error(jnp, f, r) for f, r in zip(found, reference, strict=True)]
        return jnp.max(jnp.stack(errors)) if errors else 0.0
    pairs = ((np.asarray(f, np.float64), np.asarray(r, np.float64)) for f, r in zip(found, reference, strict=True))
    with np.errstate(invalid="ignore"):  # ∞ − ∞ is NaN, and said so by the answer
        return float(np.max([_error(np, f, r) for f, r in pairs], initial=0.0))


def relative_beyond(difference: Any, scale: Any, rounding: Any, xp: Any = np) -> Any:
    """Return the part of a difference that rounding does not explain, as a part of `scale`.

    A right answer of 0 has no size of its own to be measured by, and is never found to be 0: what its computation
    rounds to says how far two right ways to it may be apart.

    difference: max|Δ|.    scale: max|reference|.    rounding: how much the computation itself rounds away.
    xp: numpy, or jax.numpy where a number is traced.
    Returns 0 for a difference within rounding, and infinity for any other where the scale is 0; NaN stays NaN.

    >>> [float(relative_beyond(*sizes)) for sizes in [(1e-8, 0.0, 2e-8), (1e-8, 0.0, 0.0), (1.0, 4.0, 0.0)]]
    [0.0, inf, 0.25]
    """
    beyond = difference - xp.minimum(difference, xp.where(xp.isfinite(rounding), rounding, 0.0))
    by_scale = beyond / xp.where(scale > 0, scale, 1.0)
    return xp.where(beyond == 0, 0.0, xp.where(scale > 0, by_scale, xp.where(beyond > 0, xp.inf, xp.nan)))


def _error(xp: Any, found: Any, reference: Any) -> Any:
    """Relative error of one array, by numpy or jax.numpy."""
    scale = xp.max(xp.abs(reference), initial=0)
    return xp.max(xp.abs(found - reference), initial=0) / xp.where(scale > 0, scale, 1)
