"""`leaves`: what becomes of every parameter when examples are taken apart, before anything is computed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxprop.errors import JaxpropError
from jaxprop.tables import table
from jaxprop.uses import Several, Stacked, Use, Viewed, is_use
from jaxprop.xray.arguments import ArgNums
from jaxprop.xray.following.examples import InAxes
from jaxprop.xray.following.foreign import foreign


@dataclass(frozen=True)
class Leaf:
    """What becomes of one parameter.

    name: as one would write it in f.    shape: its shape.
    kind: of its use, such as "Outer"; "Dense" where it was not followed; "Nothing" where its gradient is 0, since it is
        unused or held fixed.
    way: how norms of examples are computed, such as "gram" or "direct"; "" for "Nothing".
    because: why it was not followed, with the line of f; "" where it was.

    >>> print(Leaf("params['w']", (2, 1), "Outer", "product"))
    Outer, product
    """

    name: str
    shape: tuple[int, ...]
    kind: str
    way: str
    because: str = ""

    def __str__(self) -> str:
        if self.because:
            return f"Dense: because {self.because}"
        return f"{self.kind}, {self.way}" if self.way else f"{self.kind}: no error comes back to it"


@dataclass(frozen=True)
class Leaves:
    """The parameters of a function, and what becomes of each: printed, a table.

    >>> found = Leaves((Leaf("params['w']", (2, 1), "Outer", "product"),))
    >>> print(found["params['w']"], found.dense)
    Outer, product ()
    """

    rows: tuple[Leaf, ...]

    def __iter__(self) -> Iterator[Leaf]:
        return iter(self.rows)

    def __getitem__(self, name: str) -> Leaf:
        found = {leaf.name: leaf for leaf in self.rows}
        if name not in found:
            raise JaxpropError(f"found no parameter {name!r}, expected one of {', '.join(found)}")
        return found[name]

    @property
    def dense(self) -> tuple[Leaf, ...]:
        """Those that are not followed."""
        return tuple(leaf for leaf in self.rows if leaf.because)

    def __str__(self) -> str:
        rows = [(leaf.name, str(list(leaf.shape)), str(leaf)) for leaf in self.rows]
        return table([("parameter", "shape", "use"), *rows])


def leaves(f: Callable[..., Any], argnums: ArgNums = 0, in_axes: InAxes = (None, 0, 0)) -> Callable[..., Leaves]:
    """Return the function that lists every parameter of f with the kind of its use, or why it has none.

    Nothing is computed: f is traced. A parameter that is not followed is right all the same, but its gradient is built
    for every example; the line says where it was lost.

    Args:
        f: f(params, x, y) of ONE example, as for `jp.example_norms`.
        argnums: the arguments to differentiate, as for `jax.grad`.
        in_axes: where each argument has its axis of examples, as for `jax.vmap`.

    Raises:
        JaxpropError: an argument to differentiate holds no real numbers, argnums names none, or it is mapped.
        ShapeError: in_axes do not fit the arguments.

    >>> import jax.numpy as jnp
    >>> cost = lambda params, x: jnp.sum((x @ params["w"] + params["b"]) * params["s"] ** 2)
    >>> params = {"w": jnp.ones((2, 3)), "b": jnp.ones(3), "s": jnp.ones(3)}
    >>> found = leaves(cost, in_axes=(None, 0))(params, jnp.ones((4, 5, 2)))
    >>> print(found["params['w']"])
    Outer, direct
    >>> print(found["params['s']"])
    Dense: because it goes through integer_pow, ...
    """
    run = foreign(f, argnums, in_axes)

    def listed(*args: Any, **kwargs: Any) -> Leaves:
        found: list[Leaf] = []

        def uses(*args: Any, **kwargs: Any) -> Any:
            forward = run(*args, **kwargs)
            flat = jax.tree.leaves(forward.uses(lambda y: jax.tree.map(jnp.ones_like, y)), is_leaf=is_use)
            traced = forward.traced
            for i, use in zip(traced.asked, flat, strict=True):
                lost = forward.followed.lost.get(i)
                name, shape = traced.names[i], traced.one(i).shape
                if i in forward.followed.unreached:
                    found.append(Leaf(name, shape, "Nothing", ""))
                else:
                    found.append(Leaf(name, shape, kind_of(use), use.norm_method, str(lost) if lost else ""))
            return forward.y

        _abstractly(uses, args, kwargs)
        return Leaves(tuple(found))

    return listed


def kind_of(use: Use) -> str:
    """Name a use, with the use of a step for a stacked one, and of every place for one of several."""
    if isinstance(use, Viewed):
        return kind_of(use.use)
    if isinstance(use, Stacked):
        return f"Stacked {kind_of(use.use)}"
    if isinstance(use, Several):
        return " + ".join(kind_of(each) for each in use.uses)
    return type(use).__name__


def _abstractly(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Trace a function of its arrays; what is none stays as it is."""
    flat, tree = jax.tree.flatten((args, kwargs))
    places = [i for i, leaf in enumerate(flat) if hasattr(leaf, "dtype")]

    def of(arrays: list[Any]) -> Any:
        whole = list(flat)
        for i, array in zip(places, arrays, strict=True):
            whole[i] = array
        args, kwargs = tree.unflatten(whole)
        return function(*args, **kwargs)

    jax.eval_shape(of, [flat[i] for i in places])
