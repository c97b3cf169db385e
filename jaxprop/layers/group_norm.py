"""y = γ x̂ + β, x̂ normalised over groups of channels and all positions of one example.

    x̂_ntc = (x_ntc − μ_ng) r_ng        μ_ng, v_ng over t and the C/G channels c of group g;  r = 1/√(v + ε)

The derivation of both passes is in `norm.py`. No example enters another's statistics, so per-example quantities exist:
what to use in place of `BatchNorm` with them.
Edge cases: those of `norm.py`; groups = 1 normalises the whole example, groups = C each channel (instance
normalisation); C must be a multiple of groups. Padded positions count (there is no mask in the formula).
Source: Wu and He, "Group Normalization" (2018), eq. 7.
"""

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array

from jaxprop.checks import Spec, check_whole
from jaxprop.errors import ShapeError
from jaxprop.layers.norm import Norm, product


@dataclass(frozen=True)
class GroupNorm(Norm):
    """y = γ (x − μ) / √(v + ε) + β over positions and C/groups channels: x `[N, (T,) C]`, γ and β `[C]`.

    Raises JaxpropError for settings that cannot be, ShapeError for inputs that do not fit, or C no multiple of groups.

    >>> import jax.numpy as jnp
    >>> layer, x = GroupNorm(groups=2), jnp.array([[1.0, 3.0, 0.0, 10.0]])
    >>> print(layer(x, layer.init(None, x)).round(3))
    [[-1.  1. -1.  1.]]
    """

    groups: int = 32
    epsilon: float = 1e-6
    scale: bool = True
    bias: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self.groups, "GroupNorm: groups")

    def mean(self, x: Array, gamma: Array | None = None, x_hat: Array | None = None) -> Array:
        """Return the mean over positions and a group's channels; over positions first, which leaves one a channel."""
        of_channels = product(gamma, jnp.mean(product(x, x_hat), tuple(range(1, x.ndim - 1)), keepdims=True))
        of_groups = jnp.mean(of_channels.reshape(x.shape[0], self.groups, x.shape[-1] // self.groups), -1)
        return jnp.repeat(of_groups, x.shape[-1] // self.groups, -1).reshape(of_channels.shape)

    def _check_inputs(self, x: Spec) -> None:
        super()._check_inputs(x)
        if x.shape[-1] % self.groups:
            raise ShapeError(
                f"{self!r}: found {x.shape[-1]} channels in inputs {tuple(x.shape)}, expected a multiple of "
                f"{self.groups}; use GroupNorm(groups={math.gcd(x.shape[-1], self.groups)}), say"
            )
