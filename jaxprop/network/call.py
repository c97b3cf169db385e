"""How a network is called, f(x, θ), be it a Layer or a plain function; and what is refused before it is."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from jax import Array
from jaxtyping import ArrayLike, Float, Key, PyTree, Shaped

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer

Network = Layer | Callable[[PyTree, PyTree], PyTree]
Targets = Shaped[ArrayLike, "N ..."]
Weights = Float[Array, " N"] | None  # None means 1/N each
Rng = Key[Array, ""] | None  # None means that nothing is drawn
Found = TypeVar("Found", covariant=True)


class CostFunction(Protocol[Found]):
    """What the factories of a network and a cost return: a function of x, θ and targets, all pure but `compare`'s."""

    def __call__(
        self,
        x: PyTree,
        params: PyTree,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
    ) -> Found:
        """Find it for C = Σ_n w_n C_n."""
        ...


def takes_rows(run: Callable[..., Found]) -> CostFunction[Found]:
    """Make `run(x, params, targets, *, ...)` take lists and data frames for rows, and old-style keys."""
    takes = {"weights": as_arrays, "mask": as_arrays, "rng": as_key}

    @functools.wraps(run)
    def taking(x: Any, params: PyTree, targets: Any, **given: Any) -> Found:
        given = {name: takes[name](value, name) if name in takes else value for name, value in given.items()}
        return run(as_arrays(x, "x"), params, as_arrays(targets, "targets"), **given)

    return taking


def environment(rng: Rng, mask: PyTree) -> Env | None:
    """Return what a forward pass needs beside x and θ, or None for nothing."""
    return None if rng is None and mask is None else Env(rng, mask)


def call(net: Network, x: PyTree, params: PyTree, rng: Rng = None, mask: PyTree = None) -> PyTree:
    """Return f(x, θ) of a Layer or of any callable f(x, params), which takes neither rng nor mask."""
    env = environment(rng, mask)
    if isinstance(net, Layer):
        return net(x, params, env)
    if env is not None:
        what = "mask" if rng is None else "rng"
        raise JaxpropError(
            f"{what} was given to a plain function f(x, params), which takes none: close over it, or put it into x "
            "or params"
        )
    return net(x, params)


def require_layer(net: object, what: str) -> None:
    """Raise unless `net` is a Layer: only layers carry hand-derived rules."""
    if not isinstance(net, Layer):
        raise JaxpropError(
            f"{what} needs a jaxprop Layer such as Chain(...), found {type(net).__name__}: a plain function has no "
            "hand-derived backward pass; use jaxprop.auto"
        )


def require_order(net: Network, x: PyTree, params: PyTree, what: str) -> None:
    """Raise ShapeError where x and θ stand in each other's place: a layer's θ is a tuple, never an array.

    `what` is the call as it should be, such as "predict(net, x, params)".
    """
    if isinstance(net, Layer) and hasattr(params, "shape") and not hasattr(x, "shape"):
        raise ShapeError(
            f"{what}: found {type(x).__name__} for x and an array for params; the inputs come first, as in f(x, θ)"
        )
