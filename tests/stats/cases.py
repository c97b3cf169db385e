"""THE table of quantities: each beside the same from per-example loops, in plain float64 and without any `Use`.

A new quantity gets a row; `test_every_quantity.py` tries every row on every layer and network of the tables. A row's
`expected` is a function of the `Problem`, whose attributes are made by JAX alone, one example at a time.
"""

import functools
import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxprop as jp
from jaxprop.arrays.paths import by_path, dotted
from jaxprop.network import leaves
from jaxprop.network.call import environment
from jaxprop.stats.errors import SAMPLING
from tests.stats.moments import BothEstimates, gradient_tests, noise_scale, signal_to_noise, variance


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, a cost and rows; what one example says is found by JAX with the error of one example at a time.

    By one compiled program; what is made of its arrays is numpy.
    """

    net: Any
    cost: Any
    x: Any
    params: Any
    targets: Any
    weights: Any = None
    rng: Any = None
    mask: Any = None

    @property
    def N(self) -> int:
        return jax.tree.leaves(self.x)[0].shape[0]

    @property
    def w(self) -> np.ndarray:
        """The weights as they count: 1/N each by default."""
        return np.full(self.N, 1 / self.N) if self.weights is None else np.asarray(self.weights)

    @functools.cached_property
    def by_jax(self) -> tuple[np.ndarray, dict[str, Any]]:
        """C_n, and ∂(dy_n · y_n)/∂θ of every example for the columns dy of each kind, trees of `[V, N, *shape]`.

        "cost": ∂C_n/∂y_n.    "exact": the eigenvectors' root of ∂²C_n/∂y_n².
        "2 drawn", "3 drawn": ∂C_n/∂y_n of so many targets drawn from the predictions, each times 1/√samples.
        """

        @jax.jit
        def run(x: Any, params: Any, targets: Any, rng: Any, mask: Any) -> Any:
            y, pull = jax.vjp(lambda params: self.net(x, params, environment(rng, mask)), params)
            columns = {"cost": jax.grad(lambda y: jnp.sum(self.cost(y, targets)))(y)[None], "exact": self.roots(y)}
            for samples in (2, 3) if rng is not None else ():
                keys = jax.random.split(jax.random.fold_in(rng, SAMPLING), samples)
                drawn = [self.cost.sampled_delta(y, targets, key) for key in keys]
                columns[f"{samples} drawn"] = jnp.stack(drawn) / samples**0.5
            only = jnp.eye(self.N).reshape(self.N, self.N, *(1,) * (y.ndim - 1))
            each = jax.vmap(jax.vmap(lambda dy: pull(dy)[0]))(only * jnp.concatenate(list(columns.values()))[:, None])
            ends = np.cumsum([0, *map(len, columns.values())])
            parts = [operator.itemgetter(slice(*ends)) for ends in itertools.pairwise(ends)]
            pulled = {kind: jax.tree.map(part, each) for kind, part in zip(columns, parts, strict=True)}
            return self.cost(y, targets), pulled

        return jax.device_get(run(self.x, self.params, self.targets, self.rng, self.mask))

    def roots(self, y: jax.Array) -> jax.Array:
        """The columns of the eigenvectors' root of ∂²C_n/∂y_n², `[V, *y.shape]`."""

        def one(y_n: jax.Array, target: Any) -> jax.Array:
            return self.cost(y_n.reshape(1, *y.shape[1:]), target[None])[0]

        hessian = jax.vmap(jax.hessian(one))(y.reshape(self.N, -1), jnp.asarray(self.targets))
        values, vectors = jnp.linalg.eigh(hessian)
        roots = vectors * jnp.sqrt(jnp.maximum(values, 0))[:, None, :]  # [N, F, V]
        return jnp.moveaxis(roots, 2, 0).reshape(-1, *y.shape)

    @property
    def costs(self) -> np.ndarray:
        return self.by_jax[0]

    def columns(self, kind: str) -> Any:
        return self.by_jax[1][kind]

    @functools.cached_property
    def examples(self) -> Any:
        """∂C_n/∂θ, a tree of `[N, *shape]`."""
        return jax.tree.map(lambda g: g[0], self.columns("cost"))

    @functools.cached_property
    def gradient(self) -> Any:
        """Σ_n w_n ∂C_n/∂θ."""
        return jax.tree.map(lambda g: np.tensordot(self.w, g, 1), self.examples)


@dataclass(frozen=True)
class Row:
    """A quantity, and the same from per-example loops: a tree of arrays like the result's."""

    quantity: jp.stats.Quantity
    expected: Callable[[Problem], Any]

    def __str__(self) -> str:
        return repr(self.quantity)


def squares(columns: Any, w: np.ndarray) -> Any:
    """Σ_v Σ_n w_n g², number by number, of a tree of `[V, N, *shape]`."""
    return jax.tree.map(lambda g: np.einsum("n,vn...->...", w, g * g), columns)


def block_by_block(p: Problem, function: Callable[..., Any], *trees: Any) -> Any:
    """`function` of every array of trees like θ, of one inside a `Repeat` of every block along the axis L."""
    inside = [f"{leaf.path}." for leaf in leaves(p.net) if leaf.repeats]

    def one(path: Any, *arrays: Any) -> Any:
        if not any(dotted(path).startswith(repeated) for repeated in inside):
            return function(*arrays)
        return jax.tree.map(
            lambda *blocks: np.stack(blocks), *[function(*block) for block in zip(*arrays, strict=True)]
        )

    return jax.tree_util.tree_map_with_path(one, *trees)


def counted(g: Any) -> jp.stats.Histogram:
    """numpy's histogram in 5 bins from −0.71 to 0.83, with what lies outside in the ends."""
    return jp.stats.Histogram(*np.histogram(np.clip(g, -0.71, 0.83), 5, (-0.71, 0.83)))


def size(a: Any) -> Any:
    return np.sqrt(np.mean(np.square(a)))


def examples_norms(per: str) -> Callable[[Problem], Any]:
    """‖∂C_n/∂θ‖² from every example's gradient: in total, of a layer, of an array; blocks of a `Repeat` apart."""

    def expected(problem: Problem) -> Any:
        depths = {leaf.path: leaf.repeats for leaf in leaves(problem.net)}
        layers: dict[str, Any] = {}

        def one(path: Any, g: np.ndarray) -> np.ndarray:
            layer = dotted(path).rpartition(".")[0]
            squared = np.sum(g * g, axis=tuple(range(1 + depths[layer], g.ndim)))
            squared = np.moveaxis(squared, 0, -1)  # [(L,) N]
            layers[layer] = layers.get(layer, 0) + squared
            return squared

        parameters = jax.tree_util.tree_map_with_path(one, problem.examples)
        total = sum(np.sum(s.reshape(-1, problem.N), axis=0) for s in layers.values())
        return {"total": total, "layer": layers, "parameter": parameters}[per]

    return expected


def clipped(norm: float, per: str) -> Callable[[Problem], Any]:
    """Σ_n w_n c_n g_n, example by example."""

    def expected(problem: Problem) -> Any:
        weights = np.ones(problem.N) if problem.weights is None else np.asarray(problem.weights)
        norms = jax.tree.map(np.sqrt, examples_norms(per)(problem))

        def one(path: Any, g: np.ndarray) -> np.ndarray:
            name = dotted(path)
            its = {"total": lambda: norms, "layer": lambda: norms[name.rpartition(".")[0]],
                   "parameter": lambda: by_path(norms)[name]}[per]()  # fmt: skip
            its = np.moveaxis(its, -1, 0)  # [N, (L,)]
            factor = weights.reshape(-1, *(1,) * (its.ndim - 1)) * np.minimum(1, norm / its)
            return np.sum(g * factor.reshape(*factor.shape, *(1,) * (g.ndim - factor.ndim)), axis=0)

        gradient = jax.tree_util.tree_map_with_path(one, problem.examples)
        longer = np.any(np.stack([(n > norm).reshape(-1, problem.N).any(0) for n in jax.tree.leaves(norms)]), axis=0)
        return jp.stats.Clipped(gradient, norms, np.mean(longer.astype(problem.costs.dtype)), np.asarray(0))

    return expected


ROWS: list[Row] = [
    Row(jp.stats.GGNDiagonal(), lambda p: squares(p.columns("exact"), p.w)),
    Row(jp.stats.GGNDiagonal("sampled", samples=2), lambda p: squares(p.columns("2 drawn"), p.w)),
    Row(jp.stats.FisherDiagonal(samples=3), lambda p: squares(p.columns("3 drawn"), p.w)),
    Row(jp.stats.SecondMoment(), lambda p: squares(p.columns("cost"), p.w)),
    Row(jp.stats.Variance(), lambda p: variance(p, False)),
    Row(jp.stats.Variance(unbiased=True), lambda p: variance(p, True)),
    Row(jp.stats.SignalToNoise(epsilon=1e-3), lambda p: signal_to_noise(p, 1e-3)),
    Row(BothEstimates(), lambda p: noise_scale(p, "total")[1:3]),
    Row(BothEstimates("parameter"), lambda p: noise_scale(p, "parameter")[1:3]),
    Row(jp.stats.GradientTests(), gradient_tests),
    Row(jp.stats.FisherDiagonal("cost"), lambda p: squares(p.columns("cost"), p.w)),
    Row(jp.stats.GradientHistogram(5, (-0.71, 0.83)), lambda p: block_by_block(p, counted, p.gradient)),
    Row(
        jp.stats.UpdateToWeight(0.1),
        lambda p: block_by_block(
            p, lambda g, w: 0.1 * size(g) / size(w) if np.any(g) else 0.0, p.gradient, jax.device_get(p.params)
        ),
    ),
    Row(jp.stats.ExampleGradients(), lambda problem: problem.examples),
    *(Row(jp.stats.ExampleNorms(per), examples_norms(per)) for per in ("layer", "parameter")),
    *(Row(jp.stats.ClippedGradient(0.5, per), clipped(0.5, per)) for per in ("total", "layer")),
]
