"""Models in Flax's linen, as its users write them: parameters are a tree, and `apply` is a function of it."""

from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import Array

from tests.xray import models
from tests.xray.models import CLASSES, HEADS, LAYERS, VOCABULARY, WIDTH, Model, cross_entropy, number


class Mlp(nn.Module):
    """A stack of dense layers."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        for width in (8, 6):
            x = nn.relu(nn.Dense(width, param_dtype=number())(x))
        return nn.Dense(CLASSES, param_dtype=number())(x)


class Cnn(nn.Module):
    """Convolutions, a norm, a pool and a dense layer; of a batch, as Flax's examples are."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.Conv(4, (3, 3), param_dtype=number())(x)
        x = nn.GroupNorm(num_groups=2, param_dtype=number())(x)
        x = nn.relu(x)
        x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = nn.relu(nn.Conv(3, (3, 3), strides=(2, 2), padding="VALID", param_dtype=number())(x))
        return nn.Dense(CLASSES, param_dtype=number())(x.reshape(x.shape[0], -1))


class Block(nn.Module):
    """A transformer's block: attention, then two dense layers, each behind a norm and beside a skip."""

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> Array:
        y = nn.LayerNorm(param_dtype=number())(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=HEADS, param_dtype=number())(y, mask=mask)
        y = nn.LayerNorm(param_dtype=number())(x)
        y = nn.gelu(nn.Dense(2 * WIDTH, param_dtype=number())(y))
        return x + nn.Dense(WIDTH, param_dtype=number())(y)


class ScannedBlock(nn.Module):
    """The same block as a step of `nn.scan`, which carries x on."""

    @nn.compact
    def __call__(self, x: Array, mask: Array) -> tuple[Array, None]:
        return Block()(x, mask), None


class Transformer(nn.Module):
    """A decoder: words and places embedded, blocks, and logits of the next word."""

    scanned: bool = False
    remat: bool = False
    tied: bool = False

    @nn.compact
    def __call__(self, words: Array) -> Array:
        embedding = nn.Embed(VOCABULARY, WIDTH, param_dtype=number())
        place = self.param("place", nn.initializers.normal(0.1), (words.shape[-1], WIDTH), number())
        x, mask = embedding(words) + place, nn.make_causal_mask(words)
        if self.scanned:
            block = nn.remat(ScannedBlock, prevent_cse=False) if self.remat else ScannedBlock
            stack = nn.scan(
                block, variable_axes={"params": 0}, split_rngs={"params": True}, in_axes=nn.broadcast, length=LAYERS
            )
            x, _ = stack(name="blocks")(x, mask)
        else:
            for i in range(LAYERS):
                x = (nn.remat(Block) if self.remat else Block)(name=f"block_{i}")(x, mask)
        x = nn.LayerNorm(param_dtype=number())(x)
        return embedding.attend(x) if self.tied else nn.Dense(VOCABULARY, use_bias=False, param_dtype=number())(x)


class Recurrent(nn.Module):
    """A recurrent cell over a sequence, then a dense layer on its last step."""

    cell: Any

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = nn.RNN(self.cell(features=WIDTH, param_dtype=number()))(x)
        return nn.Dense(CLASSES, param_dtype=number())(x[..., -1, :])


def _model(net: nn.Module, batch: tuple[Array, Array]) -> Model:
    x, y = batch
    params = jax.eval_shape(net.init, jax.random.key(0), x[0])["params"]

    def loss(params: Any, x: Array, y: Array) -> Array:
        return cross_entropy(net.apply({"params": params}, x), y)

    return Model(params, x, y, loss)


def _cnn() -> Model:
    x, y = models.images()
    net = Cnn()

    def loss(params: Any, x: Array, y: Array) -> Array:  # one image is a batch of one
        return cross_entropy(net.apply({"params": params}, x[None]), y[None])

    return Model(jax.eval_shape(net.init, jax.random.key(0), x)["params"], x, y, loss)


def _transformer(**options: bool) -> Model:
    return _model(Transformer(**options), models.tokens())


MODELS = {
    "mlp": lambda: _model(Mlp(), models.vectors()),
    "cnn": _cnn,
    "transformer": _transformer,
    "transformer_scanned": partial(_transformer, scanned=True),
    "transformer_remat": partial(_transformer, remat=True),
    "transformer_tied": partial(_transformer, tied=True, scanned=True, remat=True),
    "lstm": lambda: _model(Recurrent(nn.OptimizedLSTMCell), models.sequences()),
    "gru": lambda: _model(Recurrent(nn.GRUCell), models.sequences()),
}
