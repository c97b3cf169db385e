"""y = γ x̂ + β, x̂ normalised over the features of each position by itself.

    x̂_ntc = (x_ntc − μ_nt) r_nt        μ_nt, v_nt: mean and variance over c;  r = 1/√(v + ε)

The derivation of both passes is in `norm.py`; here a group is the C features of one position.
Edge cases: those of `norm.py`; C = 1 leaves x̂ = 0, so y = β.
Source: Ba, Kiros, Hinton, "Layer Normalization" (2016), eq. 4.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxprop.layers.norm import Norm, product


@dataclass(frozen=True)
class LayerNorm(Norm):
    """y = γ (x − μ) / √(v + ε) + β over the last axis: x `[N, (T,) C]`, γ and β `[C]`.

    Raises JaxpropError for an epsilon that is not positive, ShapeError for inputs that do not fit.

    >>> import jax.numpy as jnp
    >>> layer, x = LayerNorm(), jnp.array([[1.0, 3.0]])
    >>> print(layer(x, layer.init(None, x)).round(3))
    [[-1.  1.]]
    """

    epsilon: float = 1e-6
    scale: bool = True
    bias: bool = True

    def mean(self, x: Array, gamma: Array | None = None, x_hat: Array | None = None) -> Array:
        """Return the mean of the features of each position."""
        return jnp.mean(product(gamma, x, x_hat), -1, keepdims=True)
