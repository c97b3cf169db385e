"""Gram matrices: the products of all pairs of positions, from which norms come without per-example gradients.

For ∂C_n/∂W = Σ_t a_t ⊗ δ_t the squared norm is Σ_ts (a_t · a_s) (δ_t · δ_s): two Gram matrices `[T, T]`, multiplied
entry by entry and summed.

XLA:CPU miscompiles one form of a Gram matrix: a batched `d @ d.T` whose right operand is a broadcast along its minor
free axis, as δ is after mean pooling, gives wrong numbers that change from run to run (jax 0.10 and 0.12, jax#39103).
`gram` is the one place where such a product is written, by an einsum without an explicit transpose.
"""

import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float


def gram(one: Float[Array, "N T *G F"], other: Float[Array, "N S *G F"], dtype: DTypeLike) -> Float[Array, "N *G T S"]:
    """Return one_t · other_s for every pair of positions, added up in `dtype`; G are groups, each for itself.

    >>> rows = jnp.array([[[1.0, 0.0], [2.0, 1.0]]])
    >>> print(gram(rows, rows, jnp.float32))
    [[[1. 2.]
      [2. 5.]]]
    """
    return jnp.einsum("nt...i,ns...i->n...ts", one, other, preferred_element_type=dtype)


def squared_norm(terms: Float[Array, "N ..."]) -> Float[Array, " N"]:
    """Return the sum of the terms of a squared norm: rounding may bring it below 0, where no norm is.

    >>> print(squared_norm(jnp.array([[4.0, -1.0], [-1e-9, 0.0]])))
    [3. 0.]
    """
    return jnp.maximum(jnp.sum(terms, axis=tuple(range(1, terms.ndim))), 0)
