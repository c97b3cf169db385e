"""What a quantity is: which errors it reads, what it keeps of every use where it arises, and what it makes of that.

A backward pass leaves an activation a and an error δ at every parameter (a `Use`). A quantity says what it wants of the
pair and `collect` brings it there, so that any number of them cost one forward pass and one walk back for each kind of
error:

    "cost"      δ = ∂C_n/∂z, by the rule that is asked for (backpropagation, unless another is given)
    "true"      the same by backpropagation, whatever the rule
    "sampled"   the δ of targets drawn from the network's own predictions, each times 1/√samples: what comes of the
                columns adds up to the Fisher information's
    "exact"     the V columns of S_n, where S_n S_nᵀ = ∂²C_n/∂y_n²: what comes of them adds up to the GGN's

How to write one: the four methods below, of which most quantities need `close` and `finish`; `example_norms.py` is the
model to follow.
"""

import abc
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

from jax import Array
from jaxtyping import Float, PyTree

from jaxprop.arrays.paths import by_path
from jaxprop.backward.manual import Record
from jaxprop.layers.described import Described
from jaxprop.layers.layer import Layer
from jaxprop.stats.summary import summarised
from jaxprop.uses import Use

ERRORS = ("cost", "true", "sampled", "exact")


class Context(NamedTuple):
    """Hold what `finish` may need beside what was kept.

    costs: C_n `[N]`.    y: f(x, θ).    params: θ.    grads: Σ_n w_n ∂C_n/∂θ, as `collect` returns it.
    weights: w `[N]`, or None for 1/N each.    columns: how many columns of errors there were, V (1 for "cost").
    again: what the second visit left, in the tree of θ; None without one.    net: the network; None of a function.

    >>> Context._fields
    ('costs', 'y', 'params', 'grads', 'weights', 'columns', 'again', 'net')
    """

    costs: Float[Array, " N"]
    y: Any
    params: PyTree
    grads: PyTree
    weights: Float[Array, " N"] | None
    columns: int = 1
    again: PyTree = None
    net: Any = None


@dataclass(frozen=True)
class Quantity(Described, abc.ABC):
    """One thing to know of a backward pass: a frozen, hashable description, given to `collect`.

        errors                      which δ it reads: "cost", "true", "sampled" or "exact"
        samples                     how many columns of "sampled" errors
        close(use, path, weights)   what is kept of a use, where it arises
        note(layer, record)         what is kept of a layer's tape record, for quantities that say notes = True
        between(kept, context), again(use, path, part)      a second visit to every use, for those that say twice = True
        finish(kept, notes, context)        the result: in the tree of θ, per example, or a number

    δ is per example and not divided by N. Means are Σ_n w_n (…)_n, where weights of None mean 1/N each; what is said of
    single examples is not weighted.

    >>> import jax, jax.numpy as jnp
    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> class Largest(Quantity):
    ...     def close(self, use, path, weights):
    ...         return use.squared_norms()
    ...     def finish(self, kept, notes, context):
    ...         return jax.tree.map(jnp.max, kept)
    >>> net, x = Linear(1, bias=False), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> value, grads, (largest,) = stats.collect(net, HalfSquaredError(), [Largest()])(x, params, jnp.zeros((2, 1)))
    >>> print(value, grads.W, largest.W)
    11.25 [[7.5]] 144.0
    """

    errors: ClassVar[str] = "cost"
    samples: ClassVar[int] = 1
    notes: ClassVar[bool] = False
    mixes: ClassVar[bool] = False  # it may be asked of a network that mixes the examples of a batch
    twice: ClassVar[bool] = False
    norms: ClassVar[bool] = False  # `close` asks for squared norms: they are computed together with the gradient

    @property
    def layered(self) -> bool:
        """Tell whether it reads layers, so that it may be asked of a network of jaxprop's only, and of no function."""
        return self.notes

    @property
    def parts(self) -> bool:
        """Tell whether `between` returns a tree, and not one array for all uses: then all uses are kept for it."""
        return False

    def close(self, use: Use, path: str, weights: Float[Array, " N"] | None) -> PyTree:
        """Return what is kept of a use: arrays, which get a leading axis L inside a `Repeat`; by default nothing.

        A use holds one column of errors. What comes of several columns is added up.
        """
        return None

    def note(self, layer: Layer, record: Record) -> PyTree:
        """Return what is kept of a layer that is not made of layers: its record has x, y, dy, dx and ∂y/∂x.

        Of a network that mixes examples, dy and dx are those of C = Σ_n w_n C_n, weights and all, if there are some.
        """
        return None

    def between(self, kept: PyTree, context: Context) -> PyTree:
        """Return what the second visit needs: one array for all uses or, with `parts`, a prefix of the tree of θ.

        Of a prefix of the tree, each use gets its part, and each block of a `Repeat` its slice along the axis L.
        """
        raise TypeError(f"{type(self).__name__} must define between(kept, context)")

    def again(self, use: Use, path: str, part: PyTree) -> PyTree:
        """Return what is kept of a use at the second visit, for its part of what `between` returned."""
        raise TypeError(f"{type(self).__name__} must define again(use, path, part)")

    @abc.abstractmethod
    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Return the result, a pytree of arrays.

        kept: the tree of θ with what `close` returned in each array's place. notes: {path of a layer: what `note`
        returned}, in the order of the forward pass.
        """

    def over_steps(self, before: PyTree, now: PyTree) -> PyTree:
        """Return the result to report at a step of training, from the one before (None at the first) and this one's."""
        return now

    def scalars(self, found: PyTree) -> dict[str, Any]:
        """Return what a table has of a result: {what: number}, by default every number, and of arrays a summary."""
        return by_path(summarised(found, most=1))
