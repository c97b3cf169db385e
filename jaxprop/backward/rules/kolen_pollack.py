"""Kolen and Pollack's rule: feedback that learns what the weights learn.

    dx = δ Bᵀ                                   as feedback alignment
    W ← (1 − λ) W + ΔW,   B ← (1 − λ) B + ΔW    whatever ΔW the optimizer makes of ∂C/∂W = a δ

Both move by the same ΔW and forget at the same rate, so B − W = (1 − λ)^k (B − W at the start): what they began with is
forgotten exponentially, and what remains is backpropagation, though no weight was ever copied.
Source: Kolen and Pollack, "Backpropagation without weight transport" (1994); Akrout et al., "Deep learning without
weight transport" (2019), section 3.1.
"""

from dataclasses import dataclass

from jax import Array

from jaxprop.backward.rules.feedback import FeedbackAlignment
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers.initializers import initializers


@dataclass(frozen=True, init=False)
class KolenPollack(FeedbackAlignment):
    """Bring errors back through a B that moves as W does: dx = δ Bᵀ, and both decay by λ a step.

    The first half is `FeedbackAlignment`'s, for the same layers. The second is `rule.update`, which `fit` calls between
    the optimizer and its step; in a loop of your own:

        updates, state = optimizer.update(grads, state, params)
        updates, feedback = rule.update(net, updates, params, feedback)
        params = optax.apply_updates(params, updates)

    Args:
        decay: λ, from 0 to 1; what B and W share of their beginnings is halved every ln 2 / λ steps.
        init: how B is drawn, a name as `Linear` takes it.

    Raises:
        JaxpropError: `decay` is not from 0 to 1, or `init` is no name of an initialiser.

    Source: Akrout et al. (2019), eqs. 4 and 5.

    >>> KolenPollack(), KolenPollack(decay=0.01)
    (KolenPollack(), KolenPollack(decay=0.01))
    """

    decay: float

    def __init__(self, decay: float = 0.001, init: str = "glorot_uniform") -> None:
        self._keep(decay=decay, init=init)

    def __post_init__(self) -> None:
        pick(self.weight_init, initializers(), "init")
        if not 0 <= self.decay <= 1:
            raise JaxpropError(f"KolenPollack: decay must be a number from 0 to 1, found {self.decay!r}")

    def moved(self, update: Array, W: Array, B: Array) -> tuple[Array, Array]:
        """Return ΔW − λ W, which W moves by, and B + ΔW − λ B."""
        update = update.astype(W.dtype)
        return update - self.decay * W, B + update - self.decay * B
