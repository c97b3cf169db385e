"""A network read as columns of units: the inputs, then the units of every `Linear` and its activation."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree
from numpy.typing import ArrayLike

from jaxprop.arrays.paths import join
from jaxprop.errors import JaxpropError, ShapeError, pick
from jaxprop.layers import Layer, Linear, LinearParams
from jaxprop.network import Chain
from jaxprop.network.leaves import leaves


@dataclass(frozen=True)
class Column:
    """Units side by side: the weights W `[I, units]` and b that reach them, and z, a `[units]` if x is known."""

    name: str
    units: int
    path: str = ""
    W: np.ndarray | None = None
    b: np.ndarray | None = None
    z: np.ndarray | None = None
    a: np.ndarray | None = None


def read(net: Layer, params: PyTree, x: ArrayLike | None = None) -> list[Column]:
    """The columns of `net`; with one example x `[1, ...]`, their z and a, by the layers themselves."""
    columns: list[Column] = []
    before_linear: list[str] = []
    y = None if x is None else _example(x)
    for path, layer, p, inside in leaves(net, params):
        around = [(at, combinator) for at, combinator in inside if not isinstance(combinator, Chain)]
        if around:
            raise _no_column(*around[0])
        entering = y
        y = None if y is None else layer(y, p)
        if isinstance(layer, Linear):
            columns = columns or [_inputs(path, p, before_linear, entering)]
            columns.append(_linear(path, p, columns[-1].units, y))
        elif jax.tree.leaves(p):
            raise _no_column(path, layer)
        elif columns:
            name = f"{columns[-1].name} · {type(layer).__name__}"
            columns[-1] = replace(columns[-1], name=name, a=_values(path, y, columns[-1].units))
        else:
            before_linear.append(type(layer).__name__)
    if not columns:
        raise JaxpropError(f"network: found no Linear layer in {net!r}, so there are no weights to draw")
    return columns


def _no_column(path: str, layer: Layer) -> JaxpropError:
    return JaxpropError(
        f"network: {path or 'the net'} is {layer!r}, which is no column of units; "
        "expected a Chain of Linear layers, activations and layers without parameters"
    )


def _example(x: ArrayLike) -> Array:
    x = jnp.asarray(x)
    if x.ndim < 2 or x.shape[0] != 1:
        raise ShapeError(f"network: x must be one example [1, ...], found {list(x.shape)}; pass x[:1], or x[None]")
    return x


def _values(path: str, y: Array | None, units: int) -> np.ndarray | None:
    if y is None:
        return None
    if y.size != units:
        raise ShapeError(
            f"network: {path} gives {list(y.shape)} for one example, expected [1, {units}]: one number a unit"
        )
    return np.asarray(y, dtype=np.float64).ravel()


def _inputs(path: str, params: LinearParams, before: list[str], y: Array | None) -> Column:
    units = int(params.W.shape[0])
    return Column(" · ".join(["input", *before]), units, a=_values(path, y, units))


def _linear(path: str, params: LinearParams, fan_in: int, y: Array | None) -> Column:
    W = np.asarray(params.W, dtype=np.float64)
    if W.ndim != 2 or W.shape[0] != fan_in:
        raise ShapeError(f"network: {join(path, 'W')} has shape {list(W.shape)}, expected [{fan_in}, units] here")
    b = None if params.b is None else np.asarray(params.b, dtype=np.float64)
    z = _values(path, y, W.shape[1])
    return Column("Linear", W.shape[1], join(path, "W"), W, b, z, z)


def kept(columns: list[Column], prune: float | Mapping[str, ArrayLike] | None) -> list[np.ndarray]:
    """Which weights of every column after the first are drawn `[I, units]`: all, |w| ≥ a number, or masks by path."""
    weights = [(c.path, c.W) for c in columns if c.W is not None]
    if prune is None:
        return [np.ones(W.shape, bool) for _, W in weights]
    if not isinstance(prune, Mapping):
        least = float(np.asarray(prune))
        if not least >= 0:
            raise JaxpropError(f"network: prune must be ≥ 0, or masks by path, found {prune!r}")
        return [np.abs(W) >= least for _, W in weights]
    masks = {pick(path, [p for p, _ in weights], "path of a mask"): np.asarray(mask) for path, mask in prune.items()}
    for path, W in weights:
        if path in masks and masks[path].shape != W.shape:
            raise ShapeError(
                f"network: the mask of {path} has shape {list(masks[path].shape)}, expected {list(W.shape)}"
            )
    return [masks[path].astype(bool) if path in masks else np.ones(W.shape, bool) for path, W in weights]
