"""Row 13: the output Σ_m x_m a_m, the sum of the hidden activations, each times a weight.

Right as a layer: linear and without a bias. Not right: x is already the input (here the weights are v); and later the
gradient is derived as if the output had a σ. For this output ∂a/∂z = 1: ∂C/∂v_m = (a − ŷ) a_m, without σ′.

Run: python docs/examples/article/row_13_output.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    net, cost = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(1, bias=False)), jp.HalfSquaredError()
    hidden = jp.LinearParams(W=jnp.array([[0.5, -0.5], [-0.25, 0.25], [0.75, 0.1]]), b=jnp.array([0.1, -0.2]))
    v = jp.LinearParams(W=jnp.array([[0.6], [-0.4]]), b=None)
    params, x, targets = (hidden, (), v), jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0]])
    tape = jp.manual.trace(net, cost)(x, params, targets)
    _, grads = jp.manual.value_and_grad(net, cost)(x, params, targets)
    a, y = tape["1"].y[0], tape["2"].y[0, 0]
    difference = tape["2"].dy[0, 0]  # ∂C/∂a of the output, and ∂C/∂z too
    _, kept = jp.Identity().forward(tape["2"].y)
    wrong = jp.Sigmoid().derivative(jp.Sigmoid()(y))
    found = {"a": a.tolist(), "terms": (v.W[:, 0] * a).tolist(), "output": float(y), "bias": grads[2].b}
    found |= {"slope": float(jp.Identity().derivative(kept)[0, 0]), "gradient": grads[2].W[:, 0].tolist()}
    found |= {"by_hand": (difference * a).tolist(), "articles": (difference * wrong * a).tolist()}
    print(" + ".join(f"({term:.5f})" for term in found["terms"]), f"= {found['output']:.5f}, no bias")
    for name, text in (("gradient", "∂C/∂v"), ("by_hand", "(a − ŷ) a_m"), ("articles", "with σ′, which is wrong here")):
        print(f"{text:>28}: " + ", ".join(f"{g:.5f}" for g in found[name]))
    if folder is not None:
        plot.save(plot.network(net, params, x=x), Path(folder, "row_13_output.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
