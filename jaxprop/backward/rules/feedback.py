"""Feedback alignment: errors come back through fixed random matrices.

    backpropagation         dx = δ Wᵀ
    feedback alignment      dx = δ Bᵀ           B of W's shape, drawn once, never learned

The uses are the same, (a, δ): only the δ of the layers before are others. While W learns, it turns towards B (it is
"aligned"), so that δ Bᵀ comes to point where δ Wᵀ would.
Source: Lillicrap, Cownden, Tweed and Akerman, "Random synaptic feedback weights support error backpropagation for deep
learning" (2016).
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.paths import place
from jaxprop.backward.rules.rule import Feed, Here, Rule
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Affine, Embedding, Linear, MultiHeadAttention, PositionalEmbedding
from jaxprop.layers.convolution import Convolution
from jaxprop.layers.initializers import initializers
from jaxprop.layers.layer import Layer
from jaxprop.layers.norm import Norm
from jaxprop.layers.recurrent import Recurrent
from jaxprop.network import Leaf

# The matrices that errors come back through. A layer's backward uses them for nothing else, so B may stand for them.
MATRICES: dict[type[Layer], tuple[str, ...]] = {
    Linear: ("W",),
    Convolution: ("W",),
    MultiHeadAttention: ("W_query", "W_key", "W_value", "W_output"),
    Recurrent: ("W_input", "W_hidden"),
}
NONE = (Affine, Embedding, Norm, PositionalEmbedding)  # gains keep γ, and no error comes back through a table


def matrices(rule: Rule, leaf: Leaf) -> tuple[str, ...]:
    """Return the names of the matrices that errors come back through at a leaf, or raise JaxpropError."""
    for kind, names in MATRICES.items():
        if isinstance(leaf.layer, kind):
            return names
    if isinstance(leaf.layer, NONE) or not jax.tree.leaves(leaf.params):
        return ()
    raise JaxpropError(
        f"{rule}: does not know through which parameters of {place(leaf.layer, leaf.path)} errors come back; it knows "
        f"{', '.join(kind.__name__ for kind in MATRICES)} and what is made of them: choose another rule there, as in "
        f'jp.rules.at({{"{leaf.path}": jp.rules.Backprop(), "*": ...}})'
    )


def drawn(init: str, key: Array, shape: tuple[int, ...], dtype: Any, times: int) -> Array:
    """Return an array drawn by the name of an initialiser, anew for every block along the first `times` axes."""
    stack, one = shape[:times], shape[times:]
    draw = initializers()[init]
    keys = jax.random.split(key, math.prod(stack))
    return jax.vmap(lambda k: draw(k, one, dtype))(keys).reshape(shape)


@dataclass(frozen=True, init=False)
class FeedbackAlignment(Rule):
    """Bring errors back through a fixed random B in W's place: dx = δ Bᵀ.

    For `Linear`, `Conv`, `ConvTranspose`, attention and recurrent layers (through time as well: h_{t−1} gets δ_t
    B_hiddenᵀ). Gains of norms keep their γ. Layers of your own that are none of these are refused.

    Args:
        init: how B is drawn, a name as `Linear` takes it.

    Raises:
        JaxpropError: `init` is no name of an initialiser; in use, a layer is none of these.

    Source: Lillicrap et al. (2016), eq. 3.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Tanh, manual
    >>> net, x = Chain(Linear(5), Tanh(), Linear(2)), jnp.ones((3, 4))
    >>> params, rule = net.init(jax.random.key(0), x), FeedbackAlignment()
    >>> feedback = rule.init(jax.random.key(1), net, params)
    >>> run = manual.value_and_grad(net, HalfSquaredError(), rule=rule)
    >>> value, grads = run(x, params, jnp.zeros((3, 2)), feedback=feedback)
    >>> grads[0].W.shape
    (4, 5)
    """

    weight_init: str

    def __init__(self, init: str = "glorot_uniform") -> None:
        self._keep(init=init)

    def __post_init__(self) -> None:
        pick(self.weight_init, initializers(), "init")

    def fed(self, leaf: Leaf) -> tuple[str, ...]:
        """Return the matrices of a leaf."""
        return matrices(self, leaf)

    def draw(self, key: Array, W: Array, feed: Feed, x: PyTree, y: PyTree) -> Array:
        """Return B, of W's shape."""
        return drawn(self.weight_init, key, W.shape, W.dtype, feed.times)

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Go back with B in W's place."""
        return here.backward(jax.tree.map(lambda W, B: W if B is None else B, here.params, here.feedback))
