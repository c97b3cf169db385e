"""In which precision a step is computed, while θ is kept in another.

    precision      θ, sums, cost, optimizer     f(x, θ) and its errors
    "float64"      float64                      float64
    "float32"      float32                      float32
    "bfloat16"     float32                      bfloat16
    "float16"      float32                      float16, errors times a loss scale

A step rounds θ and x, goes forward and back, and hands the gradient over in float32: `computed` is the one place. What
a network does to bring rows and answers into and out of their own unit is not rounded: a Standardize that it begins
with, and an Unstandardize that it ends with, are computed in float32. Otherwise 2024 ± 10 would be 8 apart in bfloat16.

Half precision in float16 has no exponent to spare: errors below 6e-8 become 0, so they are scaled by S = 2ˢ, and
gradients are divided by it again (exactly). If one overflows, the step is not taken and S is halved; after many steps
that went well it is doubled. If the cost itself overflows, the step is not taken either.

Source: Micikevicius et al., "Mixed Precision Training" (2018), sections 3.1 and 3.2.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import ArrayLike, Bool, Float, Int, Key, PyTree

from jaxprop.arrays.dtypes import has_64_bits, wide
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, pick
from jaxprop.layers import Identity, Standardize, Unstandardize
from jaxprop.layers.layer import Layer
from jaxprop.network import Chain
from jaxprop.network.call import Network, call
from jaxprop.train.rows import Rows
from jaxprop.uses import weighted, weighted_sum

Given = ParamSpec("Given")
Made = TypeVar("Made")
Precision = Literal["float64", "float32", "bfloat16", "float16"]
LARGEST, FIRST, SMALLEST = 2.0**24, 2.0**15, 2.0**-14  # loss scales
GROWS_AFTER = 2000  # steps in a row without an overflow
LOST_AFTER = 30  # steps in a row with one: from the first scale to the smallest


def read_precision(given: str | None, name: str = "precision") -> Precision | None:
    """Return the precision that was asked for; None is that of the rows and θ as they are given.

    >>> read_precision("bfloat16")
    'bfloat16'
    """
    return None if given is None else pick(given, get_args(Precision), name)  # pyright: ignore


def kept_in(precision: Precision | None) -> Any:
    """Return the dtype that θ, targets and the optimizer are kept in, None for what they have.

    >>> kept_in("bfloat16").__name__
    'float32'
    """
    return None if precision is None else jnp.float64 if precision == "float64" else jnp.float32


def kept(tree: PyTree, precision: Precision | None) -> PyTree:
    """Return a tree with its floating arrays as they are kept; labels, ids and keys stay what they are.

    Raises JaxpropError for float64 while JAX's 64 bits are off.

    >>> [leaf.dtype.name for leaf in kept((np.ones(2), np.arange(2)), "float16")]
    ['float32', 'int64']
    """
    if precision == "float64" and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise JaxpropError(
            'precision="float64" needs JAX\'s 64 bits here: write with jax.enable_x64(True): around it, or '
            'jax.config.update("jax_enable_x64", True); jp.fit turns them on by itself'
        )
    return tree if precision is None else _cast(tree, kept_in(precision))


def as_kept(tree: PyTree, like: PyTree) -> PyTree:
    """Return a tree in the dtypes of another one of the same structure."""
    return jax.tree.map(lambda a, b: a if a.dtype == b.dtype else a.astype(b.dtype), tree, like)


def with_enough_bits(run: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a function that sets JAX's 64 bits on while it runs, if it is called with precision="float64"."""

    @functools.wraps(run)
    def running(*args: Given.args, **given: Given.kwargs) -> Made:
        if given.get("precision") != "float64":
            return run(*args, **given)
        with jax.enable_x64(True):  # pyright: ignore[reportAttributeAccessIssue]
            return run(*args, **given)

    return running


def check_bits(params: PyTree) -> None:
    """Raise JaxpropError for θ in float64 while JAX's 64 bits are off: it would be float32 after a step."""
    wide = [leaf for leaf in jax.tree.leaves(params) if has_64_bits(jnp.result_type(leaf))]
    if wide and not jax.config.jax_enable_x64:  # pyright: ignore[reportAttributeAccessIssue]
        raise JaxpropError(
            'fit: found params in float64 while JAX\'s 64 bits are off: say precision="float64" to go on in float64, '
            'or precision="float32"'
        )


class Computed(NamedTuple):
    """What a step goes through, in the precision that it computes in: f, C and their arguments.

    `seed` is what every example's cost, and so its error, is multiplied by; None is 1.
    """

    net: Network
    cost: Any
    rows: Rows
    params: PyTree
    feedback: PyTree = None
    seed: Float[Array, ""] | None = None

    def value(self, rng: Key[Array, ""] | None = None) -> Array:
        """Return C = Σ_n w_n C_n, times the seed, without a way back of ours: JAX may differentiate it."""
        costs = self.cost(call(self.net, self.rows.x, self.params, rng, self.rows.mask), self.rows.targets)
        return weighted(lambda w: weighted_sum(costs, w), self.rows.weights, costs.shape[0])

    def raised(self, value: Array, grads: PyTree, params: PyTree) -> tuple[Array, PyTree]:
        """Return C and ∂C/∂θ in the dtypes of the params that are kept, without the seed."""
        grads = jax.tree.map(lambda g, p: g.astype(jnp.result_type(p)), grads, params)
        if self.seed is None:
            return value, grads
        return value / self.seed, jax.tree.map(lambda g: g / self.seed, grads)


def computed(
    precision: Precision | None,
    net: Network,
    cost: Cost,
    rows: Rows,
    params: PyTree,
    feedback: PyTree = None,
    scale: Float[Array, ""] | None = None,
) -> Computed:
    """Return what a step computes with: everything as it is without a precision, else rounded to it.

    scale: S, of the mean cost of the batch: an example's is multiplied by S / 2ᵏ ≈ S / N.
    """
    if precision is None:
        return Computed(net, cost, rows, params, feedback)
    dtype, held = jnp.dtype(precision), functools.partial(kept, precision=precision)
    begin, core, end = parts(net)
    x = held(rows.x)
    x = x if begin is None else begin(x, ())
    seed = None if scale is None else scale * 2.0 ** -math.ceil(math.log2(max(1, len(rows.targets))))
    low = Rows(_cast(x, dtype), held(rows.targets), held(rows.weights), _cast(rows.mask, dtype))
    return Computed(core, InWide(cost, end, seed), low, _cast(params, dtype), _cast(feedback, dtype), seed)


class InWide:
    """A cost of outputs in half precision that is computed in float32, times a seed; its delta is rounded to y's dtype.

    No `Cost`, since it lives within one trace: it has what a pass asks for.
    """

    def __init__(self, cost: Cost, end: Layer | None = None, seed: Array | None = None) -> None:
        self.cost, self.end, self.seed = cost, end, seed

    def __repr__(self) -> str:
        return repr(self.cost)

    def __call__(self, y: Array, targets: ArrayLike) -> Float[Array, " N"]:
        """C_n times the seed."""
        return self._seeded(self.cost(self._forward(y)[0], targets))

    def delta(self, y: Array, targets: ArrayLike) -> Array:
        """∂C_n/∂y_n times the seed."""
        out, cache = self._forward(y)
        dy = self.cost.delta(out, targets)
        dy = dy if self.end is None else self.end.backward(dy, cache, ())[0]
        assert dy is not None
        return self._seeded(dy).astype(y.dtype)

    def _forward(self, y: Array) -> tuple[Array, Any]:
        y = y.astype(wide(y.dtype))
        return (y, ()) if self.end is None else self.end.forward(y, ())

    def _seeded(self, values: Array) -> Array:
        return values if self.seed is None else values * self.seed.astype(values.dtype)


def parts(net: Network) -> tuple[Layer | None, Network, Layer | None]:
    """Return what brings rows into shape, the network without it, and what brings answers into their unit.

    In the network an Identity stands in the place of each, so that paths stay what they are.

    >>> from jaxprop import Linear
    >>> parts(Chain(Standardize(2.0, 1.0), Linear(3)))
    (Standardize(2.0, 1.0), Chain(Identity(), Linear(3)), None)
    """
    begin, net = _without(net, Standardize, 0)
    end, net = _without(net, Unstandardize, -1)
    return begin, net, end


def _without(net: Network, kind: type[Layer], at: int) -> tuple[Layer | None, Network]:
    """The first or last layer of a network, if it is of a kind, and the network with an Identity in its place."""
    if isinstance(net, kind):
        return net, Identity()
    if not isinstance(net, Chain):
        return None, net
    found, inner = _without(net.layers[at], kind, at)
    if found is None or not isinstance(inner, Layer):
        return None, net
    layers = list(net.layers)
    layers[at] = inner
    return found, Chain(*layers)


class Scaling(NamedTuple):
    """The loss scale of float16; steps in a row that went well, or below 0 that overflowed; steps skipped in all."""

    scale: Float[Array, ""]
    since: Int[Array, ""]
    skipped: Int[Array, ""]

    @property
    def lost(self) -> Bool[Array, ""]:
        """Whether so many steps in a row overflowed that it will never be otherwise."""
        return self.since <= -LOST_AFTER

    def after(self, good: ArrayLike, value: ArrayLike) -> "Scaling":
        """Return the scale for the next step, after one that was good, or that overflowed and was skipped.

        value: the cost. Where that overflowed, on the way forward, a smaller scale would change nothing.

        >>> print(scaling("float16").after(good=False, value=1.0).scale, scaling("float16").scale)
        16384.0 32768.0
        """
        run = jnp.where(good, jnp.maximum(self.since, 0) + 1, jnp.minimum(self.since, 0) - 1)
        larger = jnp.where(run >= GROWS_AFTER, jnp.minimum(2 * self.scale, LARGEST), self.scale)
        smaller = jnp.where(jnp.isfinite(value), jnp.maximum(self.scale / 2, SMALLEST), self.scale)
        since = jnp.where(run >= GROWS_AFTER, 0, run).astype(self.since.dtype)
        return Scaling(
            jnp.where(good, larger, smaller), since, jnp.where(good, self.skipped, self.skipped + 1)
        )  # fmt: skip


def scaling(precision: Precision | None, held: Scaling | None = None) -> Scaling | None:
    """Return the loss scale that a run begins with, in float16 that which it is `held` at; the others have none."""
    if precision != "float16" or held is not None:
        return held if precision == "float16" else None
    return Scaling(jnp.array(FIRST, jnp.float32), jnp.array(0, jnp.int32), jnp.array(0, jnp.int32))


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    def cast(leaf: Any) -> Any:
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            return leaf
        return leaf.astype(dtype) if isinstance(leaf, np.ndarray) else jnp.asarray(leaf).astype(dtype)

    return jax.tree.map(cast, tree)
