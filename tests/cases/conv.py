"""Convolutions, pooling and other shapes, against loops."""

import itertools

import numpy as np

import jaxprop as jp
from tests.cases.case import LayerCase


def pads_of(sizes, kernel, strides, padding):
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if padding != "SAME":
        return list(padding)
    pads = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        total = max((-(-size // s) - 1) * s + k - size, 0)
        pads.append((total // 2, total - total // 2))
    return pads


def windows(x, kernel, strides, pads, dilation=None, fill=0.0):
    """{output position: the window there, [N, *kernel, C]}, by loops."""
    dilation = dilation or (1,) * len(kernel)
    x = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=fill)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = [(size - r) // s + 1 for size, r, s in zip(x.shape[1:-1], reach, strides, strict=True)]
    found = {}
    for t in itertools.product(*map(range, counts)):
        at = [slice(i * s, i * s + r, d) for i, s, r, d in zip(t, strides, reach, dilation, strict=True)]
        found[t] = x[(slice(None), *at)]
    return counts, found


def conv(layer):
    def reference(x, p):
        W, rank = np.asarray(p.W, np.float64), len(layer.kernel)
        reach = [(k - 1) * d + 1 for k, d in zip(layer.kernel, layer.dilation, strict=True)]
        pads = pads_of(x.shape[1:-1], reach, layer.strides, layer.padding)
        counts, found = windows(x, layer.kernel, layer.strides, pads, layer.dilation)
        z = np.zeros((len(x), *counts, layer.features))
        per_in, per_out = x.shape[-1] // layer.groups, layer.features // layer.groups
        axes = list(range(1, rank + 2))
        for t, u in found.items():
            for g in range(layer.groups):
                part = u[..., g * per_in : (g + 1) * per_in]
                out = slice(g * per_out, (g + 1) * per_out)
                z[(slice(None), *t, out)] = np.tensordot(part, W[..., out], (axes, list(range(rank + 1))))
        return z if p.b is None else z + np.asarray(p.b, np.float64)

    return reference


def conv_transpose(layer, pads):
    """x spread by zeros, padded, and a plain window over it."""

    def reference(x, p):
        sizes = [(size - 1) * s + 1 for size, s in zip(x.shape[1:-1], layer.strides, strict=True)]
        spread = np.zeros((len(x), *sizes, x.shape[-1]))
        spread[(slice(None), *(slice(None, None, s) for s in layer.strides))] = x
        ones = (1,) * len(layer.kernel)
        plain = jp.Conv(layer.features, layer.kernel, ones, tuple(pads), layer.dilation)
        return conv(plain)(spread, p)

    return reference


def pool(layer, reduce, fill):
    def reference(x, _):
        pads = pads_of(x.shape[1:-1], layer.window, layer.strides, layer.padding)
        counts, found = windows(x, layer.window, layer.strides, pads, fill=fill)
        y = np.zeros((len(x), *counts, x.shape[-1]))
        for t, u in found.items():
            y[(slice(None), *t)] = reduce(u.reshape(len(x), -1, x.shape[-1]), axis=1)
        return y

    return reference


def convolution(name, shape, *settings, **options):
    layer = jp.Conv(*settings, **options)
    return LayerCase(name, layer, shape, conv(layer))


def pooling(name, layer, shape):
    reduce, fill = (np.max, -np.inf) if isinstance(layer, jp.MaxPool) else (np.mean, 0.0)
    return LayerCase(name, layer, shape, pool(layer, reduce, fill))


UP, UP_VALID = jp.ConvTranspose(2, (3,), 2), jp.ConvTranspose(2, (2, 2), 2, padding="VALID", bias=False)
UP_PADDED = jp.ConvTranspose(2, (2,), 3, padding=((1, 2),), dilation=2)

LAYERS = [
    convolution("Conv, 1-D", (2, 5, 2), 3, (3,)),
    convolution("Conv, 1-D, stride, no bias", (2, 6, 2), 3, (3,), strides=2, bias=False),
    convolution("Conv, 2-D", (2, 3, 4, 2), 3, (3, 3)),
    convolution("Conv, 2-D, VALID, stride", (2, 5, 4, 1), 2, (3, 2), strides=(2, 1), padding="VALID"),
    convolution("Conv, 2-D, padding", (2, 3, 3, 2), 2, (2, 2), strides=2, padding=((1, 0), (2, 1))),
    convolution("Conv, 1-D, dilation", (2, 7, 2), 2, (2,), dilation=3, padding="VALID"),
    convolution("Conv, 1-D, groups", (2, 4, 4), 6, (2,), groups=2),
    convolution("Conv, 1-D, gram", (2, 2, 8), 8, (3,), strides=1),
    convolution("Conv, 3-D", (2, 2, 2, 3, 1), 2, (2, 2, 2)),
    LayerCase("ConvTranspose", UP, (2, 3, 2), conv_transpose(UP, [(2, 1)])),
    LayerCase("ConvTranspose, VALID", UP_VALID, (2, 2, 2, 1), conv_transpose(UP_VALID, [(1, 1), (1, 1)])),
    LayerCase("ConvTranspose, padding", UP_PADDED, (2, 3, 1), conv_transpose(UP_PADDED, [(1, 2)])),
    pooling("MaxPool", jp.MaxPool((2, 2)), (2, 4, 5, 2)),
    pooling("MaxPool, overlapping", jp.MaxPool((3,), strides=2, padding="SAME"), (2, 6, 2)),
    pooling("AvgPool", jp.AvgPool((2, 2)), (2, 4, 5, 2)),
    pooling("AvgPool, overlapping", jp.AvgPool((3,), strides=2, padding=((1, 1),)), (2, 5, 2)),
    LayerCase("GlobalAvgPool", jp.GlobalAvgPool(), (2, 2, 3, 2), lambda x, _: x.mean(axis=(1, 2))),
    LayerCase("Reshape", jp.Reshape((2, -1)), (2, 4), lambda x, _: x.reshape(2, 2, 2)),
    LayerCase("Transpose", jp.Transpose((2, 0, 1)), (2, 2, 3, 2), lambda x, _: x.transpose(0, 3, 1, 2)),
]
