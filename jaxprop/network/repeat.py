"""y = f(… f(f(x, θ_1), θ_2) …, θ_L): one layer L times, each time with parameters of its own, as one `lax.scan`.

Forward:   x_l = f(x_{l−1}, θ_l)        l = 1 … L
Backward:  δ_{l−1} = δ_l · ∂f/∂x_{l−1}   l = L … 1, the same scan run backwards

θ is stacked: every array of f's with a leading axis L. The program holds f once, so compile time does not grow with
depth. A use is closed inside the backward scan, the moment it arises: then only gradients are carried out of it and not
L pairs (a, δ), which halves the memory.

Edge cases: f must keep x's shape and dtype.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Key, PyTree

from jaxprop.arrays.paths import join, place
from jaxprop.checks import check_whole
from jaxprop.errors import ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.network.initialize import in_one_program
from jaxprop.network.walk import Inner, Pulled, Pushed, Walk, Wrapper
from jaxprop.uses import Stacked, is_use


@dataclass(frozen=True)
class Repeat(Wrapper):
    """Apply one layer `times` times in a row, each time with its own parameters, as one scan.

    θ is stacked, `Inner(inner=θ [L, ...])` with L = `times`.

    Args:
        inner: the block, any layer that keeps x's shape and dtype.
        times: L, a whole number ≥ 1.

    Raises:
        JaxpropError: `times` is no whole number ≥ 1.
        ShapeError: the block does not keep the shape, or params are not stacked `times` high.

    >>> from jaxprop.layers import Linear
    >>> x = jnp.ones((2, 3))
    >>> params = Repeat(Linear(3), 5).init(jax.random.key(0), x)
    >>> params.inner.W.shape, Repeat(Linear(3), 5)(x, params).shape
    ((5, 3, 3), (2, 3))
    """

    times: int

    def __post_init__(self) -> None:
        check_whole(self.times, "Repeat: times")

    def with_children(self, children: Sequence[Layer]) -> "Repeat":
        """Return another block, as many times."""
        return Repeat(children[0], self.times)

    @in_one_program
    def init(self, key: Key[Array, ""] | None, x: PyTree) -> Inner:
        """Return parameters drawn anew for every block, stacked."""
        if key is None:
            once = self.inner.init(None, x)
            return Inner(jax.tree.map(lambda p: jnp.stack([p] * self.times), once))
        return Inner(jax.vmap(lambda k: self.inner.init(k, x))(jax.random.split(key, self.times)))

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> PyTree:
        """Scan forward and keep nothing."""

        def block(x: PyTree, step: PyTree) -> tuple[PyTree, None]:
            p, key = step
            return self._kept(x, self.inner(x, p, _with_key(env, key)), ""), None

        return jax.lax.scan(block, x, self._steps(params, env, ""))[0]

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Scan forward; the caches come out stacked."""

        def block(x: PyTree, step: PyTree) -> tuple[PyTree, PyTree]:
            p, key = step
            y, cache = walk.push(self.inner, x, p, _with_key(env, key), join(path, "inner"))
            return self._kept(x, y, path), cache

        return jax.lax.scan(block, x, self._steps(params, env, path))

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Scan backward; every step closes its uses."""

        def block(dy: PyTree, step: PyTree) -> tuple[PyTree, PyTree]:
            p, cache = step
            dx, uses, notes = walk.pull(self.inner, dy, cache, p, join(path, "inner"))
            return dx, (walk.close_all(uses, join(path, "inner")), notes)

        dx, (uses, notes) = jax.lax.scan(block, dy, (params[0], cache), length=self.times, reverse=True)
        stacked = jax.tree.map(
            lambda use: Stacked(use, (self.times, *use.shape), use.dtype) if is_use(use) else use, uses, is_leaf=is_use
        )
        return dx, Inner(stacked), notes

    def _steps(self, params: PyTree, env: Env | None, path: str) -> tuple[PyTree, PyTree]:
        """What the scan goes through: parameters and keys."""
        self.check_params(params, path)
        where = place(self, path)
        heights = {leaf.shape[:1] for leaf in jax.tree.leaves(params)}
        if heights - {(self.times,)}:
            raise ShapeError(
                f"{where}: params must be stacked with a leading axis of {self.times}, found arrays "
                f"{sorted(leaf.shape for leaf in jax.tree.leaves(params))}; make them with net.init(key, x)"
            )
        keys = None if env is None or env.rng is None else jax.random.split(env.rng, self.times)
        return (params[0], keys) if keys is not None or heights else (params[0], jnp.arange(self.times))

    def _kept(self, x: PyTree, y: PyTree, path: str) -> PyTree:
        found, expected = (jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", tree) for tree in (y, x))
        if found != expected:
            where = place(self, path)
            raise ShapeError(f"{where}: the block makes {found} of {expected}; it must keep shape and dtype")
        return y


def _with_key(env: Env | None, key: Key[Array, ""]) -> Env | None:
    return env if env is None or env.rng is None else env._replace(rng=key)
