"""The error of one number, traced from where it is met to the cost: one link a layer, each exact.

In front of a layer the error of a number is the sum, over everything that the layer makes of it, of the error behind
the layer times how much that moves:  ∂C/∂x_j = Σ_k ∂C/∂y_k · ∂y_k/∂x_j.  All ∂y_k/∂x_j of one j come from one push of
x_j through the layer (`jax.jvp`, at what the layer really got), which is another way than the layer's own backward
pass, whose errors they meet here. The way follows the largest term.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.one_run import quickly
from jaxprop.arrays.paths import by_path, dotted
from jaxprop.derivations.formula import Derivative, Formula
from jaxprop.derivations.passing import Node
from jaxprop.derivations.places import Entry, View, share_of
from jaxprop.derivations.uses import Spot
from jaxprop.layers import Env, Layer
from jaxprop.network import Chain, Parallel, Remat, Repeat, Residual, Shared
from jaxprop.uses import is_use


@dataclass(frozen=True)
class Term:
    """The error behind, and how much that number moves with the one in front."""

    behind: Entry
    slope: float


@dataclass(frozen=True)
class Link:
    """One layer on the way: the error in front of it is the sum of the terms, of which the largest are here.

    `count` more that are not 0 add up to `rest`; `moves` says how many numbers behind move with the one in front, also
    those whose error is 0. `kind`: "layer"; "inside", from a number inside of the layer to its answer; "branches",
    where ways meet; "joined", where a branch ends.
    """

    node: Node
    kind: str
    front: Entry
    terms: tuple[Term, ...]
    count: int = 0
    rest: float = 0.0
    moves: int = 1

    def slope(self, term: Term) -> Formula:
        """The symbol of how much the number behind moves with the one in front."""
        return Derivative(term.behind.symbol, self.front.symbol)


class Trail:
    """Gather the links from an entry to the network's answer; `stopped` is the node where the way is not known."""

    def __init__(self, view: View, most: int):
        self.view, self.most = view, most
        self.links: list[Link] = []
        self.stopped: Node | None = None

    def from_use(self, spot: Spot, error: Entry, is_answer: bool) -> Entry | None:
        """Trace the error that a parameter meets to the network's answer."""
        entry: Entry | None = error
        if not is_answer:
            node = spot.node
            slopes = _inside(
                node.layer, spot.leaf, *_given(node), node.passed.dy, _flat(error.at, np.shape(spot.use.delta))
            )
            entry = self._across(node, error, "inside", np.asarray(slopes))
        return None if entry is None else self.onward(spot.node, entry)

    def from_parameter(self, spot: Spot) -> tuple[np.ndarray, np.ndarray]:
        """Return ∂y_k/∂θ of every number that the layer answers, and ∂C/∂y_k."""
        node = spot.node
        slopes = _by_parameter(node.layer, spot.leaf, *_given(node), _flat(spot.index, spot.use.shape))
        return self.view.only(np.asarray(slopes)), np.asarray(node.passed.dy)

    def through(self, node: Node, front: Entry) -> Entry | None:
        """Trace the error of a number in front of a node to behind it; None where nothing behind moves with it."""
        layer = node.layer
        if not node.is_opened:
            slopes = _column(layer, *_given(node), _flat(front.at, np.shape(node.passed.x)))
            return self._across(node, front, "layer", np.asarray(slopes))
        if isinstance(layer, Residual | Parallel):
            return self._branches(node, front)
        entry: Entry | None = front
        for child in node.children():
            entry = None if entry is None else self.through(child, entry)
        return entry

    def onward(self, node: Node, entry: Entry) -> Entry | None:
        """Trace the error of a number that the node answers to the network's answer, and return the number there."""
        around = node.around
        if around is None:
            return entry
        if not around.is_opened:
            self.stopped = around
            return None
        found: Entry | None = entry
        if isinstance(around.layer, Chain | Repeat):
            for child in list(around.children())[node.place + 1 :]:
                found = None if found is None else self.through(child, found)
        elif not isinstance(around.layer, Shared | Remat):
            found = self._joined(around, node, entry)
        return None if found is None else self.onward(around, found)

    def _across(self, node: Node, front: Entry, kind: str, slopes: np.ndarray) -> Entry | None:
        """Note the link across a layer, and return the entry behind it with the largest term."""
        slopes, errors = self.view.only(slopes), np.asarray(node.passed.dy)
        products = slopes * errors
        sizes = np.abs(products).ravel()
        order = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes)]
        if not order.size:  # no error comes back this way; the way itself goes on where anything moves
            order = np.argsort(-np.abs(slopes).ravel(), kind="stable")[: min(1, np.count_nonzero(slopes))]
        kept = order if len(order) <= self.most + 1 else order[: self.most]
        places = [tuple(int(k) for k in np.unravel_index(i, slopes.shape)) for i in kept]
        terms = tuple(Term(self.view.answer(node, at), float(slopes[at])) for at in places)
        rest = float(np.sum(products.ravel()[order[len(kept) :]]))
        moves = int(np.count_nonzero(slopes))
        self.links.append(Link(node, kind, front, terms, len(order) - len(kept), rest, moves))
        return terms[0].behind if terms else None

    def _branches(self, node: Node, front: Entry) -> Entry | None:
        """Note that ways meet in front of a node, and follow the one that brings back the most."""
        around = self.view.answer(node, front.at) if isinstance(node.layer, Residual) else None
        shares = [(child, _share(front, child)) for child in node.children()]
        terms = [Term(around, 1.0)] if around else []
        terms += [Term(share, 1.0) for _, share in shares]
        terms.sort(key=lambda term: -abs(term.behind.error))
        self.links.append(Link(node, "branches", front, tuple(terms)))
        first = terms[0].behind
        if first is around:
            return around
        child, share = next(each for each in shares if each[1] is first)
        entry = self.through(child, share)
        return None if entry is None else self._joined(node, child, entry)

    def _joined(self, node: Node, child: Node, entry: Entry) -> Entry:
        """Note the end of a branch: what its number is in the node's answer."""
        at, slope = entry.at, 1.0
        layer = node.layer
        if isinstance(layer, Parallel):
            others = [each.passed.y for each in node.children()]
            if layer.join == "concatenate":
                at = (*at[:-1], at[-1] + sum(y.shape[-1] for y in others[: child.place]))
            elif layer.join == "multiply":
                slope = float(np.prod([y[at] for i, y in enumerate(others) if i != child.place]))
        behind = self.view.answer(node, at)
        self.links.append(Link(node, "joined", entry, (Term(behind, slope),)))
        return behind


def _share(front: Entry, branch: Node) -> Entry:
    """Return the share of a number that goes into one branch, with the error that comes back from there."""
    return front._replace(name=share_of(branch), error=float(np.asarray(branch.passed.dx)[front.at]))


def _given(node: Node) -> tuple[PyTree, PyTree, Env | None]:
    return node.passed.x, node.params, node.passed.env


def _flat(at: tuple[int, ...], shape: tuple[int, ...]) -> int:
    return int(np.ravel_multi_index(at, shape))


def _one_hot(shape: tuple[int, ...], at: int, dtype: Any) -> Array:
    size = int(np.prod(shape))
    return jnp.zeros(size, dtype).at[at].set(1).reshape(shape)


@quickly(0)
def _column(layer: Layer, x: PyTree, params: PyTree, env: Env | None, at: int) -> Array:
    """∂y/∂x[at], in y's shape."""
    return jax.jvp(lambda x: layer(x, params, env), (x,), (_one_hot(x.shape, at, x.dtype),))[1]


@quickly(0, 1)
def _inside(layer: Layer, leaf: str, x: PyTree, params: PyTree, env: Env | None, dy: Array, at: int) -> Array:
    """∂y/∂z[at] of a sum z inside the layer: δ = ∂C/∂z is linear in dy, and these are its coefficients."""
    _, cache = layer.forward(x, params, env)

    def errors(dy: Array) -> Array:
        return by_path(layer.backward(dy, cache, params)[1], is_use)[leaf].delta

    delta, transpose = jax.vjp(errors, dy)
    return transpose(_one_hot(delta.shape, at, delta.dtype))[0]


@quickly(0, 1)
def _by_parameter(layer: Layer, leaf: str, x: PyTree, params: PyTree, env: Env | None, at: int) -> Array:
    """∂y/∂θ[at], in y's shape."""

    def direction(path: Any, array: Array) -> Array:
        return _one_hot(array.shape, at, array.dtype) if dotted(path) == leaf else jnp.zeros_like(array)

    pushed = jax.tree_util.tree_map_with_path(direction, params)
    return jax.jvp(lambda params: layer(x, params, env), (params,), (pushed,))[1]
