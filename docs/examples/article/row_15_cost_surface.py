"""Row 15: the cost of f = θ₁ θ₂ x at x = 1, y = 2 as a landscape, and a ball that rolls to the nearest low point.

Right: training goes downhill. Not right: there is no low point but a curve of them, θ₁ θ₂ = 2. Gradient descent is no
ball either: it has no momentum and takes steps. At (0, 0), a saddle, the gradient is 0 and it does not move; from
(1, −1) it runs into that saddle; too large a step overshoots or diverges. And this is the landscape of one sample.

Run: python docs/examples/article/row_15_cost_surface.py [folder], or: jaxprop plot surface
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxprop import plot

START, RATES = (3.0, 0.1), (0.03, 0.24, 0.4)


def main(folder: str | None = None) -> dict[str, Any]:
    C = plot.article_cost
    curve = [jnp.array([theta, 2 / theta]) for theta in (-4.0, -1.0, 0.5, 1.0, 2.0, 4.0)]
    found: dict[str, Any] = {"minima": [(float(C(t)), float(jnp.linalg.norm(jax.grad(C)(t)))) for t in curve]}
    origin = jnp.zeros(2)
    found["saddle"] = {"gradient": jax.grad(C)(origin).tolist(), "hessian": jax.hessian(C)(origin).tolist()}
    found["from_saddle"] = plot.descend(C, (0.0, 0.0), 0.1, 1000).path[-1].tolist()
    found["into_saddle"] = plot.descend(C, (1.0, -1.0), 0.1, 200).path[-1].tolist()
    for rate in RATES:
        path, diverged = plot.descend(C, START, rate, 60)
        sides = np.sign(path[:, 0] * path[:, 1] - 2)
        found[rate] = {
            "end": path[-1].tolist(),
            "crossings": int(np.sum(sides[1:] != sides[:-1])),
            "diverged": diverged,
        }
    print("C and ‖∂C/∂θ‖ on the curve θ₁θ₂ = 2:", ", ".join(f"{c:.1g} {g:.1g}" for c, g in found["minima"]))
    print(f"at (0, 0): gradient {found['saddle']['gradient']}, Hessian {found['saddle']['hessian']}")
    print(f"descent from (0, 0) ends at {found['from_saddle']}, from (1, −1) at {np.round(found['into_saddle'], 4)}")
    for rate in RATES:
        end, crossings, diverged = found[rate].values()
        ending = "diverges" if diverged else f"ends at ({end[0]:.4f}, {end[1]:.4f}), θ₁θ₂ = {end[0] * end[1]:.4f}"
        print(f"η = {rate}: steps over the curve {crossings} times and {ending}")
    if folder is not None:
        axes = plot.cost_surface(start=START, learning_rate=RATES)
        plot.save(axes, Path(folder, "row_15_cost_surface.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
