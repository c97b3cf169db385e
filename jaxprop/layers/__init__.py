"""One small file per layer: derivation, parameters, init, forward, backward. `README.md` says how to add one."""

from jaxprop.layers.activations import (
    ELU as ELU,
    GELU as GELU,
    SELU as SELU,
    Activation as Activation,
    HardTanh as HardTanh,
    Identity as Identity,
    LeakyReLU as LeakyReLU,
    Quantize as Quantize,
    ReLU as ReLU,
    Sigmoid as Sigmoid,
    SiLU as SiLU,
    Softmax as Softmax,
    Softplus as Softplus,
    Softsign as Softsign,
    Step as Step,
    Tanh as Tanh,
)
from jaxprop.layers.affine import Affine as Affine, AffineParams as AffineParams
from jaxprop.layers.attention import AttentionParams as AttentionParams, MultiHeadAttention as MultiHeadAttention
from jaxprop.layers.batch_norm import BatchNorm as BatchNorm
from jaxprop.layers.conv import Conv as Conv, ConvParams as ConvParams
from jaxprop.layers.conv_transpose import ConvTranspose as ConvTranspose, ConvTransposeParams as ConvTransposeParams
from jaxprop.layers.dropout import Dropout as Dropout
from jaxprop.layers.embedding import Embedding as Embedding, EmbeddingParams as EmbeddingParams
from jaxprop.layers.flatten import Flatten as Flatten
from jaxprop.layers.group_norm import GroupNorm as GroupNorm
from jaxprop.layers.gru import GRU as GRU, GRUParams as GRUParams
from jaxprop.layers.layer import Env as Env, Layer as Layer
from jaxprop.layers.layer_norm import LayerNorm as LayerNorm
from jaxprop.layers.linear import Linear as Linear, LinearParams as LinearParams
from jaxprop.layers.lstm import LSTM as LSTM, LSTMParams as LSTMParams
from jaxprop.layers.norm import NormParams as NormParams
from jaxprop.layers.pool import AvgPool as AvgPool, GlobalAvgPool as GlobalAvgPool, MaxPool as MaxPool
from jaxprop.layers.positional_embedding import (
    PositionalEmbedding as PositionalEmbedding,
    PositionalEmbeddingParams as PositionalEmbeddingParams,
)
from jaxprop.layers.reshape import Reshape as Reshape, Transpose as Transpose
from jaxprop.layers.rms_norm import RMSNorm as RMSNorm
from jaxprop.layers.rnn import RNN as RNN, RNNParams as RNNParams
from jaxprop.layers.standardize import Standardize as Standardize, Unstandardize as Unstandardize

# `jaxprop` exports the classes above, and not the files that they come from.
__all__ = [name for name, value in vars().items() if isinstance(value, type)]  # pyright: ignore[reportUnsupportedDunderAll]
