"""Linear, the activations and what stands before and after them."""

import jax.numpy as jnp
import numpy as np
from jax import nn
from scipy import special

import jaxprop as jp
from tests.cases.case import LayerCase


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


def nearest(z, levels):
    """The level that is nearest to each z."""
    levels = np.asarray(levels, np.float64)
    return levels[np.abs(z[..., None] - levels).argmin(axis=-1)]


def activation(name, layer, value, like, kinks=()) -> LayerCase:
    """Its value in numpy, the same function in JAX, and where its derivative jumps."""
    return LayerCase(name, layer, (4, 3), lambda x, _: value(x), kinks, like=like)


MEAN, STD = (3.0, -1.0, 0.5), (4.0, 0.5, 2.0)

LAYERS = [
    LayerCase("Linear", jp.Linear(2), (4, 3), linear),
    LayerCase("Linear, T", jp.Linear(2), (2, 5, 3), linear),
    LayerCase("Linear, T = 2 × 2", jp.Linear(6), (2, 2, 2, 8), linear),
    LayerCase("Linear, bias=False", jp.Linear(2, bias=False), (4, 3), linear),
    LayerCase("Linear, bias=False, T", jp.Linear(2, bias=False), (2, 5, 3), linear),
    LayerCase("Linear, inits", jp.Linear(2, init="he_normal", bias_init="standard_normal"), (4, 3), linear),
    LayerCase("Linear, one by one", jp.Linear(1), (1, 1), linear),
    activation("Identity", jp.Identity(), lambda z: z, lambda z: z),
    activation("Sigmoid", jp.Sigmoid(), sigmoid, nn.sigmoid),
    activation("Tanh", jp.Tanh(), np.tanh, nn.tanh),
    activation("ReLU", jp.ReLU(), lambda z: np.maximum(z, 0), nn.relu, kinks=(0,)),
    activation("LeakyReLU", jp.LeakyReLU(), lambda z: np.where(z >= 0, z, 0.01 * z), nn.leaky_relu, kinks=(0,)),
    activation(
        "LeakyReLU(0.2)",
        jp.LeakyReLU(0.2),
        lambda z: np.where(z >= 0, z, 0.2 * z),
        lambda z: nn.leaky_relu(z, 0.2),
        kinks=(0,),
    ),
    activation("ELU", jp.ELU(), lambda z: elu(z, 1.0), nn.elu, kinks=(0,)),
    activation("ELU(0.7)", jp.ELU(0.7), lambda z: elu(z, 0.7), lambda z: nn.elu(z, 0.7), kinks=(0,)),
    activation("SELU", jp.SELU(), lambda z: 1.0507009873554805 * elu(z, 1.6732632423543772), nn.selu, kinks=(0,)),
    activation("GELU", jp.GELU(), lambda z: z * normal_cdf(z), lambda z: nn.gelu(z, approximate=False)),
    activation("GELU, tanh form", jp.GELU(approximate=True), gelu_tanh, nn.gelu),
    activation("SiLU", jp.SiLU(), lambda z: z * sigmoid(z), nn.silu),
    activation("Softplus", jp.Softplus(), lambda z: np.log1p(np.exp(z)), nn.softplus),
    activation("Softsign", jp.Softsign(), lambda z: z / (1 + np.abs(z)), nn.soft_sign, kinks=(0,)),
    activation("HardTanh", jp.HardTanh(), lambda z: np.clip(z, -1, 1), nn.hard_tanh, kinks=(-1, 1)),
    activation("Step", jp.Step(), lambda z: (z > 0) * 1.0, lambda z: jnp.heaviside(z, 0.0), kinks=(0,)),
    activation(
        "Quantize",
        jp.Quantize(2),
        lambda z: nearest(z, (-1, -1 / 3, 1 / 3, 1)),
        lambda z: jnp.round((nn.hard_tanh(z) + 1) * 1.5) / 1.5 - 1,
        kinks=(-2 / 3, 0, 2 / 3),
    ),
    activation(
        "Quantize(1, 0.5, 2.0)",
        jp.Quantize(1, 0.5, 2.0),
        lambda z: nearest(z, (0.5, 2.0)),
        lambda z: 0.5 + 1.5 * jnp.heaviside(z - 1.25, 0.0),
        kinks=(1.25,),
    ),
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
