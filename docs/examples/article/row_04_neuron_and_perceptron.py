"""Row 4: a neuron beside a perceptron: dendrites are likened to inputs, the axon to the output.

Right as a likeness, and the picture says what is not alike. Not right is the name: Rosenblatt's perceptron (1958) has a
step as its activation, the article's is a linear unit. The difference matters: a step has slope 0 everywhere, so by the
chain rule its gradient is 0 and gradient descent has nothing to go by.

Run: python docs/examples/article/row_04_neuron_and_perceptron.py [existing folder for the picture]
"""

import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp

import jaxprop as jp
from jaxprop import plot


def main(folder: str | None = None) -> dict[str, Any]:
    x, w, targets = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([[0.5], [-0.25], [-0.75]]), jnp.array([[1.0]])
    units = {
        "perceptron": lambda x, w: (x @ w > 0).astype(w.dtype),
        "linear unit": lambda x, w: x @ w,
        "sigmoid unit": lambda x, w: jp.Sigmoid()(x @ w),
    }
    found = {}
    for name, unit in units.items():
        cost, gradient = jp.auto.value_and_grad(unit, jp.HalfSquaredError())(x, w, targets)
        found[name] = {"answer": float(unit(x, w)[0, 0]), "cost": float(cost), "gradient": gradient[:, 0].tolist()}
        text = ", ".join(f"{g:.4f}" for g in found[name]["gradient"])
        print(f"{name:>12}: answers {found[name]['answer']:.4f} for target 1, C = {cost:.4f}, ∂C/∂w = ({text})")
    if folder is not None:
        plot.save(plot.neuron_and_perceptron(), Path(folder, "row_04_neuron_and_perceptron.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
