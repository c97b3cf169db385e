"""The arguments of a function, taken apart: its arrays, which of them are differentiated, and all that is no array."""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import KeyPath
from jaxtyping import PyTree

from jaxprop.errors import JaxpropError

ArgNums = int | Sequence[int] | None
_ARRAYS = (jax.Array, np.ndarray, np.generic)
_NO_NUMBERS = "OSUTMm"  # kinds of NumPy's dtypes that JAX has not: objects, strings and dates


@dataclass(frozen=True, eq=False)
class Arguments:
    """Hold (args, kwargs) without their arrays, the inputs of a program: what else there is makes another program.

    argnums: as for `jax.grad`; None differentiates nothing.
    tree, paths: of the leaves of (args, kwargs).
    statics: these leaves, with None in the place of each input.
    is_input, is_differentiated: which leaves they are.
    """

    argnums: ArgNums
    tree: Any
    paths: tuple[KeyPath, ...]
    statics: tuple[Any, ...]
    is_input: tuple[bool, ...]
    is_differentiated: tuple[bool, ...]

    def of_inputs(self, each: Iterable[Any]) -> list[Any]:
        """Choose, of one thing for each leaf, those of the inputs."""
        return [thing for thing, chosen in zip(each, self.is_input, strict=True) if chosen]

    def names(self, f: Callable[..., Any]) -> list[str]:
        """Name each input as one would write it inside f, such as params['Dense_0']['kernel']."""
        return [_name(path, f) for path in self.of_inputs(self.paths)]

    def owners(self, f: Callable[..., Any]) -> list[str]:
        """Name the whole argument that each input is in, such as params."""
        return [_name(path[:2], f) for path in self.of_inputs(self.paths)]

    def filled(self, inputs: Sequence[Any]) -> Any:
        """Return (args, kwargs) with these inputs."""
        rest = iter(inputs)
        return self.tree.unflatten(
            [next(rest) if chosen else leaf for chosen, leaf in zip(self.is_input, self.statics, strict=True)]
        )

    def as_gradient(self, of_inputs: Sequence[Any]) -> PyTree:
        """Return the tree that `jax.grad` returns, of one thing for each input."""
        rest = iter(of_inputs)
        args, _ = self.tree.unflatten([next(rest) if chosen else None for chosen in self.is_input])
        return args[self.argnums] if isinstance(self.argnums, int) else tuple(args[i] for i in self.argnums or ())

    def __hash__(self) -> int:
        return hash((self.tree, self.is_input))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Arguments) or (self.tree, self.is_input) != (other.tree, other.is_input):
            return False
        return all(map(_same, self.statics, other.statics))


def check_asked(f: Any, argnums: Any) -> None:
    """Raise a JaxpropError where f is no function, or argnums no numbers: the arguments were given too early, say."""
    if not callable(f):
        raise JaxpropError(
            f"expected a function, found {type(f).__name__}: give the function itself, as in jax.grad(f)(*args), and "
            "its arguments to what comes back"
        )
    numbers = argnums if isinstance(argnums, tuple | list) else () if argnums is None else (argnums,)
    if not all(isinstance(number, int) for number in numbers):
        raise JaxpropError(
            f"argnums: found {type(argnums).__name__}, expected the number of an argument or several, as for jax.grad; "
            "f's own arguments are given to what comes back, as in jax.grad(f)(*args)"
        )


def arguments(argnums: ArgNums, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Arguments, list[Any]]:
    """Take (args, kwargs) apart: what they are without their inputs, and the inputs.

    Inputs are all arrays of numbers, and the numbers of Python that are differentiated.

    Raises:
        JaxpropError: an argument to differentiate holds no real numbers, or argnums names none.
    """
    asked = _asked(argnums, args)
    leaves, tree = jax.tree_util.tree_flatten_with_path((args, kwargs))
    of_args = [asked[i] if i in asked else [False] * len(jax.tree.leaves(arg)) for i, arg in enumerate(args)]
    flags = [*(flag for flags in of_args for flag in flags), *(False for _ in jax.tree.leaves(kwargs))]
    is_input = tuple(flag or _is_array(leaf) for flag, (_, leaf) in zip(flags, leaves, strict=True))
    statics = tuple(None if chosen else leaf for chosen, (_, leaf) in zip(is_input, leaves, strict=True))
    found = Arguments(argnums, tree, tuple(path for path, _ in leaves), statics, is_input, tuple(flags))
    return found, found.of_inputs(leaf for _, leaf in leaves)


def is_inexact(array: Any) -> bool:
    """Say whether an array is of real or complex numbers."""
    return jnp.issubdtype(jnp.result_type(array), jnp.inexact)


def _asked(argnums: ArgNums, args: tuple[Any, ...]) -> dict[int, list[bool]]:
    """The arguments to differentiate, counted from the left: which of their leaves can be."""
    if argnums is None:
        return {}
    asked = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for number in asked:
        if not -len(args) <= number < len(args):
            raise JaxpropError(f"argnums: found {argnums}, but f was called with {len(args)} positional arguments")
    found = {number % len(args): _differentiable(args[number]) for number in asked}
    for number, flags in found.items():
        if not any(flags):
            raise JaxpropError(
                f"argnums: argument {number} holds no real numbers to differentiate, found "
                f"{jax.tree.map(_kind, args[number])}; argnums=None looks at the values alone"
            )
    return found


def _differentiable(argument: PyTree) -> list[bool]:
    """Say which leaves of an argument can be differentiated: arrays of real numbers, as `equinox.filter_grad` has it.

    Where all leaves are real numbers, as `jax.grad` asks, so are those that Python holds. In a module they are options,
    such as the rate of a dropout, about which it decides in Python.
    """
    leaves = jax.tree.leaves(argument)
    real = [_is_array(leaf) and is_inexact(leaf) for leaf in leaves]
    numbers = all(is_real or isinstance(leaf, float) for is_real, leaf in zip(real, leaves, strict=True))
    return [True] * len(leaves) if numbers else real


def _is_array(leaf: Any) -> bool:
    """Say whether JAX can take it: an array of NumPy may hold strings."""
    return isinstance(leaf, _ARRAYS) and (isinstance(leaf, jax.Array) or leaf.dtype.kind not in _NO_NUMBERS)


def _kind(leaf: Any) -> Any:
    return str(jnp.result_type(leaf)) if _is_array(leaf) or isinstance(leaf, bool | int) else type(leaf).__name__


def _name(path: Any, f: Callable[..., Any]) -> str:
    kind, place, *rest = path  # ((args, kwargs) -> which of the two -> which argument -> ...)
    if kind.idx == 1:
        key = place.key
    else:
        key = place.idx
        try:
            known = list(inspect.signature(f).parameters.values())
        except (TypeError, ValueError):
            known = []
        named = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
        key = named[key] if key < len(named) else f"args[{key}]"
    return f"{key}{jax.tree_util.keystr(tuple(rest))}"


def _same(a: Any, b: Any) -> bool:
    """Whether two leaves make the same program: equal, and of one type, since 1 == True == 1.0."""
    try:
        return a is b or (type(a) is type(b) and bool(np.all(a == b) if isinstance(a, _ARRAYS) else a == b))
    except Exception:  # what cannot be compared is another one
        return False
