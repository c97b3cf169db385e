"""Models in Equinox, as its users write them: a module is a tree, functions such as its activation included.

A layer computes one example, and is vmapped over a sequence.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import Array, lax

from tests.xray import models
from tests.xray.models import CLASSES, FEATURES, HEADS, IMAGE, LAYERS, STEPS, VOCABULARY, WIDTH, Model, loss


class Cnn(eqx.Module):
    """Convolutions, a norm, a pool and a dense layer, in a list with the functions between them."""

    layers: list[Any]

    def __init__(self, key: Array) -> None:
        first, second, last = jax.random.split(key, 3)
        self.layers = [
            eqx.nn.Conv2d(IMAGE[-1], 4, kernel_size=3, padding=1, key=first),
            eqx.nn.GroupNorm(groups=2, channels=4),
            jax.nn.relu,
            eqx.nn.MaxPool2d(kernel_size=2, stride=2),
            eqx.nn.Conv2d(4, 3, kernel_size=2, key=second),
            jax.nn.relu,
            jnp.ravel,
            eqx.nn.Linear(12, CLASSES, key=last),
        ]

    def __call__(self, x: Array) -> Array:
        x = jnp.moveaxis(x, -1, 0)
        for layer in self.layers:
            x = layer(x)
        return x


class Block(eqx.Module):
    """A transformer's block: attention, then two dense layers, each behind a norm and beside a skip."""

    before_attention: eqx.nn.LayerNorm
    attention: eqx.nn.MultiheadAttention
    before_dense: eqx.nn.LayerNorm
    dense: eqx.nn.MLP

    def __init__(self, key: Array) -> None:
        attention, dense = jax.random.split(key)
        self.before_attention = eqx.nn.LayerNorm(WIDTH)
        self.attention = eqx.nn.MultiheadAttention(
            HEADS, WIDTH, use_query_bias=True, use_value_bias=True, use_output_bias=True, key=attention
        )
        self.before_dense = eqx.nn.LayerNorm(WIDTH)
        self.dense = eqx.nn.MLP(WIDTH, WIDTH, 2 * WIDTH, depth=1, activation=jax.nn.gelu, key=dense)

    def __call__(self, x: Array) -> Array:
        y = jax.vmap(self.before_attention)(x)
        x = x + self.attention(y, y, y, mask=jnp.tril(jnp.ones((len(x), len(x)), bool)))
        return x + jax.vmap(self.dense)(jax.vmap(self.before_dense)(x))


class Transformer(eqx.Module):
    """A decoder: words and places embedded, blocks, and logits of the next word."""

    shared: eqx.nn.Shared | None
    embedding: eqx.nn.Embedding | None
    last: eqx.nn.Linear | None
    place: Array
    blocks: Any
    norm: eqx.nn.LayerNorm
    scanned: bool = eqx.field(static=True)
    remat: bool = eqx.field(static=True)

    def __init__(self, key: Array, scanned: bool = False, remat: bool = False, tied: bool = False) -> None:
        first, place, last, *keys = jax.random.split(key, 3 + LAYERS)
        embedding = eqx.nn.Embedding(VOCABULARY, WIDTH, key=first)
        linear = eqx.nn.Linear(WIDTH, VOCABULARY, use_bias=False, key=last)
        self.shared = eqx.nn.Shared((embedding, linear), lambda pair: pair[1].weight, lambda pair: pair[0].weight)
        self.shared, self.embedding, self.last = (self.shared, None, None) if tied else (None, embedding, linear)
        self.place = 0.1 * jax.random.normal(place, (STEPS, WIDTH))
        self.blocks = eqx.filter_vmap(Block)(jnp.stack(keys)) if scanned else [Block(key) for key in keys]
        self.norm = eqx.nn.LayerNorm(WIDTH)
        self.scanned, self.remat = scanned, remat

    def __call__(self, words: Array) -> Array:
        embedding, last = (self.embedding, self.last) if self.shared is None else self.shared()
        x = jax.vmap(embedding)(words) + self.place
        wrapped: Callable[[Any], Any] = eqx.filter_checkpoint if self.remat else lambda f: f
        if self.scanned:
            arrays, others = eqx.partition(self.blocks, eqx.is_array)

            def step(x: Array, arrays: Any) -> tuple[Array, None]:
                return eqx.combine(arrays, others)(x), None

            x, _ = lax.scan(wrapped(step), x, arrays)
        else:
            for block in self.blocks:
                x = wrapped(block)(x)
        return jax.vmap(last)(jax.vmap(self.norm)(x))


class Recurrent(eqx.Module):
    """A recurrent cell scanned over a sequence, then a dense layer on its last state."""

    cell: Any
    last: eqx.nn.Linear

    def __init__(self, kind: Any, key: Array) -> None:
        cell, last = jax.random.split(key)
        self.cell = kind(FEATURES, WIDTH, key=cell)
        self.last = eqx.nn.Linear(WIDTH, CLASSES, key=last)

    def __call__(self, x: Array) -> Array:
        zeros = jnp.zeros(WIDTH)
        start = (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros
        state, _ = lax.scan(lambda state, row: (self.cell(row, state), None), start, x)
        return self.last(jax.tree.leaves(state)[0])


def _model(made: Callable[[Array], Any], batch: tuple[Array, Array]) -> Model:
    return Model(eqx.filter_eval_shape(made, jax.random.key(0)), *batch, loss)


def _transformer(**options: bool) -> Model:
    return _model(partial(Transformer, **options), models.tokens())


MODELS = {
    "mlp": lambda: _model(lambda key: eqx.nn.MLP(FEATURES, CLASSES, 8, depth=2, key=key), models.vectors()),
    "cnn": lambda: _model(Cnn, models.images()),
    "transformer": _transformer,
    "transformer_scanned": partial(_transformer, scanned=True),
    "transformer_remat": partial(_transformer, remat=True),
    "transformer_tied": partial(_transformer, tied=True, scanned=True, remat=True),
    "lstm": lambda: _model(partial(Recurrent, eqx.nn.LSTMCell), models.sequences()),
    "gru": lambda: _model(partial(Recurrent, eqx.nn.GRUCell), models.sequences()),
}
