"""`summary`: operations against counts by hand, bytes kept against what the formulas of the backward pass read."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.layers import Flatten
from tests.cases import LAYERS, one_of_each

F32 = jnp.float32


def rows(*shape, dtype=F32):
    return jax.ShapeDtypeStruct(shape, dtype)


def kept(net, x):
    return [row.kept_bytes for row in jp.summary(net, x).rows]


# N = 10 examples, I = 4, O = 3. z = x W + b: per z one product and one sum for each i, and the shift by b.
# Backward: δ Wᵀ and xᵀ δ cost as much as x W each; the gradient of b sums δ.
BY_HAND = [
    (jp.Linear(3), 10 * 3 * (4 + 4) + 10 * 3, 2 * 10 * 3 * (4 + 4) + 10 * 3),
    (jp.Linear(3, bias=False), 240, 480),
    (jp.Sigmoid(), 40, 80),  # φ; φ' and dy · φ'
    (jp.ReLU(), 40, 80),
    (jp.Softmax(), 3 * 40, 4 * 40),
    (jp.Standardize(8.0, 4.0), 2 * 40, 40),  # a difference and a quotient; a quotient
    (jp.Unstandardize(8.0, 4.0), 2 * 40, 40),
    (Flatten(), 0, 0),
]


@pytest.mark.parametrize("layer, forward, backward", BY_HAND, ids=lambda v: str(v))
def test_operations_are_those_of_the_formulas(layer, forward, backward):
    (row,) = jp.summary(jp.Chain(layer), rows(10, 4)).rows
    assert (row.forward, row.backward) == (forward, backward)


@pytest.mark.parametrize("case", [*one_of_each(LAYERS)])
def test_every_layer_has_a_row_with_its_shapes_and_parameters(case):
    params = case.params(jnp.float64)
    found = jp.summary(case.layer, case.x(jnp.float64))
    y = jax.eval_shape(case.layer, case.x(jnp.float64), params)
    if not isinstance(case.layer, jp.Parallel):  # no single row gives what branches give together
        assert found.rows[-1].output == y.shape and found.rows[-1].dtype == y.dtype.name
    assert found.total("parameters") == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert found.inputs == case.shape and all(row.forward >= 0 for row in found.rows)
    json.dumps(found.as_dict(), allow_nan=False)


def test_rows_stand_under_the_paths_of_params():
    net = jp.Chain(jp.Chain(jp.Linear(8), jp.Tanh()), jp.Linear(2, bias=False))
    found = jp.summary(net, rows(5, 3))
    assert [(row.path, row.layer, row.parameters) for row in found.rows] == [
        ("0.0", "Linear(8)", 3 * 8 + 8),
        ("0.1", "Tanh()", 0),
        ("1", "Linear(2, bias=False)", 8 * 2),
    ]
    assert [row.path for row in jp.summary(jp.Linear(2), rows(5, 3)).rows] == [""]


def test_an_array_kept_by_two_layers_counts_once_where_it_is_first_kept():
    """Linear keeps its x, Tanh its y: y is the x of the next Linear."""
    net = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(2))
    assert kept(net, rows(5, 3)) == [5 * 3 * 4, 5 * 8 * 4, 0]


def test_what_each_kind_keeps():
    """In words of the backward formulas: sigmoid and relu keep y, hard_tanh a mask of a byte each, the identity z."""
    assert kept(jp.Chain(jp.HardTanh()), rows(5, 3)) == [5 * 3]
    assert kept(jp.Chain(jp.Linear(4), jp.HardTanh(), jp.Linear(2)), rows(5, 3)) == [60, 5 * 4, 5 * 4 * 4]
    assert kept(jp.Chain(jp.Linear(4), jp.ReLU(), jp.Linear(2)), rows(5, 3)) == [60, 5 * 4 * 4, 0]
    assert kept(jp.Chain(jp.Sigmoid(), jp.Sigmoid()), rows(5, 3)) == [60, 60]
    assert kept(jp.Chain(jp.Linear(4), jp.Identity(), jp.Linear(2)), rows(5, 3)) == [60, 5 * 4 * 4, 0]
    assert kept(jp.Chain(Flatten(), jp.Linear(2)), rows(5, 3, 2)) == [0, 5 * 6 * 4]
    assert kept(jp.Chain(jp.Standardize(1.0, 2.0), jp.Linear(2)), rows(5, 3, dtype=jnp.int8)) == [0, 5 * 3 * 8]


def test_bytes_follow_the_precision():
    net = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Linear(2))
    for dtype, size in (("float64", 8), ("float32", 4), ("bfloat16", 2)):
        assert jp.summary(net, rows(5, 3, dtype=dtype)).total("kept_bytes") == (5 * 3 + 5 * 8) * size


def test_parameters_are_not_counted_as_kept():
    """They are there anyway, also for a layer that keeps its own W."""

    class KeepsW(jp.Linear):
        def forward(self, x, params, env=None):
            z, x = super().forward(x, params, env)
            return z, (x, params.W)

    assert kept(jp.Chain(KeepsW(8)), rows(5, 3)) == [5 * 3 * 4]


def test_totals_are_sums_and_grow_with_the_batch():
    net = jp.Chain(jp.Linear(30), jp.Sigmoid(), jp.Linear(10))
    one, many = jp.summary(net, rows(1, 784)), jp.summary(net, rows(100, 784))
    assert one.total("parameters") == many.total("parameters") == 784 * 30 + 30 + 30 * 10 + 10
    for column in ("forward", "backward", "kept_bytes"):
        assert many.total(column) == 100 * one.total(column) == sum(getattr(row, column) for row in many.rows)


def test_the_table():
    text = str(jp.summary(jp.Chain(jp.Linear(1000), jp.Tanh(), jp.Linear(2)), rows(5, 300)))
    lines = text.splitlines()
    assert lines[0].split() == ["path", "layer", "output", "parameters", "forward", "backward", "kept"]
    assert lines[1].split() == [
        "0",
        "Linear(1000)",
        "float32[5,",
        "1000]",
        "301,000",
        "3,005,000",
        "6,005,000",
        "6,000",
        "B",
    ]
    assert lines[4].split() == ["total", "303,002", "3,030,010", "6,055,010", "26,000", "B"]
    assert "inputs [5, 300]" in lines[5] and "one multiply-add is 2" in lines[5] and len(lines) == 6
    ends = {len(line) for line in lines[:5]}
    assert len(ends) == 1, "the columns of numbers end where they should"
    assert str(jp.summary(jp.Tanh(), rows(5, 3))).splitlines()[1].startswith("·     Tanh()")


def test_as_dict_is_plain_json():
    net = jp.Chain(jp.Standardize(0.5, 2.0), jp.Linear(4), jp.ReLU())
    found = jp.summary(net, rows(5, 3))
    plain = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert plain["inputs"] == [5, 3] and len(plain["layers"]) == 3
    assert plain["layers"][1] == {
        "path": "1", "layer": "Linear(4)", "output": [5, 4], "dtype": "float32", "parameters": 16,
        "forward": 140, "backward": 260, "kept_bytes": 60,
    }  # fmt: skip
    assert plain["total"] == {c: found.total(c) for c in ("parameters", "forward", "backward", "kept_bytes")}


def test_arrays_and_their_specs_give_the_same_and_nothing_is_computed():
    net = jp.Chain(jp.Linear(3), jp.Softmax())
    x = np.ones((5, 4), np.float32)
    assert jp.summary(net, x) == jp.summary(net, jnp.asarray(x)) == jp.summary(net, rows(5, 4))
    huge = jp.summary(net, rows(10**9, 10**6))  # 4 PB, were it there
    assert huge.total("parameters") == 3 * 10**6 + 3 and huge.total("kept_bytes") == 4 * (10**15 + 3 * 10**9)


def test_a_summary_compiles_nothing(compilations):
    with compilations() as count:
        jp.summary(jp.Chain(jp.Linear(7), jp.ReLU(), jp.Linear(2)), rows(11, 4))
    assert count[0] == 0


@pytest.mark.parametrize(
    "net, x, error, words",
    [
        (jp.Linear(2), rows(3), ShapeError, r"inputs must be \[N, ..., I\], found shape \(3,\)"),
        (jp.Linear(2), rows(5, 3, dtype=jnp.int32), ShapeError, "inputs must be floating, found int32"),
        (jp.Chain(jp.Standardize((1.0, 2.0), 1.0)), rows(5, 3), ShapeError, "mean has 2 features"),
        (lambda x, params: x, rows(5, 3), JaxpropError, "summary"),
    ],
)
def test_what_does_not_fit_is_a_clear_error(net, x, error, words):
    with pytest.raises(error, match=words):
        jp.summary(net, x)
