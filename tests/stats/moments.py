"""Moments of the gradients of all examples, by the gradients themselves: references for `cases.py`, in numpy.

p is its `Problem`. Weights count in proportion: p_n = w_n / Σ_m w_m.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.stats.blocks import by_block


@dataclass(frozen=True)
class BothEstimates(jp.stats.NoiseScale):
    """The noise scale's numerator and denominator, without their ratio: of an array that learns nothing it is 0/0."""

    def finish(self, kept, notes, context):
        return super().finish(kept, notes, context)[1:3]


def moments(p: Any) -> tuple[Any, Any]:
    """The mean of the gradients and their variance around it, two trees like θ."""
    shares = p.w / np.sum(p.w)
    mean = jax.tree.map(lambda g: np.tensordot(shares, g, 1), p.examples)
    return mean, jax.tree.map(lambda g, m: np.tensordot(shares, (g - m) ** 2, 1), p.examples, mean)


def left(p: Any) -> float:
    """What is left of an example's variance in the mean's, 1/N without weights."""
    return np.sum((p.w / np.sum(p.w)) ** 2)


def variance(p: Any, unbiased: bool) -> Any:
    return jax.tree.map(lambda v: v / (1 - left(p)) if unbiased else v, moments(p)[1])


def signal_to_noise(p: Any, epsilon: float) -> Any:
    return jax.tree.map(lambda m, v: m**2 / (v + epsilon), *moments(p))


def noise_scale(p: Any, per: str) -> jp.stats.Noise:
    sums = jax.eval_shape(lambda params: by_block(p.net, jnp.sum, params), p.params)
    depths = jax.tree.map(lambda a: a.ndim, sums)
    mean, variances = moments(p)
    total = jax.tree.map(lambda v, d: np.sum(v, tuple(range(d, v.ndim))) / (1 - left(p)), variances, depths)
    squared = jax.tree.map(lambda m, d: np.sum(m**2, tuple(range(d, m.ndim))), mean, depths)
    if per == "total":
        total, squared = (sum(map(np.sum, jax.tree.leaves(tree))) for tree in (total, squared))
    signal = jax.tree.map(lambda t, s: s - left(p) * t, total, squared)
    return jp.stats.Noise(jax.tree.map(np.divide, total, signal), total, signal, np.ones(()))


def gradient_tests(p: Any) -> jp.stats.Thresholds:
    every = np.concatenate([g.reshape(p.N, -1) for g in jax.tree.leaves(p.examples)], axis=1)
    shares = p.w / np.sum(p.w)
    mean = shares @ every
    length = np.linalg.norm(mean)
    along = every @ mean / length
    across = every - along[:, None] * mean / length
    spreads = (np.sum((every - mean) ** 2, 1), (along - length) ** 2, np.sum(across**2, 1))
    return jp.stats.Thresholds(*(np.sqrt(shares @ s / (1 - left(p)) * left(p)) / length for s in spreads))
