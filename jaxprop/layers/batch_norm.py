"""y = γ x̂ + β, x̂ normalised over the whole batch, channel by channel.

    x̂_ntc = (x_ntc − μ_c) r_c        μ_c, v_c: mean and variance over n and t;  r = 1/√(v + ε)

The derivation of both passes is in `norm.py`; here a group is a channel, with the numbers of all examples. So a nudge
of one example's x moves μ and v, and with them every other example's y: every δ before this layer belongs to the whole
batch (`mixes_examples`), and no quantity of a single example exists in the network.

There is no running average and no mode: a network is a pure function, and this layer always uses the batch that it is
given. For inference `jp.freeze_statistics(net, x, params)` writes the statistics of some rows into θ:

    y = γ (x − μ) r + β = s ⊙ x + h        s = γ r,  h = β − μ γ r        an `Affine`

Edge cases: those of `norm.py`; a batch of one row without positions has v = 0, so y = β. Padded positions count. Under
`shard_map` each shard normalises by its own rows; under `jit` with sharded arrays by all.
Source: Ioffe and Szegedy, "Batch Normalization" (2015), algorithm 1.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxprop.layers.affine import AffineParams
from jaxprop.layers.norm import Norm, NormParams, product


@dataclass(frozen=True)
class BatchNorm(Norm):
    """y = γ (x − μ) / √(v + ε) + β with the statistics of the batch: x `[N, (T,) C]`, γ and β `[C]`.

    Raises JaxpropError for an epsilon that is not positive, ShapeError for inputs that do not fit.

    >>> layer, x = BatchNorm(), jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> print(layer(x, layer.init(None, x)).round(3))
    [[-1. -1.]
     [ 1.  1.]]
    """

    epsilon: float = 1e-5
    scale: bool = True
    bias: bool = True

    @property
    def mixes_examples(self) -> bool:
        """Say yes: every y_n depends on all examples of the batch."""
        return True

    def mean(self, x: Array, gamma: Array | None = None, x_hat: Array | None = None) -> Array:
        """Return the mean of each channel over all positions and examples."""
        of_examples = jnp.mean(product(x, x_hat), tuple(range(1, x.ndim - 1)), keepdims=True)
        return product(gamma, jnp.mean(of_examples, 0, keepdims=True))

    def frozen(self, x: Array, params: NormParams) -> AffineParams:
        """Return s and h, with which y = s ⊙ x + h is this layer on these rows."""
        _, mean, r = self.normalized(x)
        mean, s = mean.ravel(), r.ravel()
        s = s if params.scale is None else s * params.scale.astype(s.dtype)
        h = -mean * s if params.bias is None else params.bias.astype(s.dtype) - mean * s
        return AffineParams(s.astype(x.dtype), h.astype(x.dtype))
