r"""Activations y = φ(z), each a value and its derivative side by side.

Forward, elementwise:    y = φ(z)                z, y [N, ...]
Backward:                dx = dy · φ'(z)         ∂C/∂z = ∂C/∂a · ∂a/∂z, the middle factor of the chain rule

An activation keeps for the backward pass only what φ' is written in: y where the derivative is shortest through the
value (it is the next layer's input anyway), z, or a mask. `derivative(kept)` is φ'(z); tapes and derivations read it.

Kinks follow JAX: relu'(0) = 0, leaky_relu'(0) = 1, elu'(0) = α, hard_tanh'(±1) = 1. `Step` and `Quantize` are flat
between their jumps: φ' = 0 everywhere, and nothing before them learns by backpropagation; with
`jp.rules.StraightThrough` it does. All are finite, value and derivative, at ±1e4. In half precision the derivatives of
SiLU and Softsign are computed in float32 and rounded once; the others are as exact as their dtype. Softmax is not
elementwise; it is here because it ends a network as the others do.
Sources: `jax.nn`; Clevert et al. 2016 (ELU), Klambauer et al. 2017 (SELU), Hendrycks & Gimpel 2016 (GELU, SiLU);
Bengio, Léonard, Courville, "Estimating or Propagating Gradients Through Stochastic Neurons", 2013 (Step, Quantize).
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.checks import TO_FLOATING, Spec, check_floating
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Env, Layer


@dataclass(frozen=True)
class Activation(Layer):
    """y = φ(z), elementwise: whoever writes one writes `value` and `derivative`, and `keep` unless that is z.

    >>> class Square(Activation):
    ...     def value(self, z):
    ...         return z * z
    ...     def derivative(self, kept):
    ...         return 2 * kept
    >>> Square()(3.0), Square().backward(1.0, 3.0)
    (9.0, (6.0, ()))
    """

    def value(self, z: Array) -> Array:
        """φ(z)."""
        raise TypeError(f"{type(self).__name__} must define value(z)")

    def keep(self, z: Array, y: Array) -> Array:
        """What `derivative` is written in."""
        return z

    def derivative(self, kept: Array) -> Array:
        """φ'(z), from what was kept."""
        raise TypeError(f"{type(self).__name__} must define derivative(kept)")

    def __call__(self, x: Array, params: tuple[()] = (), env: Env | None = None) -> Array:
        return self.value(self._checked(x))

    def forward(self, x: Array, params: tuple[()] = (), env: Env | None = None) -> tuple[Array, Array]:
        y = self.value(self._checked(x))
        return y, self.keep(x, y)

    def _checked(self, x: Any) -> Any:
        """x, which is floating, or a single number."""
        if isinstance(x, int | float):
            return float(x)
        check_floating(x, self, hint=TO_FLOATING)
        return x

    def backward(self, dy: Array, cache: Array, params: tuple[()] = ()) -> tuple[Array, tuple[()]]:
        return dy * self.derivative(cache), ()

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return y.size, 2 * y.size  # φ; φ' and its product with dy


@dataclass(frozen=True)
class Identity(Activation):
    """y = z. A network of these is linear, however deep.

    >>> float(Identity()(3.0))
    3.0
    """

    def value(self, z: Array) -> Array:
        return jnp.asarray(z)

    def derivative(self, kept: Array) -> Array:
        return jnp.ones_like(kept)

    def backward(self, dy: Array, cache: Array, params: tuple[()] = ()) -> tuple[Array, tuple[()]]:
        return dy, ()


@dataclass(frozen=True)
class Sigmoid(Activation):
    """σ(z) = 1 / (1 + e⁻ᶻ), σ' = y(1 − y): onto the open (0, 1), slope ¼ at most.

    >>> float(Sigmoid()(0.0))
    0.5
    """

    def value(self, z: Array) -> Array:
        return jax.nn.sigmoid(z)

    def keep(self, z: Array, y: Array) -> Array:
        return y

    def derivative(self, kept: Array) -> Array:
        y = kept
        return y * (1 - y)


@dataclass(frozen=True)
class Tanh(Activation):
    """y = tanh z, y' = 1 − y².

    >>> float(Tanh()(0.0))
    0.0
    """

    def value(self, z: Array) -> Array:
        return jnp.tanh(z)

    def keep(self, z: Array, y: Array) -> Array:
        return y

    def derivative(self, kept: Array) -> Array:
        y = kept
        return (1 - y) * (1 + y)


@dataclass(frozen=True)
class ReLU(Activation):
    """y = max(z, 0), y' = 1 for z > 0, else 0 (0 at the kink).

    >>> float(ReLU()(-2.0))
    0.0
    """

    def value(self, z: Array) -> Array:
        return jax.nn.relu(z)

    def keep(self, z: Array, y: Array) -> Array:
        return y

    def derivative(self, kept: Array) -> Array:
        y = kept
        return (y > 0).astype(y.dtype)


@dataclass(frozen=True)
class LeakyReLU(Activation):
    """y = z for z ≥ 0, else slope · z; y' = 1 for z ≥ 0, else slope (1 at the kink).

    >>> float(LeakyReLU(0.1)(-2.0))
    -0.2...
    """

    negative_slope: float = 0.01

    def __post_init__(self) -> None:
        if not math.isfinite(self.negative_slope):
            raise JaxpropError(f"LeakyReLU: negative_slope must be finite, found {self.negative_slope}")

    def value(self, z: Array) -> Array:
        return jax.nn.leaky_relu(z, self.negative_slope)

    def keep(self, z: Array, y: Array) -> Array:
        return z >= 0

    def derivative(self, kept: Array) -> Array:
        return jnp.where(kept, 1.0, self.negative_slope)


@dataclass(frozen=True)
class ELU(Activation):
    """y = z for z > 0, else α(eᶻ − 1); y' = 1 for z > 0, else y + α (α at the kink).

    >>> float(ELU()(-1e4))
    -1.0
    """

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < math.inf:
            raise JaxpropError(f"ELU: alpha must be positive, found {self.alpha}")

    def value(self, z: Array) -> Array:
        return jax.nn.elu(z, self.alpha)

    def keep(self, z: Array, y: Array) -> Array:
        return y

    def derivative(self, kept: Array) -> Array:
        y = kept
        return jnp.where(y > 0, jnp.ones_like(y), y + self.alpha)


SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@dataclass(frozen=True)
class SELU(Activation):
    """y = λ·elu(z, α) with the two constants that keep mean 0 and variance 1; y' = λ for z > 0, else λα eᶻ.

    >>> round(float(SELU()(1.0)), 4)
    1.0507
    """

    def value(self, z: Array) -> Array:
        return jax.nn.selu(z)

    def derivative(self, kept: Array) -> Array:
        z = kept  # not y: XLA needs a third less memory for this form
        return jnp.where(z > 0, SELU_SCALE, SELU_SCALE * SELU_ALPHA * jnp.exp(jnp.minimum(z, 0)))


@dataclass(frozen=True)
class GELU(Activation):
    """y = z Φ(z), Φ the normal distribution; y' = Φ + z φ. `approximate=True` is the tanh form, JAX's default.

    Tanh form: y = ½ z (1 + t), t = tanh u, u = √(2/π)(z + 0.044715 z³); y' = ½(1 + t) + ½ z (1 − t²) u'.

    >>> round(float(GELU()(1.0)), 4), round(float(GELU(approximate=True)(1.0)), 4)
    (0.8413, 0.8412)
    """

    approximate: bool = False

    def value(self, z: Array) -> Array:
        return jax.nn.gelu(z, self.approximate)

    def derivative(self, kept: Array) -> Array:
        twice, slope = self._terms(kept)
        return 0.5 * twice + slope

    def backward(self, dy: Array, cache: Array, params: tuple[()] = ()) -> tuple[Array, tuple[()]]:
        twice, slope = self._terms(cache)
        return (0.5 * dy) * twice + dy * slope, ()  # in this order XLA keeps fewer arrays than for dy · φ'(z)

    def _terms(self, z: Array) -> tuple[Array, Array]:
        """2Φ and z φ, of the two terms of the product rule."""
        if self.approximate:
            t = jnp.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
            du = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z**2)
            return 1 + t, 0.5 * z * (1 - t * t) * du
        density = jnp.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
        return jax.scipy.special.erfc(-z * math.sqrt(0.5)), z * density


@dataclass(frozen=True)
class SiLU(Activation):
    """y = z σ(z), y' = σ(1 + z(1 − σ)); also called swish.

    >>> float(SiLU()(0.0))
    0.0
    """

    def value(self, z: Array) -> Array:
        return jax.nn.silu(z)

    def derivative(self, kept: Array) -> Array:
        z = kept.astype(wide(kept.dtype))
        s = jax.nn.sigmoid(z)
        return (s * (1 + z * (1 - s))).astype(kept.dtype)


@dataclass(frozen=True)
class Softplus(Activation):
    """y = ln(1 + eᶻ), y' = σ(z): a ReLU without the kink.

    >>> float(Softplus()(1e4))
    10000.0
    """

    def value(self, z: Array) -> Array:
        return jax.nn.softplus(z)

    def derivative(self, kept: Array) -> Array:
        return jax.nn.sigmoid(kept)


@dataclass(frozen=True)
class Softsign(Activation):
    """y = z / (1 + |z|), y' = 1 / (1 + |z|)².

    >>> float(Softsign()(1.0))
    0.5
    """

    def value(self, z: Array) -> Array:
        return jax.nn.soft_sign(z)

    def derivative(self, kept: Array) -> Array:
        z = kept.astype(wide(kept.dtype))
        return (1 / jnp.square(1 + jnp.abs(z))).astype(kept.dtype)


@dataclass(frozen=True)
class HardTanh(Activation):
    """y = z within [−1, 1], clipped outside; y' = 1 within (both ends included), 0 outside.

    >>> float(HardTanh()(3.0))
    1.0
    """

    def value(self, z: Array) -> Array:
        return jax.nn.hard_tanh(z)

    def keep(self, z: Array, y: Array) -> Array:
        return jnp.abs(z) <= 1

    def derivative(self, kept: Array) -> Array:
        return jnp.where(kept, 1.0, 0.0)


@dataclass(frozen=True)
class Step(Activation):
    """y = 1 for z > 0, else 0: the perceptron's. y' = 0 everywhere, at the jump too, so backpropagation ends here.

    It is the slope of a ReLU, and 0 at 0 as that is. For signs ±1 let `Unstandardize(-1.0, 2.0)` follow. NaN stays NaN.
    `jp.rules.StraightThrough` lets errors through.

    >>> print(Step()(jnp.array([-2.0, 0.0, 0.5])))
    [0. 0. 1.]
    """

    def value(self, z: Array) -> Array:
        return jnp.maximum(jnp.sign(z), 0)  # and not z > 0, which would make a 0 of NaN

    def derivative(self, kept: Array) -> Array:
        return jnp.zeros_like(kept)


@dataclass(frozen=True)
class Quantize(Activation):
    """y = the level nearest to z among 2^bits that are evenly spaced from low to high; y' = 0 everywhere.

    y = low + h · round((clip(z, low, high) − low) / h) with h = (high − low) / (2^bits − 1). Halfway between two levels
    it is the one with the even number, counted from 0. Backpropagation ends here as it does at a `Step`;
    `jp.rules.StraightThrough` lets errors through.

    Raises JaxpropError unless 1 ≤ bits ≤ 16 and low < high, both finite.

    >>> print(Quantize(bits=1)(jnp.array([-3.0, 0.2])), Quantize(2, 0.0, 3.0)(jnp.array([0.6, 2.4, 9.0])))
    [-1.  1.] [1. 2. 3.]
    """

    bits: int = 8
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 16:
            raise JaxpropError(f"Quantize: bits must be a whole number from 1 to 16, found {self.bits}")
        if not -math.inf < self.low < self.high < math.inf:
            raise JaxpropError(f"Quantize: needs low < high, both finite, found {self.low} and {self.high}")

    def value(self, z: Array) -> Array:
        spacing = (self.high - self.low) / (2**self.bits - 1)
        return self.low + spacing * jnp.round((jnp.clip(z, self.low, self.high) - self.low) / spacing)

    def derivative(self, kept: Array) -> Array:
        return jnp.zeros_like(kept)


@dataclass(frozen=True)
class Softmax(Layer):
    """y_c = e^{z_c} / Σ_k e^{z_k} over the last axis; not elementwise: every z reaches every y.

    ∂y_c/∂z_k = y_c([c = k] − y_k), so dx_k = Σ_c dy_c y_c ([c = k] − y_k) = y_k (dy_k − Σ_c dy_c y_c).

    >>> print(Softmax()(jnp.zeros((1, 4)), ()))
    [[0.25 0.25 0.25 0.25]]
    """

    def forward(self, x: Array, params: tuple[()] = (), env: Env | None = None) -> tuple[Array, Array]:
        check_floating(x, self, "[..., C]")
        y = jax.nn.softmax(x, axis=-1)
        return y, y

    def backward(self, dy: Array, cache: Array, params: tuple[()] = ()) -> tuple[Array, tuple[()]]:
        y = cache
        return y * (dy - jnp.sum(dy * y, axis=-1, keepdims=True)), ()

    def derivative(self, kept: Array) -> Array:
        """∂y_c/∂z_k, `[N, ..., C, C]`."""
        y = kept
        y_c, y_k = y[..., :, None], y[..., None, :]
        return y_c * (across(jnp.eye(y.shape[-1], dtype=y.dtype), y_k) - y_k)

    def operations(self, x: Spec, y: Spec) -> tuple[int, int]:
        return 3 * y.size, 4 * y.size
