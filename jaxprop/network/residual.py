"""y = x + f(x): the way around a layer.

Forward:   y = x + f(x, θ)
Backward:  x reaches C by two ways, so its error is their sum:  dx = dy + dy · ∂f/∂x

The first term is why deep residual networks train: whatever f does, dy arrives undiminished.
Edge cases: f must keep x's shape and dtype; for a shortcut of another shape use `Parallel(f, shortcut)`.
Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition" (2015), eq. 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.arrays.paths import join, place
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.walk import Inner, Pulled, Pushed, Walk, Wrapper, add_errors


@dataclass(frozen=True)
class Residual(Wrapper):
    """Add a layer's output to its input: y = x + f(x). θ is `Inner(inner=θ_f)`.

    Args:
        inner: f, any layer that keeps x's shape and dtype.

    Raises:
        ShapeError: f does not keep them, or x is not one array.

    >>> from jaxprop.layers import Tanh
    >>> print(Residual(Tanh())(jnp.array([[0.0, 50.0]]), ((),)))
    [[ 0. 51.]]
    """

    def with_children(self, children: Sequence[Layer]) -> "Residual":
        """Return a residual around another layer."""
        return Residual(children[0])

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> PyTree:
        """Return x + f(x) and keep nothing."""
        self.check_params(params, "")
        return self._sum(x, self.inner(x, params[0], env), "")

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go through f, and around it."""
        self.check_params(params, path)
        y, cache = walk.push(self.inner, x, params[0], env, join(path, "inner"))
        return self._sum(x, y, path), cache

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go both ways back and sum the errors."""
        dx, uses, notes = walk.pull(self.inner, dy, cache, params[0], join(path, "inner"))
        return add_errors(dy, dx), Inner(uses), notes

    def _sum(self, x: PyTree, y: PyTree, path: str) -> PyTree:
        if not hasattr(x, "dtype"):
            raise ShapeError(f"{place(self, path)}: found x of {len(x)} arrays, expected one, for x + f(x)")
        if jnp.shape(x) != jnp.shape(y) or x.dtype != y.dtype:
            raise ShapeError(
                f"{place(self, path)}: found x {x.dtype}{list(x.shape)} and f(x) "
                f"{y.dtype}{list(y.shape)}, expected the same; for another shape use Parallel(f, shortcut)"
            )
        return x + y
