"""Row 1: a network of three layers, each unit joined to every unit of the layer before.

The article draws circles and lines. Right: every line is one weight, so a layer of n units after one of m units has
m · n of them, and the whole network Σ n_l · n_{l+1}. Left open: each unit but the inputs also has a bias, which is no
line. In the picture colour is the sign of a weight and width its size.

Run: python docs/examples/article/row_01_network.py [existing folder for the picture]
"""

import itertools
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    sizes = (3, 4, 2)
    net = jp.Chain(jp.Linear(sizes[1]), jp.Sigmoid(), jp.Linear(sizes[2]), jp.Sigmoid())
    params = net.init(jax.random.key(0), jnp.ones((1, sizes[0])))
    linear = [p for p in params if p]
    found = {
        "sizes": sizes,
        "edges": sum(a * b for a, b in itertools.pairwise(sizes)),
        "weights": sum(p.W.size for p in linear),
        "biases": sum(p.b.size for p in linear),
    }
    print(f"{net!r} on {sizes[0]} inputs: Σ n_l · n_l+1 = {found['edges']} edges")
    print(f"its parameters: {found['weights']} weights, one per edge, and {found['biases']} biases, one per unit")
    if folder is not None:
        plot.save(plot.network(net, params), Path(folder, "row_01_network.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
