"""Networks that mix the examples of a batch have no quantity of one example."""

from jaxprop.arrays.paths import place
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves


def refuse_mixing(net: Layer, what: str) -> None:
    """Raise JaxpropError if `net` mixes examples: then no δ belongs to one example alone."""
    if net.mixes_examples:
        raise JaxpropError(
            f"{what}: found {_mixing(net)}, whose statistics mix the examples of a batch: no quantity of one example "
            "exists anywhere in this network; freeze it first: net, params = jp.freeze_statistics(net, x, params), or "
            "use LayerNorm or GroupNorm"
        )


def _mixing(net: Layer) -> str:
    """The first layer that mixes examples, with its path."""
    first = next((leaf for leaf in leaves(net) if leaf.layer.mixes_examples), None)
    return repr(net) if first is None else place(first.layer, first.path)
