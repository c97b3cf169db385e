"""Row 14: the cost ½ (a − ŷ)², which the article calls mean squared error.

Right: the ½ cancels the 2 of the derivative, so ∂C/∂a = a − ŷ. Not right: the name. There is no mean, and the ½ is not
in what others call mean squared error: C and its gradient are half of theirs, and equal to `optax.l2_loss`. Also y and
ŷ are swapped (usually ŷ is the prediction), and C is no function "of the input": it takes a prediction and a target.

Run: python docs/examples/article/row_14_half_squared_error.py
"""

import sys
from typing import Any

import jax.numpy as jnp
import optax

import jaxprop as jp


def main(folder: str | None = None) -> dict[str, Any]:
    net = jp.Chain(jp.Linear(1), jp.Sigmoid())
    params = (jp.LinearParams(W=jnp.array([[0.5], [-0.25], [0.75]]), b=jnp.array([0.1])), ())
    x, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[1.0]])
    found: dict[str, Any] = {"a": float(net(x, params)[0, 0]), "target": 1.0}
    for name, cost in (("half", jp.HalfSquaredError()), ("mean", jp.MeanSquaredError())):
        value, grads = jp.manual.value_and_grad(net, cost)(x, params, targets)
        delta = cost.delta(net(x, params), targets)
        found[name] = {"C": float(value), "dC_da": float(delta[0, 0]), "gradient": grads[0].W[:, 0].tolist()}
        print(f"{cost!r}: C = {value:.5f}, ∂C/∂a = {delta[0, 0]:.5f}, ∂C/∂w₁ = {grads[0].W[0, 0]:.5f}")
    found["cost_ratio"] = found["mean"]["C"] / found["half"]["C"]
    found["gradient_ratios"] = [
        m / h for m, h in zip(found["mean"]["gradient"], found["half"]["gradient"], strict=True)
    ]
    found["l2_loss"] = float(optax.l2_loss(net(x, params), targets)[0, 0])
    print(f"without the ½: C × {found['cost_ratio']:.4g}, gradient × {found['gradient_ratios'][0]:.4g}")
    print(f"optax.l2_loss: {found['l2_loss']:.5f}")
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
