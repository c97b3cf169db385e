"""What a derivation reads: every number between one parameter and the cost, in float64, in the order of the chain rule.

The hand-derived backward pass (`manual.trace`) writes down what every layer saw. Here its records become levels: a
level is a row of units, what is done to each of them alone (activations), and the way to the next level, on which every
unit meets every other (a `Linear`, a `Softmax`), or to the cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, PyTree

from jaxprop.arrays.one_run import quickly
from jaxprop.backward import manual
from jaxprop.backward.manual import Record
from jaxprop.costs import Cost
from jaxprop.derivations.formula import Derivative, Formula, Symbol
from jaxprop.derivations.question import Given, Question, is_ours
from jaxprop.layers import Activation, Flatten, Layer, Linear, Softmax, Standardize, Unstandardize
from jaxprop.network import by_path

C = Symbol("C")
Rows = dict[str, Record]
Way = Literal["linear", "softmax", "cost", "unknown"]


@dataclass(frozen=True)
class Node:
    """One name for a row of numbers, `values`, and ∂C/∂(each of them), `errors`."""

    name: str
    layer: int | None
    values: np.ndarray
    errors: np.ndarray

    def symbol(self, unit: int | str) -> Symbol:
        """Return z⁽²⁾[unit]."""
        return Symbol(self.name, (unit,), self.layer)

    def error(self, unit: int | str) -> Formula:
        """Return the symbol of ∂C/∂(that unit): δ where it is a z, and only there."""
        return Symbol("δ", (unit,), self.layer) if self.name == "z" else Derivative(C, self.symbol(unit))


@dataclass(frozen=True)
class Stage:
    """What is done to every unit alone, with its slopes; `layer` is None where there is no activation."""

    layer: Layer | None
    slopes: np.ndarray


@dataclass(frozen=True)
class Level:
    """nodes[0] → stages[0] → nodes[1] → … → nodes[-1] → the next level, by `edges` [units, next units], or the cost.

    `way` is "unknown" where a layer without a formula ends what is known; `layer` is what leads on, None at the cost.
    """

    nodes: tuple[Node, ...]
    stages: tuple[Stage, ...]
    way: Way
    edges: np.ndarray | None
    layer: Layer | None

    @property
    def slopes(self) -> np.ndarray:
        """∂nodes[-1]/∂nodes[0] of every unit."""
        return np.prod([stage.slopes for stage in self.stages], axis=0) if self.stages else np.ones(self.size)

    @property
    def size(self) -> int:
        """How many units there are."""
        return len(self.nodes[0].values)


@dataclass(frozen=True)
class Reading:
    """The way from a `Linear`'s inputs to the cost: `levels[0]` is its own z; y and targets are the row's."""

    W: np.ndarray
    b: np.ndarray | None
    inputs: Node
    prepared_by: tuple[Layer, ...]
    levels: tuple[Level, ...]
    last: int
    y: np.ndarray
    targets: np.ndarray


def is_read(question: Question) -> bool:
    """Whether every path from the number in question on can be read: through a chain of layers that all are known here.

    It is a `Linear`'s, or goes into one, or is prepared for one; a layer of the user's own may end what is known.
    """
    alone = (Activation, Standardize, Unstandardize, Flatten)
    before = question.before if question.is_input else ()
    known = (*alone, Softmax)
    after = all(
        type(leaf.layer) is Linear or isinstance(leaf.layer, known) or not is_ours(leaf.layer)
        for leaf in question.after
    )
    own = type(question.layer) is Linear and all(isinstance(leaf.layer, alone) for leaf in before)
    return own and after and question.is_chain and not question.net.mixes_examples


def read(question: Question, given: Given) -> Reading | None:
    """Return the reading of a `Linear`'s parameter, None where a layer has positions; call it in float64."""
    rows = jax.tree.map(np.asarray, tape(question.net, question.cost, given))
    linears = [leaf.path for leaf in question.after if type(leaf.layer) is Linear]
    if any(rows[path].y.ndim != 1 for path in (question.layer_path, *linears)):
        return None
    found = {path: np.asarray(leaf) for path, leaf in by_path(given.params).items()}
    own, last = rows[question.layer_path], (question.after[-1].path if question.after else question.layer_path)
    number = 1 + sum(type(layer) is Linear for _, layer, *_ in question.before)
    prefix = question.path.removesuffix(question.path.rsplit(".", 1)[-1])
    before = question.before if number == 1 else ()
    prepared = tuple(leaf.layer for leaf in before if not isinstance(leaf.layer, Flatten))
    name, above = ("x", None) if number == 1 and not prepared else ("a", number - 1)
    levels = _levels(question, rows, found, number)
    if question.is_input:
        prefix, levels = f"{question.layer_path}.".lstrip("."), (_inputs(question, rows, found, levels), *levels)
    return Reading(
        W=found[prefix + "W"], b=found.get(prefix + "b"), inputs=Node(name, above, own.x, own.dx), prepared_by=prepared,
        levels=levels, last=number + sum(type(layer) is Linear for _, layer, *_ in question.after),
        y=rows[last].y, targets=np.asarray(given.targets)[given.at],
    )  # fmt: skip


@quickly(0, 1)
def tape(net: Layer, cost: Cost, given: Given) -> Rows:
    """One example's part of every record; compiled as one program, as many small ones would take seconds."""
    tape = manual.trace(net, cost)(given.x, given.params, given.targets, rng=given.rng)
    return jax.tree.map(lambda part: part[given.at], tape)


def _inputs(question: Question, rows: Rows, params: dict[str, np.ndarray], above: tuple[Level, ...]) -> Level:
    """The level of the inputs themselves: what is done to each of them alone before the first Linear."""
    first = rows[question.before[0].path if question.before else question.layer_path]
    assert first.dx is not None
    nodes, stages = [Node("x", None, first.x.ravel(), first.dx.ravel())], []
    before = [leaf for leaf in question.before if not isinstance(leaf.layer, Flatten)]
    for name, leaf in zip(_names(len(before), last="a")[1:], before, strict=True):
        record = rows[leaf.path]
        assert record.dy is not None
        stages.append(Stage(leaf.layer, np.ravel(_slopes(leaf.layer, record))))
        nodes.append(Node(name, 0, record.y.ravel(), record.dy.ravel()))
    edges = params[f"{question.layer_path}.W".lstrip(".")]
    return Level(tuple(nodes), tuple(stages), "linear", edges, question.layer)


def _levels(question: Question, rows: Rows, params: dict[str, np.ndarray], number: int) -> tuple[Level, ...]:
    """The levels from the parameter's own z on; a layer without a formula that mixes units ends them."""
    levels: list[Level] = []
    group: list[tuple[str, Layer]] = [(question.layer_path, question.layer)]
    for path, layer, *_ in question.after:
        if type(layer) is Linear:
            levels += _group(group, rows, number, "linear", params[f"{path}.W"], layer)
            group, number = [(path, layer)], number + 1
        elif not isinstance(layer, Activation) and type(layer) not in (Softmax, Standardize, Unstandardize, Flatten):
            return (*levels, *_group(group, rows, number, "unknown", None, layer))
        elif not isinstance(layer, Flatten):
            group.append((path, layer))
    return (*levels, *_group(group, rows, number, "cost", None, None))


def _group(
    group: list[tuple[str, Layer]], rows: Rows, number: int, way: Way, edges: np.ndarray | None, leads: Layer | None
) -> list[Level]:
    """One Linear and what follows it up to the next: one level, and one more for every Softmax."""
    names = _names(len(group) - 1, last="y" if way == "cost" else "a")
    nodes = [
        Node(name, None if name == "y" else number, rows[path].y, rows[path].dy)
        for name, (path, _) in zip(names, group, strict=True)
    ]
    levels: list[Level] = []
    start, stages = 0, []
    for i, (path, layer) in enumerate(group[1:], 1):
        if type(layer) is Softmax:
            jacobian = rows[path].derivative  # ∂y_c/∂z_k: [c, k]
            levels.append(Level(tuple(nodes[start:i]), tuple(stages), "softmax", jacobian.T, layer))
            start, stages = i, []
        else:
            stages.append(Stage(layer, _slopes(layer, rows[path])))
    if len(group) == 1 and way != "unknown":
        same = Node("y", None, nodes[0].values, nodes[0].errors) if way == "cost" else replace(nodes[0], name="a")
        nodes, stages = [nodes[0], same], [Stage(None, np.ones_like(nodes[0].values))]
    levels.append(Level(tuple(nodes[start:]), tuple(stages), way, edges, leads))
    return levels


def _names(stages: int, last: str) -> list[str]:
    """z, u₁, u₂, …, a: one symbol for one thing."""
    between = [f"u{''.join(chr(0x2080 + int(c)) for c in str(i))}" for i in range(1, stages)]
    return ["z", *(["u"] if len(between) == 1 else between), *([last] if stages else [])]


def _slopes(layer: Layer, record: Record) -> np.ndarray:
    if isinstance(layer, Standardize | Unstandardize):
        std = np.broadcast_to(np.asarray(layer.std, np.float64), record.y.shape)
        return 1 / std if isinstance(layer, Standardize) else std
    return record.derivative


def float64(tree: PyTree) -> PyTree:
    """Return the tree as numpy arrays, floating ones in float64."""

    def convert(leaf: ArrayLike) -> np.ndarray:
        leaf = np.asarray(leaf)
        return leaf.astype(np.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(convert, tree)


def largest(edges: Sequence[np.ndarray], end: np.ndarray, start: int, most: int) -> list[tuple[int, ...]]:
    """Return the units along the `most` paths of the largest product in size, the largest first.

    >>> first, second = np.array([[1.0, -3.0]]), np.array([[1.0, 5.0], [2.0, 0.1]])
    >>> largest([first, second], np.array([1.0, 1.0]), start=0, most=2)
    [(0, 1, 0), (0, 0, 1)]
    """
    products = end[:, None]  # [units, ranks]: of the largest paths from each unit on
    trails: list[np.ndarray] = []  # for each level [units, ranks, 2]: the next unit, and its rank there
    for level in reversed(range(len(edges))):
        rows = edges[level][[start]] if level == 0 else edges[level]
        ranks = [_ranked(row[:, None] * products, most) for row in rows]
        trails.insert(0, np.array([np.stack(np.unravel_index(rank, products.shape), axis=1) for rank in ranks]))
        products = np.array([(row[:, None] * products).ravel()[r] for row, r in zip(rows, ranks, strict=True)])
    found = []
    for rank in range(products.shape[1] if trails else 1):
        units, unit = [start], 0
        for trail in trails:
            unit, rank = (int(v) for v in trail[unit, rank])
            units.append(unit)
        found.append(tuple(units))
    return found


def _ranked(candidates: np.ndarray, most: int) -> np.ndarray:
    """Return the flat indices of the largest in size, the largest first, of equal ones the first."""
    sizes = np.abs(candidates.ravel())
    kept = np.sort(np.argpartition(-sizes, most)[:most]) if most < sizes.size else np.arange(sizes.size)
    return kept[np.argsort(-sizes[kept], kind="stable")]
