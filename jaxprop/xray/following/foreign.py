"""`foreign`: the uses of all parameters of a function that jaxprop did not write, examples apart.

    1  trace     one example of f becomes a program (`examples.py`)
    2  forward   that program is run for every example by vmap, with probes where parameters are used
    3  pull      for an error dy: one way back, which leaves the uses, or what `close` keeps of them

The way forward is gone once, however many errors are pulled back: what it leaves is kept as jaxprop's layers keep their
caches, one array for all examples where it does not depend on the example.
"""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.varying import vary_with
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.uses import Dense, Use
from jaxprop.uses.stacked import in_blocks
from jaxprop.xray.arguments import ArgNums, check_asked, is_inexact
from jaxprop.xray.following.closing import Closing, Landings, closed_inside
from jaxprop.xray.following.examples import InAxes, OneExample, one_example
from jaxprop.xray.following.follow import Place, follow
from jaxprop.xray.following.forward import Forward
from jaxprop.xray.following.joining import Landed, unreached, use_of
from jaxprop.xray.following.probing import landing
from jaxprop.xray.planning import Path

Close = Callable[[Use, str], PyTree]


def foreign(
    f: Callable[..., PyTree], argnums: ArgNums = 0, in_axes: InAxes = (None, 0, 0)
) -> Callable[..., "ForeignPass"]:
    """Return the function that runs f(params, x, y) of ONE example for all of them: a `ForeignPass`.

    It is called as `jax.vmap(jax.grad(f, argnums), in_axes)(*args)` is. f may return any tree of real arrays.
    """
    check_asked(f, argnums)
    if hasattr(f, "init") and hasattr(f, "apply"):
        raise JaxpropError(
            f"f: found {type(f).__name__}, a module of Flax, expected a function f(params, x, y) of one example, which "
            "calls model.apply(params, x)"
        )
    if argnums is None:
        raise JaxpropError("argnums: found None, expected the arguments to differentiate, as for jax.grad")

    def forward(*args: Any, **kwargs: Any) -> ForeignPass:
        return ForeignPass(one_example(f, argnums, in_axes, args, kwargs))

    return forward


class ForeignPass:
    """The way forward through a function, and the ways back.

    y: what f returns, of every example, `[N, ...]`.    params: θ, as `jax.grad` would return gradients.
    examples: N.
    """

    def __init__(self, traced: OneExample) -> None:
        self.traced, self.examples = traced, traced.examples
        _check_real(traced.returned)
        self.followed = follow(traced)
        self.params = self._tree({i: traced.inputs[i] for i in traced.asked})

    @cached_property
    def y(self) -> PyTree:
        """What f returns, of every example."""
        return self._plainly.y

    @cached_property
    def _plainly(self) -> Forward:
        """The way forward after which everything that lands is kept."""
        return Forward.of(self.traced, self.followed, [])

    def uses(self, dy: PyTree) -> PyTree:
        """Go back with the error dy, of the tree and shapes of y: the tree of θ, a `Use` at each leaf.

        dy may be a function of y, too.
        """
        return self._tree(self._uses(self._plainly, dy, self.traced.asked)[0])

    def close(self, dy: PyTree, close: Close) -> PyTree:
        """Go back with the error dy; the tree of θ with what `close(use, path)` keeps of each use.

        A leaf that a scan goes over is closed a step at a time, where its uses arise; what is kept of it has these
        steps as its first axis. Then f is run once more for y, unless dy is a function of y.
        """
        closings, inside = self._closings(close)
        if not closings:
            forward = self._plainly
        else:
            forward = Forward.of(self.traced, self.followed, closings)
            self.__dict__.setdefault("y", forward.y)
        outside = [i for i in self.traced.asked if i not in inside]
        uses, kept = self._uses(forward, dy, outside)
        closed = {i: in_blocks(lambda block, i=i: close(block, self.traced.paths[i]), use) for i, use in uses.items()}
        return self._tree(closed | kept)

    def _uses(self, forward: Forward, dy: PyTree, leaves: list[int]) -> tuple[dict[int, Use], dict[int, PyTree]]:
        """Pull an error back; the uses of these leaves, and what was kept of others."""
        gradients, landed, kept = forward.pull(self._errors(dy(forward.y) if callable(dy) else dy, forward.y))
        found: dict[int, Use] = {}
        for i in leaves:
            one = self.traced.one(i)
            if i in self.followed.lost:
                found[i] = Dense(gradients[i], one.shape, one.dtype)
            elif i in self.followed.unreached:
                found[i] = unreached(one.shape, one.dtype, vary_with(jnp.zeros(self.examples), self.traced.inputs))
            else:
                found[i] = self._use(i, landed, forward.ids)
        return found, kept

    def _use(self, leaf: int, landed: Landings, ids: dict[Path, Array], within: int = 0) -> Use:
        """Make the use of a leaf of what landed; `within` is the number of scans that are entered already."""
        one, places = self.traced.one(leaf), self._places([leaf])
        each = [Landed(landed[p].get("a"), landed[p]["delta"], ids.get(p)) for p in places]
        return use_of(leaf, one.shape[within:], one.dtype, list(places.values()), each, within)

    def _places(self, leaves: list[int]) -> dict[Path, Place]:
        """Where any of these leaves meets something."""
        return {p: place for p, place in self.followed.places.items() if any(x.leaf in leaves for x in place.parts)}

    def _closings(self, close: Close) -> tuple[list[Closing], set[int]]:
        """What is closed inside scans, and which leaves."""
        closings = [
            closing
            for path, leaves in closed_inside(self.followed, self.traced.asked).items()
            if (closing := self._closing(path, leaves, close)) is not None
        ]
        return closings, {leaf for closing in closings for leaf in closing.kept}

    def _closing(self, path: Path, leaves: list[int], close: Close) -> Closing | None:
        inside = self._places(leaves)
        scans = [scan for scan in next(iter(inside.values())).scans if scan.path == path[: len(scan.path)]]

        def kept(landed: Landings) -> dict[int, PyTree]:
            return {i: close(self._use(i, landed, {}, len(scans)), self.traced.paths[i]) for i in leaves}

        raw = {p: landing(place, {scan.path for scan in scans}) for p, place in inside.items()}
        closing = Closing(path, raw, self.examples, self.traced.inputs, kept, [scan.length for scan in scans])
        return closing if all(is_inexact(s) for s in jax.tree.leaves(closing.kept)) else None

    def _tree(self, found: dict[int, Any]) -> PyTree:
        return self.traced.as_gradient([found.get(i) for i in range(len(self.traced.inputs))])

    def _errors(self, dy: PyTree, y: PyTree) -> list[Any]:
        expected = jax.tree.map(lambda y: jax.ShapeDtypeStruct(y.shape, y.dtype), y)
        if jax.tree.structure(dy) != jax.tree.structure(expected) or not all(
            jnp.shape(d) == y.shape for d, y in zip(jax.tree.leaves(dy), jax.tree.leaves(expected), strict=True)
        ):
            raise ShapeError(f"dy: found {jax.tree.map(jnp.shape, dy)}, expected the shapes of y: {expected}")
        return [jnp.asarray(d, y.dtype) for d, y in zip(jax.tree.leaves(dy), jax.tree.leaves(y), strict=True)]


def _check_real(returned: PyTree) -> None:
    leaves = jax.tree.leaves(returned)
    if not leaves or not all(is_inexact(leaf) for leaf in leaves):
        found = ", ".join(f"{leaf.dtype}{list(leaf.shape)}" for leaf in leaves) or "nothing"
        raise ShapeError(f"f returns {found} for one example, expected real numbers")
