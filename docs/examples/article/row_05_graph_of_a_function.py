"""Row 5: the graph of f(x) = x, and a network that has learned it from points.

Right: a network approximates a function that it is only shown in examples. Left open: it does so where the examples
are. A network with a bend in it answers well on [−1, 1], where it was trained, and wrongly at x = 3.

Run: python docs/examples/article/row_05_graph_of_a_function.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    x = np.linspace(-1, 1, 41)[:, None]
    net = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(1))
    result = jp.fit(net, jp.HalfSquaredError(), optax.adam(0.02), (x, x), epochs=200, batch_size=41, progress=False)

    def predict(x: Any) -> Any:
        return net(jnp.asarray(x, dtype=float), result.params)

    found = {"mse": 2 * jp.evaluate(net, jp.HalfSquaredError())(jnp.asarray(x), result.params, jnp.asarray(x))["cost"]}
    found |= {"at_half": float(predict([[0.5]])[0, 0]), "at_three": float(predict([[3.0]])[0, 0])}
    print(f"f(x) = x learned from {len(x)} points: mean squared error {found['mse']:.2g} on [−1, 1]")
    print(f"within: f(0.5) = {found['at_half']:.4f}; outside: f(3) = {found['at_three']:.4f}")
    if folder is not None:
        plot.save(plot.function_fit(x, x, predict, truth=lambda x: x), Path(folder, "row_05_graph_of_a_function.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
