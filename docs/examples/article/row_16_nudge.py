"""Row 16: v̄ = Δx/Δt, catching a ball, and the derivative as a tiny nudge.

Right: the derivative is what ΔC/h becomes as the nudge h goes to 0. Not right: v̄ = Δx/Δt is an average velocity, not
"the flight of the ball", and only its limit is the velocity of the article's later dd/dt. On a computer h cannot go to
0: the error falls with h (forward difference) or h² (central difference) until round-off, about ε/h, takes over.

Run: python docs/examples/article/row_16_nudge.py [folder]; nudging a saved model's weights: jaxprop check FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop import plot
from jaxprop.check.differences import central_differences


def C(w: Any) -> Any:
    """The cost of row 2's unit for target 1, as a function of its first weight."""
    params = jp.LinearParams(W=jnp.array([[0.0], [-0.25], [0.75]]).at[0, 0].set(w), b=jnp.array([0.1]))
    a = jp.Sigmoid()(jp.Linear(1)(jnp.array([[1.0, 3.0, 2.0]]), params))
    return jp.HalfSquaredError()(a, jnp.ones_like(a))[0]


def catch() -> float:
    """Return R² on held-out throws of a network that learned v̄ = Δx/Δt from examples, 5 % noise on each."""
    data = jp.data.ball()
    net = jp.Chain(jp.Standardize.of(data.x), jp.Linear(16), jp.Tanh(), jp.Linear(1))
    scale, (x, targets) = data.targets.std(), data.validation
    settings = {"epochs": 50, "validation": (x, targets / scale), "progress": False}
    result = jp.fit(net, jp.HalfSquaredError(), optax.adam(0.02), (data.x, data.targets / scale), **settings)
    return result.history[-1]["validation_r2"]


def main(folder: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"forward": {}, "central": {}}
    with jax.enable_x64(True):
        w = jnp.array(0.5)
        slope = found["slope"] = float(jax.grad(C)(w))
        for h in (1e-2, 1e-3, 1e-12):
            central = central_differences(lambda p: C(p["w"]), {"w": w}, {"w": np.array([0])}, h)["w"].slopes[0]
            found["forward"][h] = abs(float((C(w + h) - C(w)) / h) - slope)
            found["central"][h] = abs(float(central) - slope)
    for name in ("forward", "central"):
        errors = ", ".join(f"{error:.1e} (h = {h:g})" for h, error in found[name].items())
        print(f"{name} difference: misses ∂C/∂w = {slope:.5f} by {errors}")

    def height(t: Any) -> Any:
        return 10 * t - 4.905 * t**2  # a ball thrown up at 10 m/s

    found["average"] = {dt: (height(0.5 + dt) - height(0.5)) / dt for dt in (1.0, 0.1, 0.01)}
    found["instantaneous"] = float(jax.grad(height)(0.5))
    average = ", ".join(f"{v:.3f} m/s (Δt = {dt:g} s)" for dt, v in found["average"].items())
    print(f"a ball after 0.5 s: on average {average}; at that instant {found['instantaneous']:.3f} m/s")
    found["ball_r2"] = catch()
    print(f"v̄ = Δx/Δt learned from examples: R² = {found['ball_r2']:.4f} on throws it has not seen")
    if folder is not None:
        plot.save(plot.nudge(C, 0.5), Path(folder, "row_16_nudge.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
