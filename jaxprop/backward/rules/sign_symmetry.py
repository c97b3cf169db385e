"""Sign symmetry: errors come back through a matrix that shares with W nothing but the signs.

    dx = δ Bᵀ       B = s sign(W)       "uniform"     s = √(2 / (fan_in + fan_out))
                    B = |M| ⊙ sign(W)   "fixed"       M drawn once
                    B = |M| ⊙ sign(W)   "redrawn"     M drawn anew at every pass

One bit a weight has to be carried over instead of a number, and it is enough for most of what backpropagation does.
Source: Liao, Leibo and Poggio, "How important is weight symmetry in backpropagation?" (2016); Xiao et al.,
"Biologically-plausible learning algorithms can scale to large datasets" (2019); s as in BioTorch.
"""

import math
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.backward.rules.feedback import drawn, matrices
from jaxprop.backward.rules.rule import Feed, Here, Rule
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers.initializers import initializers
from jaxprop.network import Leaf


@dataclass(frozen=True, init=False)
class SignSymmetry(Rule):
    """Bring errors back through B with the signs of W: dx = δ Bᵀ, B = s sign(W) or |M| ⊙ sign(W).

    For the layers of `FeedbackAlignment`. Signs are those of W now, so B follows W whenever one of them changes; an
    entry of W that is 0 lets no error through.

    Args:
        kind: "uniform" (every |B| is s), "fixed" (M is drawn once: it is the feedback), or "redrawn" (M is drawn at
            every pass: rng= is needed).
        init: how M is drawn, a name as `Linear` takes it.

    Raises:
        JaxpropError: the kind or `init` is none of those; in use, a layer has no matrices that it knows.

    Source: Liao et al. (2016), table 1: uSF, frSF and brSF.

    >>> SignSymmetry("fixed"), SignSymmetry("redrawn").draws
    (SignSymmetry(kind='fixed'), True)
    """

    kind: Literal["uniform", "fixed", "redrawn"]
    weight_init: str

    def __init__(self, kind: Literal["uniform", "fixed", "redrawn"] = "uniform", init: str = "glorot_uniform") -> None:
        self._keep(kind=kind, init=init)

    def __post_init__(self) -> None:
        pick(self.weight_init, initializers(), "init")

    @property
    def draws(self) -> bool:
        """Tell whether M is drawn at every pass."""
        return self.kind == "redrawn"

    def fed(self, leaf: Leaf) -> tuple[str, ...]:
        """Return the matrices of a leaf, if M is drawn once."""
        names = matrices(self, leaf)
        return names if self.kind == "fixed" else ()

    def draw(self, key: Array, W: Array, feed: Feed, x: PyTree, y: PyTree) -> Array:
        """Return M, of W's shape."""
        return drawn(self.weight_init, key, W.shape, W.dtype, feed.times)

    def matrix(self, W: Array, B: Array) -> Array:
        """Return |M| ⊙ sign(W)."""
        return jnp.abs(B) * jnp.sign(W)

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Go back with B in W's place."""
        names = matrices(self, Leaf(here.path, here.layer, here.params, ()))
        if not names:
            return here.backward()
        keys = [None] * len(names) if here.key is None else jax.random.split(here.key, len(names))
        replaced = {}
        for name, key in zip(names, keys, strict=True):
            W = getattr(here.params, name)
            replaced[name] = self._size(W, getattr(here.feedback, name), key) * jnp.sign(W)
        return here.backward(here.params._replace(**replaced))

    def _size(self, W: Array, M: Array | None, key: Array | None) -> Array | float:
        """|B|."""
        if M is not None:  # "fixed"
            return jnp.abs(M)
        if self.kind == "uniform":
            K = math.prod(W.shape[:-2])  # a kernel's positions; fans as initialisers count them
            return math.sqrt(2 / (K * (W.shape[-2] + W.shape[-1])))
        if key is None:
            raise JaxpropError(f"{self} draws numbers on the way back: give rng=jax.random.key(0)")
        return jnp.abs(drawn(self.weight_init, key, W.shape, W.dtype, 0))
