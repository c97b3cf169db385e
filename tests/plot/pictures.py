"""What the tests of the pictures share: what is drawn, and what a drawn picture says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop import plot
from tests.drawing import draw


def made(*units: int, inputs: int, activation=jp.Sigmoid, x=None):
    """A Chain of Linear layers with activations between, its params, and one example."""
    layers = list(itertools.chain.from_iterable((jp.Linear(n), activation()) for n in units))[:-1]
    net = jp.Chain(*layers)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, inputs))) if x is None else x
    return net, draw(net, x), x


def drawn(ax) -> list[np.ndarray]:
    (edges,) = [c for c in ax.collections if c.get_gid() == "edges"]
    return edges.get_segments()


def said(ax) -> str:
    """Everything an axes says, outside and inside."""
    legend = ax.get_legend()
    parts = [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
    return "\n".join(parts + ([] if legend is None else [t.get_text() for t in legend.get_texts()]))


ROWS = [
    {"epoch": e, "cost": 4.0 * 0.5**e, "validation_cost": 0.1 * abs(e - 6) + 0.3, "accuracy": 1 - 1 / e, "seconds": 0.1}
    for e in range(1, 13)
]


@jax.jit
def chain_cost(w):
    """The article's f = w₁ w₂ x as a function of w₁ at w₂ = 0.3, x = 1, y = 2."""
    return plot.article_cost(jnp.stack([w, jnp.full_like(w, 0.3)]))
