"""Row 19: "these values are calculated for every single weight": hidden layers.

Not in the article, its largest gap: it derives the last layer only. A hidden unit reaches C through every unit of the
next layer, so its error is a sum over its outgoing edges, δ_l = (W δ_{l+1}) ⊙ σ′(z_l) (Wᵀ where vectors are columns).
Errors go back layer by layer; that is why it is called backpropagation. The index l of "a_{L−1}" counts the layers.

Run: python docs/examples/article/row_19_hidden_layers.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot
from jaxprop.derivations import explain, to_text


def main(folder: str | None = None) -> dict[str, Any]:
    net, cost = jp.Chain(*[jp.Linear(3), jp.Sigmoid()] * 2, jp.Linear(2), jp.Sigmoid()), jp.HalfSquaredError()
    x, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0, 0.0]])
    params = net.init(jax.random.key(0), x)
    tape = jp.manual.trace(net, cost)(x, params, targets)
    _, grads = jp.auto.value_and_grad(net, cost)(x, params, targets)
    linear = [i for i, layer in enumerate(net.layers) if isinstance(layer, jp.Linear)]
    deltas = [tape[str(i)].dy[0] for i in linear]  # δ = ∂C/∂z, z being what a Linear gives
    found: dict[str, Any] = {"deltas": [delta.tolist() for delta in deltas], "rule": [], "grad_error": []}
    for level, i in enumerate(linear):
        gradient = jnp.outer(tape[str(i)].x[0], deltas[level])
        found["grad_error"].append(float(jnp.max(jnp.abs(gradient - grads[i].W))))
        if i != linear[-1]:
            edges = params[i + 2].W * deltas[level + 1]  # [unit, next unit]: one term for every outgoing edge
            found["rule"].append((edges.sum(axis=1) * tape[str(i + 1)].derivative[0]).tolist())
    found["terms"] = edges[0].tolist()
    found["text"] = to_text(explain(net, cost)(x, params, targets, "2.W", (0, 0)))
    print(found["text"])
    for level, delta in enumerate(found["deltas"], start=1):
        print(f"δ of layer {level}: " + ", ".join(f"{d:.6f}" for d in delta))
    print(f"largest difference of x δ from jax.grad: {max(found['grad_error']):.1e}")
    if folder is not None:
        plot.save(plot.gradient_sizes(tape, grads), Path(folder, "row_19_hidden_layers.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
