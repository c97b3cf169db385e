"""What can be asked of a use: the one table that `check_layer`, the battery and the tests of whole networks read.

A new quantity is a method of `Use` (and of the kinds of use that have a shorter way) and one row here. With the row it
is checked against `jax.vmap(jax.grad)` for every layer, every network and every stack of uses, and the memory of its
compiled program is measured.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, PyTree

from jaxprop.uses import Use, is_use

Weights = Float[Array, " N"]


@dataclass(frozen=True)
class Quantity:
    """One quantity of a use, and the same computed from per-example gradients `[N, *shape]`.

    by_use(use, weights), by_examples(gradients, weights): weights are `[N]`; what has no weights leaves them alone.
    builds_examples: whether it holds an array `[N, *shape]`; all others must get by in less memory.
    """

    by_use: Callable[[Use, Weights], Array]
    by_examples: Callable[[Array, Weights], Array]
    builds_examples: bool = False


QUANTITIES = {
    "per-example gradients": Quantity(lambda use, _: use.per_example(), lambda g, _: g, builds_examples=True),
    "squared norms": Quantity(
        lambda use, _: use.squared_norms(), lambda g, _: jnp.sum(g * g, axis=tuple(range(1, g.ndim)))
    ),
    "norms with the total": Quantity(
        lambda use, w: use.total_and_norms(w)[1], lambda g, _: jnp.sum(g * g, axis=tuple(range(1, g.ndim)))
    ),
    "total with the norms": Quantity(lambda use, w: use.total_and_norms(w)[0], lambda g, w: jnp.tensordot(w, g, 1)),
    "second moment": Quantity(lambda use, w: use.second_moment(w), lambda g, w: jnp.tensordot(w, g * g, 1)),
    "dots": Quantity(
        lambda use, _: use.dots(_direction(use.shape, use.dtype)),
        lambda g, _: jnp.sum(g * _direction(g.shape[1:], g.dtype), axis=tuple(range(1, g.ndim))),
    ),
    "mean gradient": Quantity(lambda use, _: use.gradient(), lambda g, _: jnp.mean(g, axis=0)),
    "weighted gradient": Quantity(lambda use, w: use.gradient(w), lambda g, w: jnp.tensordot(w, g, 1)),
}


def _direction(shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """A V to take products with: cos 0, cos 1, …"""
    return jnp.cos(jnp.arange(math.prod(shape), dtype=dtype)).reshape(shape)


def by_uses(uses: PyTree, weights: Weights) -> dict[str, PyTree]:
    """Return every quantity of every use of a tree: {name: the tree with an array for each use}.

    >>> from jaxprop.uses import Shift
    >>> use = Shift(jnp.array([[2.0], [4.0]]), (1,), jnp.float32)
    >>> {name: array.tolist() for name, array in by_uses(use, jnp.array([1.0, 0.0])).items()}["weighted gradient"]
    [2.0]
    """
    return {
        name: jax.tree.map(lambda use, quantity=quantity: quantity.by_use(use, weights), uses, is_leaf=is_use)
        for name, quantity in QUANTITIES.items()
    }


def by_examples(gradients: PyTree, weights: Weights) -> dict[str, PyTree]:
    """Return the same from the gradients of every example, a tree of arrays `[N, *shape]`.

    >>> found = by_examples(jnp.array([[2.0], [4.0]]), jnp.ones(2))
    >>> found["squared norms"].tolist(), found["mean gradient"].tolist(), found["weighted gradient"].tolist()
    ([4.0, 16.0], [3.0], [6.0])
    """
    return {
        name: jax.tree.map(lambda g, quantity=quantity: quantity.by_examples(g, weights), gradients)
        for name, quantity in QUANTITIES.items()
    }


def some_weights(examples: int, dtype: jnp.dtype) -> Weights:
    """Return weights of both signs to try a weighted quantity with, `[N]`: w_n = cos n.

    >>> some_weights(2, jnp.float32).shape
    (2,)
    """
    return jnp.cos(jnp.arange(examples, dtype=dtype))
