"""Models in Flax's nnx, as its users write them: a module is a tree that holds its parameters."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax import Array

from tests.xray import models
from tests.xray.models import (
    CLASSES,
    FEATURES,
    HEADS,
    IMAGE,
    LAYERS,
    STEPS,
    VOCABULARY,
    WIDTH,
    Model,
    loss,
    number,
)


class Mlp(nnx.Module):
    """A stack of dense layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.Sequential(
            nnx.Linear(FEATURES, 8, param_dtype=number(), rngs=rngs), nnx.relu,
            nnx.Linear(8, 6, param_dtype=number(), rngs=rngs), nnx.relu,
            nnx.Linear(6, CLASSES, param_dtype=number(), rngs=rngs),
        )  # fmt: skip

    def __call__(self, x: Array) -> Array:
        return self.layers(x)


class Cnn(nnx.Module):
    """Convolutions, a pool and a dense layer."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.first = nnx.Conv(IMAGE[-1], 4, (3, 3), param_dtype=number(), rngs=rngs)
        self.norm = nnx.GroupNorm(4, num_groups=2, param_dtype=number(), rngs=rngs)
        self.second = nnx.Conv(4, 3, (3, 3), padding="VALID", param_dtype=number(), rngs=rngs)
        self.last = nnx.Linear(3, CLASSES, param_dtype=number(), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        x = nnx.max_pool(nnx.relu(self.norm(self.first(x))), (2, 2), strides=(2, 2))
        x = nnx.relu(self.second(x))
        return self.last(x.reshape(*x.shape[:-3], -1))


def attention(query: Array, key: Array, value: Array, mask: Array | None = None, **_: Any) -> Array:
    """Attend `[T, heads, depth]` in the precision of the inputs; nnx's own function takes its softmax in float32."""
    scores = jnp.einsum("thd,shd->hts", query, key) / query.shape[-1] ** 0.5
    return jnp.einsum("hts,shd->thd", jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min)), value)


class Block(nnx.Module):
    """A transformer's block: attention, then two dense layers, each behind a norm and beside a skip."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.before_attention = nnx.LayerNorm(WIDTH, param_dtype=number(), rngs=rngs)
        self.attention = nnx.MultiHeadAttention(
            num_heads=HEADS, in_features=WIDTH, decode=False, attention_fn=attention, param_dtype=number(), rngs=rngs
        )
        self.before_dense = nnx.LayerNorm(WIDTH, param_dtype=number(), rngs=rngs)
        self.up = nnx.Linear(WIDTH, 2 * WIDTH, param_dtype=number(), rngs=rngs)
        self.down = nnx.Linear(2 * WIDTH, WIDTH, param_dtype=number(), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        mask = jnp.tril(jnp.ones((x.shape[-2], x.shape[-2]), bool))
        x = x + self.attention(self.before_attention(x), mask=mask)
        return x + self.down(nnx.gelu(self.up(self.before_dense(x))))


class Transformer(nnx.Module):
    """A decoder: words and places embedded, blocks, and logits of the next word."""

    def __init__(self, rngs: nnx.Rngs, scanned: bool = False, remat: bool = False, tied: bool = False) -> None:
        self.embedding = nnx.Embed(VOCABULARY, WIDTH, param_dtype=number(), rngs=rngs)
        self.place = nnx.Param(0.1 * jax.random.normal(rngs.params(), (STEPS, WIDTH), number()))
        if scanned:
            self.blocks = nnx.vmap(Block)(rngs.split(LAYERS))
        else:
            self.blocks = nnx.List([Block(rngs) for _ in range(LAYERS)])
        self.norm = nnx.LayerNorm(WIDTH, param_dtype=number(), rngs=rngs)
        self.last = None if tied else nnx.Linear(WIDTH, VOCABULARY, use_bias=False, param_dtype=number(), rngs=rngs)
        self.scanned, self.remat = scanned, remat

    def __call__(self, words: Array) -> Array:
        x = self.embedding(words) + self.place[...]

        def step(block: Block, x: Array) -> Array:
            return block(x)

        step = nnx.remat(step) if self.remat else step
        if self.scanned:
            x = nnx.scan(step, in_axes=(0, nnx.Carry), out_axes=nnx.Carry)(self.blocks, x)
        else:
            for block in self.blocks:
                x = step(block, x)
        x = self.norm(x)
        return self.embedding.attend(x) if self.last is None else self.last(x)


class Recurrent(nnx.Module):
    """A recurrent cell over a sequence, then a dense layer on its last step."""

    def __init__(self, cell: Any, rngs: nnx.Rngs) -> None:
        self.cell = nnx.RNN(cell(FEATURES, WIDTH, param_dtype=number(), rngs=rngs), rngs=rngs)
        self.last = nnx.Linear(WIDTH, CLASSES, param_dtype=number(), rngs=rngs)

    def __call__(self, x: Array) -> Array:
        return self.last(self.cell(x)[..., -1, :])


def _model(made: Callable[[nnx.Rngs], nnx.Module], batch: tuple[Array, Array]) -> Model:
    return Model(nnx.eval_shape(lambda: made(nnx.Rngs(0))), *batch, loss)


def _transformer(**options: bool) -> Model:
    return _model(partial(Transformer, **options), models.tokens())


MODELS = {
    "mlp": lambda: _model(Mlp, models.vectors()),
    "cnn": lambda: _model(Cnn, models.images()),
    "transformer": _transformer,
    "transformer_scanned": partial(_transformer, scanned=True),
    "transformer_remat": partial(_transformer, remat=True),
    "transformer_tied": partial(_transformer, tied=True, scanned=True, remat=True),
    "lstm": lambda: _model(partial(Recurrent, nnx.OptimizedLSTMCell), models.sequences()),
    "gru": lambda: _model(partial(Recurrent, nnx.GRUCell), models.sequences()),
}
