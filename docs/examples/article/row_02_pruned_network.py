"""Row 2: most connections pruned, the rest labelled: a → n₁, n₂, n₃ → m₁ → out, on the input [1, 3, 2].

Right: m₁ takes all three n. To prune a connection is to set its weight to 0, so the pruned network is the full one with
a mask on W. Not right: σ is called a "normalization function"; it is an activation function (normalising means giving
numbers a mean and a spread), and it is needed to bend, not to keep numbers small.

Run: python docs/examples/article/row_02_pruned_network.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    net = jp.Chain(jp.Linear(3, bias=False), jp.Linear(1), jp.Sigmoid())  # a → n → m₁
    full, mask = jnp.ones((3, 3)), jnp.eye(3)
    neuron = jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1]))
    params = (jp.LinearParams(W=full * mask, b=None), neuron, ())
    x, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0]])
    tape = jp.manual.trace(net, jp.HalfSquaredError())(x, params, targets)
    found = {"n": tape["0"].y[0].tolist(), "z": float(tape["2"].x[0, 0]), "a": float(tape["2"].y[0, 0])}
    found["pruned"] = int(jnp.sum(mask == 0))
    print(f"{found['pruned']} of {full.size} weights pruned, so n = {found['n']}: each n passes one input on")
    print(f"z = {found['z']:.5g}, a = σ(z) = {found['a']:.5g}")
    if folder is not None:
        plot.save(plot.article_network(), Path(folder, "row_02_pruned_network.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
