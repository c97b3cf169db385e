"""Which axis of which array of θ lies on which axis of the mesh.

    model    W of a Linear, of attention and of an Embedding is divided among devices which share each example's work
             (Shoeybi et al. 2019, "Megatron-LM", section 3):
                 columns, then rows   y = σ(x W₁) W₂: W₁ `[I, O/m]`, b₁ `[O/m]`, W₂ `[I/m, O]`: one sum, behind W₂
                 heads                W_query, W_key, W_value `[I, F/m]`, W_output `[F/m, O]`: one sum, behind W_output
                 vocabulary           the table `[V/m, D]`: each device has some rows, and one sum finds the row
    fsdp     every array is divided along its longest axis that divides evenly (Rajbhandari et al. 2020, "ZeRO", stage
             3). A step gathers an array where it is used, and adds gradients up where they are kept.

A layout changes where numbers lie, never what they are: XLA puts in what has to be sent. What does not divide evenly
lies whole on every device. The arrays of an optimizer lie as those of θ that they belong to.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from jaxprop.arrays.paths import by_path, dotted, join
from jaxprop.layers import Activation, Dropout, Embedding, Linear, MultiHeadAttention
from jaxprop.layers.layer import Layer
from jaxprop.network import Chain, Combinator, Parallel, leaves

DATA, FSDP, MODEL = "data", "fsdp", "model"
Axes = tuple[str | tuple[str, ...] | None, ...]  # what each axis of an array lies on

COLUMNS: dict[str, Axes] = {"W": (None, MODEL), "b": (MODEL,)}
ROWS: dict[str, Axes] = {"W": (MODEL, None)}
HEADS: dict[str, Axes] = {
    **dict.fromkeys(("W_query", "W_key", "W_value"), COLUMNS["W"]),
    **dict.fromkeys(("b_query", "b_value"), COLUMNS["b"]),
    "W_output": ROWS["W"],
}
VOCABULARY: dict[str, Axes] = {"W": (MODEL, None)}


class Layout(NamedTuple):
    """Where the arrays of θ lie, by path: their shapes, and what each of their axes lies on.

    whole: arrays with several axes of which none divides evenly, so that they lie whole on every device of an axis.
    """

    shapes: dict[str, tuple[int, ...]]
    axes: dict[str, Axes]
    whole: dict[str, str]

    def specs(self, tree: PyTree) -> PyTree[PartitionSpec]:
        """Return where the arrays of a tree lie: those of an optimizer as the array of θ whose path theirs ends with.

        An array with more axes in front, such as the history of L-BFGS, has these whole.
        """
        return jax.tree_util.tree_map_with_path(lambda path, leaf: self._spec(dotted(path), leaf), tree)

    def divided(self, axis: str) -> bool:
        """Tell whether any array lies along an axis of the mesh."""
        return any(axis == on or axis in (on or ()) for axes in self.axes.values() for on in axes)

    def _spec(self, path: str, leaf: Any) -> PartitionSpec:
        shape = getattr(leaf, "shape", ())
        names = path.split(".")
        for i in range(len(names) + 1):
            end = ".".join(names[i:])
            if end in self.shapes and shape[len(shape) - len(self.shapes[end]) :] == self.shapes[end]:
                axes = (None,) * (len(shape) - len(self.shapes[end])) + self.axes[end]
                return PartitionSpec(*axes) if any(axes) else PartitionSpec()
        return PartitionSpec()


def layout(net: Any, params: PyTree, sizes: Mapping[str, int]) -> Layout:
    """Return the layout of θ for a mesh with axes of these sizes.

    net: a Layer, whose structure says what `model` divides; of a plain function `fsdp` alone divides anything.

    >>> from jaxprop import Chain, Linear, ReLU
    >>> net = Chain(Linear(8), ReLU(), Linear(3))
    >>> params = jax.eval_shape(net.init, jax.random.key(0), jax.ShapeDtypeStruct((1, 4), "float32"))
    >>> found = layout(net, params, {"data": 2, "model": 2})
    >>> found.axes["0.W"], found.axes["2.W"]
    ((None, 'model'), ('model', None))
    """
    arrays, whole, tensor = by_path(params), {}, {}
    outside = dict.fromkeys(arrays, 0)  # leading axes that a scan goes through
    if isinstance(net, Layer):
        outside |= {
            join(leaf.path, name): leaf.repeats for leaf in leaves(net, params) for name in by_path(leaf.params)
        }
        if sizes.get(MODEL, 1) > 1:
            for path, found in _tensor(net, "", sizes[MODEL]):
                tensor |= {join(path, name): axes for name, axes in found.items()}
                if not found:
                    whole |= {name: MODEL for name in arrays if name.rpartition(".")[0] == path}
    axes = {}
    for path, array in arrays.items():
        own = tensor.get(path, ())
        own = (None,) * (array.ndim - len(own)) + own
        axes[path] = _divided(array.shape, own, outside[path], sizes)
        if sizes.get(FSDP, 1) > 1 and axes[path] == own and array.ndim - outside[path] > 1:
            whole[path] = FSDP
    return Layout({path: array.shape for path, array in arrays.items()}, axes, whole)


def _divided(shape: tuple[int, ...], axes: Axes, outside: int, sizes: Mapping[str, int]) -> Axes:
    """The axes with `fsdp` on the longest that is free, or else together with `model`."""
    ways = sizes.get(FSDP, 1)
    if ways == 1:
        return axes
    free = [i for i in range(outside, len(shape)) if axes[i] is None and shape[i] and shape[i] % ways == 0]
    if free:
        best = max(free, key=lambda i: shape[i])
        return (*axes[:best], FSDP, *axes[best + 1 :])
    both = [i for i, axis in enumerate(axes) if axis == MODEL and shape[i] % (ways * sizes[MODEL]) == 0]
    return (*axes[: both[0]], (MODEL, FSDP), *axes[both[0] + 1 :]) if both else axes


def _tensor(net: Layer, path: str, ways: int) -> Generator[tuple[str, dict[str, Axes]], None, bool]:
    """Yield what `model` divides of each layer that it can divide, by path; nothing where that is not even.

    Return whether what comes out is divided by features, so that a Linear behind it takes rows.
    """
    divided = False
    for where, layer in _in_a_row(net, path):
        if isinstance(layer, Combinator):
            ends = []
            for name, child in zip(layer.names(), layer.children(), strict=True):
                ends.append((yield from _tensor(child, join(where, name), ways)))
            divided = isinstance(layer, Parallel) and layer.join != "concatenate" and all(ends)
        elif isinstance(layer, Linear) and divided:
            yield where, ROWS
            divided = False
        elif isinstance(layer, Linear):
            divided = layer.features % ways == 0
            yield where, COLUMNS if divided else {}
        elif isinstance(layer, MultiHeadAttention):
            yield where, HEADS if layer.heads % ways == 0 else {}
            divided = False
        elif isinstance(layer, Embedding):
            yield where, VOCABULARY if layer.vocabulary % ways == 0 else {}
            divided = False
        elif not isinstance(layer, (Activation, Dropout)):  # these leave each feature where it is
            divided = False
    return divided


def _in_a_row(net: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    """The layers of a chain, those of a chain inside it among them."""
    if not isinstance(net, Chain):
        yield path, net
        return
    for name, child in zip(net.names(), net.children(), strict=True):
        yield from _in_a_row(child, join(path, name))
