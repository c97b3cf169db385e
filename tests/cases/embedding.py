"""Tables that are looked up, positions, and what is dropped."""

import numpy as np

import jaxprop as jp
from tests.cases.basic import linear
from tests.cases.case import LayerCase


def rows(ids, p):
    return np.asarray(p.W, np.float64)[ids.astype(int)]


def tied(ids, p):
    """Embedding, tanh, and the table again, transposed."""
    return np.tanh(rows(ids, p.inner[0])) @ np.asarray(p.inner[0].W, np.float64).T


TIES = (("0.W", "2.W", True),)
LAYERS = [
    LayerCase("Embedding", jp.Embedding(5, 3), (4,), rows, integers=True, below=5),
    LayerCase("Embedding, T < D", jp.Embedding(3, 4), (2, 3), rows, integers=True, below=3),
    LayerCase("Embedding, T ≥ D", jp.Embedding(3, 2), (2, 5), rows, integers=True, below=3),
    LayerCase("PositionalEmbedding", jp.PositionalEmbedding(3), (2, 3, 2), lambda x, p: x + np.asarray(p.W)),
    LayerCase(
        "PositionalEmbedding, shorter", jp.PositionalEmbedding(5), (2, 3, 2), lambda x, p: x + np.asarray(p.W)[:3]
    ),
    LayerCase("Dropout, no key", jp.Dropout(0.5), (4, 3), lambda x, _: x),
    LayerCase("Dropout", jp.Dropout(0.5), (4, 3), None, rng=True),
    LayerCase(
        "Embedding, then Linear",
        jp.Chain(jp.Embedding(4, 2), jp.Linear(3)),
        (2, 3),
        lambda ids, p: linear(rows(ids, p[0]), p[1]),
        integers=True,
        below=4,
    ),
    LayerCase(
        "Shared, an embedding and its output (direct)",
        jp.Shared(jp.Chain(jp.Embedding(4, 2), jp.Tanh(), jp.Linear(4, bias=False)), TIES),
        (2, 3),
        tied,
        integers=True,
        below=4,
    ),
    LayerCase(
        "Shared, an embedding and its output (gram)",
        jp.Shared(jp.Chain(jp.Embedding(8, 8), jp.Tanh(), jp.Linear(8, bias=False)), TIES),
        (2, 2),
        tied,
        integers=True,
        below=8,
    ),
]
