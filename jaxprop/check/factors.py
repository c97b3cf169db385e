"""Which factor of which layer is wrong: every layer's backward pass against `jax.vjp` of that layer alone.

A wrong layer spoils the gradient of every parameter before it, so the gradients alone do not say who lied. Here each
layer gets an error dy of its own, drawn at random, and each of its factors is judged by itself.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative
from jaxprop.check.subject import At, both_ways
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
    """The plain walk, noting at every leaf how far each factor is from JAX's own."""

    def keep(self, layer: Layer, x: Any, y: Any, params: Any, env: Env | None) -> tuple[Any, Env | None]:
        """Keep what the leaf is called with."""
        return x, env

    def note(self, layer: Layer, kept: Any, dy: Any, dx: Any, cache: Any, params: Any) -> Judgement:
        """Judge a leaf."""
        x, env = kept
        return Judgement(factor_errors(layer, x, params, env), repr(layer))


def factor_errors(layer: Layer, x: PyTree, params: PyTree, env: Env | None = None) -> dict[str, Array]:
    """Return {factor: max|Δ| / max|reference|} of one layer at x, θ, for an error drawn at random.

    >>> from jaxprop import Sigmoid
    >>> [round(float(e), 3) for e in factor_errors(Sigmoid(), jnp.ones((2, 3)), ()).values()]
    [0.0, 0.0, 0.0]
    """
    y = jax.eval_shape(layer, x, params, env)
    if not is_floating(y):
        return {VALUE: jnp.asarray(relative(layer.forward(x, params, env)[0], layer(x, params, env)))}
    dy = jax.random.normal(jax.random.key(7), y.shape, y.dtype)
    mine, theirs = map(by_path, both_ways(layer, At(x, params, env, dy)))
    return {
        VALUE if path == "y" else factor_of(path): jnp.asarray(relative(mine.get(path, ()), reference))
        for path, reference in theirs.items()
    }


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
