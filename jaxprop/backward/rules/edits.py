"""Errors edited in flight: δ ← f(δ) as it arrives at a layer.

    dy ← f(path, dy)        at every layer that is not made of layers, before the layer uses it
    dx, uses                of the changed dy: what parameters meet, and what goes on to the layer before

So every δ of the network goes through f once: that of a `Linear` where it is ∂C_n/∂z, that of a `Sigmoid` where it is
∂C_n/∂a. To edit some of them, choose layers with `jp.rules.at`. δ is per example and not divided by N, also where the
cost is a mean over examples; of a network that mixes examples (BatchNorm) it holds the weights, if there are some.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree

from jaxprop.arrays.dtypes import wide
from jaxprop.arrays.paths import place
from jaxprop.backward.rules.rule import Backprop, Feed, Here, Rule
from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers.settings import shortly
from jaxprop.network import Leaf

RuleLike = Rule | Callable[[str, Array], Array]  # a function stands for an `Edit`


@dataclass(frozen=True)
class Edited(Rule):
    """Change the error that arrives at a layer by `edit`, and let another rule, `then`, take it from there."""

    then: Rule = field(default=Backprop(), kw_only=True)
    instead: ClassVar = {"then": "a function f(path, delta) is the rule jp.rules.Edit(f)"}

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return what becomes of δ `[N, ...]` at `path`; key: one of this layer's own, if the edit draws."""
        raise TypeError(f"{type(self).__name__} must define edit(delta, path, key)")

    @property
    def draws(self) -> bool:
        """Tell whether the rule that goes on draws."""
        return self.then.draws

    def back(self, here: Here) -> tuple[PyTree, PyTree]:
        """Change δ, then go on with the other rule."""
        own, left = (None, None) if here.key is None else jax.random.split(here.key)

        def one(delta: Array) -> Array:
            found = self.edit(delta, here.path, own)
            if jnp.shape(found) != delta.shape or jnp.result_type(found) != delta.dtype:
                made = f"{jnp.result_type(found)}{list(jnp.shape(found))}"
                raise ShapeError(
                    f"{place(self, here.path)}: made {made} of δ {delta.dtype}{list(delta.shape)}, expected the same "
                    "shape and dtype"
                )
            return found

        return self.then.back(here._replace(dy=jax.tree.map(one, here.dy), key=left))

    def choose(self, leaves: Sequence[Leaf]) -> list[Rule]:
        """Return the same edit of every leaf's error, then the rule that goes on there."""
        return [dataclasses.replace(self, then=then) for then in self.then.choose(leaves)]

    def fed(self, leaf: Leaf) -> tuple[str, ...]:
        """Ask the rule that goes on."""
        return self.then.fed(leaf)

    def draw(self, key: Array, W: Array, feed: Feed, x: PyTree, y: PyTree) -> Array:
        """Ask the rule that goes on."""
        return self.then.draw(key, W, feed, x, y)

    def check(self, path: str, W: Array, B: Array, feed: Feed) -> None:
        """Ask the rule that goes on."""
        self.then.check(path, W, B, feed)

    def matrix(self, W: Array, B: Array) -> Array | None:
        """Ask the rule that goes on."""
        return self.then.matrix(W, B)

    def moved(self, update: Array, W: Array, B: Array) -> tuple[Array, Array]:
        """Ask the rule that goes on."""
        return self.then.moved(update, W, B)


@dataclass(frozen=True)
class Edit(Edited):
    """Change δ by a function of your own: δ ← f(path, δ). A plain function in `rule=` or in `at` stands for it.

    Args:
        function: f(path, δ), pure; δ is ∂C_n/∂y of the layer at `path`, `[N, ...]`, and keeps its shape and dtype.
        then: the rule that goes on with what f returned; by default `Backprop()`.

    Raises:
        JaxpropError: `function` is none.
        ShapeError: f returns something of another shape or dtype.

    >>> from jaxprop import HalfSquaredError, Linear, manual
    >>> net, x = Linear(1, bias=False), jnp.array([[2.0]])
    >>> params = net.init(jax.random.key(0), x)._replace(W=jnp.array([[3.0]]))
    >>> signs = manual.value_and_grad(net, HalfSquaredError(), rule=lambda path, delta: jnp.sign(delta))
    >>> print(signs(x, params, jnp.zeros((1, 1)))[1].W)
    [[2.]]
    """

    function: Callable[[str, Array], Array]

    def __post_init__(self) -> None:
        if isinstance(self.function, type) or not callable(self.function):
            raise JaxpropError(f"Edit: function must be f(path, delta), found {shortly(self.function)}")

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return f(path, δ)."""
        return self.function(path, delta)


@dataclass(frozen=True)
class Clip(Edited):
    """Cut δ off at a limit: every entry at ±limit, or every example's δ at the length `limit`.

        by="entry"      δ ← max(−limit, min(δ, limit))
        by="norm"       δ_n ← δ_n min(1, limit / ‖δ_n‖),  ‖δ_n‖ over all positions and features of the example

    An example without an error keeps it. It is no clipping of gradients: errors grow or shrink again on their way.

    Args:
        limit: a number > 0, in the unit of ∂C_n/∂y.
        by: "entry" or "norm".
        then: the rule that goes on; by default `Backprop()`.

    Source: Graves, "Generating Sequences With Recurrent Neural Networks" (2013), section 2.1, which clips δ in an LSTM.

    >>> print(Clip(1.0).edit(jnp.array([[3.0, -4.0]]), "", None))
    [[ 1. -1.]]
    >>> print(Clip(1.0, by="norm").edit(jnp.array([[3.0, -4.0], [0.0, 0.0]]), "", None))
    [[ 0.6 -0.8]
     [ 0.   0. ]]
    """

    limit: float
    by: Literal["entry", "norm"] = "entry"

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise JaxpropError(f"Clip: limit must be a number > 0, found {self.limit!r}")

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return δ, cut off."""
        if self.by == "entry":
            return jnp.clip(delta, -self.limit, self.limit)
        unit, largest = _by_largest(delta)  # squared after that: squares of small numbers are 0, of large ones infinite
        norm = largest * jnp.sqrt(jnp.sum(jnp.square(unit), axis=tuple(range(1, delta.ndim)), keepdims=True))
        factor = jnp.where(norm > self.limit, self.limit / _or_one(norm), 1)
        return jnp.where(factor < 1, (unit * (largest * factor)).astype(delta.dtype), delta)


@dataclass(frozen=True)
class Noise(Edited):
    """Add noise to δ: δ ← δ + ξ, ξ ~ N(0, scale²) in every entry, drawn at every pass. It needs rng=.

    Args:
        scale: the standard deviation, a number ≥ 0 in the unit of ∂C_n/∂y.
        then: the rule that goes on; by default `Backprop()`.

    What it is for: how much noise a learning circuit bears (Rumelhart's way back through analogue hardware, say).

    >>> Noise(0.1).draws, Noise(0.0).edit(jnp.ones((1, 2)), "", jax.random.key(0))
    (True, Array([[1., 1.]], dtype=float32))
    """

    scale: float

    def __post_init__(self) -> None:
        if not self.scale >= 0:
            raise JaxpropError(f"Noise: scale must be a number ≥ 0, found {self.scale!r}")

    @property
    def draws(self) -> bool:
        """Say yes."""
        return True

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return δ + ξ."""
        return delta + self.scale * jax.random.normal(_given(key), delta.shape, delta.dtype)


@dataclass(frozen=True)
class Quantize(Edited):
    """Round δ to few levels, symmetric around 0, with a scale for each example.

        s_n = max|δ_n| / (2^(bits−1) − 1)           δ_n ← s_n round(δ_n / s_n)

    2^bits − 1 levels; with 2 bits they are −max|δ_n|, 0 and max|δ_n|. Rounding is to the nearest, ties to even. An
    example without an error keeps it.

    Args:
        bits: a whole number ≥ 2.
        then: the rule that goes on; by default `Backprop()`.

    Source: Zhou et al., "DoReFa-Net" (2016), section 2.5, without its noise.

    >>> print(Quantize(3).edit(jnp.array([[3.0, -1.4, 0.6], [0.0, 0.0, 0.0]]), "", None))
    [[ 3. -1.  1.]
     [ 0.  0.  0.]]
    """

    bits: int

    def __post_init__(self) -> None:
        check_whole(self.bits, "Quantize: bits", least=2)

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return δ, rounded."""
        (unit, largest), levels = _by_largest(delta), 2 ** (self.bits - 1) - 1
        return (largest * (jnp.round(unit * levels) / levels)).astype(delta.dtype)


@dataclass(frozen=True)
class Drop(Edited):
    """Leave entries of δ out at random and make up for them: δ_i ← m_i δ_i / (1 − rate), m_i = 1 or 0. It needs rng=.

    m_i = 0 with probability `rate`, drawn at every pass; the mean over draws is δ.

    Args:
        rate: from 0 up to (not including) 1.
        then: the rule that goes on; by default `Backprop()`.

    Source: Srivastava et al., "Dropout" (2014), here on the way back alone.

    >>> sorted(set(Drop(0.5).edit(jnp.ones((1, 100)), "", jax.random.key(0)).ravel().tolist()))
    [0.0, 2.0]
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise JaxpropError(f"Drop: rate must be a number from 0 up to (not including) 1, found {self.rate!r}")

    @property
    def draws(self) -> bool:
        """Say yes."""
        return True

    def edit(self, delta: Array, path: str, key: Array | None) -> Array:
        """Return δ with some entries 0."""
        return jnp.where(jax.random.bernoulli(_given(key), 1 - self.rate, delta.shape), delta / (1 - self.rate), 0)


def as_rule(given: Any, what: str = "rule") -> Rule:
    """Return a rule as it is, and a function f(path, δ) as the `Edit` that it stands for.

    >>> as_rule(Backprop())
    Backprop()
    """
    if isinstance(given, Rule):
        return given
    if isinstance(given, type) or isinstance(given, Mapping) or not callable(given):
        hint = "write jp.rules.at({...})" if isinstance(given, Mapping) else "such as jp.rules.FeedbackAlignment()"
        raise JaxpropError(
            f"{what} must be one of jp.rules, or a function f(path, delta), found {shortly(given)}; {hint}"
        )
    return Edit(given)  # pyright: ignore[reportArgumentType]  what it returns is seen when it is called


def _given(key: Array | None) -> Array:
    if key is None:
        raise JaxpropError("a rule that draws numbers was asked without a key: give rng=jax.random.key(0)")
    return key


def _by_largest(delta: Array) -> tuple[Array, Array]:
    """δ_n / max|δ_n|, 0 of an example without an error, and max|δ_n| `[N, 1, ...]`; float32 at least."""
    delta = delta.astype(wide(delta.dtype))
    largest = jnp.max(jnp.abs(delta), axis=tuple(range(1, delta.ndim)), keepdims=True)
    return delta / _or_one(largest), largest


def _or_one(positive: Array) -> Array:
    """What to divide by: 1 in the place of 0."""
    return jnp.where(positive > 0, positive, 1)
