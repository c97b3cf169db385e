"""Attention."""

import numpy as np

import jaxprop as jp
from tests.cases.basic import softmax
from tests.cases.case import LayerCase

REAL = np.array([[True, True, True], [True, False, True], [False, False, False]])  # the last has nothing to see
REAL_MEMORY = np.array([[True, False, True, True], [False, False, False, False]])


def dense(x, W, b):
    z = x @ np.asarray(W, np.float64)
    return z if b is None else z + np.asarray(b, np.float64)


def attention(layer, real=None):
    """One example, head and query at a time; `real` are the keys that are no padding."""

    def value(x, p):
        x, m = x if layer.cross else (x, x)
        q, k, v = dense(x, p.W_query, p.b_query), dense(m, p.W_key, None), dense(m, p.W_value, p.b_value)
        D = q.shape[-1] // layer.heads
        u = np.zeros(q.shape)
        for n, t, h in np.ndindex(*q.shape[:2], layer.heads):
            seen = np.ones(m.shape[1], bool) if real is None else real[n].copy()
            if layer.causal:
                seen[t + 1 :] = False
            head = slice(h * D, (h + 1) * D)
            if seen.any():
                u[n, t, head] = softmax(k[n, seen, head] @ q[n, t, head] / np.sqrt(D)) @ v[n, seen, head]
        return dense(u, p.W_output, p.b_output)

    return value


def case(name, layer, shape, real=None, mask=None):
    mask = real if mask is None else mask
    return LayerCase(name, layer, shape, attention(layer, real), mask=None if mask is None else lambda _: mask)


LAYERS = [
    case("MultiHeadAttention", jp.MultiHeadAttention(2), (2, 3, 4)),
    case("MultiHeadAttention, causal", jp.MultiHeadAttention(1, causal=True, bias=False), (2, 3, 2)),
    case("MultiHeadAttention, causal, padded", jp.MultiHeadAttention(2, causal=True), (3, 3, 4), REAL),
    case(
        "MultiHeadAttention, cross, padded",
        jp.MultiHeadAttention(2, features=4, outputs=5, cross=True),
        ((2, 3, 3), (2, 4, 2)),
        REAL_MEMORY,
        (None, REAL_MEMORY),
    ),
]
