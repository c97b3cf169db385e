"""Row 6: one unit f(x, w) = w x learns y = x and y = 2x.

Right: w goes to 1, and to 2. Left open: how. With C = ½ (w x − y)² a step w ← w − η ∂C/∂w multiplies the error of w by
1 − η x², whatever the slope: no learning at x = 0, an endless swing at η x² = 2, divergence beyond. One sample is not
enough either: at x = 1 alone every f with f(1) = 1 is as good; a unit with a bias finds another one than f(x) = x.

Run: python docs/examples/article/row_06_one_weight.py, or on 200 points: jaxprop train line --slope 2
"""

import sys
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp

LEARNING_RATE = 0.5
OPTIMIZER = optax.sgd(LEARNING_RATE)


def train(net: jp.Linear, x: float, slope: float, steps: int) -> jp.LinearParams:
    """Return θ after `steps` steps from 0, on the one sample (x, slope · x)."""
    params = jp.LinearParams(W=jnp.zeros((1, 1)), b=jnp.zeros(1) if net.bias else None)
    rows = np.array([[x]]), np.array([[slope * x]])
    settings = {"epochs": steps, "batch_size": 1, "progress": False}
    return jp.fit(net, jp.HalfSquaredError(), OPTIMIZER, rows, params=params, **settings).params


def main(folder: str | None = None) -> dict[str, Any]:
    unit, affine = jp.Linear(1, bias=False), jp.Linear(1)
    found: dict[str, Any] = {"learning_rate": LEARNING_RATE}
    found["w"] = {slope: float(train(unit, 1.0, slope, steps=30).W[0, 0]) for slope in (1.0, 2.0)}
    after_one = {x: float(train(unit, x, 2.0, steps=1).W[0, 0]) for x in (0.0, 0.5, 1.0, 2.0, 3.0)}
    found["factor"] = {x: (w - 2.0) / (0.0 - 2.0) for x, w in after_one.items()}
    theta = train(affine, 1.0, 1.0, steps=30)
    found["other_fit"] = {x: float(affine(jnp.array([[x]]), theta)[0, 0]) for x in (0.0, 1.0, 2.0)}
    for slope, w in found["w"].items():
        print(f"y = {slope:g}x, trained at x = 1: w = {w:.3f}")
    for x, factor in found["factor"].items():
        print(
            f"x = {x:g}: a step multiplies the error of w by {factor:.4g} (1 − ηx² = {1 - LEARNING_RATE * x * x:.4g})"
        )
    print("w x + b, trained at x = 1 alone:", ", ".join(f"f({x:g}) = {y:.4g}" for x, y in found["other_fit"].items()))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
