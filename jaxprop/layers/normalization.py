r"""What the norms share: x̂ = (x − μ) / σ over some axes, and the way back through it.

Forward, mean ⟨·⟩ over the axes that are normalized together (which is all that the norms differ in):

    μ = ⟨x⟩     σ = √(⟨(x − μ)²⟩ + ε)     x̂ = (x − μ) / σ     y = γ x̂ + β          γ, β [C]

Backward: let dy be given. γ and β are met as in any scale and shift, and with g = dy γ = ∂C/∂x̂,

    dx = (g − ⟨g⟩ − x̂ ⟨g x̂⟩) / σ

for x moves x̂ in three ways: by itself (g/σ), through μ (∂μ/∂x = 1/M: −⟨g⟩/σ) and through σ (∂σ/∂x = x̂/M: −x̂⟨g x̂⟩/σ).
So dx is orthogonal to constants and to x̂: a norm lets no error through that would only shift or stretch x. Without
μ (RMSNorm) the middle term is gone.

Statistics are taken in float32 at least; x̂ and 1/σ are all that is kept.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.precision import wide
from jaxprop.uses import Scale, Shift

Axes = tuple[int, ...]


class NormParams(NamedTuple):
    """θ of a norm: the gain γ, `scale` `[C]`, and the shift β, `bias` `[C]`; None where it has none.

    >>> NormParams(scale=jnp.ones(3), bias=None).scale.shape
    (3,)
    """

    scale: Any
    bias: Any


class NormCache(NamedTuple):
    """What the backward pass needs: x̂ and 1/σ.

    >>> NormCache._fields
    ('normalized', 'inverse')
    """

    normalized: Array
    inverse: Array


def check_epsilon(name: str, epsilon: Any) -> None:
    """Raise JaxpropError unless ε is a positive number."""
    if not isinstance(epsilon, int | float) or not epsilon > 0:
        raise JaxpropError(f"{name}: epsilon must be positive, found {epsilon!r}")


def check_channels(layer: Any, x: Any, params: NormParams | None = None) -> None:
    """Raise ShapeError unless x is floating, `[N, ..., C]`, and params are of C channels."""
    if len(x.shape) < 2 or not jnp.issubdtype(x.dtype, jnp.floating):
        raise ShapeError(f"{layer!r}: found x {x.dtype}{list(x.shape)}, expected floating [N, ..., C]")
    for field, wanted in (("scale", layer.scale), ("bias", layer.bias)) if params is not None else ():
        found = getattr(params, field)
        if (found is not None) != wanted or (found is not None and found.shape != x.shape[-1:]):
            expected = f"shape {(x.shape[-1],)}" if wanted else "None"
            shape = "None" if found is None else f"shape {tuple(found.shape)}"
            raise ShapeError(f"{layer!r}: found {field} of {shape}, expected {expected}; make params with init(key, x)")


def fresh(layer: Any, x: Any) -> NormParams:
    """γ = 1 and β = 0."""
    check_channels(layer, x)
    C = x.shape[-1:]
    return NormParams(jnp.ones(C, x.dtype) if layer.scale else None, jnp.zeros(C, x.dtype) if layer.bias else None)


def normalize(x: Array, axes: Axes, epsilon: float, center: bool = True) -> tuple[Array, Array]:
    """x̂ in x's dtype, and 1/σ."""
    a = x.astype(wide(x.dtype))
    centered = a - jnp.mean(a, axes, keepdims=True) if center else a
    inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centered), axes, keepdims=True) + epsilon)
    return (centered * inverse).astype(x.dtype), inverse


def back(g: Array, cache: NormCache, axes: Axes, center: bool = True) -> Array:
    """dx = (g − ⟨g⟩ − x̂ ⟨g x̂⟩) / σ."""
    dtype, normalized = g.dtype, cache.normalized.astype(wide(g.dtype))
    g = g.astype(wide(dtype))
    dx = g - normalized * jnp.mean(g * normalized, axes, keepdims=True)
    dx = dx - jnp.mean(g, axes, keepdims=True) if center else dx
    return (dx * cache.inverse).astype(dtype)


def scaled(normalized: Array, params: NormParams) -> Array:
    """y = γ x̂ + β."""
    y = normalized if params.scale is None else normalized * params.scale
    return y if params.bias is None else y + params.bias


def scaled_back(dy: Array, normalized: Array, params: NormParams) -> tuple[Array, NormParams]:
    """g = dy γ, and the uses of γ and β."""
    gamma, beta = params
    scale_use = None if gamma is None else Scale(normalized, dy, gamma.shape, gamma.dtype)
    bias_use = None if beta is None else Shift(dy, beta.shape, beta.dtype)
    return (dy if gamma is None else dy * gamma), NormParams(scale_use, bias_use)
