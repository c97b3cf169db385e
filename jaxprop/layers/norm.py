r"""What the normalising layers share: numbers are centred and divided by their spread, then scaled and shifted.

Forward, over a group of m numbers x_1 … x_m (each layer's file says which numbers are a group):

    μ = Σ_i x_i / m         v = Σ_i (x_i − μ)² / m         r = 1 / √(v + ε)
    x̂_i = (x_i − μ) r                                      normalised: mean 0, spread 1
    y_i = γ x̂_i + β                                        γ (scale), β (shift by a bias): one a channel

Backward: let δ_i = ∂C/∂y_i be given. γ and β meet it directly, ∂C_n/∂γ = Σ δ x̂ and ∂C_n/∂β = Σ δ, and dx̂_i = γ δ_i.
A nudge of x_i moves x̂ in three ways: directly, through μ, and through v,

    ∂x̂_j/∂x_i = r ([i = j] − 1/m − x̂_j x̂_i / m)           since ∂μ/∂x_i = 1/m and ∂r/∂x_i = −r² x̂_i / m

so, summing dx̂_j ∂x̂_j/∂x_i over j,

    dx_i = r (dx̂_i − mean(dx̂) − x̂_i mean(dx̂ x̂))

What is left of the error has no part along 1 and none along x̂: a group cannot be moved as a whole, nor stretched.
Without centring (`RMSNorm`: μ = 0) the middle term is not there.

Kept: x̂ and r. Half precision: μ, v, r and both passes are computed in float32, x̂ is kept in x's dtype.
Edge cases: a group of equal numbers has v = 0, so x̂ = 0 and dx = r (dx̂ − mean(dx̂)) with r = 1/√ε.
Source: Ioffe and Szegedy, "Batch Normalization" (2015), section 3 (its chain of six equations, put together).
"""

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.layers.precision import wide
from jaxprop.uses import Scale, Shift


class NormParams(NamedTuple):
    """θ of a normalising layer: scale γ `[C]` and bias β `[C]`, None where the layer has none.

    >>> NormParams(scale=jnp.ones(3), bias=None).scale.shape
    (3,)
    """

    scale: Any
    bias: Any


class Norm(Layer):
    """A layer y = γ x̂ + β, x `[N, (T,) C]`; a subclass has the settings and says what is normalised together.

    Raises JaxpropError for settings that cannot be, ShapeError for inputs or params that do not fit.
    """

    epsilon: float
    scale: bool
    centred: ClassVar[bool] = True

    def __post_init__(self) -> None:
        epsilon = self.epsilon
        if not isinstance(epsilon, float | int) or isinstance(epsilon, bool) or not 0 < epsilon < math.inf:
            raise JaxpropError(f"{type(self).__name__}: epsilon must be a small number > 0, found {epsilon!r}")

    def groups_of(self, x: Array) -> tuple[Array, tuple[int, ...]]:
        """Return x seen so that each group lies along some axes, and these axes."""
        raise TypeError(f"{type(self).__name__} must define groups_of(x) -> (x, axes)")

    def init(self, key: Array | None, x: Any) -> NormParams:
        self._check_inputs(x)
        has_scale, has_bias = self._has()
        scale = jnp.ones(x.shape[-1], x.dtype) if has_scale else None
        return NormParams(scale, jnp.zeros(x.shape[-1], x.dtype) if has_bias else None)

    def forward(self, x: Array, params: NormParams, env: Env | None = None) -> tuple[Array, tuple[Array, Array]]:
        self._check_inputs(x)
        self._check_params(x, params)
        x_hat, _, r = self.normalized(x)
        y = x_hat if params.scale is None else x_hat * params.scale.astype(x_hat.dtype)
        y = y if params.bias is None else y + params.bias.astype(x_hat.dtype)
        return y.astype(x.dtype), (x_hat.astype(x.dtype), r)

    def normalized(self, x: Array) -> tuple[Array, Array, Array]:
        """Return x̂ in x's shape, and μ and r of every group."""
        grouped, axes = self.groups_of(x.astype(wide(x.dtype)))
        mean = jnp.mean(grouped, axes, keepdims=True) if self.centred else jnp.zeros((), grouped.dtype)
        from_mean = grouped - mean if self.centred else grouped
        r = jax.lax.rsqrt(jnp.mean(from_mean * from_mean, axes, keepdims=True) + self.epsilon)
        return (from_mean * r).reshape(x.shape), mean, r

    def backward(self, dy: Array, cache: tuple[Array, Array], params: NormParams) -> tuple[Array, NormParams]:
        x_hat, r = cache
        gamma, delta = params.scale, dy
        dx_hat = delta.astype(r.dtype) if gamma is None else delta.astype(r.dtype) * gamma.astype(r.dtype)
        (dx_hat, axes), (grouped, _) = self.groups_of(dx_hat), self.groups_of(x_hat.astype(r.dtype))
        along_x_hat = grouped * jnp.mean(dx_hat * grouped, axes, keepdims=True)
        along_ones = jnp.mean(dx_hat, axes, keepdims=True) if self.centred else jnp.zeros((), r.dtype)
        dx = r * (dx_hat - along_ones - along_x_hat)
        scale_use = None if gamma is None else Scale(x_hat, delta, gamma.shape, gamma.dtype)
        bias_use = None if params.bias is None else Shift(delta, params.bias.shape, params.bias.dtype)
        return dx.reshape(dy.shape).astype(dy.dtype), NormParams(scale_use, bias_use)

    def operations(self, x: Any, y: Any) -> tuple[int, int]:
        scale, bias = self._has()
        # forward: mean, centring, squares and their mean, times r; backward: two means, one of products, and dx
        forward, backward = (5, 7) if self.centred else (3, 5)
        return (forward + scale + bias) * x.size, (backward + 3 * scale + bias) * x.size

    def _has(self) -> tuple[bool, bool]:
        """Whether there is a γ, and a β."""
        return self.scale, getattr(self, "bias", False)

    def _check_inputs(self, x: Any) -> None:
        if len(x.shape) < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
            raise ShapeError(
                f"{self!r}: inputs must be floating [N, ..., C], found {x.dtype}{list(x.shape)}; one example is x[None]"
            )

    def _check_params(self, x: Any, params: NormParams) -> None:
        for name, array, has in zip(params._fields, params, self._has(), strict=True):
            found, expected = None if array is None else tuple(array.shape), x.shape[-1:] if has else None
            if found != expected:
                raise ShapeError(
                    f"{self!r}: found {name} of shape {found}, inputs {tuple(x.shape)} need {expected}; make params "
                    "with init(key, x)"
                )
