"""Straight-through estimation: an error goes back through a layer whose slope is 0 as if that layer were not there.

    backpropagation        dx = dy · 0
    straight through       dx = dy                          y = Step(z) or Quantize(z)
    with a window w        dx = dy ⊙ 1[|z| ≤ w]             as if it were a hard tanh

The layers before get an error that is no derivative of anything: y does not change with z at all. It points downhill
often enough to learn by, since y rises with z over any distance longer than a level.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.backward.rules.rule import Here, Rule
from jaxprop.errors import JaxpropError
from jaxprop.layers import Quantize, Step
from jaxprop.network import Leaf

FLAT = (Step, Quantize)


@dataclass(frozen=True)
class StraightThrough(Rule):
    """Let errors through `Step` and `Quantize`, whose slope is 0; every other layer goes back by backpropagation.

    Args:
        window: None lets every error through; a number w > 0 those at |z| ≤ w alone, so that units far from their jump
            stay where they are. 1.0 is the hard tanh estimator.

    Raises:
        JaxpropError: `window` is not > 0; in use, the network has neither layer.

    Source: Bengio, Léonard and Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for
    Conditional Computation" (2013), section 4; the window: Courbariaux et al., "Binarized Neural Networks" (2016).

    >>> import jax
    >>> from jaxprop import Chain, HalfSquaredError, Linear, manual, rules
    >>> net, x = Chain(Linear(1, bias=False), Step()), jnp.array([[2.0]])
    >>> params = net.init(jax.random.key(0), x)
    >>> params = (params[0]._replace(W=jnp.array([[3.0]])), ())
    >>> for rule in (rules.Backprop(), StraightThrough(), StraightThrough(window=1.0)):  # z = 6, y = 1, δ = y − 0
    ...     print(manual.value_and_grad(net, HalfSquaredError(), rule=rule)(x, params, jnp.zeros((1, 1)))[1][0].W)
    [[0.]]
    [[2.]]
    [[0.]]
    """

    window: float | None = None

    def __post_init__(self) -> None:
        if self.window is not None and not self.window > 0:
            raise JaxpropError(f"StraightThrough: window must be None or a number > 0, found {self.window!r}")

    def choose(self, leaves: Sequence[Leaf]) -> list[Rule]:
        """Serve every leaf; raise JaxpropError if none of them is flat."""
        require_some(self, leaves, FLAT, "whose slope is 0")
        return [self] * len(leaves)

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Hand the error on through a flat layer."""
        if not isinstance(here.layer, FLAT):
            return here.backward()
        z = here.cache
        return (here.dy if self.window is None else jnp.where(jnp.abs(z) <= self.window, here.dy, 0)), ()


def require_some(rule: Rule, leaves: Sequence[Leaf], kinds: tuple[type, ...], which: str) -> None:
    """Raise JaxpropError unless a leaf is of these kinds: a rule that changes nothing is a mistake."""
    if not any(isinstance(leaf.layer, kinds) for leaf in leaves):
        expected = " or ".join(kind.__name__ for kind in kinds)
        found = ", ".join(dict.fromkeys(type(leaf.layer).__name__ for leaf in leaves)) or "no layer"
        raise JaxpropError(f"{rule}: is for {expected}, {which}, and found {found}: it would change nothing here")
