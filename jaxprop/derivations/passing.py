"""What passed through a network: the numbers at every layer and every combinator, from one compiled program.

`record` goes forward and back once and writes down, at every layer and around every combinator, what went in and came
out, and the errors on both sides. `Node` is a place in the network with its part of that record and of θ.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.one_run import quickly
from jaxprop.arrays.paths import join
from jaxprop.backward import manual
from jaxprop.costs import Cost
from jaxprop.derivations.question import Given
from jaxprop.layers import Env, Layer
from jaxprop.network import Chain, Combinator, Parallel, Remat, Repeat, Residual, Shared, Walk
from jaxprop.network.call import environment
from jaxprop.network.walk import Pulled, Pushed

OPENED = (Chain, Residual, Parallel, Repeat, Shared, Remat)  # whose insides are known here


class Passed(NamedTuple):
    """Hold what went in (x) and came out (y), ∂C/∂y (dy) and ∂C/∂x (dx), and what else the layer was given (env)."""

    x: PyTree
    y: PyTree
    dy: PyTree
    dx: PyTree
    env: Env | None


class Record(NamedTuple):
    """Hold what passed at every path, inside a `Repeat` with a leading axis of its steps, and the uses of θ."""

    passed: dict[str, Passed]
    uses: PyTree


class Everything(Walk):
    """Walk plainly and note what passes at every layer, those made of layers too."""

    def push(self, layer: Layer, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Keep what went in and came out beside the cache."""
        y, cache = super().push(layer, x, params, env, path)
        return y, ((x, y, env), cache)

    def pull(self, layer: Layer, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Note it, with the errors on both sides."""
        (x, y, env), cache = cache
        dx, uses, notes = super().pull(layer, dy, cache, params, path)
        return dx, uses, {**notes, path: Passed(x, y, dy, dx, env)}


def record(net: Layer, cost: Cost, given: Given) -> Record:
    """Return what passed, as numpy arrays; compiled once for a net, whatever is asked of it later."""

    def numbers(leaf: Array) -> Any:
        return leaf if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else np.asarray(leaf)

    return jax.tree.map(numbers, _record(net, cost, given))


@quickly(0, 1)
def _record(net: Layer, cost: Cost, given: Given) -> Record:
    """Where examples are mixed C is the mean of the batch, and every error is already a part of that mean."""
    rows = jax.tree.leaves(given.x)[0].shape[0]
    seed = jnp.full(rows, 1 / rows) if net.mixes_examples else None
    passed = manual.backpropagate(
        Everything(), net, cost, given.x, given.params, given.targets, environment(given.rng, None), seed
    )
    return Record(passed.notes, passed.uses)


@dataclass(frozen=True, eq=False)
class Node:
    """A layer where it stands: its part of the record and of θ, and the node around it; it is child number `place`.

    steps: which step of every `Repeat` around it, outermost first.
    """

    layer: Layer
    params: PyTree
    passed: Passed
    found: dict[str, Passed]
    path: str = ""
    around: "Node | None" = None
    place: int = 0
    steps: tuple[int, ...] = ()

    @property
    def is_opened(self) -> bool:
        """Whether the way is followed through the layers inside."""
        return isinstance(self.layer, OPENED) and bool(self.layer.children())

    def child(self, place: int) -> "Node":
        """Return the layer inside at `place`; of a `Repeat` its step number `place`."""
        assert isinstance(self.layer, Combinator)
        layer, steps = self.layer, self.steps
        number = 0 if isinstance(layer, Repeat) else place
        parts = (layer.filled(self.params, self.path),) if isinstance(layer, Shared) else self.params
        params = parts[number]
        if isinstance(layer, Repeat):
            params, steps = jax.tree.map(lambda a: a[place], params), (*steps, place)
        path = join(self.path, layer.names()[number])
        passed = jax.tree.map(lambda a: a[steps] if steps else a, self.found[path])
        return Node(layer.children()[number], params, passed, self.found, path, self, place, steps)

    def children(self) -> Iterator["Node"]:
        """Yield the layers inside, of a `Repeat` one a step."""
        assert isinstance(self.layer, Combinator)
        times = self.layer.times if isinstance(self.layer, Repeat) else len(self.layer.children())
        yield from map(self.child, range(times))

    def toward(self, path: str) -> "Node | None":
        """Return the layer inside that a parameter's path leads to, None where this is not known."""
        assert isinstance(self.layer, Combinator)
        for place, name in enumerate(self.layer.names()):
            below = join(self.path, name)
            if (path + ".").startswith(below + ".") and below in self.found:
                return self.child(place)
        return None


def root_of(net: Layer, params: PyTree, found: Record) -> Node:
    """Return the node of the whole network."""
    return Node(net, params, found.passed[""], found.passed)
