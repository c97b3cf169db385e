"""Which inputs an output answers to: its gradient on x, by any rule, and that gradient integrated from a baseline.

    gradient       g_n = ∂y_nk/∂x_n                                           Simonyan, Vedaldi, Zisserman 2013
    by a rule      what the rule makes of δ on its way back to x              `GuidedBackprop`, `Deconvnet`, ...
    integrated     a_n = (x_n − b) ⊙ ∫₀¹ ∂y_nk/∂x (b + α (x_n − b)) dα        Sundararajan, Taly, Yan 2017

k counts a row's outputs in row-major order. Completeness, the axiom that the integral is made for: Σ a_n is
y_nk(x_n) − y_nk(b). The maps of a rule have no such sum, and are no derivative of anything.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import ArrayLike, Float, Int, PyTree

from jaxprop.arrays.given import as_arrays
from jaxprop.backward.mixing import refuse_mixing
from jaxprop.backward.rules.edits import RuleLike
from jaxprop.backward.rules.walk import prepare
from jaxprop.checks import check_whole, is_floating
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Rng, require_layer


class Saliency(NamedTuple):
    """Hold what is known of each row: the output k `[N]` that was asked for, y_nk `[N]`, and the map, of x's shape.

    >>> Saliency._fields
    ('output', 'value', 'map')
    """

    output: Int[Array, " N"]
    value: Float[Array, " N"]
    map: Float[Array, "N ..."]


Run = Callable[..., Saliency]


def input_gradient(net: Layer, rule: RuleLike | None = None) -> Run:
    """Return `run`, which computes ∂y_nk/∂x_n of every row, by the hand-derived backward pass or by another rule.

    Args:
        net: a Layer that does not mix the examples of a batch.
        rule: how errors come back, such as `jp.rules.GuidedBackprop()`; by default as the chain rule says.

    Returns:
        `run(x, params, output=None, *, rng=None, feedback=None)`, which returns `Saliency(output, value, map)`.
        `output` is k, one for all rows or `[N]`; None is each row's largest. Whole numbers in x are taken as floating
        ones. rng and feedback are for rules that need them; layers draw nothing.

    Raises:
        JaxpropError: `net` is a plain function or mixes examples, x has several arrays, k is none of the outputs (under
            `jit` that is not seen), or the rule cannot serve the network.
        ShapeError: x are ids, which have no gradient, or k is no whole number.

    >>> from jaxprop import Linear, LinearParams
    >>> params = LinearParams(jnp.array([[1.0, 2.0], [3.0, -4.0]]), None)
    >>> found = input_gradient(Linear(2, bias=False))(jnp.array([[1.0, 0.0], [0.0, 1.0]]), params)
    >>> print(found.output, found.value, found.map)
    [1 0] [2. 3.] [[ 2. -4.]
     [ 1.  3.]]
    """
    what = "input_gradient"
    require_layer(net, what)
    refuse_mixing(net, what)

    def run(
        x: PyTree, params: PyTree, output: ArrayLike | None = None, *, rng: Rng = None, feedback: PyTree = None
    ) -> Saliency:
        walk, params = prepare(rule, net, params, feedback, rng)
        x = _moving(x, what)
        y, cache = walk.push(net, x, params, None, "")
        rows = y.reshape(y.shape[0], -1)
        k = _chosen(output, rows)
        dy = jax.nn.one_hot(k, rows.shape[1], dtype=y.dtype).reshape(y.shape)
        dx, _, _ = walk.pull(net, dy, cache, params, "")
        return Saliency(k, jnp.take_along_axis(rows, k[:, None], axis=1)[:, 0], dx)

    return run


def integrated_gradients(net: Layer, steps: int = 100) -> Run:
    """Return `run`, which computes (x_n − b) times the mean gradient on the straight way from a baseline b to x_n.

    The integral is the mean over the midpoints of `steps` equal parts, one pass each: its error falls with steps² where
    the network is smooth, with steps where it has kinks. Σ over a row's map is y_nk(x_n) − y_nk(b) but for that error.

    Args:
        net: a Layer that does not mix the examples of a batch.
        steps: how many midpoints.

    Returns:
        `run(x, params, output=None, baseline=0.0)`, which returns `Saliency(output, value, map)`; the largest output is
        that of x, not of the points on the way. `baseline` is a number or an array that broadcasts to x.

    Raises:
        JaxpropError: as `input_gradient` does, or for steps below 1.
        ShapeError: the baseline does not fit x.

    >>> from jaxprop import Chain, Linear, LinearParams, Tanh
    >>> net, params = Chain(Linear(1, bias=False), Tanh()), (LinearParams(jnp.array([[1.0], [2.0]]), None), ())
    >>> found = integrated_gradients(net)(jnp.array([[0.3, 0.4]]), params)
    >>> print(found.value, found.map.sum(axis=1))     # and y(0) is 0
    [0.800...] [0.800...]
    """
    check_whole(steps, "integrated_gradients: steps")
    gradient = input_gradient(net)

    def run(x: PyTree, params: PyTree, output: ArrayLike | None = None, baseline: ArrayLike = 0.0) -> Saliency:
        x = _moving(x, "integrated_gradients")
        base = jnp.asarray(baseline, x.dtype)
        try:
            base = jnp.broadcast_to(base, x.shape)
        except ValueError:
            found = f"integrated_gradients: baseline has shape {base.shape}"
            raise ShapeError(f"{found}, which does not fit x, {x.shape}") from None
        here = gradient(x, params, output)

        def more(total: Array, alpha: Array) -> tuple[Array, None]:
            return total + gradient(base + alpha * (x - base), params, here.output).map, None

        alphas = jnp.asarray((np.arange(steps) + 0.5) / steps, x.dtype)
        total, _ = jax.lax.scan(more, jnp.zeros_like(here.map), alphas)
        return here._replace(map=(x - base) * (total / steps))

    return run


def _moving(x: PyTree, what: str) -> Array:
    """x as floating numbers, which a gradient can be taken on."""
    x = as_arrays(x, "x")
    if len(jax.tree.leaves(x)) != 1 or not hasattr(x, "shape"):
        raise JaxpropError(f"{what}: x must be one array [N, ...], found a {type(x).__name__} of arrays")
    if not jnp.ndim(x):
        raise ShapeError(f"{what}: x must hold rows [N, ...], found a number")
    return jnp.asarray(x, x.dtype if is_floating(x) else float)


def _chosen(output: ArrayLike | None, rows: Array) -> Array:
    """k `[N]`."""
    N, outputs = rows.shape
    if output is None:
        return jnp.argmax(rows, axis=1).astype(jnp.int32)
    k = output if isinstance(output, Tracer) else np.asarray(output)
    if not jnp.issubdtype(k.dtype, jnp.integer) or k.shape not in ((), (N,)):
        raise ShapeError(f"output: expected one whole number, or one a row [{N}], found {k.dtype.name} {list(k.shape)}")
    if isinstance(k, np.ndarray) and not ((k >= 0) & (k < outputs)).all():
        raise JaxpropError(f"output: found {output}, a row of y has 0 to {outputs - 1}")
    return jnp.broadcast_to(k, (N,)).astype(jnp.int32)
