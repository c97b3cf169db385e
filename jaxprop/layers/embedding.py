"""y = W[id]: a row of a table for every id.

Forward:   y_ntd = W_{id_nt, d}                                  ids [N, (T...)] integers   W [V, D]   y [N, (T...), D]
Backward:  ∂C_n/∂W = Σ_t e(id_nt) ⊗ δ_nt                         e(id): the one-hot row; each error goes to its row
           dx = None                                             ids are integers

It is a `Linear` without bias on one-hot rows, without the rows: y = e(id) W.

Edge cases: an id outside 0 … V − 1 (negative ones too) is refused, but cannot be under `jit`: there its row is NaN,
which the cost shows at once. Floating inputs are refused. Half precision: params take JAX's default float, ids having
none of their own.
Source: Bengio et al., "A Neural Probabilistic Language Model" (2003), section 2.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxprop.checks import Spec, check_array, check_key, check_theta, check_whole
from jaxprop.errors import DataError, ShapeError, pick
from jaxprop.layers.initializers import initializers
from jaxprop.layers.layer import Env, Layer
from jaxprop.uses import Lookup


class EmbeddingParams(NamedTuple):
    """θ of an `Embedding`: the table W `[V, D]`.

    >>> EmbeddingParams(W=jnp.zeros((17, 3))).W.shape
    (17, 3)
    """

    W: Any


@dataclass(frozen=True, init=False)
class Embedding(Layer):
    """y = W[id]: ids `[N, (T...)]` to y `[N, (T...), features]`, W `[vocabulary, features]`.

    `init` is a name that `Linear` takes too, drawn for Wᵀ, the output weights an embedding is often tied to: with
    "lecun_normal" a row has length about 1. Raises JaxpropError for settings that cannot be, ShapeError for inputs
    that are no integers, DataError for ids outside the vocabulary (under `jit` their row is NaN).

    >>> ids = jnp.array([[2, 0, 2]])
    >>> print(Embedding(3, 2)(ids, EmbeddingParams(W=jnp.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]))))
    [[[4. 5.]
      [0. 1.]
      [4. 5.]]]
    """

    vocabulary: int
    features: int
    weight_init: str

    def __init__(self, vocabulary: int, features: int, init: str = "lecun_normal") -> None:
        self._keep(vocabulary=vocabulary, features=features, init=init)

    def __post_init__(self) -> None:
        for name, value in (("vocabulary", self.vocabulary), ("features", self.features)):
            check_whole(value, f"Embedding: {name}")
        pick(self.weight_init, initializers(), "init")

    def init(self, key: Array | None, x: Spec) -> EmbeddingParams:
        self._check_inputs(x)
        key = check_key(key, "Embedding.init", "W")
        draw = initializers()[self.weight_init]
        return EmbeddingParams(draw(key, (self.features, self.vocabulary), jnp.result_type(float)).T)

    def check_values(self, x: Any) -> None:
        self._check_inputs(x)
        if isinstance(x, Tracer | jax.ShapeDtypeStruct):
            return
        ids, V = np.asarray(x), self.vocabulary
        if ids.size and not (ids.min() >= 0 and ids.max() < V):
            row, *rest = index = tuple(int(i) for i in np.argwhere((ids < 0) | (ids >= V))[0])
            where = f"row {row}" + (f", position {', '.join(map(str, rest))}" if rest else "")
            raise DataError(
                f"{self!r}: {where} is id {ids[index]}, expected 0 to {V - 1} for a vocabulary of {V}; number the ids "
                "from 0, or make the vocabulary larger"
            )

    def forward(self, x: Array, params: EmbeddingParams, env: Env | None = None) -> tuple[Array, Array]:
        self._check_inputs(x)
        check_theta(params, EmbeddingParams, self)
        (W,) = params
        if W.shape != (self.vocabulary, self.features):
            raise ShapeError(f"{self!r}: found W {list(W.shape)}, expected {[self.vocabulary, self.features]}")
        self.check_values(x)
        return W.at[x].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False), x

    def backward(self, dy: Array, cache: Array, params: EmbeddingParams) -> tuple[None, EmbeddingParams]:
        ids, delta, (W,) = cache, dy, params
        return None, EmbeddingParams(Lookup(ids, delta, W.shape, W.dtype))

    def _check_inputs(self, x: Spec) -> None:
        check_array(x, self, "of integer ids [N, ...]")
        if not x.shape or not jnp.issubdtype(x.dtype, jnp.integer):
            raise ShapeError(
                f"{self!r}: inputs must be integer ids [N, ...], found {x.dtype}{list(x.shape)}; floating inputs go to "
                "a Linear"
            )
