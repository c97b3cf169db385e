"""f(x), its cache made again on the way back: memory for time.

Forward keeps x alone. Backward goes forward through f once more, to make what its backward pass needs, and then back.
The numbers are the same; memory falls to the inputs of the blocks and the cache of one of them.

Source: Chen, Xu, Zhang, Guestrin, "Training Deep Nets with Sublinear Memory Cost" (2016); `jax.checkpoint`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jaxtyping import PyTree

from jaxprop.arrays.paths import join
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.walk import Inner, Pulled, Pushed, Walk, Wrapper


@dataclass(frozen=True)
class Remat(Wrapper):
    """Compute f(x) again in the backward pass instead of keeping it; `jax.grad` does so too, by `jax.checkpoint`.

    θ is `Inner(inner=θ_f)`.

    Args:
        inner: f, any layer.

    >>> from jaxprop.layers import Tanh
    >>> print(Remat(Tanh())(jax.numpy.array([[0.0]]), ((),)))
    [[0.]]
    """

    def with_children(self, children: Sequence[Layer]) -> "Remat":
        """Return another layer, recomputed too."""
        return Remat(children[0])

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> PyTree:
        """Return f(x), of which `jax.grad` keeps x alone."""
        self.check_params(params, "")
        return jax.checkpoint(lambda x, p, env: self.inner(x, p, env))(x, params[0], env)

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go forward and keep x and env."""
        self.check_params(params, path)
        y, _ = walk.push(self.inner, x, params[0], env, join(path, "inner"))
        return y, (x, env)

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go forward once more, then back."""
        # the barrier ties the second way forward to dy: else XLA merges it with the first, and keeps everything
        (x, env), dy = jax.lax.optimization_barrier((cache, dy))
        _, made = walk.push(self.inner, x, params[0], env, join(path, "inner"))
        dx, uses, notes = walk.pull(self.inner, dy, made, params[0], join(path, "inner"))
        return dx, Inner(uses), notes
