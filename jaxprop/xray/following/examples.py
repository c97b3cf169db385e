"""One example of a batch: f as a program of it, and which arguments have an axis of examples.

A batch is never looked at as one. f is traced for a single example, as `jax.vmap` traces it, and what is found there is
vmapped over all of them: no operation of f can mix two.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import KeyPath
from jaxtyping import PyTree

from jaxprop.arrays.paths import dotted
from jaxprop.arrays.varying import vary_with
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.xray.arguments import ArgNums, arguments
from jaxprop.xray.versions import needed, opened

_SHARED = object()  # in the place of None, which is no leaf of a tree
InAxes = Any  # int | None | a sequence with one of these, or a tree of these, for every argument


class OneExample(NamedTuple):
    """f as a program of one example, and the whole batch that it was given."""

    jaxpr: Any
    consts: list[Any]
    inputs: list[Any]  # the arrays among the arguments, of all examples
    axes: list[int | None]  # of each input
    differentiated: list[bool]  # of each input
    names: list[str]  # of each input, such as "params['Dense_0']['kernel']"
    paths: list[str]  # of each input, dotted, inside the argument: what the tree of θ calls it
    examples: int
    returned: Any  # the tree of what f returns
    as_gradient: Callable[[list[Any]], PyTree]  # one thing for each input, in the tree that `jax.grad` returns

    @property
    def asked(self) -> list[int]:
        """The numbers of the inputs that are differentiated: θ."""
        return [i for i, flag in enumerate(self.differentiated) if flag]

    def one(self, i: int) -> jax.ShapeDtypeStruct:
        """The shape of an input for one example."""
        array, axis = self.inputs[i], self.axes[i]
        if jax.typeof(array).manual_axis_type.varying:  # under shard_map: over which axes, the shape says too
            return jax.eval_shape(lambda a: a if axis is None else jax.lax.index_in_dim(a, 0, axis, False), array)
        shape = jnp.shape(array)
        shape = shape if axis is None else (*shape[:axis], *shape[axis + 1 :])
        return jax.ShapeDtypeStruct(shape, jnp.result_type(array))


def one_example(
    f: Callable[..., Any], argnums: ArgNums, in_axes: InAxes, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> OneExample:
    """Trace f for one example of a batch; what is no array stays as it is.

    Raises:
        JaxpropError: argnums names no argument or one without real numbers, or one that has an axis of examples itself.
        ShapeError: in_axes do not fit the arguments, or name axes of different lengths, or of none.
    """
    given, inputs = arguments(argnums, args, kwargs)
    inputs = [jnp.asarray(each) if isinstance(each, float) else each for each in inputs]
    axes = given.of_inputs(_axes_of(in_axes, args, kwargs))
    kept = list(map(_Input, given.of_inputs(given.paths), inputs, axes, given.of_inputs(given.is_differentiated)))
    names = given.names(f)
    kept = [each._replace(axis=_axis(each, name)) for each, name in zip(kept, names, strict=True)]
    examples = _examples(kept, names, in_axes)
    batch = [each.array for each in kept if each.axis is not None]
    kept = [each._replace(array=vary_with(each.array, batch)) if each.differentiated else each for each in kept]

    def program(*arrays: Any) -> Any:
        args, kwargs = given.filled(arrays)
        return f(*args, **kwargs)

    found = OneExample(
        None, [], [each.array for each in kept], [each.axis for each in kept], [each.differentiated for each in kept],
        names, [dotted(each.path[2:] if isinstance(argnums, int) else each.path[1:]) for each in kept], examples, None,
        given.as_gradient,
    )  # fmt: skip
    closed, returned = jax.make_jaxpr(program, return_shape=True)(*map(found.one, range(len(kept))))
    jaxpr, consts = opened(closed)
    return found._replace(jaxpr=needed(jaxpr), consts=list(consts), returned=returned)


class _Input(NamedTuple):
    path: KeyPath
    array: Any
    axis: int | None
    differentiated: bool


def _axes_of(in_axes: InAxes, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int | None]:
    """The axis of examples of every leaf of the arguments, as `jax.vmap` reads in_axes; None for keyword arguments."""
    if isinstance(in_axes, list):
        in_axes = tuple(in_axes)
    if isinstance(in_axes, tuple) and len(in_axes) != len(args):
        raise ShapeError(
            f"in_axes: found {in_axes}, which is for {len(in_axes)} positional arguments, but f was called with "
            f"{len(args)}; keyword arguments are not mapped"
        )
    marked = jax.tree.map(lambda axis: _SHARED if axis is None else axis, in_axes, is_leaf=lambda node: node is None)
    try:
        spread = jax.tree.broadcast(marked, args)
    except ValueError as error:
        said = str(error).splitlines()[0]
        raise ShapeError(f"in_axes: found {in_axes}, which is no prefix of the tree of arguments: {said}") from None
    axes = [None if axis is _SHARED else axis for axis in jax.tree.leaves(spread)]
    for axis in axes:
        if not (axis is None or isinstance(axis, int)) or isinstance(axis, bool):
            raise ShapeError(f"in_axes: found {axis!r}, expected whole numbers and None, as for jax.vmap")
    return [*axes, *(None for _ in jax.tree.leaves(kwargs))]


def _axis(each: _Input, name: str) -> int | None:
    """Count an axis from the left."""
    rank = jnp.ndim(each.array)
    if each.axis is None:
        return None
    if not -rank <= each.axis < rank:
        raise ShapeError(f"in_axes: found axis {each.axis} for {name}, which has {rank} axes: {jnp.shape(each.array)}")
    if each.differentiated:
        raise JaxpropError(
            f"in_axes: {name} is differentiated and mapped over examples too (axis {each.axis}); expected parameters "
            "that all examples share: in_axes None there"
        )
    return each.axis % rank


def _examples(kept: list[_Input], names: list[str], in_axes: InAxes) -> int:
    """N, the same for every mapped input."""
    lengths = {
        name: jnp.shape(each.array)[each.axis] for each, name in zip(kept, names, strict=True) if each.axis is not None
    }
    if not lengths:
        raise ShapeError(
            f"in_axes: found {in_axes}, which maps no array; expected an axis of examples for one argument at least, "
            "as in (None, 0, 0) for f(params, x, y)"
        )
    if len(set(lengths.values())) > 1:
        raise ShapeError(f"in_axes: the arguments are of different numbers of examples: {lengths}")
    (examples,) = set(lengths.values())
    if examples == 0:
        raise ShapeError(f"found no examples (N = 0) in {', '.join(lengths)}, expected at least one")
    return examples
