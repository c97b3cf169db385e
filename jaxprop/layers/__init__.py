"""One small file per layer: derivation, parameters, init, forward, backward. `README.md` says how to add one."""

from jaxprop.layers.activations import (
    ELU as ELU,
    GELU as GELU,
    SELU as SELU,
    Activation as Activation,
    HardTanh as HardTanh,
    Identity as Identity,
    LeakyReLU as LeakyReLU,
    ReLU as ReLU,
    Sigmoid as Sigmoid,
    SiLU as SiLU,
    Softmax as Softmax,
    Softplus as Softplus,
    Softsign as Softsign,
    Tanh as Tanh,
)
from jaxprop.layers.flatten import Flatten as Flatten
from jaxprop.layers.layer import Env as Env, Layer as Layer
from jaxprop.layers.linear import Linear as Linear, LinearParams as LinearParams
from jaxprop.layers.standardize import Standardize as Standardize, Unstandardize as Unstandardize
