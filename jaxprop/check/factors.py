"""Which factor of which layer is wrong: every layer's backward pass against `jax.vjp` of that layer alone.

A wrong layer spoils the gradient of every parameter before it, so the gradients alone do not say who lied. Here each
layer gets an error dy of its own, drawn at random, and each of its factors is judged by itself.
"""

import functools
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative, relative_beyond
from jaxprop.check.rounding import rounding_of
from jaxprop.check.subject import At, Found, both_ways
from jaxprop.checks import is_floating
from jaxprop.layers.layer import Env, Layer
from jaxprop.network import Recorder

VALUE = "the value (forward and the call differ)"
ACTIVATION = "the derivative of the activation ∂a/∂z"
INPUT = "the way to the input ∂z/∂x"
PARAMETER = "the way to the parameter"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Judgement:
    """A layer's relative error by factor."""

    errors: dict[str, Array]
    layer: str = field(metadata={"static": True})


class Judge(Recorder):
    """The plain walk, noting at every leaf how far each factor is from JAX's own.

    beyond_rounding: whether what the layer's own computation rounds away is left out, which takes longer to compile.
    """

    def __init__(self, beyond_rounding: bool = False):
        self.beyond_rounding = beyond_rounding

    def keep(self, layer: Layer, x: Any, y: Any, params: Any, env: Env | None) -> tuple[Any, Env | None]:
        """Keep what the leaf is called with."""
        return x, env

    def note(self, layer: Layer, kept: Any, dy: Any, dx: Any, cache: Any, params: Any) -> Judgement:
        """Judge a leaf."""
        x, env = kept
        return Judgement(factor_errors(layer, x, params, env, self.beyond_rounding), repr(layer))


def factor_errors(
    layer: Layer, x: PyTree, params: PyTree, env: Env | None = None, beyond_rounding: bool = False
) -> dict[str, Array]:
    """Return {factor: max|Δ| / max|reference|} of one layer at x, θ, for an error drawn at random.

    >>> from jaxprop import Sigmoid
    >>> [round(float(e), 3) for e in factor_errors(Sigmoid(), jnp.ones((2, 3)), ()).values()]
    [0.0, 0.0, 0.0]
    """
    y = jax.eval_shape(layer, x, params, env)
    if not is_floating(y):
        return {VALUE: jnp.asarray(relative(layer.forward(x, params, env)[0], layer(x, params, env)))}
    dy = np.random.default_rng(7).normal(size=y.shape)  # by numpy: nothing is compiled for it
    at = At(x, params, env, jnp.asarray(dy, y.dtype))
    mine, theirs = map(by_path, both_ways(layer, at))
    allowed = (
        by_path(rounding_of(functools.partial(_by_jax_at, layer, at), (at.primals, at.dy))) if beyond_rounding else {}
    )

    def error(path: str, reference: Array) -> Array:
        found = mine.get(path, ())
        if path not in allowed or jnp.shape(found) != reference.shape:
            return jnp.asarray(relative(found, reference))
        difference, scale = jnp.max(jnp.abs(found - reference), initial=0), jnp.max(jnp.abs(reference), initial=0)
        return relative_beyond(difference, scale, allowed[path], jnp)

    return {VALUE if path == "y" else factor_of(path): error(path, reference) for path, reference in theirs.items()}


def _by_jax_at(layer: Layer, at: At, moved: tuple[Found, Array]) -> Found:
    """JAX's own factors at other x, θ and dy."""
    primals, dy = moved
    x = at.x if primals.x is None else primals.x
    return both_ways(layer, at._replace(x=x, params=primals.params, dy=dy))[1]


def factor_of(path: str) -> str:
    """Return the factor of the chain rule whose error an array of a `Found` shows.

    >>> factor_of("x"), factor_of("params.W")
    ('the way to the input ∂z/∂x', 'the way to the parameter ∂z/∂W')
    """
    root, _, rest = path.partition(".")
    if root == "x":
        return INPUT + (f"[{rest}]" if rest else "")
    if root == "params":
        return f"{PARAMETER} ∂z/∂{rest or 'θ'}"
    return ACTIVATION if path == "slope" else path
