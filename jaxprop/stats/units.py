"""Units that learn nothing, or little: those at which an activation's derivative is 0, or small.

    ∂C/∂z = ∂C/∂a · φ'(z)      where φ'(z) = 0 for every example, no error goes back and no weight before it moves

Dead: φ'(z) is exactly 0. That is z ≤ 0 of a ReLU, |z| > 1 of a HardTanh, z < 0 of a LeakyReLU of slope 0, and of smooth
activations where it underflows or rounds to 0. Saturated: |φ'(z)| ≤ t · max |φ'|, the flat ends of a sigmoid.

A unit is an entry of the last axis; it counts over all examples and positions. Of a softmax, which is not elementwise,
the derivative is ∂y_c/∂z_c = y_c (1 − y_c).
Sources: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), for
saturation; Lu et al., "Dying ReLU and Initialization: Theory and Numerical Examples" (2019).
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PyTree

from jaxprop.backward.manual import Record
from jaxprop.errors import JaxpropError
from jaxprop.layers.activations import Activation, Softmax
from jaxprop.layers.layer import Layer
from jaxprop.stats.blocks import numbers
from jaxprop.stats.quantity import Context, Quantity


class Units(NamedTuple):
    """Hold for the units of one layer where they are flat.

    share: of the examples and positions, at how many a unit is flat, between 0 and 1, `[units]`.
    mask: which units are flat at all of them, `[units]`.    fraction: how many units that are, between 0 and 1.

    Inside a `Repeat` each has a leading axis L.

    >>> Units._fields
    ('share', 'mask', 'fraction')
    """

    share: Float[Array, " units"]
    mask: Bool[Array, " units"]
    fraction: Float[Array, ""]


@dataclass(frozen=True)
class _FlatUnits(Quantity):
    """What dead and saturated units share: where |φ'(z)| is not above a bound."""

    notes: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    def bound(self, layer: Layer, dtype: jnp.dtype) -> Array | float:
        """Return the |φ'| up to which a unit counts."""
        return 0.0

    def note(self, layer: Layer, record: Record) -> Units | None:
        """Count an activation's units; of other layers there is nothing to say."""
        if not isinstance(layer, Activation | Softmax):
            return None
        slope = _own(record.derivative, record.y.ndim)
        slope = slope.reshape(-1, slope.shape[-1] if slope.ndim > 1 else 1)
        flat = jnp.abs(slope) <= self.bound(layer, slope.dtype)
        mask = jnp.all(flat, axis=0)
        return Units(jnp.mean(flat, axis=0, dtype=float), mask, jnp.mean(mask, dtype=float))

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> dict[str, Units]:
        """Return what was found at every activation."""
        return {path: units for path, units in notes.items() if units is not None}

    def scalars(self, found: dict[str, Units]) -> dict[str, Array]:
        """Return the fraction of every activation, and of every block of a `Repeat`."""
        return numbers({path: units.fraction for path, units in found.items()})


@dataclass(frozen=True)
class DeadUnits(_FlatUnits):
    """Find the units of every activation whose derivative is exactly 0 for every example: {path: Units}.

    A batch is a sample: a unit that is dead on 64 rows may live on others. `share` tells how close each one is, and of
    a ReLU it is how sparse the unit is.

    >>> import jax, jaxprop as jp
    >>> net, x = jp.Chain(jp.ReLU()), jnp.array([[1.0, -1.0, -2.0], [3.0, 2.0, -1.0]])
    >>> (dead,) = jp.stats.collect(net, jp.HalfSquaredError(), [DeadUnits()])(x, ((),), x).found
    >>> print(dead["0"].share, dead["0"].mask, dead["0"].fraction)
    [0.  0.5 1. ] [False False  True] 0.3333...
    """


@dataclass(frozen=True)
class SaturatedUnits(_FlatUnits):
    """Find the units of every activation at whose flat ends they are: {path: Units}.

    Args:
        threshold: t, the share of the largest |φ'| up to which a unit counts as saturated, between 0 and 1. With 0.05
            that is |z| > 4.4 for a sigmoid and |z| > 2.2 for a tanh. The largest is sought in −10 ≤ z ≤ 10.

    Raises:
        JaxpropError: `threshold` is not between 0 and 1.

    >>> import jax, jaxprop as jp
    >>> net, x = jp.Chain(jp.Sigmoid()), jnp.array([[0.0, 4.0, -5.0], [1.0, 5.0, -6.0]])
    >>> (found,) = jp.stats.collect(net, jp.HalfSquaredError(), [SaturatedUnits()])(x, ((),), x).found
    >>> print(found["0"].share, found["0"].mask)
    [0.  0.5 1. ] [False False  True]
    """

    threshold: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise JaxpropError(f"SaturatedUnits: threshold must be from 0 to below 1, found {self.threshold}")

    def bound(self, layer: Layer, dtype: jnp.dtype) -> Array:
        """Return t · max |φ'|, the largest found by looking: an activation of one's own need not say it."""
        z = jnp.linspace(-10, 10, 2001, dtype=dtype)
        y, cache = layer.forward(jnp.stack([z, -z], axis=1), ())  # two columns: a softmax needs another one
        slope = _own(getattr(layer, "derivative")(cache), y.ndim)  # noqa: B009
        return self.threshold * jnp.nanmax(jnp.abs(slope)).astype(dtype)


def _own(derivative: Array, ndim: int) -> Array:
    """φ' of every unit with respect to its own z: a softmax's derivative has an axis more."""
    return derivative if derivative.ndim == ndim else jnp.diagonal(derivative, axis1=-2, axis2=-1)
