"""The module of every equation of Equinox: objects, and names of classes that do not tell one layer from another."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest

from tests.xray.listed import X, cost, ones, scopes_of

pytestmark = pytest.mark.usefixtures("as_users_run_them")

KEY = jax.ShapeDtypeStruct((2,), jnp.uint32)


class Cell(eqx.Module):
    lin: eqx.nn.Linear
    norm: eqx.nn.LayerNorm

    def __init__(self, key):
        self.lin, self.norm = eqx.nn.Linear(3, 3, key=key), eqx.nn.LayerNorm(3)

    def __call__(self, x):
        return jnp.sin(self.lin(self.norm(x)))


class Cells(eqx.Module):
    cells: list[Cell]

    def __init__(self, key):
        self.cells = [Cell(key), Cell(key)]

    def __call__(self, x):
        for cell in self.cells:
            x = cell(x)
        return jnp.exp(x)


def built(kind):
    return ones(eqx.filter_eval_shape(kind, KEY))


def over_batch(model, x):
    return jnp.mean(jax.vmap(model)(x))


def in_parts(model):
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    return (lambda params, x: over_batch(eqx.combine(params, rest), x)), params


@pytest.mark.parametrize("way", [lambda model: (over_batch, model), in_parts], ids=["objects", "parts"])
def test_equinox(way):
    f, model = way(built(Cells))
    found = scopes_of(f, model, X)
    assert found["dot_general"] == ["cells/0/lin", "cells/1/lin"]
    assert found["rsqrt"] == found["max"] == ["cells/0/norm", "cells/1/norm"]
    assert (found["sin"], found["exp"]) == (["cells/0", "cells/1"], [""])


def test_equinox_stacked_modules():
    cells = jax.tree.map(lambda a: jnp.stack([a, a]), built(Cell))
    params, rest = eqx.partition(cells, eqx.is_array)

    def scanned(params, x):
        step = lambda h, cell: (eqx.combine(cell, rest)(h), None)  # noqa: E731
        return jnp.mean(jax.lax.scan(step, x[0], params["cells"])[0])

    def ensemble(params, x):
        run = eqx.filter_vmap(lambda cell, x: cell(x), in_axes=(eqx.if_array(0), None))
        return jnp.mean(run(params["cells"], x[0]))

    def jitted(params, x):
        return jnp.mean(eqx.filter_jit(lambda cell, x: cell(x))(params["cells"], x[0]))

    for f, given in ((scanned, params), (ensemble, cells), (jitted, built(Cell))):
        found = scopes_of(f, {"cells": given}, X)
        assert (found["sin"], found["dot_general"]) == (["cells"], ["cells/lin"]), f


def test_methods_of_a_class_that_another_derives_from():
    class Base(eqx.Module):
        lin: eqx.nn.Linear

        def __call__(self, x):
            return jnp.sin(self.inside(x))

    class Other(Base):
        def inside(self, x):
            return self.lin(jnp.exp(x))

    others = [Other(built(Cell).lin) for _ in range(2)]
    found = scopes_of(lambda others, x: jnp.mean(others[1](others[0](x[0]))), others, X)
    assert found["sin"] == found["exp"] == ["0", "1"]
    assert found["dot_general"] == ["0/lin", "1/lin"]


def test_modules_of_one_class_in_each_other():
    class Tree(eqx.Module):
        w: jax.Array
        children: list

        def __call__(self, x):
            for child in self.children:
                x = child(x)
            return jnp.sin(x * self.w)

    tree = Tree(X[0], [Tree(X[0], [Tree(X[0], []), Tree(X[0], [])]), Tree(X[0], [])])
    found = scopes_of(cost, tree, X)
    inner = ["children/0/children/0", "children/0/children/1", "children/0", "children/1"]
    assert found["sin"] == found["mul"] == [*inner, ""]
