"""y = s ⊙ x + h: every channel scaled and shifted by numbers of its own.

Forward:   y_ntc = s_c x_ntc + h_c                x, y [N, (T,) C]   s (scale), h (shift) [C]
Backward:  dx_ntc = s_c δ_ntc                     ∂C_n/∂s_c = Σ_t δ_ntc x_ntc      ∂C_n/∂h_c = Σ_t δ_ntc

What `freeze_statistics` makes of a `BatchNorm`; also a layer to learn with.
Edge cases: half precision is computed in float32, since x and h may all but cancel.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.checks import Spec, check_floating, check_theta
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Scale, Shift


class AffineParams(NamedTuple):
    """θ of an `Affine`: scale `[C]` and shift `[C]`.

    >>> AffineParams(scale=jnp.ones(3), shift=jnp.zeros(3)).shift.shape
    (3,)
    """

    scale: Any
    shift: Any


@dataclass(frozen=True)
class Affine(Layer):
    """y = scale ⊙ x + shift, x `[N, (T,) C]`, scale and shift `[C]` (1 and 0 to begin with).

    Raises ShapeError for inputs or params that do not fit.

    >>> print(Affine()(jnp.array([[1.0, 2.0]]), AffineParams(jnp.array([3.0, 0.5]), jnp.array([0.0, 1.0]))))
    [[3. 2.]]
    """

    def init(self, key: Array | None, x: Spec) -> AffineParams:
        self._check_inputs(x)
        return AffineParams(jnp.ones(x.shape[-1], x.dtype), jnp.zeros(x.shape[-1], x.dtype))

    def forward(self, x: Array, params: AffineParams, env: Env | None = None) -> tuple[Array, Array]:
        self._check_inputs(x)
        check_theta(params, AffineParams, self)
        found, expected = [getattr(array, "shape", None) for array in params], [x.shape[-1:]] * 2
        if found != expected:
            raise ShapeError(f"Affine: found params of shapes {found}, inputs {tuple(x.shape)} need {expected}")
        s, h = (across(array.astype(wide(x.dtype)), x) for array in params)
        return (x.astype(s.dtype) * s + h).astype(x.dtype), x

    def backward(self, dy: Array, cache: Array, params: AffineParams) -> tuple[Array, AffineParams]:
        x, delta, (s, h) = cache, dy, params
        dx = (delta.astype(wide(x.dtype)) * across(s.astype(wide(x.dtype)), delta)).astype(x.dtype)
        return dx, AffineParams(Scale(x, delta, s.shape, s.dtype), Shift(delta, h.shape, h.dtype))

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 2 * x.size, 4 * x.size  # s x + h; s δ, δ x and its sum, the sum of δ

    def _check_inputs(self, x: Spec) -> None:
        check_floating(x, "Affine", "[N, ..., C]")
