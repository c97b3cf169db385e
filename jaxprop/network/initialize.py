"""θ of a whole network drawn by one program.

Run by itself, every draw of every shape is a program of its own, and XLA takes half a second over each: a small ResNet
waits nine seconds for its first θ. Traced together they are one program. It runs once, so that on a CPU it is compiled
without the optimisations that would take longer than they save.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import TypeVar

import jax
from jax import Array
from jax.core import Tracer
from jaxtyping import Key, PyTree

from jaxprop.arrays.one_run import compiled_for_one_run
from jaxprop.layers.layer import Layer

# On one core drawing takes 60 ns an entry instead of 3, and optimising it 0.3 s an array: what is not optimised loses
# above some millions of entries an array.
FEW = 4_000_000

Made = TypeVar("Made")


def in_one_program(init: Callable[..., Made]) -> Callable[..., Made]:
    """Make a combinator's `init(self, key, x)` one compiled program where it is called by itself.

    Inside another trace (`jit`, `eval_shape`, another combinator) it is what it was, as it is without a key, with JAX's
    jit disabled, or where JAX looks for keys used twice. θ is the same either way, but for the rounding that XLA's
    optimisations bring. An `init` that JAX cannot trace runs as it is: one that reads the numbers of x, say, or that of
    a layer that cannot be hashed.

    >>> from jaxprop.layers import Linear
    >>> from jaxprop.network import Chain
    >>> Chain(Linear(2), Linear(1)).init(jax.random.key(0), jax.ShapeDtypeStruct((4, 3), "float32"))[1].W.shape
    (2, 1)
    """

    @functools.partial(jax.jit, static_argnums=(0, 1, 2))
    def draw(net: Layer, tree: PyTree, specs: tuple[jax.ShapeDtypeStruct, ...], key: Key[Array, ""]) -> Made:
        return init(net, key, jax.tree.unflatten(tree, specs))

    @functools.wraps(init)
    def whole(self: Layer, key: Key[Array, ""] | None, x: PyTree) -> Made:
        traced_already = key is not None and isinstance(jax.random.clone(key), Tracer)
        in_steps = any(getattr(jax.config, f"jax_{setting}") for setting in ("disable_jit", "debug_key_reuse"))
        if key is None or traced_already or in_steps:
            return init(self, key, x)
        program, few = None, False
        with contextlib.suppress(Exception):  # what it is, `init` itself says, or does without
            leaves, tree = jax.tree.flatten(x)
            specs = tuple(jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves)
            traced = draw.trace(self, tree, specs, key)
            shapes = [leaf.shape for leaf in jax.tree.leaves(traced.out_info)]
            drawn = sum(len(shape) > 1 for shape in shapes)  # biases and scales are not
            program, few = traced.lower(), sum(map(math.prod, shapes)) <= FEW * max(1, drawn)
        if program is None:
            return init(self, key, x)
        return (compiled_for_one_run(program, many_kernels=True) if few else program.compile())(key)

    return whole
