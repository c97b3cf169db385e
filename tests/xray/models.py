"""Small models as users of Flax (linen, nnx) and Equinox write them, by name: `MODELS["linen/gru"]()`.

Each comes with a batch of its own, and the loss of one example and of the batch. Whatever makes a number follows JAX's
default: float64 where 64 bits are on, as in the tests, and float32 for a user. Everything is made from fixed seeds.
The losses allow promotion of dtypes, which Flax needs; what looks at them does not.

Equinox modules hold functions, which `jax.jit` refuses as arguments: `eqx.filter_jit` compiles what takes any of these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

N = 3  # examples
CLASSES = 4
FEATURES = 5  # of an MLP's input, and of one step of a recurrent model's
STEPS = 4  # of a sequence
VOCABULARY = 7
WIDTH, HEADS, LAYERS = 6, 2, 2  # of a transformer
IMAGE = (6, 6, 2)  # height, width, channels


@dataclass(frozen=True)
class Model:
    """A model and a batch for it.

    params: linen's tree of parameters, or the module itself (nnx, Equinox). The tables of a library give shapes alone.
    x, y: `[N, ...]` each.
    loss: (params, x, y) of one example -> a number.
    """

    params: Any
    x: Array
    y: Array
    loss: Callable[[Any, Array, Array], Array]

    def mean(self, params: Any, x: Array, y: Array) -> Array:
        """Take the mean of the losses of a batch."""
        return jnp.mean(jax.vmap(self.loss, in_axes=(None, 0, 0))(params, x, y))


def number() -> Any:
    """Give the dtype that JAX makes numbers of."""
    return jnp.result_type(float)


def cross_entropy(logits: Array, labels: Array) -> Array:
    """Take the mean over all labels of −log p of the right class."""
    log_p = jax.nn.log_softmax(logits)
    return -jnp.mean(jnp.take_along_axis(log_p, labels[..., None], axis=-1))


def loss(model: Any, x: Array, y: Array) -> Array:
    """Take the cross-entropy of one example, of a model that is called."""
    return cross_entropy(model(x), y)


def vectors() -> tuple[Array, Array]:
    """Make a batch for an MLP: `[N, FEATURES]` and classes `[N]`."""
    return _normal(FEATURES), _whole(CLASSES)


def images() -> tuple[Array, Array]:
    """Make a batch for a CNN: `[N, *IMAGE]` and classes `[N]`."""
    return _normal(*IMAGE), _whole(CLASSES)


def tokens() -> tuple[Array, Array]:
    """Make a batch for a transformer: words `[N, STEPS]`, and the words that come next."""
    return _whole(VOCABULARY, STEPS), _whole(VOCABULARY, STEPS, seed=1)


def sequences() -> tuple[Array, Array]:
    """Make a batch for a recurrent model: `[N, STEPS, FEATURES]` and classes `[N]`."""
    return _normal(STEPS, FEATURES), _whole(CLASSES)


def _normal(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(3).standard_normal((N, *shape)), number())


def _whole(below: int, *shape: int, seed: int = 0) -> Array:
    return jnp.asarray(np.random.default_rng(4 + seed).integers(0, below, (N, *shape)), jnp.int32)


def filled(shapes: Any) -> Any:
    """Fill a model of shapes alone with numbers: nothing is zero by accident, and nothing is compiled for it."""
    rng = np.random.default_rng(5)

    def fill(leaf: Any) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if not jnp.issubdtype(leaf.dtype, jnp.floating):  # a count or a key of random numbers
            return jnp.zeros(leaf.shape, leaf.dtype) if jnp.issubdtype(leaf.dtype, jnp.integer) else jax.random.key(0)
        # weights in numbers that a layer of their size has; scales and biases are around 1/2
        around, spread = (0.5, 0.3) if len(leaf.shape) < 2 else (0, 1 / max(leaf.shape[-2:]) ** 0.5)
        return jnp.asarray(around + spread * rng.standard_normal(leaf.shape), leaf.dtype)

    return jax.tree.map(fill, shapes)


KINDS = (
    "mlp", "cnn", "transformer", "transformer_scanned", "transformer_remat", "transformer_tied", "lstm", "gru",
)  # fmt: skip


def _made(library: str, kind: str) -> Model:
    """Make a model; its library is imported then, and not before."""
    import importlib

    with jax.numpy_dtype_promotion("standard"):
        made = importlib.import_module(f"tests.xray.{library}_models").MODELS[kind]()
    return Model(filled(made.params), made.x, made.y, jax.numpy_dtype_promotion("standard")(made.loss))


LIBRARIES = ("linen", "nnx", "equinox")
MODELS: dict[str, Callable[[], Model]] = {
    f"{lib}/{kind}": partial(_made, lib, kind) for lib in LIBRARIES for kind in KINDS
}


def one_by_one(default: set[str], slow: set[str]) -> list[Any]:
    """List the names of all models for `parametrize`: some by default, some behind the slow marker, the others last."""
    import pytest

    def marks(name: str) -> Any:
        return () if name in default else pytest.mark.slow if name in slow else pytest.mark.exhaustive

    return [pytest.param(name, marks=marks(name)) for name in MODELS]
