"""Several layers on one x, joined: by sum, side by side, or by product.

Forward:   y = Σ_k f_k(x)          y = [f_1(x), f_2(x), …]           y = Π_k f_k(x)
Backward:  dy_k = dy               dy_k = the k-th part of dy        dy_k = dy · Π_{j≠k} f_j(x)
           dx = Σ_k dy_k · ∂f_k/∂x, for x reaches C through every branch.

The product is a gate (a gated linear unit, say): each branch's error is scaled by what the others let through.
Edge cases: concatenation is along the last axis, all other axes must agree; sums and products need one shape.
"""

import functools
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import join, place
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.initialize import in_one_program
from jaxprop.network.walk import Combinator, Pulled, Pushed, Walk, add_errors, as_one, split

Join = Literal["sum", "concatenate", "multiply"]


@jax.tree_util.register_static
@dataclass(frozen=True)
class Widths:
    """How many features each branch gave: a static fact that backward needs."""

    sizes: tuple[int, ...]


@dataclass(frozen=True, init=False)
class Parallel(Combinator):
    """Apply several layers to one x and join what they give; θ is the tuple of theirs.

    Args:
        branches: one or more layers, or a list of them.
        join: "sum" (the default), "concatenate" along the last axis, or "multiply".

    Raises:
        JaxpropError: a branch is no layer, or there is none.
        ShapeError: the branches give shapes or dtypes that cannot be joined.

    >>> from jaxprop.layers import Identity, Sigmoid
    >>> print(Parallel(Identity(), Sigmoid(), join="multiply")(jnp.array([[0.0, 2.0]]), ((), ())))
    [[0.        1.761...]]
    """

    branches: tuple[Layer, ...]
    join: Join

    def __init__(self, *branches: Layer, join: Join = "sum") -> None:
        self._keep(branches=as_one(branches), join=join)

    def __post_init__(self) -> None:
        if not self.branches:
            raise JaxpropError("Parallel: found no layers, expected one or more layers")

    def children(self) -> tuple[Layer, ...]:
        """Return the branches."""
        return self.branches

    def with_children(self, children: Sequence[Layer]) -> "Parallel":
        """Return other branches, joined in the same way."""
        return Parallel(*children, join=self.join)

    @in_one_program
    def init(self, key: Key[Array, ""] | None, x: PyTree) -> tuple[PyTree, ...]:
        """Return θ of every branch, each drawn with a key of its own."""
        keys = [None] * len(self.branches) if key is None else jax.random.split(key, len(self.branches))
        return tuple(branch.init(k, x) for branch, k in zip(self.branches, keys, strict=True))

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> Array:
        """Return the joined y and keep nothing."""
        self.check_params(params, "")
        envs = split(env, len(self.branches))
        return self._joined([f(x, p, e) for f, p, e in zip(self.branches, params, envs, strict=True)], "")

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go through every branch, then join; a product keeps what the branches gave."""
        self.check_params(params, path)
        parts = zip(self.branches, params, split(env, len(self.branches)), strict=True)
        done = [walk.push(f, x, p, e, join(path, k)) for k, (f, p, e) in enumerate(parts)]
        ys, caches = [y for y, _ in done], tuple(cache for _, cache in done)
        kept = {"sum": (), "concatenate": Widths(tuple(y.shape[-1] for y in ys)), "multiply": tuple(ys)}[self.join]
        return self._joined(ys, path), (caches, kept)

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Share dy out among the branches and sum what comes back."""
        caches, kept = cache
        errors, uses, notes = [], [], {}
        for k, (branch, p, dy_k) in reversed(
            list(enumerate(zip(self.branches, params, self._shares(dy, kept), strict=True)))
        ):
            dx, branch_uses, branch_notes = walk.pull(branch, dy_k, caches[k], p, join(path, k))
            errors.append(dx)
            uses.append(branch_uses)
            notes |= branch_notes
        return add_errors(*errors), tuple(reversed(uses)), notes

    def _shares(self, dy: Array, kept: PyTree) -> list[Array]:
        """∂C/∂f_k(x) for every branch."""
        if self.join == "concatenate":
            return jnp.split(dy, np.cumsum(kept.sizes)[:-1], axis=-1)
        if self.join == "sum":
            return [dy] * len(self.branches)
        return [functools.reduce(operator.mul, kept[:k] + kept[k + 1 :], dy) for k in range(len(kept))]

    def _joined(self, ys: list[Array], path: str) -> Array:
        last = -1 if self.join == "concatenate" else None
        if len({(y.shape[:last], y.dtype) for y in ys}) > 1:
            found = ", ".join(f"{y.dtype}{list(y.shape)}" for y in ys)
            raise ShapeError(
                f"{place('Parallel', path)}: the branches gave {found}; {self.join!r} needs "
                + ("all axes but the last to agree" if last else "one shape and dtype")
            )
        if self.join == "concatenate":
            return jnp.concatenate(ys, axis=-1)
        return functools.reduce(operator.add if self.join == "sum" else operator.mul, ys)
