"""How far the gradient of a rule points away from that of backpropagation, as training goes: `jp.rules.alignment`."""

from dataclasses import dataclass
from typing import ClassVar

from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.backward.rules.alignment import Angles, angles
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use


@dataclass(frozen=True)
class Alignment(Quantity):
    """Measure the angle between the gradient by a rule and the true one, in degrees: by layer and in total.

    For `fit(..., rule=rule, monitor={"angle": Alignment()})`. Without a rule, or with `Backprop()`, all angles are 0.
    The result is that of `jp.rules.alignment` without the angles of feedback, which a quantity does not see.

    >>> import jax, jax.numpy as jnp, jaxprop as jp
    >>> net, x, rule = jp.Chain(jp.Linear(5), jp.Linear(2)), jnp.ones((3, 4)), jp.rules.FeedbackAlignment()
    >>> params = net.init(jax.random.key(0), x)
    >>> feedback = rule.init(jax.random.key(1), net, params)
    >>> run = jp.stats.collect(net, jp.HalfSquaredError(), [Alignment()], rule=rule)
    >>> (found,) = run(x, params, jnp.zeros((3, 2)), feedback=feedback).found
    >>> print(f"{found.layers['1']:.3f}", bool(found.total > 1))      # the last layer's error is the true one
    0.000 True
    """

    errors: ClassVar[str] = "true"

    @property
    def layered(self) -> bool:
        """Tell that it does: rules are those of layers."""
        return True

    def close(self, use: Use, path: str, weights: Float[Array, " N"] | None) -> Array:
        """Keep the true gradient."""
        return use.total(weights)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> Angles:
        """Compare it with what the rule gave."""
        return Angles(*angles(context.net, context.grads, kept), {})
