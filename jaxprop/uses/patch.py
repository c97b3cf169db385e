r"""The use of a convolution's weight: patches of one array and the error that each met.

With the patch u_nt `[K·I]` that the window sees at t (`window.py`), a convolution is z_nt = u_nt W, so as for `Outer`

    ∂C_n/∂W = Σ_t u_nt ⊗ δ_nt        ‖∂C_n/∂W‖² = Σ_ts (u_nt · u_ns) (δ_nt · δ_ns)

No patch is built but by `patches`: they are K times x. For a transposed convolution patches of δ meet x.
"""

import functools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.typing import DTypeLike

from jaxprop.arrays.window import Window
from jaxprop.uses.chunked import in_chunks
from jaxprop.uses.gram import gram, squared_norm
from jaxprop.uses.kronecker import Factors, Kind, factors_of
from jaxprop.uses.use import Use, positions, scale, static, summed
from jaxprop.uses.way import TOUCHED, Way, cheapest


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Patch(Use):
    """A convolution's weight: ∂C_n/∂W_kio = Σ_t a_{n, st+dk−p, i} δ_nto, with a `[N, *F, I]`, δ `[N, *T, O]`.

    `window` says where the patches lie. Source of the norms: Bu et al. 2022, arXiv 2205.10683, section 4.

    >>> window = Window((2,), (1,), (1,), (0,), (3,), (2,))
    >>> use = Patch(jnp.array([[[1.0], [2.0], [4.0]]]), jnp.ones((1, 2, 1)), (2, 1, 1), jnp.float32, window)
    >>> print(use.gradient().ravel(), use.squared_norms(), use.norm_method)
    [3. 6.] [45.] direct
    """

    a: Array
    delta: Array
    shape: tuple[int, ...] = static()
    dtype: DTypeLike = static()
    window: Window = static()

    def total(self, weights: Array | None) -> Array:
        """Σ_n w_n ∂C_n/∂W: one convolution of a with δ."""
        return self.window.contract(*self._fine_and_coarse(scale(self.delta, weights)), self.wide)

    def patches(self) -> Array:
        """Return u_nt, what the window saw at t, `[N, T, K·I]`: the rows of im2col, K times the memory of a.

        K runs as W's kernel axes do, and I over all channels, those of every group. Without groups

            gradient = Σ_n w_n Σ_t u_nt ⊗ δ_nt = einsum("ntu,nto->uo", w u, δ) in W's shape

        With G groups the channels of group g, `patches().reshape(N, T, K, G, I/G)`, meet the g-th part of O. Of a
        transposed convolution these are patches of δ, `[N, T, K·O]` with T the positions of x, and a meets them.

        >>> window = Window((2,), (1,), (1,), (0,), (3,), (2,))
        >>> use = Patch(jnp.array([[[1.0], [2.0], [4.0]]]), jnp.ones((1, 2, 1)), (2, 1, 1), jnp.float32, window)
        >>> print(use.patches()[0])
        [[1. 2.]
         [2. 4.]]
        """
        fine, _ = self._fine_and_coarse(self.delta)
        slices = [positions(self.window.slice(fine, k)) for k in self.window.offsets()]
        return jnp.concatenate(slices[::-1] if self.window.flipped else slices, axis=-1)

    def per_example(self) -> Array:
        """∂C_n/∂W, `[N, *K, I, O]`: a batched product for every offset k."""
        fine, coarse = self._fine_and_coarse(self.delta)
        slices = [self.window.slice(fine, k) for k in self.window.offsets()]
        products = [jnp.moveaxis(self._product(rows, coarse), 1, 2) for rows in slices]  # [N, I, G, O/G]
        if self.window.flipped:  # W's first channel axis is the coarse array's, and its kernel runs backwards
            products = [jnp.swapaxes(g, 1, 3) for g in reversed(products)]
        return jnp.stack(products, axis=1).reshape(-1, *self.shape).astype(self.dtype)

    def squares_way(self) -> Way:
        """At one offset a slice, its I × O products with δ, and their squares."""
        K, _, T = self.window.size
        fine, _ = self._fine_and_coarse(self.delta)
        size = math.prod(self.shape)
        return Way("direct", T * size, T * fine.shape[-1] + 2 * size // K)

    def _squares_at_once(self, weights: Array | None) -> Array:
        """One offset k at a time, `[N, I, O]`."""
        fine, coarse = self._fine_and_coarse(self.delta)
        padded = self.window.padded(fine)

        def at(k: Array) -> Array:
            g = self._product(self.window.slice_of(padded, k), coarse)  # [N, G, I, O/G]
            return jnp.moveaxis(summed(g * g, weights), 0, 1)  # [I, G, O/G]

        squares = lax.map(at, jnp.asarray(list(self.window.offsets())))
        if self.window.flipped:
            squares = jnp.swapaxes(squares[::-1], 1, 3)
        return squares.reshape(self.shape)

    def norm_way(self, shared: bool = False) -> Way:
        """How `squared_norms` goes about it, chosen from static shapes: whichever costs least (`way.py`).

        'gram'          Σ_ts (u_t · u_s) (δ_t · δ_s): K T² I + T² O multiply-adds, two T × T matrices a group
        'shifted gram'  the same from one Gram matrix of positions, (u_t · u_s) = Σ_k (a_{t+k} · a_{s+k}), where the
                        stride is 1: F² I + K T² + T² O
        'direct'        ∂C_n/∂W, one offset k at a time: K T I O, and I × O numbers held. Where the total is wanted as
                        well (shared) it is the sum of these, and their products are free
        """
        K, F, T = self.window.size
        G = self.window.groups
        I, O = math.prod(self.shape[:-1]) // K, self.shape[-1] // G
        if self.window.flipped:
            I, O = O, I
        products, held = G * K * (0 if shared else T * I * O), G * I * (T + O)  # a slice, and its products with δ
        slices = (K - 1) * TOUCHED * G * T * I
        ways = [
            Way("direct", products + (K - 1) * TOUCHED * held, held),
            Way("gram", G * T**2 * (K * I + O + TOUCHED * K) + slices, G * T * (I + 2 * T)),
        ]
        if set(self.window.strides) == {1}:
            ways.append(Way("shifted gram", G * (F**2 * I + T**2 * (O + TOUCHED * K)), G * (F**2 + 2 * T**2)))
        return cheapest(ways, self.most)

    def squared_norms(self) -> Array:
        """‖∂C_n/∂W‖², `[N]`, by `norm_way`."""
        way = self.norm_way()

        def norms(use: "Patch", _: Array | None) -> tuple[None, Array]:
            # behind a barrier: the compiler must not see a broadcast in δ (`gram.py`)
            fine, coarse = use._fine_and_coarse(lax.optimization_barrier(use.delta))
            if way.name == "direct":
                return None, use._one_by_one(fine, lambda rows: squared_norm(use._product(rows, coarse) ** 2))
            of_patches = use._shifted_gram(fine) if "shifted" in way.name else use._one_by_one(fine, use._gram)
            return None, squared_norm(of_patches * use._gram(coarse))

        return in_chunks(norms, self, None, way, self.most, cached=False)[1].astype(self.dtype)

    def total_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        """Both, of per-example gradients at one offset k after the other, where that costs least."""
        way = self.norm_way(shared=True)
        if way.name != "direct":
            return self.total(weights), self.squared_norms()
        total, norms = in_chunks(Patch._sums_and_norms, self, weights, way, self.most, cached=False)
        return total, norms.astype(self.dtype)

    def _sums_and_norms(self, weights: Array | None) -> tuple[Array, Array]:
        fine, coarse = self._fine_and_coarse(self.delta)
        padded = self.window.padded(fine)

        def at(norms: Array, k: Array) -> tuple[Array, Array]:
            g = self._product(self.window.slice_of(padded, k), coarse)  # [N, G, I, O/G]
            return norms + squared_norm(g * g), jnp.moveaxis(summed(g, weights), 0, 1)

        nothing = squared_norm(jnp.zeros_like(coarse, self.wide))
        norms, totals = lax.scan(at, nothing, jnp.asarray(list(self.window.offsets())))  # [K, I, G, O/G]
        if self.window.flipped:  # as in `per_example`
            totals = jnp.swapaxes(totals[::-1], 1, 3)
        return totals.reshape(self.shape), norms

    def kronecker_factors(self, weights: Array | None = None, kind: Kind = "expand") -> Factors:
        """A of the patches, `[K·I, K·I]`, B of δ, `[O, O]`; for a transposed convolution δ's patches and a instead."""
        _, coarse = self._fine_and_coarse(self.delta)
        patches, coarse, G = self.patches(), positions(coarse), self.window.groups
        K, F, E = self.window.size[0], self.shape[-2], self.shape[-1] // G
        if G > 1:
            N, T = coarse.shape[:2]
            patches = patches.reshape(N, T, K, G, -1).swapaxes(2, 3).reshape(N, T, G, -1)
            coarse = coarse.reshape(N, T, G, -1)
        view, flipped = (K, F, G, E), self.window.flipped
        return factors_of(patches, coarse, weights, kind, self.wide, view=view, flipped=flipped)

    def _fine_and_coarse(self, delta: Array) -> tuple[Array, Array]:
        return (delta, self.a) if self.window.flipped else (self.a, delta)

    def _grouped(self, rows: Array) -> Array:
        """`[N, *T, C]` as `[N, T, G, C/G]`."""
        rows = positions(rows)
        return rows.reshape(*rows.shape[:2], self.window.groups, rows.shape[2] // self.window.groups)

    def _product(self, rows: Array, coarse: Array) -> Array:
        """Σ_t f_t ⊗ c_t, `[N, G, I, O/G]`."""
        rows, coarse = self._grouped(rows), self._grouped(coarse)
        return jnp.einsum("ntgi,ntgo->ngio", rows, coarse, preferred_element_type=self.wide)

    def _one_by_one(self, fine: Array, term: Callable[[Array], Array]) -> Array:
        """Σ_k term(slice of k), in a loop: XLA would hold all K slices at once."""
        padded = self.window.padded(fine)
        first, *others = self.window.offsets()

        def add(total: Array, k: Array) -> tuple[Array, None]:
            return total + term(self.window.slice_of(padded, k)), None

        total = term(self.window.slice_of(padded, jnp.asarray(first)))
        return lax.scan(add, total, jnp.asarray(others).reshape(-1, len(first)))[0] if others else total

    def _gram(self, rows: Array) -> Array:
        """Products of all pairs of positions, `[N, G, T, T]`."""
        rows = self._grouped(rows)
        return gram(rows, rows, self.wide)

    def _shifted_gram(self, fine: Array) -> Array:
        """u_t · u_s, `[N, G, T, T]`: every k reads the same Gram matrix of positions, shifted along both axes."""
        window, T = self.window, self.window.size[2]
        of_fine = self._gram(fine)
        N, G = of_fine.shape[:2]
        of_fine = of_fine.reshape(N, G, *window.fine, *window.fine)
        shifted = []
        for k in window.offsets():
            ends = zip(k, window.dilation, window.low, window.fine, window.coarse, strict=True)
            pads = [(lo - offset * d, t + offset * d - lo - f, 0) for offset, d, lo, f, t in ends]
            shifted.append(lax.pad(of_fine, jnp.zeros((), of_fine.dtype), [(0, 0, 0), (0, 0, 0), *pads, *pads]))
        return functools.reduce(operator.add, shifted).reshape(N, G, T, T)
