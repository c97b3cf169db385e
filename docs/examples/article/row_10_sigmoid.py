"""Row 10: an activation function bends; the sigmoid σ(z) = 1 / (1 + e⁻ᶻ) takes any number into the range 0 to 1.

Right: σ(0) = ½. To add: 0 and 1 themselves are never reached (a computer rounds to 1 from some z on), and the slope,
¼ at most, vanishes on both sides. So with the squared error a unit that is very wrong learns slowly, a reason for the
cross entropy. Not right: "to keep numbers from growing". ReLU bends as well and keeps nothing from growing.

Run: python docs/examples/article/row_10_sigmoid.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    z = jnp.arange(-1200, 1201) / 100
    value, kept = jp.Sigmoid().forward(z)
    slope = jp.Sigmoid().derivative(kept)
    found: dict[str, Any] = {"at_zero": float(value[1200]), "slope_at_zero": float(slope[1200])}
    found |= {"range": (float(value.min()), float(value.max())), "largest_slope": float(slope.max())}
    wide = jnp.linspace(0, 50, 5001)
    found["rounds_to_one_from"] = float(wide[jp.Sigmoid()(wide) == 1][0])
    found["relu_of_1000"] = float(jp.ReLU()(jnp.array(1000.0)))

    # a unit with z = 4 that should answer 0
    x, targets, params = jnp.ones((1, 1)), jnp.zeros((1, 1)), jp.LinearParams(W=2 * jnp.ones((1, 1)), b=2 * jnp.ones(1))
    unit = jp.Chain(jp.Linear(1), jp.Sigmoid())
    squared = jp.manual.value_and_grad(unit, jp.HalfSquaredError())(x, (params, ()), targets)[1][0].W
    entropy = jp.manual.value_and_grad(jp.Linear(1), jp.SigmoidCrossEntropy())(x, params, targets)[1].W
    found["when_very_wrong"] = {"squared_error": float(squared[0, 0]), "cross_entropy": float(entropy[0, 0])}
    print(f"σ(0) = {found['at_zero']}, σ′(0) = {found['slope_at_zero']}, largest slope {found['largest_slope']}")
    print("from z = {:g} on, σ(z) rounds to 1 in {}".format(found["rounds_to_one_from"], wide.dtype))
    print("σ from {:.2e} to 1 − {:.2e} on [−12, 12]".format(found["range"][0], 1 - found["range"][1]))
    print(f"relu(1000) = {found['relu_of_1000']:g}")
    print("∂C/∂w when very wrong:", ", ".join(f"{k} {v:.4f}" for k, v in found["when_very_wrong"].items()))
    if folder is not None:
        plot.save(plot.activation(jp.Sigmoid(), z=1.35), Path(folder, "row_10_sigmoid.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
