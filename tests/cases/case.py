"""What a row of the table is: a layer or a cost, the shapes it is tried at, and its value in plain float64 numpy."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from tests.drawing import draw

EDGE = 0.05  # inputs keep this far from a kink, where no central difference exists

# other settings of what a default or a slow row reaches too
EXHAUSTIVE = {
    "Linear, bias=False, T", "Linear, inits", "LeakyReLU(0.2)", "ELU(0.7)", "GELU, tanh form", "Quantize(1, 0.5, 2.0)",
    "Tanh, T", "Softmax, T", "Standardize, T", "Unstandardize, features", "Unstandardize, integers", "Chain in Chain",
    "Chain, integers", "Repeat, T", "Repeat, once", "LayerNorm, T", "GroupNorm, images", "BatchNorm, T",
    "Embedding, then Linear", "Shared, an embedding and its output (direct)", "MultiHeadAttention, causal",
    "RNN, last, padded", "LSTM, last, padded", "Conv, 1-D, stride, no bias", "Conv, 2-D", "Conv, 2-D, padding",
    "Conv, 1-D, gram", "Conv, 3-D", "ConvTranspose, VALID",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer, the shape of its input, its value in numpy and what else it needs.

    shape: of x; a tuple of shapes where x is a tuple of arrays.    reference: (x, params) -> y in float64 numpy.
    kinks: values of x to keep away from.    integers: x holds whole numbers from 0 up to (not including) `below`.
    rng, mask: what `Env` carries (rng as a flag: the key is made here; the mask a function of the seed).
    like: of an activation, the same function z -> φ(z) in JAX.
    """

    name: str
    layer: jp.Layer
    shape: Any
    reference: Callable[[Any, Any], Any] | None
    kinks: tuple[float, ...] = ()
    integers: bool = False
    below: int = 17
    rng: bool = False
    mask: Callable[[np.random.Generator], Any] | None = None
    like: Callable[[Any], Any] | None = None

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shapes of x's arrays."""
        return self.shape if self.shape and isinstance(self.shape[0], tuple) else (self.shape,)

    def _as_x(self, arrays: list[Any]) -> Any:
        return tuple(arrays) if self.shape and isinstance(self.shape[0], tuple) else arrays[0]

    def x(self, dtype: Any, seed: int = 0) -> Any:
        """Inputs: integers, or normal numbers that stay away from kinks."""
        rng = np.random.default_rng(seed)
        if self.integers:
            return self._as_x([jnp.asarray(rng.integers(0, self.below, shape), jnp.int32) for shape in self.shapes])
        arrays = []
        for shape in self.shapes:
            x = 1.5 * rng.normal(size=shape)
            for kink in self.kinks:
                x = np.where(np.abs(x - kink) < EDGE, kink + np.where(x < kink, -2 * EDGE, 2 * EDGE), x)
            arrays.append(jnp.asarray(x, dtype))
        return self._as_x(arrays)

    def params(self, dtype: Any, seed: int = 0) -> Any:
        """θ of the shapes and dtypes that the layer's own `init` gives, no entry of it 0 or 1."""
        x = self._as_x([jax.ShapeDtypeStruct(s, jnp.int32 if self.integers else dtype) for s in self.shapes])
        return draw(self.layer, x, seed + 1)

    def env(self, seed: int = 0) -> jp.Env | None:
        """What the forward pass needs beside x and θ."""
        if not self.rng and self.mask is None:
            return None
        mask = None if self.mask is None else jax.tree.map(jnp.asarray, self.mask(np.random.default_rng(seed + 3)))
        return jp.Env(rng=jax.random.key(seed) if self.rng else None, mask=mask)

    @property
    def kind(self) -> type:
        """What the row is one of: a kind's first row runs by default."""
        return type(self.layer)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, eq=False)
class CostCase:
    """A cost, the shape of y, a maker of targets and C_n in numpy."""

    name: str
    cost: jp.Cost
    shape: tuple[int, ...]
    make_targets: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
    reference: Callable[[Any, Any], np.ndarray]

    def y(self, dtype: Any, seed: int = 0) -> jax.Array:
        """Outputs, a few of them far from 0."""
        return jnp.asarray(2 * np.random.default_rng(seed).normal(size=self.shape), dtype)

    def targets(self, dtype: Any, seed: int = 0) -> jax.Array:
        """Targets; labels stay integers."""
        targets = self.make_targets(np.random.default_rng(seed + 1), self.shape)
        return jnp.asarray(targets, jnp.int32 if targets.dtype.kind == "i" else dtype)

    @property
    def kind(self) -> tuple[type, bool]:
        """What the row is one of: a kind's first row runs by default. Labels are another kind than numbers."""
        return type(self.cost), jnp.issubdtype(self.targets("float32").dtype, jnp.integer)

    def __str__(self) -> str:
        return self.name


def one_of_each(cases: Iterable[Any], first: Any = (), rest: Any = None) -> Iterator[Any]:
    """The first row of each kind; the others behind the slow marker, some the exhaustive: each costs a compilation."""
    import pytest  # here, since benchmarks/accelerator.py reads the table on machines that have none

    seen = set()
    for case in cases:
        later = (pytest.mark.exhaustive if case.name in EXHAUSTIVE else pytest.mark.slow) if rest is None else rest
        yield pytest.param(case, marks=later if case.kind in seen else first, id=case.name)
        seen.add(case.kind)
