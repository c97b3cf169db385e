"""The gradient's signal to noise: how far examples agree on which way each parameter should go.

    GSNR = ḡ² / (Var + ε)        ḡ = Σ_n p_n g_n,  Var = Σ_n p_n (g_n − ḡ)²,  p_n = w_n / Σ_m w_m

Large: the examples agree. Below 1/N: the mean is no larger than its own standard error √(Var/N), and even its sign is
chance.

Edge cases: where all gradients are 0 it is 0; where they are all alike, ḡ²/ε.
Source: Liu et al., "Understanding Why Neural Networks Generalize Well Through GSNR of Parameters" (2020); ε after
Cockpit's MeanGSNR (Schneider, Dangel and Hennig, 2021), where it is 1e-5.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError
from jaxprop.stats.quantity import Context
from jaxprop.stats.second_moment import SecondMoment
from jaxprop.stats.shares import Shares
from jaxprop.stats.variance import centred


@dataclass(frozen=True)
class SignalToNoise(SecondMoment):
    """Find ḡ² / (Var + ε) of every parameter, the gradient's signal to noise ratio, in the tree of θ.

    Args:
        epsilon: ε > 0, in units of the gradient squared. It should be far below the variances, or it is what is found.

    In half precision it is float32.

    Raises:
        JaxpropError: ε is not positive; and at the first call, by `collect`, for a network that mixes the examples.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))          # ḡ = 7.5, Var = 20.25
    >>> *_, (ratio,) = stats.collect(net, HalfSquaredError(), [SignalToNoise()])(x, params, jnp.zeros((2, 1)))
    >>> print(ratio.W)
    [[2.777...]]
    """

    epsilon: float = 1e-12

    def __post_init__(self) -> None:
        if not self.epsilon > 0:
            raise JaxpropError(f"SignalToNoise: epsilon must be a positive number, found {self.epsilon}")

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Divide."""
        total = Shares.of(context).total

        def one(variance: Array, gradient: Array) -> Array:
            mean = gradient.astype(variance.dtype) / total.astype(variance.dtype)
            return jnp.square(mean) / (variance + self.epsilon)

        return jax.tree.map(one, centred(kept, context), context.grads)
