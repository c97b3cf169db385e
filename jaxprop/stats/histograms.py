"""How the numbers of a gradient, or of a layer's output, are spread: counts between edges.

    counts_k = #{v : e_k ≤ v < e_{k+1}},   k = 0 … bins − 1

The first bin has also what lies below all edges and the last what lies above, so that counts add up to how many numbers
there are (without NaN). With `magnitudes`, v = |g| and the edges grow by a constant factor: decades show what a linear
scale hides, such as entries that underflow.
Source: Dangel et al., "Cockpit: A Practical Debugging Tool for the Training of Deep Neural Networks" (2021), 1D
gradient histograms.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.backward.manual import Record
from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.stats.blocks import by_block
from jaxprop.stats.quantity import Context, Quantity

DECADES = (1e-12, 1e3)  # the usual range of magnitudes


class Histogram(NamedTuple):
    """Hold counts `[bins]` and edges `[bins + 1]`; inside a `Repeat` both have a leading axis L.

    >>> Histogram._fields
    ('counts', 'edges')
    """

    counts: Array
    edges: Array


@dataclass(frozen=True)
class _Spread(Quantity):
    """What the two histograms share: their settings, and how numbers are counted."""

    mixes: ClassVar[bool] = True

    bins: int = 40
    range: tuple[float, float] | None = None
    magnitudes: bool = False

    def __post_init__(self) -> None:
        name = type(self).__name__
        check_whole(self.bins, f"{name}: bins")
        if self.range is None:
            return
        low, high = self.range
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise JaxpropError(f"{name}: range must be (low, high) with low < high, found {self.range}")
        if self.magnitudes and low <= 0:
            raise JaxpropError(f"{name}: magnitudes are above 0, so range must be too, found {self.range}")

    def counted(self, values: PyTree) -> Histogram:
        """Return the histogram of all numbers of some arrays."""
        v = jnp.concatenate([jnp.ravel(part) for part in jax.tree.leaves(values)])
        v = v.astype(wide(v.dtype))
        v = jnp.abs(v) if self.magnitudes else v
        edges = self._edges(v)
        # one comparison for each number and inner edge: XLA fuses them into the sums, where bincount would scatter
        above = jnp.sum(v[None, :] >= edges[1:-1, None], axis=1)
        ends = jnp.sum(~jnp.isnan(v))[None], jnp.zeros(1, above.dtype)
        return Histogram(-jnp.diff(jnp.concatenate([ends[0], above, ends[1]])), edges)

    def scalars(self, found: PyTree) -> dict[str, Array]:
        """Return nothing: a histogram is not said in a number."""
        return {}

    def _edges(self, v: Array) -> Array:
        steps = jnp.linspace(0, 1, self.bins + 1, dtype=v.dtype)
        if self.magnitudes:
            low, high = map(math.log10, self.range or DECADES)
            return 10 ** (low + (high - low) * steps)
        if self.range is not None:
            low, high = (jnp.asarray(end, v.dtype) for end in self.range)
        else:
            low, high = jnp.nanmin(v), jnp.nanmax(v)
            alone = low == high  # as numpy does it
            low, high = jnp.where(alone, low - 0.5, low), jnp.where(alone, high + 0.5, high)
        return low + (high - low) * steps


@dataclass(frozen=True)
class GradientHistogram(_Spread):
    """Count the entries of every parameter's gradient: a `Histogram` in each array's place in the tree of θ.

    The entries are those of the gradient of C, not of single examples: those would be N times as many as θ has. An
    array of a `Repeat` has one histogram a block.

    Args:
        bins: how many, by default 40.
        range: (low, high); by default from the least entry to the largest, anew at every call. What lies outside
            counts in the first and the last bin.
        magnitudes: whether |g| is counted instead, between edges that grow by a constant factor, from 1e-12 to 1e3
            unless `range` says otherwise. Zeros count in the first bin.

    Raises:
        JaxpropError: `bins` is no whole number ≥ 1, or `range` none.

    >>> import jaxprop as jp
    >>> net, x = jp.Linear(2, bias=False), jnp.array([[1.0, 2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.zeros((2, 2)))
    >>> run = jp.stats.collect(net, jp.HalfSquaredError(), [GradientHistogram(bins=4, range=(-4.0, 4.0))])
    >>> (found,) = run(x, params, jnp.array([[1.0, -1.0]])).found
    >>> print(found.W.counts, found.W.edges)
    [0 2 1 1] [-4. -2.  0.  2.  4.]
    """

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Count the gradient that `collect` returns."""
        return by_block(context.net, self.counted, context.grads)


@dataclass(frozen=True)
class ActivationHistogram(_Spread):
    """Count the numbers that every layer gives: {path: Histogram}, over examples, positions and units.

    Args and errors are those of `GradientHistogram`. Inside a `Repeat` a layer has one histogram a block.

    >>> import jaxprop as jp
    >>> net, x = jp.Chain(jp.Tanh(), jp.ReLU()), jnp.array([[-1.0, 0.0, 2.0]])
    >>> run = jp.stats.collect(net, jp.HalfSquaredError(), [ActivationHistogram(bins=2, range=(-1.0, 1.0))])
    >>> (found,) = run(x, ((), ()), x).found
    >>> print(found["0"].counts, found["1"].counts)
    [1 2] [0 3]
    """

    notes: ClassVar[bool] = True

    def note(self, layer: Layer, record: Record) -> Histogram:
        """Count y."""
        return self.counted(record.y)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> dict[str, Histogram]:
        """Return what was counted at every layer."""
        return notes
