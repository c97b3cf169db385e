"""Layers made of layers."""

import numpy as np

import jaxprop as jp
from tests.cases.basic import linear, sigmoid
from tests.cases.case import LayerCase


def tanh_block(x, p):
    return np.tanh(linear(x, p))


def step_of(p, step):
    return type(p)(*(None if leaf is None else np.asarray(leaf)[step] for leaf in p))


def twice(x, p, block):
    return block(block(x, step_of(p, 0)), step_of(p, 1))


def tied(x, p):
    """Linear, tanh, and the first matrix again, transposed."""
    W = np.asarray(p.inner[0].W, np.float64)
    return np.tanh(linear(x, p.inner[0])) @ W.T + np.asarray(p.inner[2].b, np.float64)


LAYERS = [
    LayerCase(
        "Residual", jp.Residual(jp.Chain(jp.Linear(3), jp.Tanh())), (4, 3), lambda x, p: x + tanh_block(x, p[0][0])
    ),
    LayerCase(
        "Parallel, sum", jp.Parallel(jp.Linear(2), jp.Linear(2)), (4, 3), lambda x, p: linear(x, p[0]) + linear(x, p[1])
    ),
    LayerCase(
        "Parallel, concatenate",
        jp.Parallel(jp.Linear(2), jp.Tanh(), jp.Linear(1), join="concatenate"),
        (2, 2, 3),
        lambda x, p: np.concatenate([linear(x, p[0]), np.tanh(x), linear(x, p[2])], axis=-1),
    ),
    LayerCase(
        "Parallel, multiply",
        jp.Parallel(jp.Linear(2), jp.Chain(jp.Linear(2), jp.Sigmoid()), jp.Linear(2), join="multiply"),
        (4, 3),
        lambda x, p: linear(x, p[0]) * sigmoid(linear(x, p[1][0])) * linear(x, p[2]),
    ),
    LayerCase(
        "Repeat",
        jp.Repeat(jp.Linear(3), 3),
        (4, 3),
        lambda x, p: linear(twice(x, p.inner, linear), step_of(p.inner, 2)),
    ),
    LayerCase("Repeat, T", jp.Repeat(jp.Linear(3, bias=False), 2), (2, 5, 3), lambda x, p: twice(x, p.inner, linear)),
    LayerCase("Repeat, once", jp.Repeat(jp.Linear(3), 1), (4, 3), lambda x, p: linear(x, step_of(p.inner, 0))),
    LayerCase(
        "Repeat of a Residual",
        jp.Repeat(jp.Residual(jp.Chain(jp.Linear(3), jp.Tanh())), 2),
        (4, 3),
        lambda x, p: twice(x, p.inner.inner[0], lambda x, p: x + tanh_block(x, p)),
    ),
    LayerCase(
        "Shared",
        jp.Shared(jp.Chain(jp.Linear(2), jp.Tanh(), jp.Linear(3)), ties=(("0.W", "2.W", True),)),
        (4, 3),
        tied,
    ),
    LayerCase(
        "Shared, T",
        jp.Shared(jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(8)), ties=(("0.W", "2.W", True),)),
        (2, 2, 8),
        tied,
    ),
    LayerCase(
        "Shared, twice the same",
        jp.Shared(jp.Chain(jp.Linear(3), jp.Tanh(), jp.Linear(3)), ties=(("0.W", "2.W", False), ("0.b", "2.b", False))),
        (4, 3),
        lambda x, p: linear(np.tanh(linear(x, p.inner[0])), p.inner[0]),
    ),
    LayerCase("Remat", jp.Remat(jp.Chain(jp.Linear(2), jp.Tanh())), (4, 3), lambda x, p: tanh_block(x, p.inner[0])),
    LayerCase(
        "Repeat of a Remat",
        jp.Repeat(jp.Remat(jp.Chain(jp.Linear(3), jp.Tanh())), 2),
        (4, 3),
        lambda x, p: twice(x, p.inner.inner[0], tanh_block),
    ),
]
