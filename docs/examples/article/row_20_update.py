"""Row 20: the update, a small push down the hill of the cost.

Not right: "the result is added to each parameter". That climbs. It is w ← w − η ∂C/∂w, with a minus and the learning
rate η, which the article never names. And this is gradient descent, not backpropagation: backpropagation computes the
gradient, an optimizer uses it. A step changes C by about −η ‖g‖², the closer the smaller η; too large an η climbs.

Run: python docs/examples/article/row_20_update.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    net, x, targets = (
        jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False)),
        jnp.ones((1, 1)),
        2 * jnp.ones((1, 1)),
    )
    params = tuple(jp.LinearParams(W=jnp.array([[w]]), b=None) for w in (0.4, 0.3))
    run = jp.manual.value_and_grad(net, jp.HalfSquaredError())
    before, grads = run(x, params, targets)
    squared = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(grads))
    found: dict[str, Any] = {"gradient": [float(g.W[0, 0]) for g in grads], "before": float(before)}
    print(f"w = (0.4, 0.3), g = ∂C/∂w = ({', '.join(f'{g:.3f}' for g in found['gradient'])}), C = {before:.4f}")
    for name, rate in (("small", 0.001), ("step", 0.1), ("flipped", -0.1), ("too large", 10.0)):
        optimizer = optax.sgd(rate)
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
        moved = optax.apply_updates(params, updates)
        weights = [float(p.W[0, 0]) for p in moved]
        change = {"predicted": -rate * squared, "actual": float(run(x, moved, targets)[0] - before)}
        found[name] = {"rate": rate, "w": weights, **change}
        row = ", ".join(f"{p.W[0, 0]:.3g} → {w:.5g}" for p, w in zip(params, weights, strict=True))
        print(
            f"{name:>9}, η = {rate:6}: w {row}; ΔC predicted {change['predicted']:.5f}, actual {change['actual']:.5f}"
        )
    if folder is not None:

        def C(w: Any) -> Any:
            return jp.HalfSquaredError()(net(x, (jp.LinearParams(W=w.reshape(1, 1), b=None), params[1])), targets)[0]

        ax = plot.cost_curve(C, (-4, 12), at=0.4, learning_rate=4.0)
        plot.save(ax, Path(folder, "row_20_update.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
