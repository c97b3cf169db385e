"""The squared norms of every example's gradient: which examples pull, how hard, and at which layer.

    s_n = ‖∂C_n/∂θ‖² = Σ_θ ‖∂C_n/∂θ‖²         of all parameters, of a layer's, or of each

A use knows its norms from the activation a and the error δ: ‖Σ_t a_nt ⊗ δ_nt‖² is ‖a_n‖² ‖δ_n‖² for one position, and
Σ_ts (a_t · a_s)(δ_t · δ_s) for several, so that no gradient of one example need be built. They are exact for arrays in
several places (`Shared`), whose norms have cross terms, and for the blocks of a `Repeat`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import KeyPath
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, dotted
from jaxprop.stats.quantity import Context, Quantity
from jaxprop.uses import Use
from jaxprop.uses.widened import squared_norms

Per = Literal["total", "layer", "parameter"]


@dataclass(frozen=True)
class ExampleNorms(Quantity):
    """Find ‖∂C_n/∂θ‖², the squared norm of every example's gradient, without building any of these gradients.

    They are neither divided by N nor weighted. In half precision they are summed, and given, in float32.

    Args:
        per: "total" gives one array `[N]`, over all parameters; "layer" {path of a layer: `[N]`}; "parameter" the tree
            of θ with `[N]` for each array. Each block of a `Repeat` is a layer of its own: there they are `[L, N]`.

    Raises:
        JaxpropError: `per` is something else.

    Source: Goodfellow, "Efficient Per-Example Gradient Computations" (2015), for one position; Bu et al., "Scalable and
    Efficient Training of Large Convolutional Neural Networks with Differential Privacy" (2022), for several.

    >>> from jaxprop import HalfSquaredError, Linear, stats
    >>> net, x = Linear(1), jnp.array([[1.0], [2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> asked = [ExampleNorms(), ExampleNorms(per="layer"), ExampleNorms(per="parameter")]
    >>> total, layers, each = stats.collect(net, HalfSquaredError(), asked)(x, params, jnp.zeros((2, 1))).found
    >>> print(total, layers, each.W, each.b)
    [ 18. 180.] {'': Array([ 18., 180.], dtype=float32)} [  9. 144.] [ 9. 36.]
    """

    norms: ClassVar[bool] = True

    per: Per = "total"

    def close(self, use: Use, path: str, weights: Array | None) -> Array:
        """Keep the squared norms of a use."""
        return squared_norms(use)

    def finish(self, kept: PyTree, notes: dict[str, PyTree], context: Context) -> PyTree:
        """Add up the norms of what belongs together."""
        return grouped(kept, self.per, context.costs)


def grouped(norms: PyTree, per: Per, costs: Array) -> PyTree:
    """Return squared norms `[(L,) N]`, a tree like θ, added up over what `per` says belongs together.

    >>> norms = ({"W": jnp.array([1.0, 2.0]), "b": jnp.array([3.0, 4.0])}, {"W": jnp.array([[5.0, 6.0], [7.0, 8.0]])})
    >>> layers = grouped(norms, "layer", jnp.zeros(2))
    >>> print(grouped(norms, "total", jnp.zeros(2)), layers["0"], layers["1"].tolist())
    [16. 20.] [4. 6.] [[5.0, 6.0], [7.0, 8.0]]
    """
    if per == "parameter":
        return norms
    if per == "layer":
        layers: dict[str, list[Array]] = {}
        for path, norm in by_path(norms).items():
            layers.setdefault(_layer(path), []).append(norm)
        return {path: _sum(parts) for path, parts in layers.items()}
    every = [jnp.sum(norm.reshape(-1, norm.shape[-1]), axis=0) for norm in jax.tree.leaves(norms)]
    return _sum(every) if every else jnp.zeros_like(costs)


def to_parameters(groups: PyTree, norms: PyTree, per: Per) -> PyTree:
    """Return what there is for each group of `grouped`, for each array: a tree like θ, or as it is for "total".

    >>> to_parameters({"0": "first", "1": "second"}, ({"W": 1.0, "b": 1.0}, {"W": 1.0}), "layer")
    ({'W': 'first', 'b': 'first'}, {'W': 'second'})
    """
    if per != "layer":
        return groups

    def one(path: KeyPath, _: Array) -> Array:
        return groups[_layer(dotted(path))]

    return jax.tree_util.tree_map_with_path(one, norms)


def _layer(path: str) -> str:
    """The path of the layer that has the array at `path`, which Flax may keep as the value of a `Param`."""
    return path.removesuffix(".value").rpartition(".")[0]


def _sum(parts: Sequence[Array]) -> Array:
    """Their sum, in the widest of their dtypes."""
    dtype = np.result_type(*(part.dtype for part in parts))
    return sum((part.astype(dtype) for part in parts[1:]), parts[0].astype(dtype))
