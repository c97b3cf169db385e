"""THE table: every exported layer and cost, with shapes, options and its forward value in plain float64 numpy.

A new layer or cost gets a line here, and with it the whole battery (`test_layers.py`, `test_costs.py`); a test fails
if an exported name is missing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

import jaxprop as jp

EDGE = 0.05  # inputs keep this far from a kink, where no central difference exists


@dataclass(frozen=True, eq=False)
class LayerCase:
    """A layer, the shape of its input (integers where `integers`), its value in numpy and the places of its kinks."""

    name: str
    layer: jp.Layer
    shape: tuple[int, ...]
    reference: Callable[[Any, Any], np.ndarray]
    kinks: tuple[float, ...] = ()
    integers: bool = False

    def x(self, dtype: Any, seed: int = 0) -> jax.Array:
        """Inputs: integers 0 to 16, or normal numbers that stay away from kinks."""
        rng = np.random.default_rng(seed)
        if self.integers:
            return jnp.asarray(rng.integers(0, 17, self.shape), jnp.int32)
        x = 1.5 * rng.normal(size=self.shape)
        for kink in self.kinks:
            x = np.where(np.abs(x - kink) < EDGE, kink + np.where(x < kink, -2 * EDGE, 2 * EDGE), x)
        return jnp.asarray(x, dtype)

    def params(self, dtype: Any, seed: int = 0) -> Any:
        """θ drawn by the layer's own `init`, biases too moved away from 0."""
        x = jax.ShapeDtypeStruct(self.shape, jnp.int32 if self.integers else dtype)
        rng = np.random.default_rng(seed + 1)
        drawn = self.layer.init(jax.random.key(seed), x)
        return jax.tree.map(lambda p: p + jnp.asarray(0.3 * rng.normal(size=p.shape), p.dtype), drawn)

    def __str__(self) -> str:
        return self.name


def linear(x, params):
    z = x @ np.asarray(params.W, np.float64)
    return z if params.b is None else z + np.asarray(params.b, np.float64)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def elu(z, alpha):
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0)))


def normal_cdf(z):
    return 0.5 * (1 + special.erf(z / np.sqrt(2)))


def gelu_tanh(z):
    return 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))


def activation(name, layer, value, kinks=()) -> LayerCase:
    return LayerCase(name, layer, (4, 3), lambda x, _: value(x), kinks)


MEAN, STD = (3.0, -1.0, 0.5), (4.0, 0.5, 2.0)

LAYERS = [
    LayerCase("Linear", jp.Linear(2), (4, 3), linear),
    LayerCase("Linear, T", jp.Linear(2), (2, 5, 3), linear),
    LayerCase("Linear, T = 2 × 2", jp.Linear(6), (2, 2, 2, 8), linear),
    LayerCase("Linear, bias=False", jp.Linear(2, bias=False), (4, 3), linear),
    LayerCase("Linear, bias=False, T", jp.Linear(2, bias=False), (2, 5, 3), linear),
    LayerCase("Linear, inits", jp.Linear(2, init="he_normal", bias_init="standard_normal"), (4, 3), linear),
    LayerCase("Linear, one by one", jp.Linear(1), (1, 1), linear),
    activation("Identity", jp.Identity(), lambda z: z),
    activation("Sigmoid", jp.Sigmoid(), sigmoid),
    activation("Tanh", jp.Tanh(), np.tanh),
    activation("ReLU", jp.ReLU(), lambda z: np.maximum(z, 0), kinks=(0,)),
    activation("LeakyReLU", jp.LeakyReLU(), lambda z: np.where(z >= 0, z, 0.01 * z), kinks=(0,)),
    activation("LeakyReLU(0.2)", jp.LeakyReLU(0.2), lambda z: np.where(z >= 0, z, 0.2 * z), kinks=(0,)),
    activation("ELU", jp.ELU(), lambda z: elu(z, 1.0), kinks=(0,)),
    activation("ELU(0.7)", jp.ELU(0.7), lambda z: elu(z, 0.7), kinks=(0,)),
    activation("SELU", jp.SELU(), lambda z: 1.0507009873554805 * elu(z, 1.6732632423543772), kinks=(0,)),
    activation("GELU", jp.GELU(), lambda z: z * normal_cdf(z)),
    activation("GELU, tanh form", jp.GELU(approximate=True), gelu_tanh),
    activation("SiLU", jp.SiLU(), lambda z: z * sigmoid(z)),
    activation("Softplus", jp.Softplus(), lambda z: np.log1p(np.exp(z))),
    activation("Softsign", jp.Softsign(), lambda z: z / (1 + np.abs(z)), kinks=(0,)),
    activation("HardTanh", jp.HardTanh(), lambda z: np.clip(z, -1, 1), kinks=(-1, 1)),
    LayerCase("Tanh, T", jp.Tanh(), (2, 2, 3), lambda x, _: np.tanh(x)),
    LayerCase("Softmax", jp.Softmax(), (4, 3), lambda x, _: softmax(x)),
    LayerCase("Softmax, T", jp.Softmax(), (2, 5, 3), lambda x, _: softmax(x)),
    LayerCase("Standardize", jp.Standardize(8.0, 4.0), (4, 3), lambda x, _: (x - 8) / 4),
    LayerCase("Standardize, features", jp.Standardize(MEAN, STD), (4, 3), lambda x, _: (x - MEAN) / STD),
    LayerCase("Standardize, T", jp.Standardize(MEAN, STD), (2, 2, 3), lambda x, _: (x - MEAN) / STD),
    LayerCase("Standardize, integers", jp.Standardize(MEAN, 4.0), (4, 3), lambda x, _: (x - MEAN) / 4, integers=True),
    LayerCase("Unstandardize", jp.Unstandardize(8.0, 4.0), (4, 3), lambda x, _: x * 4 + 8),
    LayerCase("Unstandardize, features", jp.Unstandardize(MEAN, STD), (4, 3), lambda x, _: np.multiply(x, STD) + MEAN),
    LayerCase("Unstandardize, integers", jp.Unstandardize(8.0, 4.0), (4, 3), lambda x, _: x * 4 + 8, integers=True),
    LayerCase("Flatten", jp.Flatten(), (2, 2, 3), lambda x, _: x.reshape(2, 6)),
    LayerCase("Flatten, [N]", jp.Flatten(), (3,), lambda x, _: x[:, None]),
    LayerCase("Flatten, integers", jp.Flatten(), (2, 2, 3), lambda x, _: x.reshape(2, 6), integers=True),
    LayerCase(
        "Chain",
        jp.Chain(jp.Linear(4), jp.Sigmoid(), jp.Linear(2)),
        (3, 3),
        lambda x, p: linear(sigmoid(linear(x, p[0])), p[2]),
    ),
    LayerCase(
        "Chain in Chain",
        jp.Chain(jp.Chain(jp.Linear(4), jp.Chain(jp.Tanh())), jp.Linear(2, bias=False)),
        (3, 3),
        lambda x, p: linear(np.tanh(linear(x, p[0][0])), p[1]),
    ),
    LayerCase(
        "Chain, integers",
        jp.Chain(jp.Flatten(), jp.Standardize(8.0, 4.0), jp.Linear(2), jp.Softmax()),
        (3, 2, 2),
        lambda x, p: softmax(linear((x.reshape(3, 4) - 8) / 4, p[2])),
        integers=True,
    ),
]


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

    def __str__(self) -> str:
        return self.name


def by_example(values):
    return values.reshape(len(values), -1)


def numbers(rng, shape):
    return rng.normal(size=shape)


def labels(rng, shape):
    return rng.integers(0, shape[-1], shape[:-1])


def one_hot(rng, shape):
    return np.eye(shape[-1])[labels(rng, shape)]


def probabilities(rng, shape):
    return softmax(rng.normal(size=shape))


def amounts(rng, shape):
    """Not normalised: rows of Σp ≠ 1."""
    return rng.uniform(0, 2, size=shape)


def softmax_cross_entropy(y, targets):
    p = np.eye(y.shape[-1])[targets] if targets.ndim < y.ndim else targets
    return by_example(-(p * np.log(softmax(y))).sum(axis=-1)).mean(axis=1)


def sigmoid_cross_entropy(y, targets):
    return by_example(-targets * np.log(sigmoid(y)) - (1 - targets) * np.log(1 - sigmoid(y))).sum(axis=1)


def half_squared(y, targets):
    return 0.5 * by_example((y - targets) ** 2).sum(axis=1)


def mean_squared(y, targets):
    return by_example((y - targets) ** 2).mean(axis=1)


HALF, MEAN_SQUARED = jp.HalfSquaredError(), jp.MeanSquaredError()
SOFTMAX, SIGMOID = jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy()

COSTS = [
    CostCase("HalfSquaredError", HALF, (4, 3), numbers, half_squared),
    CostCase("HalfSquaredError, one output", HALF, (4, 1), numbers, half_squared),
    CostCase("HalfSquaredError, T", HALF, (2, 3, 2), numbers, half_squared),
    CostCase("HalfSquaredError, one-hot", HALF, (4, 3), one_hot, half_squared),
    CostCase("MeanSquaredError", MEAN_SQUARED, (4, 3), numbers, mean_squared),
    CostCase("MeanSquaredError, T", MEAN_SQUARED, (2, 3, 2), numbers, mean_squared),
    CostCase("SoftmaxCrossEntropy, labels", SOFTMAX, (4, 3), labels, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, labels, T", SOFTMAX, (2, 5, 3), labels, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, probabilities", SOFTMAX, (4, 3), probabilities, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, probabilities, T", SOFTMAX, (2, 5, 3), probabilities, softmax_cross_entropy),
    CostCase("SoftmaxCrossEntropy, Σp ≠ 1", SOFTMAX, (4, 3), amounts, softmax_cross_entropy),
    CostCase("SigmoidCrossEntropy", SIGMOID, (4, 3), probabilities, sigmoid_cross_entropy),
    CostCase("SigmoidCrossEntropy, 0 and 1", SIGMOID, (4, 3), one_hot, sigmoid_cross_entropy),
    CostCase("SigmoidCrossEntropy, T", SIGMOID, (2, 3, 2), probabilities, sigmoid_cross_entropy),
]

ABSTRACT = {"Layer", "Activation", "Cost", "Combinator"}


def exported(base: type) -> dict[str, type]:
    """Names that jaxprop exports of one base class, the abstract ones left out."""
    found = {name: value for name, value in vars(jp).items() if isinstance(value, type) and issubclass(value, base)}
    return {name: value for name, value in found.items() if name not in ABSTRACT}
