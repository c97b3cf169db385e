"""Row 7: units without an activation cannot fit x².

Right, and it can be said exactly. On x uniform over [−1, 1] the best w x has w = 0 and leaves a mean squared error of
1/5; the best w x + b has w = 0, b = 1/3 and leaves 4/45; more linear layers leave the same 4/45. Not right:
"arbitrarily complicated linear systems". The unit f = w x has no bias and cannot fit even x + 1, where it leaves 1.

Run: python docs/examples/article/row_07_linear_floor.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop import plot

OPTIMIZER, COST = optax.sgd(0.3), jp.MeanSquaredError()


def trained(net: jp.Layer, truth: Any) -> tuple[Any, float]:
    """Return θ trained on a grid, and the mean squared error over [−1, 1], exact for the polynomials here."""
    x = (np.arange(200)[:, None] + 0.5) / 100 - 1
    params = jp.fit(net, COST, OPTIMIZER, (x, truth(x)), epochs=150, batch_size=200, progress=False).params
    points, weights = (jnp.asarray(part, dtype=float) for part in np.polynomial.legendre.leggauss(8))
    value, _ = jp.auto.value_and_grad(net, COST)(points[:, None], params, truth(points[:, None]), weights=weights / 2)
    return params, float(value)


def main(folder: str | None = None) -> dict[str, Any]:
    linear, affine = jp.Linear(1, bias=False), jp.Linear(1)
    w, mse = trained(linear, jnp.square)
    found: dict[str, Any] = {"linear": {"w": float(w.W[0, 0]), "mse": mse}}
    theta, mse = trained(affine, jnp.square)
    found["affine"] = {"w": float(theta.W[0, 0]), "b": float(theta.b[0]), "mse": mse}
    deep = [jp.Chain(*[jp.Linear(3)] * hidden, jp.Linear(1)) for hidden in (1, 2)]
    found["deep"] = {len(net.layers): trained(net, jnp.square)[1] for net in deep}
    w, mse = trained(linear, lambda x: x + 1)
    found["linear_on_x_plus_1"] = {"w": float(w.W[0, 0]), "mse": mse}
    for name, numbers in found.items():
        print(f"{name:>18}: " + ", ".join(f"{key} = {value:.6f}" for key, value in numbers.items()))
    if folder is not None:
        x = (np.arange(40) + 0.5) / 20 - 1
        ax = plot.function_fit(x, x**2, lambda x: affine(x, theta), truth=np.square, name="w x + b")
        plot.save(ax, Path(folder, "row_07_linear_floor.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
