"""A network without bends is one linear layer: its matrix and its bias."""

import numpy as np
from jaxtyping import Array, Float, PyTree

from jaxprop.errors import JaxpropError
from jaxprop.layers import Identity, Layer, Linear
from jaxprop.network import Chain


def collapse(net: Layer, params: PyTree, x: Float[Array, "N I"]) -> tuple[np.ndarray, np.ndarray, float]:
    """Return W and b of the one linear layer that a network without bends is, x W + b with x after any scaling.

    The third is the largest difference between its answers and the network's on the rows x.
    """
    if not isinstance(net, Chain):
        raise JaxpropError("only a chain of layers can be collapsed")
    layers = list(zip(net.layers, params, strict=True))
    first = next((i for i, (layer, _) in enumerate(layers) if isinstance(layer, Linear)), None)
    if first is None:
        raise JaxpropError("found no linear layer to collapse")
    bends = [layer for layer, _ in layers[first:] if not isinstance(layer, Linear | Identity)]
    if bends:
        raise JaxpropError(f"{bends[0]!r} bends: only a network whose activations are all linear is one matrix")
    scaled = x
    for layer, p in layers[:first]:
        scaled = layer(scaled, p)
    W = np.eye(scaled.shape[-1])
    b = np.zeros(scaled.shape[-1])
    for layer, p in layers[first:]:
        if isinstance(layer, Linear):
            own = np.asarray(p.W, np.float64)
            W, b = W @ own, b @ own + (0 if p.b is None else np.asarray(p.b, np.float64))
    answers = np.asarray(net(x, params), np.float64)
    return W, b, float(np.max(np.abs(np.asarray(scaled, np.float64) @ W + b - answers)))
