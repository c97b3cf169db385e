"""Parameters are followed to the uses that are theirs, and every quantity of a use is that of `vmap(grad)`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from jax import lax

import jaxprop as jp
from jaxprop.uses import is_use
from jaxprop.xray.following import foreign
from tests.xray.following_cases import CASES, N, bend, rows

SLOW = pytest.mark.slow
ROOMS = [pytest.param(room, marks=() if room == "products" else SLOW) for room in CASES]


def of_uses(f, params, x, weights):
    """Of every parameter, all that is asked of a use; and what is kept where uses are closed as they arise."""
    forward = foreign(f, in_axes=(None, 0))(params, x)
    uses = forward.uses(jnp.ones_like(forward.y))
    asked = [
        {
            "per_example": use.per_example(),
            "total": use.total(weights),
            "squares": use.squares(weights),
            "norms": use.squared_norms(),
            "both": use.total_and_norms(weights),
            "dots": use.dots(jnp.ones(use.shape)),
        }
        for use in jax.tree.leaves(uses, is_leaf=is_use)
    ]
    closed = foreign(f, in_axes=(None, 0))(params, x).close(
        jnp.ones_like, lambda use, path: {"kept": [use.total(weights), use.squared_norms()]}
    )
    kept = jax.tree.leaves(closed, is_leaf=lambda node: isinstance(node, dict) and "kept" in node)
    return asked, [each["kept"] for each in kept]


def assert_same(found, expected, name):
    scale = max(1e-3, np.abs(expected).max(initial=0))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11 * scale, err_msg=name)


@pytest.mark.parametrize("room", ROOMS)
def test_uses_are_those_of_gradients_one_by_one(room):
    """All quantities of all uses, against the gradients of examples: one program for a room."""
    cases = CASES[room]

    def everything(given):
        found = {}
        for name, (f, _, _, _) in cases.items():
            params, x = given[name]
            weights = jnp.arange(1.0, len(x) + 1)
            found[name] = of_uses(f, params, x, weights), jax.vmap(jax.grad(f), (None, 0))(params, x)
        return found

    found = jax.jit(everything)({name: (params, x) for name, (_, params, x, _) in cases.items()})
    for name, ((asked, kept), gradients) in found.items():
        for one, closed, g in zip(asked, kept, jax.tree.leaves(gradients), strict=True):
            g = np.asarray(g)
            weights = np.arange(1.0, len(g) + 1)
            total, norms = np.tensordot(weights, g, 1), np.sum(g.reshape(len(g), -1) ** 2, 1)
            assert_same(one["per_example"], g, name)
            assert_same(one["total"], total, name)
            assert_same(one["both"][0], total, name)
            assert_same(one["norms"], norms, name)
            assert_same(one["both"][1], norms, name)
            assert_same(one["squares"], np.tensordot(weights, g**2, 1), name)
            assert_same(one["dots"], np.sum(g.reshape(len(g), -1), 1), name)
            assert_same(closed[0], total, name)
            assert_same(np.sum(np.reshape(closed[1], (-1, len(g))), 0), norms, name)


@pytest.mark.parametrize("room", CASES)
def test_parameters_have_the_uses_that_are_theirs(room):
    for name, (f, params, x, kinds) in CASES[room].items():
        found = jp.xray.leaves(f, in_axes=(None, 0))(params, x)
        for parameter, kind in kinds.items():
            leaf = found[f"p[{parameter!r}]"]
            expected, _, reason = kind.partition(" ") if kind.startswith("Dense") else (kind, "", "")
            assert leaf.kind == expected and reason in leaf.because and bool(reason) == bool(leaf.because), (
                name,
                str(leaf),
            )
            assert not reason or "goes over" in reason or "following_cases.py" in leaf.because, leaf


def check_product(data):
    """dot_general with any axes contracted, shared and free, the weight on either side."""
    sizes = {letter: data.draw(st.integers(1, 3)) for letter in "bcxyw"}
    shared, contracted = (data.draw(st.sampled_from(["", letter])) for letter in "bc")
    of_x = "".join(data.draw(st.permutations(shared + contracted + data.draw(st.sampled_from(["", "x", "xy"])))))
    of_w = "".join(data.draw(st.permutations(shared + contracted + data.draw(st.sampled_from(["", "w"])))))
    axes = ([of_x.index(i) for i in contracted], [of_w.index(i) for i in contracted])
    batch = ([of_x.index(i) for i in shared], [of_w.index(i) for i in shared])
    left = data.draw(st.booleans())

    def f(p, x):
        if left:
            return bend(lax.dot_general(p, x, (axes[::-1], batch[::-1])))
        return bend(lax.dot_general(x, p, (axes, batch)))

    p, x = rows(*(sizes[i] for i in of_w)), rows(N, *(sizes[i] for i in of_x))
    check_leaf(f, p, x, followed=True)


def check_views(data):
    """A weight that is reshaped, turned, sliced and put beside another before it is used."""
    p = rows(*data.draw(st.permutations([2, 3, 4])))
    moves = data.draw(st.lists(st.sampled_from(["turn", "flat", "cut", "pad", "one"]), min_size=1, max_size=4))
    cut = data.draw(st.integers(0, 1))

    def seen(p):
        for move in moves:
            if move == "turn":
                p = jnp.transpose(p)
            elif move == "flat":
                p = p.reshape(p.shape[0], -1) if p.ndim > 1 else p
            elif move == "cut":
                p = p[cut:, ...] if p.shape[0] > 1 else p
            elif move == "pad":
                p = jnp.concatenate([jnp.ones_like(p), p])
            else:
                p = p[None]
        return p

    shape = jax.eval_shape(seen, p).shape

    def f(p, x):
        return bend(jnp.tensordot(x, seen(p), ([1], [0])))

    def g(p, x):
        return bend(x * seen(p))

    check_leaf(f, p, rows(N, 2, shape[0]), followed=False)
    check_leaf(g, p, rows(N, *shape), followed=False)


def check_leaf(f, p, x, followed):
    """Norms and gradients of one parameter, in one program."""
    kinds = []

    def both(p, x):
        _, use = jp.xray.uses(f, in_axes=(None, 0))(p, x)
        kinds.append(type(use).__name__)
        return use.per_example(), use.squared_norms(), use.gradient(), jax.vmap(jax.grad(f), (None, 0))(p, x)

    each, norms, gradient, g = map(np.asarray, jax.jit(both)(p, x))
    assert not followed or kinds != ["Dense"]
    assert_same(each, g, "per example")
    assert_same(norms, np.sum(g.reshape(N, -1) ** 2, 1), "norms")
    assert_same(gradient, g.mean(0), "gradient")


@pytest.mark.parametrize("check", [check_product, check_views])
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_products_of_any_axes_and_views_of_any_kind(check, data):
    check(data)


@SLOW
@pytest.mark.parametrize("check", [check_product, check_views])
@settings(max_examples=15, deadline=None)
@given(data=st.data())
def test_more_products_and_views(check, data):
    check(data)
