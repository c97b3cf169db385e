"""The one tolerance table: max|Δ| / max|g|, by dtype and platform."""

import jax
import numpy as np

MANUAL_AUTO = {
    ("float64", "cpu"): 1e-12,
    ("float32", "cpu"): 1e-5,
    ("bfloat16", "cpu"): 4e-2,
    ("float64", "gpu"): 1e-12,
    ("float32", "gpu"): 2e-5,
    ("bfloat16", "gpu"): 4e-2,
}
DIFFERENCES = 1e-7  # central differences, h = 1e-5, float64, away from kinks


def relative(found, reference) -> float:
    """max|Δ| / max|reference| over two trees (max|Δ| where the reference is 0); NaN stays NaN."""
    found, reference = jax.tree.leaves(found), jax.tree.leaves(reference)
    assert len(found) == len(reference), (len(found), len(reference))
    worst = 0.0
    for f, r in zip(found, reference, strict=True):
        assert np.shape(f) == np.shape(r), (np.shape(f), np.shape(r))
        f, r = np.asarray(f, np.float64), np.asarray(r, np.float64)
        scale = np.max(np.abs(r), initial=0.0)
        worst = np.maximum(worst, np.max(np.abs(f - r), initial=0.0) / (scale if scale > 0 else 1.0))
    return float(worst)


def tolerance(dtype) -> float:
    """The gate of manual against auto for a dtype on this platform."""
    return MANUAL_AUTO[np.dtype(dtype).name, jax.default_backend()]
