"""Row 17: ∂C/∂w = ∂C/∂a · ∂a/∂z · ∂z/∂w, three factors that multiply, on the unit of row 2 with target 1.

Right: the three steps. Not right: the form C′(a(z(w, x))) · a′ · z′ · w′: the last factor is ∂w/∂w = 1, and z′ must say
"with respect to w", for ∂z/∂x is another number. The reason given, "C is a function of y and ŷ", is none: the chain
rule is needed because w reaches C only through z, and z only through a. And δ is no ∂: here δ = ∂C/∂z, the error.

Run: python docs/examples/article/row_17_chain_rule.py; on a saved model: jaxprop explain FOLDER --param 0.W --index 0,0
"""

import sys
from typing import Any

import jax
import jax.numpy as jnp

import jaxprop as jp
from jaxprop.derivations import explain, to_text

COST = jp.HalfSquaredError()


def unit() -> tuple[Any, ...]:
    """Return the unit of row 2: net, x, params, targets."""
    params = (jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1])), ())
    return jp.Chain(jp.Linear(1), jp.Sigmoid()), jnp.array([[1.0, 3.0, 2.0]]), params, jnp.array([[1.0]])


def main(folder: str | None = None) -> dict[str, Any]:
    net, x, params, targets = unit()
    record = jp.manual.trace(net, COST)(x, params, targets)["1"]  # the sigmoid: x is z, y is a
    dC_da, da_dz, dz_dw = record.dy[0, 0], record.derivative[0, 0], x[0]
    found: dict[str, Any] = {"factors": (float(dC_da), float(da_dz), dz_dw.tolist()), "delta": float(record.dx[0, 0])}
    found["product"] = (dC_da * da_dz * dz_dw).tolist()
    found["manual"] = jp.manual.value_and_grad(net, COST)(x, params, targets)[1][0].W[:, 0].tolist()
    found["auto"] = jp.auto.value_and_grad(net, COST)(x, params, targets)[1][0].W[:, 0].tolist()
    found["dw_dw"] = float(jax.grad(lambda w: w)(params[0].W[0, 0]))
    found["dz_dx"] = params[0].W[:, 0].tolist()

    chain = jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False))
    theta = tuple(jp.LinearParams(W=jnp.array([[w]]), b=None) for w in (0.4, 0.3))
    grads = jp.manual.value_and_grad(chain, COST)(jnp.ones((1, 1)), theta, 2 * jnp.ones((1, 1)))[1]
    found["chain"] = [float(p.W[0, 0]) for p in grads]

    derivation = explain(net, COST)(x, params, targets, "0.W", (1, 0))
    found["explained"], found["text"] = dict(derivation.facts), to_text(derivation)
    print(found["text"])
    print("\nall three weights: δ · x =", ", ".join(f"{g:.5f}" for g in found["product"]))
    print("the two weights of row 12:", ", ".join(f"{g:.3f}" for g in found["chain"]))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
