"""Batch statistics written into θ: what a network with `BatchNorm` needs before it can answer for one row.

Each BatchNorm y = γ (x − μ) r + β becomes an `Affine` y = s ⊙ x + h with s = γ r, h = β − μ γ r, where μ and r are
those of the given rows, each layer seeing the rows as the layers before it leave them.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError
from jaxprop.layers import Affine, AffineParams, BatchNorm, Env, Layer
from jaxprop.network import Combinator, Recorder, Shared, join, leaves
from jaxprop.network.call import require_order
from jaxprop.uses import Use


def freeze_statistics(net: Layer, x: PyTree, params: PyTree) -> tuple[Layer, PyTree]:
    """Return the network and θ with every `BatchNorm` folded into an `Affine`, by the statistics of the rows `x`.

    On these rows the frozen network gives what the network gave; on others it no longer depends on the rest of the
    batch. A network without BatchNorm comes back as it is.

    Args:
        net: the network.
        x: rows `[N, ...]`, all in one batch; some thousand rows of the training set are enough.
        params: θ of `net`.

    Returns:
        (net, params): the frozen network and its θ.

    Raises:
        JaxpropError: a tie of `Shared` leads into a BatchNorm.
        ShapeError: x and params stand in each other's place.

    >>> from jaxprop import Chain, Linear
    >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
    >>> net = Chain(BatchNorm(), Linear(1))
    >>> params = net.init(jax.random.key(0), x)
    >>> frozen, constants = freeze_statistics(net, x, params)
    >>> frozen, bool(jnp.allclose(frozen(x[:1], constants), net(x, params)[:1], atol=1e-5))
    (Chain(Affine(), Linear(1)), True)
    """
    require_order(net, x, params, "freeze_statistics(net, x, params)")
    if not any(isinstance(leaf.layer, BatchNorm) for leaf in leaves(net)):
        return net, params
    return _rebuilt(net, params, _statistics(net, x, params), "")


class _Freezing(Recorder):
    """The plain walk, noting for every BatchNorm the `AffineParams` it amounts to; uses are dropped."""

    def keep(self, layer: Layer, x: PyTree, y: PyTree, params: PyTree, env: Env | None) -> AffineParams | None:
        """Make them on the way forward, of the rows as they come."""
        return layer.frozen(x, params) if isinstance(layer, BatchNorm) else None

    def note(
        self, layer: Layer, kept: PyTree, dy: PyTree, dx: PyTree, cache: PyTree, params: PyTree
    ) -> AffineParams | None:
        """Note them: notes come out of a scan, stacked."""
        return kept

    def close(self, use: Use, path: str) -> PyTree:
        """Drop the use: only the notes are wanted."""
        return ()


@functools.partial(jax.jit, static_argnames="net")
def _statistics(net: Layer, x: PyTree, params: PyTree) -> dict[str, AffineParams]:
    """Forward, and back for the notes alone: XLA drops what the way back computes."""
    walk = _Freezing()
    y, cache = walk.push(net, x, params, None, "")
    return walk.pull(net, jax.tree.map(jnp.zeros_like, y), cache, params, "")[2]


def _rebuilt(layer: Layer, params: PyTree, found: dict[str, AffineParams], path: str) -> tuple[Layer, PyTree]:
    """The layer and its θ, with an Affine wherever `found` has constants."""
    if path in found:
        return Affine(), found[path]
    if not isinstance(layer, Combinator):
        return layer, params
    if isinstance(layer, Shared):
        _refuse_ties(layer, found, join(path, "inner"))
    parts = [
        _rebuilt(child, p, found, join(path, name))
        for name, child, p in zip(layer.names(), layer.children(), params, strict=True)
    ]
    children, rebuilt = [child for child, _ in parts], [p for _, p in parts]
    is_named = hasattr(params, "_fields")
    return layer.with_children(children), type(params)(*rebuilt) if is_named else type(params)(rebuilt)


def _refuse_ties(layer: Shared, found: dict[str, AffineParams], path: str) -> None:
    for tie in layer.ties:
        for end in tie[:2]:
            if join(path, end).rpartition(".")[0] in found:
                raise JaxpropError(
                    f"freeze_statistics: the tie {tie} leads into a BatchNorm, which is folded away; untie it, or use "
                    "LayerNorm or GroupNorm"
                )
