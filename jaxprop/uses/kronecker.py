"""Kronecker factors: two small matrices whose product stands for the curvature of one parameter.

With ∂C_n/∂θ = Σ_t l_nt ⊗ r_nt, where l is what entered and r one column of errors, a block of the Fisher information
(or of the GGN) is Σ_n w_n (Σ_t l_nt ⊗ r_nt)(Σ_t l_nt ⊗ r_nt)ᵀ, summed over columns. K-FAC takes l for independent of r,
and positions either for independent of each other ("expand") or for all alike ("reduce"):

    expand    A = Σ_n w_n Σ_t l_nt l_ntᵀ              B = Σ_n w_n Σ_t r_nt r_ntᵀ / (T Σ_n w_n)
    reduce    A = Σ_n w_n (Σ_t l_nt)(Σ_t l_nt)ᵀ       B = Σ_n w_n r̄_n r̄_nᵀ / Σ_n w_n          r̄_n = Σ_t r_nt / T

Then the block is A ⊗ B. Only the product means anything: which part of its scale is A's is a convention. With T = 1 the
two kinds are one.
Sources: Martens and Grosse, arXiv 1503.05671, section 3; Grosse and Martens, arXiv 1602.01407, section 3, for
convolutions; Eschenhagen et al., arXiv 2311.00636, section 3, for the two kinds.
"""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import DTypeLike

from jaxprop.uses.view import View

Kind = Literal["expand", "reduce"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Factors:
    """The curvature of one parameter as A ⊗ B, for θ seen as a matrix of R rows and C columns; both are symmetric.

    A is `[R, R]` and B `[C, C]`, or the diagonal alone where `diagonal` says so. With G groups of a convolution both
    have an axis G before these, and the arrays of a `Repeat` an axis L before all.

    `view` is (K, F, G, E), the axes that θ is reshaped to: R is K·F and C is E, or, if `flipped`, R is K·E and C is F.
    `through`: the view of θ that all this is said of, where it is not θ itself.
    `joined`: A and B are partial traces (`join`), still to be divided by their common trace.

    >>> factors = Factors(jnp.diag(jnp.array([1.0, 2.0])), jnp.array([[3.0]]), view=(1, 2, 1, 1))
    >>> print(factors.matrix())
    [[3. 0.]
     [0. 6.]]
    """

    A: Array
    B: Array
    diagonal: tuple[bool, bool] = field(default=(False, False), metadata={"static": True})
    view: tuple[int, int, int, int] = field(default=(1, 1, 1, 1), metadata={"static": True})
    flipped: bool = field(default=False, metadata={"static": True})
    joined: bool = field(default=False, metadata={"static": True})
    through: View | None = field(default=None, metadata={"static": True})

    def settled(self, columns: int = 1) -> "Factors":
        """Return the factors of a block whose A and B were added up over that many columns of errors.

        One side does not depend on the column, and was added up too often; of partial traces the common trace is left.
        """
        if not self.joined:
            return replace(self, A=self.A / columns)
        trace = traces(self.A, self.diagonal[0])
        return replace(self, B=_by_block(self.B, 1 / jnp.where(trace > 0, trace, 1), self.diagonal[1]), joined=False)

    def as_matrix(self, theta: Array) -> Array:
        """Return an array of θ's shape as `[(L,) (G,) R, C]`."""
        K, F, G, E = self.view
        if self.through is not None:
            theta = self._by_block_of(theta.ndim, self.through.of)(theta)
        blocks = theta.shape[: self._blocks]
        split = jnp.moveaxis(theta.reshape(*blocks, K, F, G, E), -2, len(blocks))
        split = jnp.swapaxes(split, -1, -2) if self.flipped else split
        return split.reshape(*blocks, *((G,) if G > 1 else ()), K * split.shape[-2], split.shape[-1])

    def as_theta(self, matrix: Array, shape: tuple[int, ...]) -> Array:
        """Return what `as_matrix` made a matrix in θ's own shape."""
        K, F, G, E = self.view
        rows, columns = (E, F) if self.flipped else (F, E)
        split = matrix.reshape(*matrix.shape[: self._blocks], G, K, rows, columns)
        split = jnp.swapaxes(split, -1, -2) if self.flipped else split
        split = jnp.moveaxis(split, self._blocks, -2)
        if self.through is None:
            return split.reshape(shape)
        before = len(shape) - len(self.through.shape)
        return self._by_block_of(len(shape), self.through.back)(split.reshape(*shape[:before], *self.through.seen))

    def times(self, theta: Array) -> Array:
        """Return the block times an array of θ's shape, (A ⊗ B) θ, in that shape."""
        settled = self.settled()
        product = between(settled.A, settled.as_matrix(theta), settled.B, self.diagonal)
        return settled.as_theta(product, theta.shape)

    def matrix(self) -> Array:
        """Return the block itself, `[P, P]`, in the order in which the P entries of θ lie. Not inside a `Repeat`."""
        shape = (math.prod(self.view),) if self.through is None else self.through.shape
        P = math.prod(shape)
        units = jnp.eye(P, dtype=jnp.result_type(self.A, self.B)).reshape(P, *shape)
        return jax.vmap(self.times)(units).reshape(P, P)

    def _by_block_of(self, axes: int, look: Callable[[Array], Array]) -> Callable[[Array], Array]:
        """Look at every block of an array of so many axes, those of a `Repeat` first."""
        assert self.through is not None
        for _ in range(axes - len(self.through.shape)):
            look = jax.vmap(look)
        return look

    @property
    def _blocks(self) -> int:
        """How many axes L there are before those of the block."""
        return self.A.ndim - (1 if self.diagonal[0] else 2) - (self.view[2] > 1)


def between(left: Array, matrix: Array, right: Array, diagonal: tuple[bool, bool]) -> Array:
    """Return left · matrix · right, where either side may be the diagonal alone."""
    product = left[..., :, None] * matrix if diagonal[0] else left @ matrix
    return product * right[..., None, :] if diagonal[1] else product @ right


def traces(moment: Array, diagonal: bool) -> Array:
    """Return the trace of every block, or the sum of its diagonal."""
    return jnp.sum(moment, axis=-1) if diagonal else jnp.trace(moment, axis1=-2, axis2=-1)


def _by_block(moment: Array, factor: Array, diagonal: bool) -> Array:
    return moment * (factor[..., None] if diagonal else factor[..., None, None])


def factors_of(
    left: Array | None,
    right: Array,
    weights: Array | None,
    kind: Kind,
    dtype: DTypeLike,
    *,
    diagonal: tuple[bool, bool] = (False, False),
    view: tuple[int, int, int, int] | None = None,
    flipped: bool = False,
) -> Factors:
    """Return A and B of Σ_t l_nt ⊗ r_nt, added up in `dtype`.

    left: `[N, T, R]`, or with groups `[N, T, G, R]`; None for a constant 1, with R = 1; ids `[N, T]` of the rows of a
    table, those of no row being left out, with `diagonal[0]` and `view` then required. right: `[N, T, C]` or
    `[N, T, G, C]`.
    """
    T = right.shape[1]
    if kind == "reduce":
        right = jnp.sum(right.astype(dtype), axis=1, keepdims=True) / T
    B = _moment(right, weights, dtype, diagonal[1]) / (right.shape[1] * _sum_of(weights, dtype))
    if left is None:
        A = jnp.full((1, 1), T if kind == "expand" else T**2, dtype) * _sum_of(weights, dtype)
        return Factors(A, B, diagonal, view or (1, 1, 1, right.shape[-1]))
    if jnp.issubdtype(left.dtype, jnp.integer):
        assert view is not None
        return Factors(_counts(left, weights, kind, view[1], dtype), B, diagonal, view)
    if kind == "reduce":
        left = jnp.sum(left.astype(dtype), axis=1, keepdims=True)
    A = _moment(left, weights, dtype, diagonal[0])
    return Factors(A, B, diagonal, view or (1, left.shape[-1], 1, right.shape[-1]), flipped)


def join(parts: Sequence[Factors]) -> Factors:
    """Return the factors of a sum Σ_k A_k ⊗ B_k of blocks of one θ: its partial traces, A = Σ_k tr(B_k) A_k and

    B = Σ_k tr(A_k) B_k, divided by the trace of the sum once all is added up. It keeps the trace, does not depend on
    how the scale of a block is shared out between its two sides, and is exact where all A_k or all B_k are alike. Of
    all products of two matrices it has the smallest relative entropy to the sum (as for states of two systems).
    """
    first = parts[0]
    diagonal = any(part.diagonal[0] for part in parts), any(part.diagonal[1] for part in parts)
    A = B = jnp.zeros((), first.A.dtype)
    for part in parts:
        of_A, of_B = traces(part.A, part.diagonal[0]), traces(part.B, part.diagonal[1])
        A = A + _by_block(_as(part.A, part.diagonal[0], diagonal[0]), of_B, diagonal[0])
        B = B + _by_block(_as(part.B, part.diagonal[1], diagonal[1]), of_A, diagonal[1])
    return replace(first, A=A, B=B, diagonal=diagonal, joined=True)


def transposed(factors: Factors) -> Factors:
    """Return the factors of θᵀ: B ⊗ A."""
    K, F, G, E = factors.view
    return Factors(factors.B, factors.A, (factors.diagonal[1], factors.diagonal[0]), (K, E, G, F))


def _as(moment: Array, is_diagonal: bool, wanted: bool) -> Array:
    return jnp.diagonal(moment, axis1=-2, axis2=-1) if wanted and not is_diagonal else moment


def _sum_of(weights: Array | None, dtype: DTypeLike) -> Array:
    """Σ_n w_n, and 1 where it is 0: then A is 0 too."""
    total = jnp.ones((), dtype) if weights is None else jnp.sum(weights.astype(dtype))
    return jnp.where(total == 0, 1, total) if weights is not None else total


def _moment(rows: Array, weights: Array | None, dtype: DTypeLike, diagonal: bool) -> Array:
    """Σ_n w_n Σ_t v vᵀ of rows v `[N, T, (G,) F]`, `[(G,) F, F]`, or its diagonal; without weights the mean over n."""
    N = rows.shape[0]
    weighed = rows
    if weights is not None:
        weighed = rows * weights.reshape(-1, *(1,) * (rows.ndim - 1)).astype(rows.dtype)
    if diagonal:
        total = jnp.sum(weighed.astype(dtype) * rows.astype(dtype), axis=(0, 1))
    else:
        flat = [a.reshape(N * rows.shape[1], *rows.shape[2:]) for a in (weighed, rows)]
        product = functools.partial(_product, dtype=dtype)
        total = (jax.vmap(product, in_axes=1) if rows.ndim > 3 else product)(*flat)
    return total / N if weights is None else total


def _counts(ids: Array, weights: Array | None, kind: Kind, rows: int, dtype: DTypeLike) -> Array:
    """The diagonal of A for one-hot l: Σ_n w_n c_nv, or for "reduce" Σ_n w_n c_nv², with c_nv how often n has id v."""
    each = jnp.full(ids.shape[0], 1 / ids.shape[0], dtype) if weights is None else weights.astype(dtype)
    terms = jnp.broadcast_to(each[:, None], ids.shape)
    if kind == "reduce":  # c² = Σ over the positions that have the id of how many have it
        terms = terms * jnp.sum(ids[:, :, None] == ids[:, None, :], axis=2).astype(dtype)
    return jnp.zeros(rows, dtype).at[ids].add(terms, mode="drop", wrap_negative_indices=False)


def _product(one: Array, other: Array, dtype: DTypeLike) -> Array:
    """oneᵀ · other of rows `[M, F]`, all of it.

    It is symmetric, but on XLA:CPU to compute the upper blocks and copy them saves 5 % of the time of all factors of an
    MLP, and takes up to 1.4 times a gradient's memory; `lax.linalg.symmetric_product` is slower than this, too.
    """
    return jax.lax.dot_general(one, other, (((0,), (0,)), ((), ())), preferred_element_type=dtype)
