"""Row 8: hidden layers alone do not help: what they compute is still linear.

Right: (x W₁ + b₁) W₂ + b₂ = x (W₁ W₂) + (b₁ W₂ + b₂), one layer with one matrix (W₂ W₁ where vectors are columns).
Exactly said the result is affine, linear plus a constant. With a sigmoid in between no such layer exists.

Run: python docs/examples/article/row_08_collapse.py
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp

import jaxprop as jp


def collapse(params: Any) -> jp.LinearParams:
    """Return the one layer that linear layers in a row amount to."""
    W, b = params[0]
    for after in params[1:]:
        W, b = W @ after.W, b @ after.W + after.b
    return jp.LinearParams(W, b)


def main(folder: str | None = None) -> dict[str, Any]:
    layers = [jp.Linear(features, bias_init="standard_normal") for features in (5, 4, 2)]
    x = jax.random.normal(jax.random.key(1), (100, 3))
    deep = jp.Chain(*layers)
    params = deep.init(jax.random.key(0), x)
    one = collapse(params)
    bent = jp.Chain(layers[0], jp.Sigmoid(), layers[1], jp.Sigmoid(), layers[2])
    answer = jp.Linear(2)(x, one)
    found = {
        "shapes": [tuple(p.W.shape) for p in params],
        "collapsed": tuple(one.W.shape),
        "difference": float(jnp.max(jnp.abs(deep(x, params) - answer))),
        "difference_with_sigmoids": float(
            jnp.max(jnp.abs(bent(x, (params[0], (), params[1], (), params[2])) - answer))
        ),
    }
    print(" · ".join(str(list(shape)) for shape in found["shapes"]), "collapse into", list(found["collapsed"]))
    print(f"largest difference of the answers on {len(x)} inputs: {found['difference']:.1e}")
    print(f"with sigmoids between the layers: {found['difference_with_sigmoids']:.1e}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
