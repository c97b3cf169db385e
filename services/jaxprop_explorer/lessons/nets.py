"""The networks of the lessons, small enough to calculate by hand, with what the library says of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop.backward import auto, manual
from jaxprop.costs import Cost, HalfSquaredError, MeanSquaredError
from jaxprop.derivations import Derivation, explain
from jaxprop.layers import Layer, LinearParams


@dataclass(frozen=True)
class Example:
    """A network with θ, and the example that it is shown."""

    net: Layer
    params: Any
    x: jax.Array
    targets: jax.Array
    cost: Cost = HalfSquaredError()

    @property
    def y(self) -> np.ndarray:
        """What it answers, `[N, O]`."""
        return np.asarray(_passes(self.net, self.cost)(self.x, self.params, self.targets).y)

    @property
    def tape(self) -> dict[str, Any]:
        """The record of a forward and a backward pass, by path."""
        return _passes(self.net, self.cost)(self.x, self.params, self.targets).tape

    def grads(self) -> tuple[float, Any]:
        """C, and ∂C/∂θ by the chain rule."""
        found = _passes(self.net, self.cost)(self.x, self.params, self.targets)
        return float(found.cost), found.grads

    def jax_grads(self) -> Any:
        """∂C/∂θ by `jax.grad`."""
        return _passes(self.net, self.cost)(self.x, self.params, self.targets).by_jax

    def with_(self, params: Any) -> "Example":
        """The same with another θ."""
        return Example(self.net, params, self.x, self.targets, self.cost)

    def stepped(self, rate: float) -> "Example":
        """The same after θ ← θ − rate · ∂C/∂θ; a negative rate climbs."""
        return self.with_(jax.tree.map(lambda p, g: p - rate * g, self.params, self.grads()[1]))


class Passes(NamedTuple):
    """What one program finds: the answer, the tape, C, its gradient by the chain rule, and by `jax.grad`."""

    y: jax.Array
    tape: dict[str, Any]
    cost: jax.Array
    grads: Any
    by_jax: Any


@lru_cache(64)
def _passes(net: Layer, cost: Cost) -> Callable[..., Passes]:
    def run(x: jax.Array, params: Any, targets: jax.Array) -> Passes:
        value, grads = manual.value_and_grad(net, cost)(x, params, targets)
        tape = dict(manual.trace(net, cost)(x, params, targets))
        by_jax = auto.value_and_grad(net, cost)(x, params, targets)[1]
        return Passes(net(x, params), tape, value, grads, by_jax)

    return jax.jit(run)


def linear(W: Sequence[Sequence[float]], b: Sequence[float] | None = None) -> LinearParams:
    """Return θ of a `Linear`, in JAX's default float."""
    kind = jnp.result_type(float)
    return LinearParams(W=jnp.asarray(np.array(W, kind)), b=None if b is None else jnp.asarray(np.array(b, kind)))


def rows(*values: Sequence[float]) -> jax.Array:
    """Return examples as an array `[N, I]`."""
    return jnp.asarray(np.array(values, jnp.result_type(float)))


def unit(target: float = 1.0, cost: Cost | None = None, last: Layer | None = None) -> Example:
    """Row 2's unit: inputs 1, 3 and 2, weights 0.5, −0.25 and 0.75, bias 0.1, a sigmoid unless another is `last`."""
    net = jp.Chain(jp.Linear(1), jp.Sigmoid() if last is None else last)
    params = (linear([[0.5], [-0.25], [0.75]], [0.1]), ())
    return Example(net, params, rows([1, 3, 2]), rows([target]), cost or HalfSquaredError())


def chain(w: Sequence[float] = (0.4, 0.3), x: float = 1.0, target: float = 2.0, cost: Cost | None = None) -> Example:
    """Row 12's chain f = w₁ · w₂ · x, without bias and without activation."""
    one = jp.Linear(1, bias=False)
    return Example(
        jp.Chain(one, one), tuple(linear([[each]]) for each in w), rows([x]), rows([target]), cost or HalfSquaredError()
    )


def weights_of(example: Example) -> list[float]:
    """Return all numbers of θ in order."""
    return [float(v) for leaf in jax.tree.leaves(example.params) for v in np.ravel(np.asarray(leaf))]


def two_paths() -> Example:
    """Row 19's network: two sigmoid units and two linear outputs, so that a hidden unit reaches C along two paths."""
    net = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(2))
    hidden = linear([[0.5, -0.5], [-0.25, 0.25], [0.75, 0.25]], [0.1, 0.0])
    return Example(net, (hidden, (), linear([[1.0, -0.5], [0.5, 2.0]], [0, 0])), rows([1, 3, 2]), rows([1, 0]))


def plain_output() -> Example:
    """Row 13's network: two sigmoid units, and an output that is their weighted sum, without bias or activation."""
    net = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(1, bias=False))
    hidden = linear([[0.5, -0.5], [-0.25, 0.25], [0.75, 0.1]], [0.1, -0.2])
    return Example(net, (hidden, (), linear([[0.6], [-0.4]])), rows([1, 3, 2]), rows([1]))


def pruned(kept: bool) -> Example:
    """Row 2's network a → n → m₁: every n takes all inputs, or with the mask only its own."""
    net = jp.Chain(jp.Linear(3, bias=False), jp.Linear(1), jp.Sigmoid())
    W = np.eye(3) if not kept else np.ones((3, 3))
    return Example(net, (linear(W.tolist()), *unit().params), rows([1, 3, 2]), rows([1]))


UNIT_NAMES = {
    **{f"w{sub}": f"0.W[{i},0]" for i, sub in enumerate("₁₂₃")},
    **{f"x{sub}": f"x[{i}]" for i, sub in enumerate("₁₂₃")},
    **{"b": "0.b[0]", "z": "z1[0]", "a": "y[0]", "δ": "δ1[0]", "target": "target[0]"},
}
CHAIN_NAMES = {"w₁": "0.W[0,0]", "w₂": "1.W[0,0]", "x": "x[0]", "y": "y[0]", "target": "target[0]"}


def explained(example: Example, path: str, index: tuple[int, ...], names: dict[str, str] | None = None) -> Derivation:
    """Return the derivation of one number of θ, with the lesson's own names."""
    found = explain(example.net, example.cost, names=names)
    return found(example.x, example.params, example.targets, path, index)


def trained(
    net: Layer, cost: Cost, optimizer: optax.GradientTransformation, x: jax.Array, targets: jax.Array, params: Any,
    steps: int, weights: jax.Array | None = None,
) -> tuple[Any, np.ndarray]:  # fmt: skip
    """Return θ after `steps` steps on all rows at once, and the cost before each."""
    run = manual.value_and_grad(net, cost)

    @jax.jit
    def loop(params: Any, kept: Any) -> Any:
        return jax.lax.scan(step, (params, kept), length=steps)

    def step(state: Any, _: None) -> Any:
        params, kept = state
        value, grads = run(x, params, targets, weights=weights)
        with jax.numpy_dtype_promotion("standard"):  # optax needs it
            updates, kept = optimizer.update(grads, kept, params)
            params = optax.apply_updates(params, updates)
        return (params, kept), value

    (params, _), costs = loop(params, optimizer.init(params))
    return params, np.asarray(costs)


def over_the_interval(points: int = 40) -> tuple[jax.Array, jax.Array]:
    """Return x `[N, 1]` in [−1, 1] and weights with which a mean over them is the mean over the whole interval."""
    x, weights = np.polynomial.legendre.leggauss(points)
    return jnp.asarray(x)[:, None], jnp.asarray(weights / 2)


def mean_square(net: Layer, params: Any, truth: Callable[[jax.Array], jax.Array]) -> float:
    """Return the mean of the squared error over [−1, 1]."""
    x, weights = over_the_interval()
    return float(jnp.sum(weights * MeanSquaredError()(net(x, params), truth(x))))
