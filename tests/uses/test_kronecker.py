"""Kronecker factors of every kind of use, against their definition in loops over pairs of examples and positions."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.arrays.window import Window

WEIGHTS = np.array([0.5, 0.0, 2.0])


def normal(*shape, seed=0):
    return jnp.asarray(np.random.default_rng((seed, *shape)).normal(size=shape))


def outer(*T, I=3, O=2, seed=0):
    return jp.Outer(normal(3, *T, I, seed=seed), normal(3, *T, O, seed=seed + 1), (I, O), jnp.float64)


def lookup(T=(7,), V=3, D=2, seed=0):
    ids = jnp.asarray(np.random.default_rng(seed).integers(-1, V + 1, (3, *T)))  # some have no row
    return jp.Lookup(ids, normal(3, *T, D, seed=seed), (V, D), jnp.float64)


def patch(flipped=False, groups=1, C=4, D=2):
    """A convolution of [5, C] to [3, D], or a transposed one, whose δ is the longer array."""
    window = Window((2,), (2,), (1,), (1,), (5,), (3,), groups=groups, flipped=flipped)
    fine, coarse = normal(3, 5, C), normal(3, 3, D)
    if flipped:
        return jp.Patch(coarse, fine, (2, D // groups, C), jnp.float64, window)
    return jp.Patch(fine, coarse, (2, C // groups, D), jnp.float64, window)


def row(V, id):
    return np.eye(V)[id] if 0 <= id < V else np.zeros(V)


def window_of(use, pair, n, t, m, s):
    """The gradient of one window: of the patch at (n, t) with what it meets at (m, s)."""
    window, result = use.window, np.zeros(use.shape)
    fine, coarse = (use.delta, use.a) if window.flipped else (use.a, use.delta)
    G = window.groups
    seen = np.zeros((window.kernel[0], fine.shape[-1]))
    for k in range(window.kernel[0]):
        at = window.strides[0] * t + k - window.low[0]
        seen[k] = fine[n, at] if 0 <= at < window.fine[0] else 0
    for k, g in itertools.product(range(window.kernel[0]), range(G)):
        f, c = np.split(seen[k], G)[g], np.split(coarse[m, s], G)[g]
        if window.flipped:  # W's kernel runs backwards, and its first channels are the coarse array's
            E = len(f)
            result[window.kernel[0] - 1 - k, :, g * E : (g + 1) * E] = np.outer(c, f)
        else:
            E = len(c)
            result[k, :, g * E : (g + 1) * E] = np.outer(f, c)
    return result


class Kind(NamedTuple):
    """How a use is made, and ∂C/∂θ in plain numpy where what enters is of (n, t) and the error of (m, s)."""

    make: Callable[[], jp.Use]
    pair: Callable[..., np.ndarray]
    positions: int = 1
    reads: Callable[[Any], int] = lambda use: 1


def of_rows(use, pair, n, t, m, s):
    return np.outer(use.a[n].reshape(-1, use.shape[0])[t], use.delta[m].reshape(-1, use.shape[1])[s])


def of_ids(use, pair, n, t, m, s):
    delta = use.delta[m].reshape(-1, use.shape[1])[s]
    known = 0 <= use.ids[m].ravel()[s] < use.shape[0]
    return np.outer(row(use.shape[0], use.ids[n].ravel()[t]), delta if known else 0 * delta)


KINDS = {
    "Outer": Kind(outer, of_rows),
    "Outer, T = 2 × 2": Kind(lambda: outer(2, 2), of_rows, 4),
    "Shift, T = 3": Kind(
        lambda: jp.Shift(normal(3, 3, 2), (2,), jnp.float64), lambda use, _, n, t, m, s: use.delta[m, s], 3
    ),
    "Scale, T = 3": Kind(
        lambda: jp.Scale(normal(3, 3, 2, seed=1), normal(3, 3, 2), (2,), jnp.float64),
        lambda use, _, n, t, m, s: use.delta[m, s] * use.normalized[m, s], 3,
    ),
    "Lookup": Kind(lambda: lookup(()), of_ids),
    "Lookup, T = 7": Kind(lookup, of_ids, 7),
    "Leading, T = 2": Kind(
        lambda: jp.Leading(normal(3, 2, 2), (3, 2), jnp.float64),
        lambda use, _, n, t, m, s: np.outer(row(3, t), use.delta[m, s]), 2,
    ),
    "Patch": Kind(patch, window_of, 3),
    "Patch, 2 groups": Kind(lambda: patch(groups=2), window_of, 3),
    "Patch, transposed": Kind(lambda: patch(flipped=True), window_of, 3),
    "Patch, transposed, 2 groups": Kind(lambda: patch(flipped=True, groups=2), window_of, 3),
    "Dense": Kind(lambda: jp.Dense(normal(3, 2, 2), (2, 2), jnp.float64), lambda use, _, n, t, m, s: use.gradients[m]),
}  # fmt: skip


def groups_of(use):
    """Which group every entry of θ belongs to: what is across groups is no part of the block."""
    G = use.window.groups if isinstance(use, jp.Patch) else 1
    return (np.indices(use.shape)[-1] // (use.shape[-1] // G)).ravel() if use.shape else np.zeros(1)


def by_definition(kind, use, weights, how):
    """A ⊗ B from all pairs: what enters in one example, and the errors of another, as if they had nothing in common."""
    use, T = jax.tree.map(np.asarray, use), kind.positions
    P = int(np.prod(use.shape))
    result = np.zeros((P, P))
    w = np.full(3, 1 / 3) if weights is None else weights
    for n, m in itertools.product(range(3), range(3)):
        each = np.array([[kind.pair(use, None, n, t, m, s).ravel() for s in range(T)] for t in range(T)])
        scale = w[n] * w[m] / w.sum()
        if how == "reduce":
            both = each.sum(axis=(0, 1)) / T
            result += scale * np.outer(both, both)
        else:
            result += scale / T * np.einsum("tsp,tsq->pq", each, each)
    if isinstance(use, jp.Lookup | jp.Leading):  # A is diagonal: nothing between two rows of the table
        rows = np.indices(use.shape)[0].ravel()
        result *= rows[:, None] == rows
    if isinstance(use, jp.Dense):
        result *= np.eye(P)
    groups = groups_of(use)
    return result * (groups[:, None] == groups)


def some(default):
    """The slow run looks at the others, which are parts of those."""
    return [pytest.param(name, marks=[pytest.mark.slow] * (name not in default)) for name in KINDS]


SIMPLER = {"Outer", "Lookup", "Patch", "Patch, transposed"}


@pytest.mark.parametrize("name", some(set(KINDS) - SIMPLER))
def test_factors_are_what_their_definition_says(name):
    kind = KINDS[name]
    use = kind.make()
    cases = [(how, weights) for how in ("expand", "reduce") for weights in (None, WEIGHTS)]

    @jax.jit
    def run(use):
        given = [None if weights is None else jnp.asarray(weights) for _, weights in cases]
        return [use.kronecker_factors(w, how).matrix() for w, (how, _) in zip(given, cases, strict=True)]

    for found, (how, weights) in zip(run(use), cases, strict=True):
        assert relative(found, by_definition(kind, use, weights, how)) < 1e-13, (how, weights)


@pytest.mark.parametrize("name", some({"Shift, T = 3", "Lookup, T = 7", "Patch, 2 groups"}))
def test_a_stack_has_those_of_its_blocks(name):
    use = KINDS[name].make()
    doubled = jax.tree.map(lambda a: jnp.stack([a, a * (2 if a.dtype == jnp.float64 else 1)]), use)

    @jax.jit
    def run(doubled, theta):
        stacked = jp.Stacked(doubled, (2, *use.shape), use.dtype).kronecker_factors()
        each = [jax.tree.map(lambda a, l=l: a[l], doubled).kronecker_factors().times(theta[l]) for l in range(2)]
        return stacked.times(theta), jnp.stack(each)

    assert relative(*run(doubled, normal(2, *use.shape))) < 1e-13


def test_places_that_share_an_activation_are_joined_exactly():
    one = outer(2)
    other = jp.Outer(one.a, normal(3, 2, 2, seed=5), one.shape, one.dtype)
    turned = jp.Outer(other.delta, other.a, one.shape[::-1], one.dtype)

    @jax.jit
    def run(one, other, turned):
        pairs = ((one, other), (False, False)), ((one, turned), (False, True))
        joined = [jp.Several(*pair, one.shape, one.dtype).kronecker_factors().matrix() for pair in pairs]
        return joined, one.kronecker_factors().matrix() + other.kronecker_factors().matrix()

    found, expected = run(one, other, turned)
    for each in found:
        assert relative(each, expected) < 1e-13


def test_joined_places_keep_the_partial_traces_and_may_be_diagonal():
    table, head = lookup(V=3, D=2), outer(4, I=2, O=3)

    @jax.jit
    def run(table, head):
        joined = jp.Several((table, head), (False, True), (3, 2), jnp.float64).kronecker_factors()
        return joined, joined.matrix(), table.kronecker_factors().matrix(), head.kronecker_factors().matrix()

    joined, *matrices = run(table, head)
    found, of_table, of_head = map(np.asarray, matrices)
    assert joined.diagonal == (True, False) and joined.A.shape == (3,) and joined.B.shape == (2, 2)
    of_head = of_head.reshape(2, 3, 2, 3).transpose(1, 0, 3, 2)  # of Wᵀ
    whole = of_table.reshape(3, 2, 3, 2) + of_head
    found = found.reshape(3, 2, 3, 2)
    assert relative(np.einsum("rcsc->rs", found), np.diag(np.einsum("rcrc->r", whole))) < 1e-13
    assert relative(np.einsum("rcrd->cd", found), np.einsum("rcrd->cd", whole)) < 1e-13


def test_a_tie_between_different_kinds_falls_back_on_the_diagonal():
    dense = jp.Dense(normal(3, 3, 2), (3, 2), jnp.float64)
    joined = jp.Several((outer(), dense), (False, False), (3, 2), jnp.float64)
    matrix, each = jax.jit(lambda joined: (joined.kronecker_factors().matrix(), joined.per_example()))(joined)
    assert relative(np.diag(matrix).reshape(3, 2), np.mean(np.asarray(each) ** 2, axis=0)) < 1e-13


def test_half_precision_adds_up_wide():
    use = jp.Outer(jnp.ones((4096, 1), jnp.bfloat16), jnp.ones((4096, 1), jnp.bfloat16), (1, 1), jnp.bfloat16)
    factors = use.kronecker_factors(jnp.ones(4096))
    assert factors.A.dtype == jnp.float32 and float(factors.A[0, 0]) == 4096  # bfloat16 counts to 256
