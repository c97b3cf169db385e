"""Networks people start from: builders that return plain networks, made of the layers in this library and nothing else.

    mlp((784, 30, 10))                          x [N, 784]         → [N, 10]
    convnet(10), resnet(10)                     x [N, H, W, C]     → logits [N, 10]
    gpt(vocabulary=64, width=128, ...)          ids [N, T]         → logits [N, T, 64], each from what came before
    rnn_classifier("lstm", 64, classes=10)      x [N, T, I]        → logits [N, 10]

What they return is a description like any other: print it, change it, train it, save it.
"""

import math
from collections.abc import Sequence

from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import (
    GELU,
    GRU,
    LSTM,
    RNN,
    Conv,
    Embedding,
    Flatten,
    GlobalAvgPool,
    GroupNorm,
    Layer,
    LayerNorm,
    Linear,
    MaxPool,
    MultiHeadAttention,
    PositionalEmbedding,
    ReLU,
    Sigmoid,
)
from jaxprop.network import Chain, Parallel, Repeat, Residual, Shared


def mlp(sizes: Sequence[int], activation: Layer | None = None) -> Chain:
    """Build a multilayer perceptron of these sizes; its last layer is linear, for a cost on logits.

    Args:
        sizes: how many units each layer has, inputs first, as the book writes them: [784, 30, 10].
        activation: what stands between the layers, by default `Sigmoid()`.

    Raises:
        JaxpropError: there are fewer than two sizes.

    >>> mlp((784, 30, 10))
    Chain(Linear(30), Sigmoid(), Linear(10))
    """
    sizes = tuple(sizes)
    if len(sizes) < 2:
        raise JaxpropError(f"mlp: found sizes {sizes}, expected at least two, inputs first: (784, 30, 10)")
    activation = Sigmoid() if activation is None else activation
    layers: list[Layer] = [Linear(sizes[1])]
    for size in sizes[2:]:
        layers += [activation, Linear(size)]
    return Chain(*layers)


def convnet(classes: int, width: int = 16) -> Chain:
    """Build two convolutions with pooling and two dense layers: images `[N, H, W, C]` to logits `[N, classes]`.

    Args:
        classes: how many classes there are.
        width: the channels of the first convolution; the second has twice as many.

    >>> convnet(10).layers[0]
    Conv(16, (3, 3))
    """
    return Chain(
        *(Conv(width, (3, 3)), ReLU(), MaxPool((2, 2))),
        *(Conv(2 * width, (3, 3)), ReLU(), MaxPool((2, 2))),
        *(Flatten(), Linear(4 * width), ReLU(), Linear(classes)),
    )


def resnet(classes: int, width: int = 16, blocks: int | Sequence[int] = 1) -> Chain:
    """Build a residual network with GroupNorm: images `[N, H, W, C]` to logits `[N, classes]`.

    A stage after the first halves the image and doubles the channels. `blocks=1` has 8 layers with weights on the
    longest way, `blocks=3` has 20.

    Args:
        classes: how many classes there are.
        width: the channels of the first stage.
        blocks: how many residual blocks of two convolutions each of three stages has, or one number a stage.

    Raises:
        JaxpropError: a stage has no block.

    Source: He, Zhang, Ren, Sun 2015, section 4.2; Wu and He, "Group Normalization" (2018).

    >>> len(resnet(10, width=8, blocks=2).layers)
    11
    """
    stages = (blocks,) * 3 if isinstance(blocks, int) else tuple(blocks)
    if not stages or min(stages) < 1:
        raise JaxpropError(f"resnet: blocks must be whole numbers ≥ 1, found {blocks}")
    layers: list[Layer] = [Conv(width, (3, 3), bias=False), _norm(width), ReLU()]
    for stage, count in enumerate(stages):
        channels = width * 2**stage
        for block in range(count):
            halve = stage > 0 and block == 0
            layers.append(_residual_block(channels, halve))
    return Chain(*layers, GlobalAvgPool(), Linear(classes))


def _residual_block(channels: int, halve: bool) -> Layer:
    """Two convolutions and the way around them; where the shape changes, the way is a 1 × 1 convolution."""
    strides = 2 if halve else 1
    ways = Chain(
        *(Conv(channels, (3, 3), strides=strides, bias=False), _norm(channels), ReLU()),
        *(Conv(channels, (3, 3), bias=False), _norm(channels)),
    )
    joined = Parallel(ways, Conv(channels, (1, 1), strides=2, bias=False)) if halve else Residual(ways)
    return Chain(joined, ReLU())


def _norm(channels: int) -> GroupNorm:
    return GroupNorm(math.gcd(channels, 8))


def gpt(vocabulary: int, width: int, depth: int, heads: int, context: int) -> Shared:
    """Build a causal transformer: integer ids `[N, T]` to logits `[N, T, vocabulary]` for the id that follows.

    The blocks are pre-norm, in a `Repeat`; the output's weights are the embedding's, transposed.

    Args:
        vocabulary: how many ids there are.
        width: the features of a position.
        depth: how many blocks there are.
        heads: how many heads each block's attention has; they divide `width`.
        context: the largest T.

    Source: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners".

    >>> net = gpt(vocabulary=65, width=128, depth=4, heads=4, context=128)
    >>> net.ties
    (('0.W', '4.W', True),)
    """
    return Shared(
        Chain(
            Embedding(vocabulary, width),
            PositionalEmbedding(context),
            Repeat(gpt_block(width, heads), depth),
            LayerNorm(),
            Linear(vocabulary, bias=False),
        ),
        ties=(("0.W", "4.W", True),),
    )


def gpt_block(width: int, heads: int) -> Chain:
    """Build one block of `gpt`: attention, then two dense layers, each with a norm before and a way around.

    Args:
        width: the features of a position.
        heads: how many heads the attention has.

    >>> gpt_block(8, 2).layers[1]
    Residual(Chain(LayerNorm(...), Linear(32), GELU(approximate=True), Linear(8)))
    """
    attention = Chain(LayerNorm(), MultiHeadAttention(heads, causal=True))
    return Chain(
        Residual(attention), Residual(Chain(LayerNorm(), Linear(4 * width), GELU(approximate=True), Linear(width)))
    )


def rnn_classifier(cell: str, features: int, classes: int) -> Chain:
    """Build a recurrent layer whose last state is classified: x `[N, T, I]` to logits `[N, classes]`.

    Args:
        cell: "rnn", "gru" or "lstm".
        features: how large the state is.
        classes: how many classes there are.

    Raises:
        JaxpropError: there is no such cell.

    >>> rnn_classifier("gru", features=32, classes=2).layers[1]
    Linear(2)
    """
    cells = {"rnn": RNN, "gru": GRU, "lstm": LSTM}
    return Chain(cells[pick(cell, cells, "cell")](features, sequence=False), Linear(classes))
