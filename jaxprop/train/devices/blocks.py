"""θ of the blocks of a `Repeat` gathered block by block, as `fsdp` has it divided: one block is whole at a time.

Forward the scan gathers a block's arrays and uses them; on the way back it gathers them again. None is kept for the
way back: the hand-written pass asks for θ anew anyway, and `jax.checkpoint` tells `jax.grad` to keep all that it would,
but these.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, join
from jaxprop.layers import Conv
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Combinator, Repeat, Walk, leaves
from jaxprop.network.walk import Pulled, Pushed

Gather = Callable[[PyTree], PyTree]


@dataclass(frozen=True)
class Gathering(Combinator):
    """A block as it is, with its θ gathered as it is used; its params are the block's own."""

    inner: Layer
    gather: Gather

    def children(self) -> tuple[Layer, ...]:
        """Return the block."""
        return (self.inner,)

    def with_children(self, children: Sequence[Layer]) -> "Gathering":
        """Return the same around another block."""
        return Gathering(children[0], self.gather)

    def __call__(self, x: PyTree, params: PyTree, env: Env | None = None) -> PyTree:
        """Return f(x); what `jax.grad` keeps is what it kept, but for gathered arrays."""

        def run(x: PyTree, params: PyTree, env: Env | None) -> PyTree:
            return self.inner(x, self.gather(params), env)

        return jax.checkpoint(run, policy=_kept)(x, params, env)

    def push(self, walk: Walk, x: PyTree, params: PyTree, env: Env | None, path: str) -> Pushed:
        """Go forward through the block."""
        return walk.push(self.inner, x, self.gather(params), env, path)

    def pull(self, walk: Walk, dy: PyTree, cache: PyTree, params: PyTree, path: str) -> Pulled:
        """Go back through it."""
        return walk.pull(self.inner, dy, cache, self.gather(params), path)


def _kept(primitive: Any, *_: Any, **__: Any) -> bool:
    """Whether `jax.grad` may keep what a primitive gives: all but what is gathered, which is said by a constraint."""
    return primitive.name != "sharding_constraint"


def gathers(block: Layer) -> bool:
    """Tell whether a block can be gathered so: XLA ends the process over a grouped convolution in pieces."""
    return not any(isinstance(leaf.layer, Conv) and leaf.layer.groups > 1 for leaf in leaves(block))


def gathering(net: Layer, gather: Callable[[Layer], Gather]) -> Layer:
    """Return a network whose `Repeat`s gather the θ of a block as they come to it."""
    if isinstance(net, Repeat):
        return net.with_children([Gathering(net.inner, gather(net.inner))]) if gathers(net.inner) else net
    if not isinstance(net, Combinator):
        return net
    children = [gathering(child, gather) for child in net.children()]
    return net if all(a is b for a, b in zip(children, net.children(), strict=True)) else net.with_children(children)


def paths_in_blocks(net: Layer, params: PyTree) -> tuple[str, ...]:
    """Return the paths of the arrays that `gathering` gathers block by block.

    >>> from jaxprop import Chain, Linear
    >>> net = Chain(Linear(2), Repeat(Linear(2, bias=False), 3))
    >>> params = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 2), "float32"))
    >>> paths_in_blocks(net, params)
    ('1.inner.W',)
    """
    found = []
    for leaf in leaves(net, params):
        repeats = [around for _, around in leaf.inside if isinstance(around, Repeat)]
        if repeats and gathers(repeats[0].inner):
            found += [join(leaf.path, name) for name in by_path(leaf.params)]
    return tuple(found)
