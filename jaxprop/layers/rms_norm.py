"""y = γ x̂, x̂ divided by the root mean square of the features of each position.

    x̂_ntc = x_ntc r_nt        r_nt = 1/√(Σ_c x_ntc² / C + ε)

Nothing is centred: in the derivation of `norm.py` μ = 0, and of dx = r (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) the middle
term is not there.
Edge cases: x = 0 gives y = 0 and dx = dx̂/√ε.
Source: Zhang and Sennrich, "Root Mean Square Layer Normalization" (2019), eq. 4.
"""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
from jax import Array

from jaxprop.layers.norm import Norm, product


@dataclass(frozen=True)
class RMSNorm(Norm):
    """y = γ x / √(mean(x²) + ε) over the last axis: x `[N, (T,) C]`, γ `[C]`; no bias (θ has `bias=None`).

    Raises JaxpropError for an epsilon that is not positive, ShapeError for inputs that do not fit.

    >>> import jax.numpy as jnp
    >>> layer, x = RMSNorm(), jnp.array([[0.0, 0.0, 0.0, 6.0]])
    >>> print(layer(x, layer.init(None, x)).round(3))
    [[0. 0. 0. 2.]]
    """

    epsilon: float = 1e-6
    scale: bool = True
    centred: ClassVar[bool] = False

    def mean(self, x: Array, gamma: Array | None = None, x_hat: Array | None = None) -> Array:
        """Return the mean of the features of each position."""
        return jnp.mean(product(gamma, x, x_hat), -1, keepdims=True)
