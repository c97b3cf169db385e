"""How large what goes forward and what comes back is at every layer, and in words where it vanishes or explodes.

    activation   RMS of y                    over examples, positions and units
    error        RMS of dy = ∂C_n/∂y         per example, not divided by N
    gain         log₁₀(RMS dx / RMS dy)      what the layer does to the error that goes back through it
    gradient     RMS of ∂C/∂θ                over all parameters of the layer

Gains add up: after 20 layers of −0.3 the error is 10⁻⁶ of what it was. Source: Glorot and Bengio, "Understanding the
difficulty of training deep feedforward neural networks" (2010).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.paths import by_path, join
from jaxprop.backward.manual import Record
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network import leaves
from jaxprop.stats.blocks import rows
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.tables import Table, Tabular, shown


class LayerFlow(NamedTuple):
    """Hold four numbers of one layer; None for an error of integers, and for a gradient where there are no parameters.

    >>> LayerFlow._fields
    ('activation', 'error', 'gain', 'gradient')
    """

    activation: Float[Array, ""]
    error: Float[Array, ""] | None
    gain: Float[Array, ""] | None
    gradient: Float[Array, ""] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FlowReport(Tabular):
    """Hold `layers`, {label: LayerFlow}, and print them as a table with a verdict in words.

    A label is a layer's path, and inside a `Repeat` the block in brackets: "1.inner.0[2]". `names` has (label, layer)
    in the order of the forward pass.

    >>> tiny = LayerFlow(jnp.array(0.5), jnp.array(1e-6), None, None)
    >>> last = LayerFlow(jnp.array(0.5), jnp.array(0.1), jnp.array(-5.0), None)
    >>> print(FlowReport({"0": tiny, "1": last}, (("0", "Tanh()"), ("1", "Sigmoid()")), 1e-3))
    layer             activation  error   gain  gradient
    0      Tanh()            0.5  1e-06
    1      Sigmoid()         0.5    0.1  -5.00
    The error vanishes at layer 0, Tanh(): there it is 1e-05 of what it is at the last layer.
    The activation neither vanishes nor explodes.
    """

    layers: dict[str, LayerFlow]
    names: tuple[tuple[str, str], ...] = field(metadata={"static": True})
    share: float = field(metadata={"static": True})

    def as_table(self) -> Table:
        """Return a row for every layer, the verdict below."""
        head = ("layer", "", "activation", "error", "gain", "gradient")
        lines = [head, *((label, name, *_cells(self.layers[label])) for label, name in self.names)]
        return Table(lines, range(2, 6), self.verdict())

    def verdict(self) -> list[str]:
        """Return in words whether the error and the activations vanish or explode, and from which layer on."""
        errors, activations = self._sizes("error")[::-1], self._sizes("activation")
        return [
            *_judged("error", errors, self.share, "back to", "the last"),
            *_judged("activation", activations, self.share, "on to", "the first"),
        ]

    def _sizes(self, name: str) -> list[tuple[str, str, float]]:
        found = ((label, layer, getattr(self.layers[label], name)) for label, layer in self.names)
        return [(label, layer, float(np.asarray(size))) for label, layer, size in found if size is not None]


def _judged(what: str, sizes: list[tuple[str, str, float]], share: float, towards: str, start: str) -> Iterator[str]:
    """Say from where to where it vanishes or explodes: sizes come in the order in which they arise."""
    for label, layer, size in sizes:
        if not math.isfinite(size):
            yield f"The {what} is not finite from layer {label}, {layer}, {towards} layer {sizes[-1][0]}."
            return
    if not sizes or sizes[0][2] == 0:
        yield f"There is no {what} at {start} layer to compare with."
        return
    ratios = [(label, layer, size / sizes[0][2]) for label, layer, size in sizes]
    calm = True
    for verb, past in (
        ("vanishes", [found for found in ratios if found[2] < share]),
        ("explodes", [found for found in ratios if found[2] > 1 / share]),
    ):
        if past:
            calm, (first, layer, _), (end, _, last) = False, past[0], past[-1]
            where = f"at layer {first}, {layer}"
            if end != first:
                where = f"from layer {first}, {layer}, {towards} layer {end}"
            size = f"{shown(last, 2)} of what it is at {start} layer" if last else "exactly 0"
            yield f"The {what} {verb} {where}: there it is {size}."
    if calm:
        yield f"The {what} neither vanishes nor explodes."


def _cells(row: LayerFlow) -> list[str]:
    sizes = {name: None if value is None else float(np.asarray(value)) for name, value in row._asdict().items()}
    write = {name: "{:+.2f}".format if name == "gain" else shown for name in sizes}
    return ["" if value is None else write[name](value) for name, value in sizes.items()]


@dataclass(frozen=True)
class Flow(Quantity):
    """Measure activations, errors and gradients at every layer: a `FlowReport`, which prints as a table and in words.

    The error vanishes where it is below `share` of what it is at the last layer, and explodes where it is above
    1 / `share` times that; activations are compared with the first layer's.

    Args:
        share: between 0 and 1, by default a thousandth.

    Raises:
        JaxpropError: `share` is not between 0 and 1.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(*[jp.Linear(8), jp.Sigmoid()] * 8), jnp.ones((5, 3))
    >>> params = net.init(jax.random.key(0), x)
    >>> (flow,) = jp.stats.collect(net, jp.HalfSquaredError(), [Flow()])(x, params, jnp.zeros((5, 8))).found
    >>> print(flow.verdict()[0])
    The error vanishes from layer ..., back to layer 0: there it is ...e-05 of what it is at the last layer.
    """

    notes: ClassVar[bool] = True
    mixes: ClassVar[bool] = True

    share: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise JaxpropError(f"Flow: share must be between 0 and 1, found {self.share}")

    def scalars(self, found: FlowReport) -> dict[str, Array]:
        """Return the four numbers of every row."""
        return {
            join(label, what): number for label, row in found.layers.items() for what, number in by_path(row).items()
        }

    def note(self, layer: Layer, record: Record) -> LayerFlow:
        """Measure y, dy and dx; the gradient comes later."""
        activation, error, passed = _rms(record.y), _rms(record.dy), _rms(record.dx)
        gain = None if error is None or passed is None else _log(passed) - _log(error)
        return LayerFlow(jnp.asarray(activation), error, gain, None)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> FlowReport:
        """Put every layer, and every block of a `Repeat`, on a row of its own, with its gradient."""
        gradients = {leaf.path: leaf.params for leaf in leaves(context.net, context.grads)}
        found, names = {}, []
        for row in rows(context.net):
            if row.path not in notes:
                continue
            noted, gradient = jax.tree.map(lambda a, row=row: a[row.block], (notes[row.path], gradients[row.path]))
            found[row.label] = noted._replace(gradient=_rms(gradient))
            names.append((row.label, repr(row.layer)))
        return FlowReport(found, tuple(names), self.share)


def _rms(tree: PyTree) -> Array | None:
    """RMS over all numbers of some arrays; None where there are none."""
    arrays = [a.astype(wide(a.dtype)) for a in jax.tree.leaves(tree) if jnp.issubdtype(a.dtype, jnp.floating)]
    if not arrays:
        return None
    return jnp.sqrt(sum(jnp.sum(jnp.square(a)) for a in arrays) / sum(a.size for a in arrays))


def _log(size: Array) -> Array:
    """log₁₀, of 0 that of the least normal number."""
    return jnp.log10(jnp.maximum(size, jnp.finfo(size.dtype).tiny))
