"""Row 18: the same for the bias: ∂C/∂b = ∂C/∂a · ∂a/∂z · ∂z/∂b.

Right: its result (a − ŷ) σ′(z). Not right: the result is labelled with w, and the step ∂z/∂b = 1 is left out. With it
the derivative for a bias is the error of its unit itself, ∂C/∂b = δ.

Run: python docs/examples/article/row_18_bias.py
"""

import sys
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop.derivations import explain, to_text


def main(folder: str | None = None) -> dict[str, Any]:
    net, cost = jp.Chain(jp.Linear(1), jp.Sigmoid()), jp.HalfSquaredError()
    params = (jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1])), ())
    x, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0]])
    delta = jp.manual.trace(net, cost)(x, params, targets)["1"].dx
    _, uses = jp.manual.uses(net, cost)(x, params, targets)
    found = {"delta": float(delta[0, 0]), "manual": float(uses[0].b.gradient()[0])}
    found["auto"] = float(jp.auto.value_and_grad(net, cost)(x, params, targets)[1][0].b[0])
    found["weights"] = uses[0].W.gradient()[:, 0].tolist()
    derivation = explain(net, cost)(x, params, targets, "0.b", 0)
    found["factors"] = [factor["value"] for factor in derivation.facts["factors"]]
    found["text"] = to_text(derivation)
    print(found["text"])
    print(f"\nδ = {found['delta']:.6f}, and ∂C/∂b = {found['manual']:.6f}, by jax.grad {found['auto']:.6f}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
