"""Direct feedback alignment: the network's own error goes straight to every layer, through a matrix of that layer's.

    backpropagation             dx_l = δ_l W_lᵀ                     one layer after the other
    direct feedback alignment   dx_l = e B_l,   e = ∂C_n/∂y         all layers at once: no way back through later layers

x_l is the input of layer l, so dx_l is the error of what comes before it, which an activation there makes its δ of:
δ_{l−1} = (e B_l) ⊙ φ'(z_{l−1}). The last layer gets e itself. The uses are (a, δ) as ever.

B_l is `[E, ...]`: E numbers of e, and one example's x behind. e and x are flattened, dx = e B. Where y is `[N, *T, C]`
with positions, and x has the same, `[N, *T, I]`, each position gets its own error and B is `[C, I]`.

Within a layer errors go as they do: through a softmax to queries and keys, through time to h_{t−1}. It is between
layers that they are direct. Combinators add up what comes: x of a `Residual` gets the error that arrives there, plus
e B of the first layer inside.
Source: Nøkland, "Direct feedback alignment provides learning in deep neural networks" (2016), eq. 3; with positions:
Launay, Poli, Boniface and Krzakala, "Direct feedback alignment scales to modern deep learning tasks" (2020).
"""

import math
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.paths import place
from jaxprop.backward.rules.feedback import drawn, matrices
from jaxprop.backward.rules.rule import Feed, Here, Rule
from jaxprop.errors import JaxpropError, ShapeError, pick
from jaxprop.layers.initializers import initializers
from jaxprop.network import Leaf

FIRST = {"x": ("W", "W_query", "W_input"), "memory": ("W_key",)}  # B travels with the matrix that takes x


@dataclass(frozen=True, init=False)
class DirectFeedbackAlignment(Rule):
    """Bring the network's own error e straight to the input of every layer with weights: dx = e B, B fixed and random.

    For the layers of `FeedbackAlignment`, each as a whole. `init` needs x, since B is as large as x of its layer. Tied
    weights are refused: there is one array, and each of its layers would need a B of its own.

    Args:
        init: how B is drawn, a name as `Linear` takes it, for a matrix `[E, numbers of x]`; by default so that dx is
            about as large as e.

    Raises:
        JaxpropError: `init` is no name of an initialiser, x is lacking, a layer or a tie is refused.
        ShapeError: feedback was made for other inputs.

    Source: Nøkland (2016), eq. 3.

    >>> import jax.numpy as jnp
    >>> from jaxprop import Chain, HalfSquaredError, Linear, Tanh, manual
    >>> net, x = Chain(Linear(5), Tanh(), Linear(2)), jnp.ones((3, 4))
    >>> params, rule = net.init(jax.random.key(0), x), DirectFeedbackAlignment()
    >>> feedback = rule.init(jax.random.key(1), net, params, x)
    >>> feedback[2].W.shape
    (2, 5)
    >>> run = manual.value_and_grad(net, HalfSquaredError(), rule=rule)
    >>> run(x, params, jnp.zeros((3, 2)), feedback=feedback)[1][0].W.shape
    (4, 5)
    """

    weight_init: str

    def __init__(self, init: str = "lecun_uniform") -> None:
        self._keep(init=init)

    def __post_init__(self) -> None:
        pick(self.weight_init, initializers(), "init")

    def fed(self, leaf: Leaf) -> tuple[str, ...]:
        """Return the matrix that takes x, and for cross-attention the one that takes the memory too."""
        names = matrices(self, leaf)
        takes = [*FIRST["x"], *(FIRST["memory"] if getattr(leaf.layer, "cross", False) else ())]
        return tuple(name for name in names if name in takes)

    def draw(self, key: Array, W: Array, feed: Feed, x: PyTree, y: PyTree) -> Array:
        """Return B, `[E, ...]` with one example's x behind, or `[C, I]` where positions get errors of their own."""
        self._refuse_tied(feed)
        if x is None:
            raise JaxpropError(f"{self}.init needs x, for B is as large as each layer's: init(key, net, params, x)")
        x = jax.tree.leaves(x)[1 if feed.name in FIRST["memory"] else 0]
        shape = _shape(x, y)
        stack = W.shape[: feed.times]
        B = drawn(self.weight_init, key, (*stack, shape[0], math.prod(shape[1:])), x.dtype, feed.times)
        return B.reshape(*stack, *shape)

    def check(self, path: str, W: Array, B: Array, feed: Feed) -> None:
        """Refuse tied weights; shapes are compared where x and e are known, in `back`."""
        self._refuse_tied(feed)

    def matrix(self, W: Array, B: Array) -> None:
        """Say that there is none: B leads from the network's error, and not from that of the layer after."""

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Go back as the layer does, and hand on e B in place of its dx."""
        dx, uses = here.backward()
        given = [B for B in jax.tree.leaves(here.feedback)]
        if dx is None or not given:
            return dx, uses
        xs, tree = jax.tree.flatten(here.x)
        direct = [self._direct(here, x, B) for x, B in zip(xs, given, strict=True)]
        return jax.tree.unflatten(tree, direct), uses

    def _refuse_tied(self, feed: Feed) -> None:
        if feed.tied:
            raise JaxpropError(
                f"{self}: {feed.name} of {place(feed.leaf.layer, feed.leaf.path)} is tied to another layer's: there is "
                "one array, and each of the layers would need a B of its own; choose another rule with jp.rules.at"
            )

    def _direct(self, here: Here, x: Array, B: Array) -> Array:
        """E B, of x's shape."""
        e, expected = here.error, _shape(x, here.error)
        if B.shape != expected:
            raise ShapeError(
                f"{self}: the feedback of {place(here.layer, here.path)} is {list(B.shape)}, errors {list(e.shape)} "
                f"and inputs {list(x.shape)} need {list(expected)}; make it with rule.init(key, net, params, x)"
            )
        if _has_positions(x, e):
            return (e @ B).astype(x.dtype)
        return (e.reshape(e.shape[0], -1) @ B.reshape(B.shape[0], -1)).reshape(x.shape).astype(x.dtype)


def _has_positions(x: Array, e: Array) -> bool:
    """Tell whether x `[N, *T, I]` has the positions of e `[N, *T, C]`."""
    return e.ndim > 1 and x.shape[1:-1] == e.shape[1:-1]


def _shape(x: Array, e: Array) -> tuple[int, ...]:
    return (e.shape[-1], x.shape[-1]) if _has_positions(x, e) else (math.prod(e.shape[1:]), *x.shape[1:])
