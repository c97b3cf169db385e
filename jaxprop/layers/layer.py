"""The contract of a layer: a frozen description, and the four functions that whoever writes a layer writes."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from jax import Array

from jaxprop.arrays.given import as_arrays, as_key
from jaxprop.errors import JaxpropError
from jaxprop.layers.described import Described
from jaxprop.layers.forward_only import back


class Env(NamedTuple):
    """What a forward pass may need beside x and θ; a pytree, not differentiated.

    rng: the key for whatever a layer draws. None means deterministic.
    mask: which positions of x are real, booleans `[N, T]`; None means all. Where x is a pair (queries, memory), a pair.

    >>> Env()
    Env(rng=None, mask=None)
    """

    rng: Array | None = None
    mask: Any = None


def _taking_rows(method: Callable[..., Any]) -> Callable[..., Any]:
    """`layer(x, ...)` and `forward(x, ...)` that take lists and data frames too."""

    @functools.wraps(method)
    def taking(self: "Layer", x: Any, params: Any = (), env: Any = None) -> Any:
        return method(self, as_arrays(x, "x"), params, env if env is None else _environment(env))

    return taking


def _taking_key_and_rows(init: Callable[..., Any]) -> Callable[..., Any]:
    """`init(key, x)` likewise, and old-style keys."""

    @functools.wraps(init)
    def taking(self: "Layer", key: Any, x: Any) -> Any:
        return init(self, as_key(key, "key"), as_arrays(x, "x"))

    return taking


def _environment(env: Any) -> "Env":
    if not isinstance(env, Env):
        raise JaxpropError(f"env must be jp.Env(rng=..., mask=...), found a {type(env).__name__}")
    return Env(as_key(env.rng, "rng"), as_arrays(env.mask, "mask"))


DOORS = {"__call__": _taking_rows, "forward": _taking_rows, "init": _taking_key_and_rows}


@dataclass(frozen=True)
class Layer(Described):
    """A pure function f(x, θ), described by static settings alone: frozen, hashable, JSON-able. Arrays live in θ.

        init(key, x)                     -> params      x: array or ShapeDtypeStruct [N, ...]; NamedTuple, or ()
        layer(x, params, env)            -> y           f(x, θ); by default forward(...)[0]
        forward(x, params, env)          -> (y, cache)  cache: a pytree of arrays, only what backward needs
        backward(dy, cache, params)      -> (dx, uses)  uses: the tree of params, each array replaced by its Use

    The first axis of x, y and dy is the example axis N. dy is per example and not divided by N. Integer inputs have no
    gradient: dx is None. A layer that defines `__call__` and neither of the two passes has them from JAX, with `Dense`
    uses: right, and larger than by hand (`forward_only.py` says by how much). How to add one:
    `jaxprop/layers/README.md`; the model to follow: `linear.py`.

    >>> @dataclass(frozen=True)
    ... class Double(Layer):
    ...     def forward(self, x, params, env=None):
    ...         return 2 * x, ()
    ...     def backward(self, dy, cache, params):
    ...         return 2 * dy, ()
    >>> Double()(3.0, ())
    6.0
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name, taking in DOORS.items():
            if name in vars(cls):
                setattr(cls, name, taking(vars(cls)[name]))

    @property
    def mixes_examples(self) -> bool:
        """Tell whether y_n depends on other examples than x_n (a batch statistic): nothing is per example then."""
        return False

    def init(self, key: Array | None, x: Any) -> Any:
        """Return fresh parameters for inputs like `x` (an array or ShapeDtypeStruct `[N, ...]`)."""
        return ()

    def check_values(self, x: Any) -> None:
        """Raise DataError for numbers in concrete rows `x` that the layer has no answer to; by default there are none.

        Under `jit` nothing can be raised: `fit`, `predict` and `evaluate` ask before.
        """

    def __call__(self, x: Any, params: Any, env: Env | None = None) -> Array:
        """Return y = f(x, θ) and keep nothing for a backward pass."""
        return self.forward(x, params, env)[0]

    def forward(self, x: Array, params: Any, env: Env | None = None) -> tuple[Array, Any]:
        """Return y and what the backward pass needs; by default what `__call__` says, and x and env."""
        if type(self).__call__ is Layer.__call__ or type(self).backward is not Layer.backward:
            raise TypeError(
                f"{type(self).__name__} must define forward(x, params, env) -> (y, cache) with backward, or __call__"
            )
        return self(x, params, env), (x, env)

    def backward(self, dy: Array | None, cache: Any, params: Any) -> tuple[Array | None, Any]:
        """Return dx = ∂C_n/∂x and the uses of the parameters; by default by `jax.vjp` of `__call__`."""
        if type(self).forward is not Layer.forward or type(self).__call__ is Layer.__call__:
            raise TypeError(
                f"{type(self).__name__} must define backward(dy, cache, params) -> (dx, uses); "
                "with __call__(x, params, env) in place of forward, both come from JAX"
            )
        x, env = cache
        alone = not self.mixes_examples and (env is None or env.rng is None)
        return back(self, dy, x, params, env, alone)

    def operations(self, x: Any, y: Any) -> tuple[int, int]:
        """Count the operations of one forward and one backward pass by the formulas; by default one an output."""
        return y.size, y.size
