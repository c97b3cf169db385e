"""How large a step is, measured by what it changes: RMS of the update ÷ RMS of the weight, for every parameter.

    r = √(mean_i u_i²) / √(mean_i θ_i²)            u = −η g for plain gradient descent

About 0.001 is a rule of thumb for a healthy run: at 0.1 a few steps replace a weight, at 1e-6 it hardly learns. Biases
start at 0, and then r is infinite.
Source: Karpathy, CS231n lecture notes, "Babysitting the learning process: ratio of weights:updates" (2015).
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.paths import by_path
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.stats.blocks import by_block, numbers
from jaxprop.stats.quantity import Context, Quantity


@dataclass(frozen=True)
class UpdateToWeight(Quantity):
    """Divide the RMS of every parameter's update by the RMS of the parameter: a number in each array's place.

    In `fit(..., monitor={"updates": UpdateToWeight()})` the update is the one that the optimizer makes of the step.
    Elsewhere there is none, and `learning_rate` says that it is gradient descent's. An array of a `Repeat` has one
    ratio a block, `[L]`.

    Args:
        learning_rate: η of an update −η g; None for the optimizer's own.

    Raises:
        JaxpropError: there is neither an optimizer nor a learning rate, or the rate is none.

    >>> import jaxprop as jp
    >>> net, x = jp.Linear(1, bias=False), jnp.array([[2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[10.0]]))
    >>> run = jp.stats.collect(net, jp.HalfSquaredError(), [UpdateToWeight(learning_rate=0.01)])
    >>> print(run(x, params, jnp.array([[15.0]])).found[0].W)  # g = (20 − 15) · 2, so that u = −0.1
    0.01
    """

    mixes: ClassVar[bool] = True

    learning_rate: float | None = None

    def __post_init__(self) -> None:
        if self.learning_rate is not None and not 0 < self.learning_rate < math.inf:
            raise JaxpropError(f"UpdateToWeight: learning_rate must be positive, found {self.learning_rate}")

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Take the update of gradient descent."""
        if self.learning_rate is None:
            raise JaxpropError(
                "UpdateToWeight: outside of fit there is no optimizer: give learning_rate=, for an update of −η times "
                "the gradient, or have fit(..., monitor=) ask for it"
            )
        ratios = update_to_weight(context.net, context.grads, context.params)
        return jax.tree.map(lambda ratio: self.learning_rate * ratio, ratios)

    def scalars(self, found: PyTree) -> dict[str, Array]:
        """Return the ratio of every parameter, and of every block of a `Repeat`."""
        return numbers(by_path(found))


def update_to_weight(net: Layer | None, updates: PyTree, params: PyTree) -> PyTree:
    """Return RMS of the update ÷ RMS of the weight for every array of θ; 0 where nothing moves.

    >>> from jaxprop import Linear, LinearParams
    >>> params = LinearParams(W=jnp.full((1, 1), 2.0), b=jnp.zeros(1))
    >>> ratios = update_to_weight(Linear(1), LinearParams(W=jnp.full((1, 1), 0.5), b=jnp.zeros(1)), params)
    >>> print(ratios.W, ratios.b)
    0.25 0.0
    """

    def ratio(update: Array, weight: Array) -> Array:
        above, below = (jnp.sqrt(jnp.mean(jnp.square(a.astype(wide(a.dtype))))) for a in (update, weight))
        return jnp.where(above == 0, 0.0, above / jnp.where(above == 0, 1.0, below))

    return by_block(net, ratio, updates, params)
