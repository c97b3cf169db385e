"""Row 9: hidden units and a nonlinear activation together can fit x².

Right. The network starts exactly at the linear floor of row 7, a mean squared error of 4/45, and leaves it. Worth
knowing: one hidden layer is enough, on a bounded interval, for any continuous function, if the activation is not a
polynomial. One unit with a sigmoid is not: it only rises or only falls, and no such function comes below 9/160.

Run: python docs/examples/article/row_09_hidden_and_nonlinear.py [folder], or: jaxprop train square --layers 1,16,1
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

OPTIMIZER, COST = optax.adam(0.03), jp.MeanSquaredError()


def mse(net: jp.Layer, params: Any) -> float:
    """Return the mean squared error against x² over [−1, 1], by quadrature."""
    points, weights = (jnp.asarray(part, dtype=float) for part in np.polynomial.legendre.leggauss(40))
    x = points[:, None]
    return float(jp.auto.value_and_grad(net, COST)(x, params, x**2, weights=weights / 2)[0])


def main(folder: str | None = None) -> dict[str, Any]:
    x = np.linspace(-1, 1, 101)[:, None]
    net = jp.Chain(jp.Linear(16, bias_init="standard_normal"), jp.Tanh(), jp.Linear(1))
    hidden, _, output = net.init(jax.random.key(0), jnp.asarray(x))
    start = (hidden, (), jp.LinearParams(W=jnp.zeros_like(output.W), b=jnp.full_like(output.b, 1 / 3)))
    neuron = jp.Chain(jp.Linear(1), jp.Sigmoid())
    settings = {"epochs": 400, "batch_size": len(x), "progress": False}
    params = jp.fit(net, COST, OPTIMIZER, (x, x**2), params=start, **settings).params
    alone = jp.fit(neuron, COST, OPTIMIZER, (x, x**2), **settings).params
    found = {"start": mse(net, start), "end": mse(net, params), "one_neuron": mse(neuron, alone)}
    print(f"16 hidden tanh units: mean squared error {found['start']:.5f} → {found['end']:.1e}")
    print(f"one sigmoid unit: {found['one_neuron']:.5f}")
    if folder is not None:
        few = x[::5]
        ax = plot.function_fit(few, few**2, lambda x: net(x, params), truth=np.square)
        plot.save(ax, Path(folder, "row_09_hidden_and_nonlinear.png"))
    return found


if __name__ == "__main__":
    main(*sys.argv[1:2])
