r"""y = softmax(q kᵀ / √D) v W_output: every query takes a mean of the values, weighted by how well their keys fit.

Forward, for example n, query position t, key position s, head h with D = F / H of the features each. Self-attention:
m = x. Cross-attention: x is a pair (x, m), queries from x and keys and values from the memory m.

    q = (x W_query + b_query) / √D,   k = m W_key,   v = m W_value + b_value      x [N, T, I]   m [N, S, J]
    s_nhts = Σ_d q_nhtd k_nhsd                         the score of key s for query t    q [N, H, T, D]
    p_nhts = exp s_nhts / Σ_r exp s_nhtr               over the keys that t may see; 0 for the others
    u_nhtd = Σ_s p_nhts v_nhsd                         the mixed values
    y      = u W_output + b_output                     y [N, T, O]

Backward: let dy be given. y, q, k, v are dense maps (`linear.py`), so du = dy W_outputᵀ, and it remains to come back
through the mixing and the softmax to δ_s, δ_q, δ_k, δ_v:

    δ_v_nhsd = Σ_t p_nhts du_nhtd                      values meet the errors of the queries that looked at them
    dp_nhts  = Σ_d du_nhtd v_nhsd
    δ_s_nhts = p_nhts (dp_nhts − Σ_r p_nhtr dp_nhtr)   softmax: ∂p_r/∂s_s = p_r (1[r=s] − p_s)
    δ_q_nhtd = Σ_s δ_s_nhts k_nhsd / √D                the error at x W_query + b_query
    δ_k_nhsd = Σ_t δ_s_nhts q_nhtd                     q has its √D already
    dx = δ_q W_queryᵀ + dm,   dm = δ_k W_keyᵀ + δ_v W_valueᵀ              cross: dx is the pair (δ_q W_queryᵀ, dm)

A bias on the keys would add q·b_key to all scores of a query alike, which the softmax does not see: Σ_s δ_s = 0 makes
its gradient 0 everywhere. So there is none; where another library has one, any value of it gives the same y.

What a query may see: `causal=True` keys s ≤ t; a padding mask in `env.mask`, booleans `[N, T]`, True = real (self: the
mask of x, cross: the pair (mask of x, mask of m), each may be None), real keys. Masks act on keys only: what stands at
a padded query is computed as ever, and whoever sums over positions leaves it out.

Edge cases: a query without any key to see attends to nothing: u = 0, y = b_output, and no error flows back through
it. What stands at a masked key changes nothing and gets no error (it must be finite: 0 · ∞ is no number). T = 1 sees
itself: p = 1, y = v W_output + b_output. Scores and softmax are float32 at least; half precision rounds p, not the
scores.
Source: Vaswani et al. 2017, "Attention is all you need", section 3.2.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxprop.arrays.across import across
from jaxprop.arrays.dtypes import wide
from jaxprop.checks import check_floating, check_key, check_theta, check_whole
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.layers.masks import check_mask
from jaxprop.uses import Outer, Shift


class AttentionParams(NamedTuple):
    """θ of a `MultiHeadAttention`: W_query `[I, F]`, W_key and W_value `[J, F]`, W_output `[F, O]`, and biases or None.

    J is the memory's I. The keys have no bias: its gradient would be 0. The features of head h are the columns
    h·D … (h+1)·D − 1 of W_query, W_key and W_value, and those rows of W_output.

    >>> AttentionParams._fields
    ('W_query', 'b_query', 'W_key', 'W_value', 'b_value', 'W_output', 'b_output')
    """

    W_query: Any
    b_query: Any
    W_key: Any
    W_value: Any
    b_value: Any
    W_output: Any
    b_output: Any


class AttentionCache(NamedTuple):
    """What the backward pass needs: the inputs, q, k, v `[N, H, T, D]`, p `[N, H, T, S]` and u `[N, T, F]`.

    >>> AttentionCache._fields
    ('x', 'm', 'q', 'k', 'v', 'p', 'u')
    """

    x: Array
    m: Any
    q: Array
    k: Array
    v: Array
    p: Array
    u: Array


@dataclass(frozen=True)
class MultiHeadAttention(Layer):
    """y = softmax(q kᵀ/√D) v W_output: x `[N, T, I]` to y `[N, T, O]`, with `features` F in `heads` heads of D = F/H.

    features: of q, k and v together; None: as many as x has.    outputs: O; None: as many as x has.
    causal: position t sees s ≤ t only.    cross: x is a pair (queries `[N, T, I]`, memory `[N, S, J]`), and so is dx.
    Padding is in `env.mask` (this file's first lines say how). Raises ShapeError for inputs or masks that do not fit.

    >>> layer = MultiHeadAttention(2, causal=True)
    >>> x = jnp.ones((1, 3, 4))
    >>> params = jax.eval_shape(layer.init, jax.random.key(0), x)
    >>> params.W_query.shape, jax.eval_shape(layer, x, params).shape
    ((4, 4), (1, 3, 4))
    """

    heads: int
    features: int | None = None
    outputs: int | None = None
    causal: bool = False
    cross: bool = False
    bias: bool = True

    def __post_init__(self) -> None:
        for name, value in (("heads", self.heads), ("features", self.features), ("outputs", self.outputs)):
            if value is not None or name == "heads":
                check_whole(value, f"MultiHeadAttention: {name}")
        if self.features is not None and self.features % self.heads:
            raise JaxpropError(
                f"MultiHeadAttention: features={self.features} cannot be divided among heads={self.heads}; "
                "make features a multiple of heads"
            )
        if self.causal and self.cross:
            raise JaxpropError(
                "MultiHeadAttention: causal=True orders the positions of one sequence, cross=True has two; choose one"
            )

    def init(self, key: Array | None, x: Any) -> AttentionParams:
        x, m = self._inputs(x)
        key = check_key(key, "MultiHeadAttention.init")
        make, dtype = jax.nn.initializers.glorot_uniform(), x.dtype
        F, O = self.features or x.shape[-1], self.outputs or x.shape[-1]
        shapes = (x.shape[-1], F), (m.shape[-1], F), (m.shape[-1], F), (F, O)
        W = [make(k, shape, dtype) for k, shape in zip(jax.random.split(key, 4), shapes, strict=True)]
        b_query, b_value, b_output = (jnp.zeros(size, dtype) if self.bias else None for size in (F, F, O))
        return AttentionParams(W[0], b_query, W[1], W[2], b_value, W[3], b_output)

    def forward(self, x: Any, params: AttentionParams, env: Env | None = None) -> tuple[Array, AttentionCache]:
        x, m = self._inputs(x)
        self._check_params(x, m, params)
        q = self._by_head(_dense(x, params.W_query, params.b_query) * self._scale(params))
        k = self._by_head(_dense(m, params.W_key, None))
        v = self._by_head(_dense(m, params.W_value, params.b_value))
        p = self._probabilities(q, k, self._seen(x, m, env))
        u = _side_by_side(jnp.einsum("nhts,nhsd->nhtd", p, v))
        y = _dense(u, params.W_output, params.b_output)
        return y, AttentionCache(x, m if self.cross else None, q, k, v, p, u)

    def backward(self, dy: Array, cache: AttentionCache, params: AttentionParams) -> tuple[Any, AttentionParams]:
        x, _, q, k, v, p, u = cache
        m = cache.m if self.cross else x
        du = self._by_head(dy @ params.W_output.T)
        delta_v = jnp.einsum("nhts,nhtd->nhsd", p, du)
        dp = jnp.einsum("nhtd,nhsd->nhts", du, v, preferred_element_type=wide(dy.dtype))
        p = p.astype(dp.dtype)
        c = jnp.sum(p * dp, axis=-1, keepdims=True)
        delta_s = (p * (dp - c)).astype(dy.dtype)
        delta_q = jnp.einsum("nhts,nhsd->nhtd", delta_s, k) * self._scale(params)
        delta_k = jnp.einsum("nhts,nhtd->nhsd", delta_s, q)
        delta_q, delta_k, delta_v = (_side_by_side(d) for d in (delta_q, delta_k, delta_v))
        dx = delta_q @ params.W_query.T
        dm = delta_k @ params.W_key.T + delta_v @ params.W_value.T
        uses = AttentionParams(
            *_uses(x, delta_q, params.W_query, params.b_query),
            _uses(m, delta_k, params.W_key, None)[0],
            *_uses(m, delta_v, params.W_value, params.b_value),
            *_uses(u, dy, params.W_output, params.b_output),
        )
        return ((dx, dm) if self.cross else dx + dm), uses

    def operations(self, x: Any, y: Any) -> tuple[int, int]:
        x, m = self._inputs(x)
        (N, T, I), (S, J), O = x.shape, m.shape[1:], y.shape[-1]
        F = self.features or I
        dense = 2 * N * (T * I * F + 2 * S * J * F + T * F * O)
        mixing = 2 * 2 * N * T * S * F  # q kᵀ and p v; each comes back as two products
        softmax = 5 * N * self.heads * T * S
        shifts = N * (T * F + S * F + T * O) if self.bias else 0
        return dense + mixing + softmax + shifts, 2 * dense + 2 * mixing + softmax + shifts

    def _by_head(self, a: Array) -> Array:
        """`[N, T, F]` as `[N, H, T, D]`: the products of a head are fastest where its positions lie together."""
        return jnp.swapaxes(a.reshape(*a.shape[:2], self.heads, a.shape[-1] // self.heads), 1, 2)

    def _scale(self, params: AttentionParams) -> float:
        """1 / √D."""
        return 1 / math.sqrt(params.W_query.shape[-1] // self.heads)

    def _probabilities(self, q: Array, k: Array, seen: Array | None) -> Array:
        """p `[N, H, T, S]`, of rows that sum to 1, or to 0 where nothing is seen."""
        scores = jnp.einsum("nhtd,nhsd->nhts", q, k, preferred_element_type=wide(q.dtype))
        if seen is None:
            return jax.nn.softmax(scores).astype(q.dtype)
        p = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min))
        if seen.ndim > 2:  # with padding, a query may see nothing: its row came out uniform
            p = jnp.where(seen, p, 0)
        return p.astype(q.dtype)

    def _seen(self, x: Any, m: Any, env: Env | None) -> Array | None:
        """Which keys a query may see: `[T, S]` without padding, `[N, 1, 1 or T, S]` with it; None for all."""
        mask = None if env is None else env.mask
        if self.cross and mask is not None:
            if not (isinstance(mask, (tuple, list)) and len(mask) == 2):
                raise ShapeError(
                    f"{self!r}: found one mask, expected a pair (mask of x, mask of memory); None means all"
                )
            check_mask(mask[0], x, f"{self!r}: mask of x")
            mask = mask[1]
        mask = check_mask(mask, m, f"{self!r}: mask of {'memory' if self.cross else 'x'}")
        real = None if mask is None else mask[:, None, None, :]
        if not self.causal:
            return real
        past = jnp.tril(jnp.ones((x.shape[1], x.shape[1]), bool))
        return past if real is None else across(past, real) & real

    def _inputs(self, x: Any) -> tuple[Any, Any]:
        """(x, memory), checked; self-attention is its own memory."""
        if isinstance(x, (tuple, list)) != self.cross or (self.cross and len(x) != 2):
            found = f"{len(x)} arrays" if isinstance(x, (tuple, list)) else "one array"
            expected = "a pair (queries [N, T, I], memory [N, S, J])" if self.cross else "one array [N, T, I]"
            raise ShapeError(f"{self!r}: found {found}, expected {expected}; cross={not self.cross} takes the other")
        x, m = x if self.cross else (x, x)
        for array in (x, m):
            check_floating(array, self, "[N, T, I]", "one example is x[None], ids go through an Embedding first")
            if not array.shape[-1]:
                raise ShapeError(f"{self!r}: inputs {tuple(array.shape)} have no features, expected at least one")
        if x.shape[0] != m.shape[0] or x.dtype != m.dtype:
            raise ShapeError(
                f"{self!r}: found queries {x.dtype}{list(x.shape)} and memory {m.dtype}{list(m.shape)}, expected as "
                "many examples, of one dtype"
            )
        if self.features is None and x.shape[-1] % self.heads:
            raise ShapeError(
                f"{self!r}: {x.shape[-1]} features of x cannot be divided among {self.heads} heads; "
                "give features=, a multiple of heads"
            )
        return x, m

    def _check_params(self, x: Any, m: Any, params: AttentionParams) -> None:
        I, J = x.shape[-1], m.shape[-1]
        F, O = self.features or I, self.outputs or I
        check_theta(params, AttentionParams, self, AttentionParams._fields)
        b_F, b_O = ((F,), (O,)) if self.bias else (None, None)
        shapes = (I, F), b_F, (J, F), (J, F), b_F, (F, O), b_O
        for name, array, expected in zip(AttentionParams._fields, params, shapes, strict=True):
            found = getattr(array, "shape", None)
            if found != expected:
                raise ShapeError(
                    f"{self!r}: found {name} of shape {found}, expected {expected} for x [N, T, {I}]"
                    f"{f' and memory [N, S, {J}]' if self.cross else ''}; make params with init(key, x)"
                )


def _side_by_side(a: Array) -> Array:
    """The heads of `[N, H, T, D]` as features `[N, T, F]`."""
    N, H, T, D = a.shape
    return jnp.swapaxes(a, 1, 2).reshape(N, T, H * D)


def _dense(x: Array, W: Array, b: Array | None) -> Array:
    y = x @ W
    return y if b is None else y + across(b, y)


def _uses(a: Array, delta: Array, W: Array, b: Array | None) -> tuple[Any, Any]:
    return Outer(a, delta, W.shape, W.dtype), None if b is None else Shift(delta, b.shape, b.dtype)
