"""Convolutions whose kernel's gradient stays right where examples are spread over devices.

Under vmap, the gradient of a convolution's kernel is a convolution with the examples as groups, and where these are
sharded under jit XLA computes it wrongly (jax 0.10 and 0.12). Here it is a sum of products of slices, one for each
place in the kernel.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxprop.xray.versions import Equation, evaluate


def convolved(equation: Equation, x: Any, W: Any) -> Array:
    """Evaluate a convolution."""
    if equation.params["batch_group_count"] > 1:  # has no such gradient here
        return evaluate(equation, [x, W])[0]
    return _convolved(equation, x, W)  # equations are told apart by identity


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _convolved(equation: Equation, x: Array, W: Array) -> Array:
    return evaluate(equation, [x, W])[0]


def _forward(equation: Equation, x: Array, W: Array) -> Any:
    return _convolved(equation, x, W), (x, W)


def _backward(equation: Equation, kept: Any, delta: Array) -> tuple[Array, Array]:
    x, W = kept
    (dx,) = jax.linear_transpose(lambda x: evaluate(equation, [x, W])[0], x)(delta)
    return dx, kernel_gradient(equation.params, x, delta, W.shape).astype(W.dtype)


_convolved.defvjp(_forward, _backward)


def kernel_gradient(params: dict[str, Any], x: Array, delta: Array, shape: tuple[int, ...]) -> Array:
    """Return Σ_t x_{s t + d k − p} ⊗ δ_t for every k, in the kernel's shape: whatever a convolution can be told."""
    numbers, groups = params["dimension_numbers"], params["feature_group_count"]
    x, delta = (_channels_last(a, spec) for a, spec in ((x, numbers.lhs_spec), (delta, numbers.out_spec)))
    pads = [
        (low, high, between - 1) for (low, high), between in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    x = lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *pads, (0, 0, 0)])
    x, delta = (a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups) for a in (x, delta))
    out, into, *kernel = numbers.rhs_spec
    spans = [(t - 1) * s + 1 for t, s in zip(delta.shape[1:-2], params["window_strides"], strict=True)]
    products = []
    for k in itertools.product(*(range(shape[axis]) for axis in kernel)):
        start = [0, *(i * d for i, d in zip(k, params["rhs_dilation"], strict=True)), 0, 0]
        limit = [x.shape[0], *(a + span for a, span in zip(start[1:], spans, strict=False)), *x.shape[-2:]]
        rows = lax.slice(x, start, limit, [1, *params["window_strides"], 1, 1])
        products.append(jnp.einsum("b...gi,b...go->igo", rows, delta))
    sizes = [shape[axis] for axis in kernel]
    found = jnp.stack(products).reshape(*sizes, shape[into], shape[out])
    order = [*kernel, into, out]
    return jnp.transpose(found, [order.index(axis) for axis in range(len(shape))])


def _channels_last(array: Array, spec: Any) -> Array:
    examples, channels, *spatial = spec
    return jnp.transpose(array, (examples, *spatial, channels))
