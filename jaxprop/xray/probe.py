"""A probe: the identity, whose cotangent also lands in a sink.

    z = probe(reduce, z, kept, sink)        the value is z; `sink` is not looked at
    z̄ passes through unchanged, and the cotangent of `sink` is reduce(kept, z̄)

So one ordinary `jax.vjp` of a program with probes returns, beside the gradients, something of each error inside it.
What is returned is made where the error arises, within a scan too, so that the errors themselves need not be kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax

from jaxprop.arrays.varying import varying

Reduce = Callable[[Any, Any], Any]  # (kept, cotangent) -> what the sink is to receive, of the sink's shapes


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def probe(reduce: Reduce, value: Any, kept: Any, sink: Any) -> Any:
    """Return `value`; let its cotangent, reduced with what is `kept`, land in `sink`."""
    return value


@jax.tree_util.register_static
@dataclass(frozen=True)
class _Types:
    """The types of a sink: what lands in it inside a shard_map differs from device to device, as it does."""

    of: tuple[Any, ...]


def _forward(reduce: Reduce, value: Any, kept: Any, sink: Any) -> tuple[Any, Any]:
    return value, (kept, _Types(tuple(map(jax.typeof, jax.tree.leaves(sink)))))


def _backward(reduce: Reduce, residual: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    kept, types = residual
    landed, tree = jax.tree.flatten(reduce(kept, cotangent))
    landed = [varying(each, type.manual_axis_type.varying) for each, type in zip(landed, types.of, strict=True)]
    return cotangent, None, tree.unflatten(landed)  # None: nothing flows back to what was kept


probe.defvjp(_forward, _backward)
