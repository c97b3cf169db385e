"""Row 12: two units in a row, f(x, w₁, w₂) = w₁ w₂ x.

Right: it is the product of both weights with x. Worth knowing: it is linear in x but not in w, so its cost is no bowl
(row 15); and only the product matters, so other weights compute the same function.

Run: python docs/examples/article/row_12_two_weights.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    net = jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False))
    x, targets = jnp.array([[1.0]]), jnp.array([[2.0]])

    def chain(w1: float, w2: float) -> Any:
        return tuple(jp.LinearParams(W=jnp.array([[w]]), b=None) for w in (w1, w2))

    params = chain(0.4, 0.3)
    y = net(x, params)
    found = {"a": float(y[0, 0]), "C": float(jp.HalfSquaredError()(y, targets)[0])}
    found["same_product"] = float(net(x, chain(0.6, 0.2))[0, 0])
    print(f"w = (0.4, 0.3), x = 1: a = {found['a']:.5g}; for target 2 the cost is C = {found['C']:.5g}")
    print(f"w = (0.6, 0.2) has the same product: a = {found['same_product']:.5g}")
    if folder is not None:
        plot.save(plot.network(net, params, x=x), Path(folder, "row_12_two_weights.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
