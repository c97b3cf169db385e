"""y_t = x_t + W_t: a learned row for every position, so that order is seen.

Forward:   y_ntd = x_ntd + W_td                 x, y [N, T, D]   W [length, D], T ≤ length
Backward:  dx = δ                               ∂C_n/∂W_t = δ_nt for t < T, 0 above

Every position has a row of its own, so an example's δ is the first T rows of its gradient: a `Leading` use.
Edge cases: T < length uses the first T rows; T > length is refused. A mask changes nothing here.
Source: Gehring et al., "Convolutional Sequence to Sequence Learning" (2017), section 3.1.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.checks import Spec, check_floating, check_key, check_theta, check_whole
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Leading


class PositionalEmbeddingParams(NamedTuple):
    """θ of a `PositionalEmbedding`: W `[length, D]`.

    >>> import jax.numpy as jnp
    >>> PositionalEmbeddingParams(W=jnp.zeros((128, 64))).W.shape
    (128, 64)
    """

    W: Any


@dataclass(frozen=True)
class PositionalEmbedding(Layer):
    """y_t = x_t + W_t: x `[N, T, D]`, T ≤ length, W `[length, D]`, drawn from N(0, 0.02²).

    Raises JaxpropError for a length that is no whole number ≥ 1, ShapeError for inputs that do not fit, T > length.

    >>> import jax.numpy as jnp
    >>> params = PositionalEmbeddingParams(W=jnp.array([[0.1], [0.2], [0.3]]))
    >>> print(PositionalEmbedding(3)(jnp.ones((1, 2, 1)), params).ravel())
    [1.1 1.2]
    """

    length: int

    def __post_init__(self) -> None:
        check_whole(self.length, "PositionalEmbedding: length")

    def init(self, key: Array | None, x: Spec) -> PositionalEmbeddingParams:
        self._check_inputs(x)
        key = check_key(key, "PositionalEmbedding.init", "W")
        return PositionalEmbeddingParams(0.02 * jax.random.normal(key, (self.length, x.shape[-1]), x.dtype))

    def forward(self, x: Array, params: PositionalEmbeddingParams, env: Env | None = None) -> tuple[Array, Any]:
        self._check_inputs(x)
        check_theta(params, PositionalEmbeddingParams, self)
        (W,) = params
        if W.shape != (self.length, x.shape[-1]):
            raise ShapeError(
                f"{self!r}: found W {list(W.shape)}, inputs {list(x.shape)} need {[self.length, x.shape[-1]]}; make "
                "params with init(key, x)"
            )
        return x + across(W[: x.shape[1]].astype(x.dtype), x), ()

    def backward(self, dy: Array, cache: Any, params: PositionalEmbeddingParams) -> tuple[Array, Any]:
        (W,) = params
        return dy, PositionalEmbeddingParams(Leading(dy, W.shape, W.dtype))

    def _check_inputs(self, x: Spec) -> None:
        check_floating(x, self, "[N, T, D]")
        if x.shape[1] > self.length:
            raise ShapeError(f"{self!r}: found {x.shape[1]} positions in {list(x.shape)}, it knows {self.length}")
