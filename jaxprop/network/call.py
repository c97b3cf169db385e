"""How a network is called, f(x, θ), be it a Layer or a plain function; and what is refused before it is."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import jax
from jax import Array
from jaxtyping import ArrayLike, Float, Key, PyTree, Shaped

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.checks import kind_of
from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.layer import Env, Layer
from jaxprop.layers.settings import instead_of, shortly

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


class RuleFunction(CostFunction[Found], Protocol[Found]):
    """The same where errors may come back by a rule of `jp.rules`: a function of that rule's feedback too."""

    def __call__(
        self,
        x: PyTree,
        params: PyTree,
        targets: Targets,
        *,
        weights: Weights = None,
        rng: Rng = None,
        mask: PyTree = None,
        feedback: PyTree = None,
    ) -> Found:
        """Find it for C = Σ_n w_n C_n."""
        ...


def takes_rows(run: Callable[..., Found]) -> RuleFunction[Found]:
    """Make `run(x, params, targets, *, ...)` take lists and data frames for rows, and old-style keys."""
    takes = {"weights": as_arrays, "mask": as_arrays, "rng": as_key}

    @functools.wraps(run)
    def taking(x: Any, params: PyTree, targets: Any, **given: Any) -> Found:
        given = {name: takes[name](value, name) if name in takes else value for name, value in given.items()}
        x = as_arrays(x, "x")
        if not any(getattr(leaf, "shape", ()) for leaf in jax.tree.leaves(x)[:1]):
            raise ShapeError(f"x must hold rows [N, ...], found {kind_of(x)}; the order is x, params, targets")
        return run(x, params, as_arrays(targets, "targets"), **given)

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
        require(net, None, what)
        raise JaxpropError(
            f"{what} needs a jaxprop Layer such as Chain(...), found {type(net).__name__}: a plain function has no "
            "hand-derived backward pass; use jaxprop.auto"
        )


def require(net: object, cost: object, what: str) -> None:
    """Raise JaxpropError unless `net` is a Layer or a function and `cost` a Cost or a function: no class, no name.

    >>> from jaxprop.layers import ReLU
    >>> require(ReLU, None, "fit")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: fit: net must be a Layer or a function f(x, params), found the class ReLU; write ReLU()
    """
    for given, name, kind, call in ((net, "net", Layer, "f(x, params)"), (cost, "cost", Cost, "C(y, targets)")):
        other = isinstance(given, Layer | Cost) and not isinstance(given, kind)
        if given is not None and (other or isinstance(given, type) or not callable(given)):
            instead = instead_of(given, kind)
            hint = instead or ("the order is net, cost" if other else "")
            found = f"{what}: {name} must be a {kind.__name__} or a function {call}, found {shortly(given)}"
            raise JaxpropError(f"{found}{hint and f'; {hint}'}")


def require_cost(cost: object, what: str) -> None:
    """Raise unless `cost` has a delta: a Cost, and no plain function."""
    require(None, cost, what)
    if not hasattr(cost, "delta"):
        raise JaxpropError(
            f"{what} needs a Cost, found {shortly(cost)}; write jp.Cost.of(f), f being that of one example"
        )


def require_order(net: Network, x: PyTree, params: PyTree, what: str) -> None:
    """Raise ShapeError where x and θ stand in each other's place: a layer's θ is a tuple, never an array.

    `what` is the call as it should be, such as "predict(net, x, params)".
    """
    if isinstance(net, Layer) and hasattr(params, "shape") and not hasattr(x, "shape"):
        raise ShapeError(
            f"{what}: found {type(x).__name__} for x and an array for params; the inputs come first, as in f(x, θ)"
        )
