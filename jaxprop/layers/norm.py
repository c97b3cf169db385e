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

Kept: x̂ and r. Half precision: everything is computed in float32, and x̂ is kept so: much of dx cancels, and a rounded
x̂ would leave it twice as far from the truth.
Edge cases: a group of equal numbers has v = 0, so x̂ = 0 and dx = r (dx̂ − mean(dx̂)) with r = 1/√ε.
Source: Ioffe and Szegedy, "Batch Normalization" (2015), section 3 (its chain of six equations, put together).
"""

import functools
import operator
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.checks import Spec, check_floating, check_theta
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Scale, Shift


class NormParams(NamedTuple):
    """θ of a normalising layer: scale γ `[C]` and bias β `[C]`, None where the layer has none.

    >>> NormParams(scale=jnp.ones(3), bias=None).scale.shape
    (3,)
    """

    scale: Any
    bias: Any


def product(*factors: Array | None) -> Array:
    """The product of the factors that are there.

    >>> product(2.0, None, 3.0)
    6.0
    """
    return functools.reduce(operator.mul, [factor for factor in factors if factor is not None])


class Norm(Layer):
    """A layer y = γ x̂ + β, x `[N, (T,) C]`; a subclass has the settings and says what is normalised together.

    Raises JaxpropError for settings that cannot be, ShapeError for inputs or params that do not fit.
    """

    epsilon: float
    scale: bool
    centred: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < 1:
            name = type(self).__name__
            raise JaxpropError(
                f"{name}: epsilon must be a small number > 0, found {self.epsilon!r}; the channels are read off x: "
                f"what is {name}(64) elsewhere is {name}() here"
            )

    def mean(self, x: Array, gamma: Array | None = None, x_hat: Array | None = None) -> Array:
        """Return the mean of x (γ x, γ x x̂) over each group, in a shape that broadcasts with x.

        A group of several positions is summed over them first: γ then meets one number a channel, and these sums are
        those of the gradients of β and γ, which XLA makes once.
        """
        raise TypeError(f"{type(self).__name__} must define mean(x, gamma, x_hat)")

    def init(self, key: Array | None, x: Spec) -> NormParams:
        self._check_inputs(x)
        has_scale, has_bias = self._has()
        scale = jnp.ones(x.shape[-1], x.dtype) if has_scale else None
        return NormParams(scale, jnp.zeros(x.shape[-1], x.dtype) if has_bias else None)

    def forward(self, x: Array, params: NormParams, env: Env | None = None) -> tuple[Array, tuple[Array, Array]]:
        self._check_inputs(x)
        self._check_params(x, params)
        params = NormParams(*params)
        x_hat, _, r = self.normalized(x)
        y = x_hat if params.scale is None else x_hat * across(params.scale.astype(x_hat.dtype), x)
        y = y if params.bias is None else y + across(params.bias.astype(x_hat.dtype), x)
        return y.astype(x.dtype), (x_hat, r)

    def normalized(self, x: Array) -> tuple[Array, Array, Array]:
        """Return x̂, and μ and r of every group in shapes that broadcast with it."""
        x = x.astype(wide(x.dtype))
        mean = self.mean(x) if self.centred else jnp.zeros((), x.dtype)
        from_mean = x - mean if self.centred else x
        r = jax.lax.rsqrt(self.mean(from_mean * from_mean) + self.epsilon)
        return from_mean * r, mean, r

    def backward(self, dy: Array, cache: tuple[Array, Array], params: NormParams) -> tuple[Array, NormParams]:
        x_hat, r = cache
        scale, bias = params
        scale_use = None if scale is None else Scale(x_hat, dy, scale.shape, scale.dtype)
        bias_use = None if bias is None else Shift(dy, bias.shape, bias.dtype)
        gamma = None if scale is None else across(scale.astype(r.dtype), dy)
        delta = dy.astype(r.dtype)
        along_ones = self.mean(delta, gamma) if self.centred else jnp.zeros((), r.dtype)
        along_x_hat = x_hat * self.mean(delta, gamma, x_hat)
        dx = r * (product(gamma, delta) - along_ones - along_x_hat)
        return dx.astype(dy.dtype), NormParams(scale_use, bias_use)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        scale, bias = self._has()
        # forward: mean, centring, squares and their mean, times r; backward: two means, one of products, and dx
        forward, backward = (5, 7) if self.centred else (3, 5)
        return (forward + scale + bias) * x.size, (backward + 3 * scale + bias) * x.size

    def _has(self) -> tuple[bool, bool]:
        """Tell whether there is a γ, and whether there is a β."""
        return self.scale, getattr(self, "bias", False)

    def _check_inputs(self, x: Spec) -> None:
        check_floating(x, self, "[N, ..., C]")

    def _check_params(self, x: Spec, params: NormParams) -> None:
        check_theta(params, NormParams, self, NormParams._fields)
        for name, array, has in zip(NormParams._fields, params, self._has(), strict=True):
            found, expected = None if array is None else tuple(array.shape), x.shape[-1:] if has else None
            if found != expected:
                raise ShapeError(
                    f"{self!r}: found {name} of shape {found}, inputs {tuple(x.shape)} need {expected}; make params "
                    "with init(key, x)"
                )
