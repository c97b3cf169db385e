"""The norms, and what a frozen one is."""

import numpy as np

import jaxprop as jp
from tests.cases.case import LayerCase


def normalized(x, axes, epsilon, center=True):
    x = x - x.mean(axis=axes, keepdims=True) if center else x
    return x / np.sqrt((x**2).mean(axis=axes, keepdims=True) + epsilon)


def scaled(x, p):
    x = x if p.scale is None else x * np.asarray(p.scale, np.float64)
    return x if p.bias is None else x + np.asarray(p.bias, np.float64)


def grouped(x, p, groups, epsilon=1e-6):
    rows = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    return scaled(normalized(rows, (1, 3), epsilon).reshape(x.shape), p)


def layer_norm(x, p, epsilon=1e-6):
    return scaled(normalized(x, (-1,), epsilon), p)


LAYERS = [
    LayerCase("LayerNorm", jp.LayerNorm(), (4, 3), layer_norm),
    LayerCase("LayerNorm, T", jp.LayerNorm(epsilon=0.1), (2, 3, 4), lambda x, p: layer_norm(x, p, 0.1)),
    LayerCase("LayerNorm, bare", jp.LayerNorm(scale=False, bias=False), (4, 3), layer_norm),
    LayerCase("RMSNorm", jp.RMSNorm(), (2, 3, 4), lambda x, p: scaled(normalized(x, (-1,), 1e-6, False), p)),
    LayerCase("GroupNorm", jp.GroupNorm(2), (2, 3, 4), lambda x, p: grouped(x, p, 2)),
    LayerCase("GroupNorm, images", jp.GroupNorm(1, bias=False), (2, 2, 2, 2), lambda x, p: grouped(x, p, 1)),
    LayerCase("BatchNorm", jp.BatchNorm(), (4, 3), lambda x, p: scaled(normalized(x, (0,), 1e-5), p)),
    LayerCase("BatchNorm, T", jp.BatchNorm(), (2, 3, 2), lambda x, p: scaled(normalized(x, (0, 1), 1e-5), p)),
    LayerCase("Affine", jp.Affine(), (2, 3, 4), lambda x, p: x * np.asarray(p.scale) + np.asarray(p.shift)),
]
