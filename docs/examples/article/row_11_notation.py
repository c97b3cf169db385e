"""Row 11: a network is a function f(x, θ), θ being all of its parameters.

Right, and jaxprop's code is written so: `net(x, params)`. The description `net` holds no number; all of them are in θ,
a tree of arrays. So one line calls every network, a gradient is taken with respect to θ (not to the prediction, as
"a direction to push the prediction" says), and the same f with another θ is another function.

Run: python docs/examples/article/row_11_notation.py
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp

import jaxprop as jp


def main(folder: str | None = None) -> dict[str, Any]:
    one = jp.Linear(1, bias=False)
    nets = (one, jp.Chain(one, one), jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(1)))
    x = jnp.array([[1.0], [2.0]])
    found: dict[str, Any] = {}
    for net in nets:
        params = net.init(jax.random.key(0), x)
        y = net(x, params)  # f(x, θ)
        again, doubled = net(x, params), net(x, jax.tree.map(lambda p: 2 * p, params))
        gradient = jax.grad(lambda theta, net=net: jnp.sum(net(x, theta)))(params)
        found[repr(net)] = {
            "parameters": sum(p.size for p in jax.tree.leaves(params)),
            "y": y[:, 0].tolist(),
            "pure": bool(jnp.all(y == again)),
            "doubled": doubled[:, 0].tolist(),
            "gradient_like_params": jax.tree.structure(gradient) == jax.tree.structure(params),
        }
        print(f"f = {net!r}, {found[repr(net)]['parameters']} numbers in θ")
        print(
            f"    f(1, θ), f(2, θ) = {y[0, 0]:.4f}, {y[1, 0]:.4f}   with 2θ: {doubled[0, 0]:.4f}, {doubled[1, 0]:.4f}"
        )
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
