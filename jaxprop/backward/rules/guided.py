"""Two ways back through a ReLU that make pictures of what a network looks for, and no gradients.

    backpropagation          dx = δ ⊙ 1[z > 0]                  what changed on the way there
    deconvnet                dx = δ ⊙ 1[δ > 0]                  what speaks for the output, the unit on or off
    guided backpropagation   dx = δ ⊙ 1[z > 0] ⊙ 1[δ > 0]       both

Each error is the chain rule's but for what is cut away at ReLUs, so all that reaches x by a guided pass went there
along units that were on, and along errors that were positive at every one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax import Array
from jaxtyping import PyTree

from jaxprop.backward.rules.rule import Here, Rule
from jaxprop.backward.rules.straight_through import require_some
from jaxprop.layers import ReLU
from jaxprop.network import Leaf


@dataclass(frozen=True)
class _OfReLU(Rule):
    """A rule that is for ReLUs; every other layer goes back by backpropagation, other activations too."""

    def choose(self, leaves: Sequence[Leaf]) -> list[Rule]:
        """Serve every leaf; raise JaxpropError if none of them is a ReLU."""
        require_some(self, leaves, (ReLU,), "at which it cuts errors off")
        return [self] * len(leaves)

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Cut the error at a ReLU."""
        return (self.cut(here), ()) if isinstance(here.layer, ReLU) else here.backward()

    def cut(self, here: Here) -> Array:
        """Return dx of a ReLU."""
        raise TypeError(f"{type(self).__name__} must define cut(here)")


@dataclass(frozen=True)
class GuidedBackprop(_OfReLU):
    """Let back through a ReLU only positive errors of units that were on: dx = δ ⊙ 1[z > 0] ⊙ 1[δ > 0].

    `jp.saliency.input_gradient(net, rule=GuidedBackprop())` gives the picture. LeakyReLU, GELU and the others are no
    ReLU: there is no "off" in them, the paper says nothing of them, and they go back by the chain rule.

    Raises:
        JaxpropError: in use, the network has no ReLU.

    Source: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All Convolutional Net"
    (2014), section 3.4.

    >>> import jax.numpy as jnp
    >>> from jaxprop.layers import ReLU
    >>> z, delta = jnp.array([[1.0, 1.0, -1.0, -1.0]]), jnp.array([[2.0, -2.0, 2.0, -2.0]])
    >>> here = Here(ReLU(), "", delta, ReLU().forward(z)[1], (), (), None, None)
    >>> print(GuidedBackprop().back(here)[0], Deconvnet().back(here)[0], here.backward()[0])
    [[2. 0. 0. 0.]] [[2. 0. 2. 0.]] [[ 2. -2.  0. -0.]]
    """

    def cut(self, here: Here) -> Array:
        """Return δ ⊙ 1[z > 0] ⊙ 1[δ > 0]."""
        return here._replace(dy=jax.nn.relu(here.dy)).backward()[0]


@dataclass(frozen=True)
class Deconvnet(_OfReLU):
    """Let back through a ReLU every positive error, wherever the unit was: dx = δ ⊙ 1[δ > 0].

    Max pooling sends errors to where the largest was ("switches"), as it does by backpropagation. For a ReLU alone, as
    `GuidedBackprop`.

    Raises:
        JaxpropError: in use, the network has no ReLU.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks" (2013), section 2.1.

    >>> Deconvnet()
    Deconvnet()
    """

    def cut(self, here: Here) -> Array:
        """Return δ ⊙ 1[δ > 0]."""
        return jax.nn.relu(here.dy)
