"""What people give for rows, targets and keys: taken at every door, or told in words what to write."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.given import as_arrays
from jaxprop.arrays.relative import relative

X, LABELS = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]], [0, 1, 1]


class Frame:
    """What pandas.DataFrame is to this library."""

    def __init__(self, rows):
        self.rows = rows

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.rows, dtype)


class Pair(NamedTuple):
    a: object
    b: object


TOLD = (jp.manual.trace, jp.manual.uses)


@pytest.mark.parametrize("kind", [list, Frame])
def test_every_door_takes_rows_however_they_are_kept(kind):
    net, cost, x = jp.Chain(jp.Linear(2), jp.Tanh()), jp.SoftmaxCrossEntropy(), np.array(X)
    params = net.init(jax.random.PRNGKey(0), kind(X))
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, jax.eval_shape(net.init, jax.random.key(0), x))

    def doors(rows, labels, weights):
        ways = (jp.manual, jp.auto)
        y, mixed = net(rows, params), jp.mixed(net)(rows, params)
        grads = [way.value_and_grad(net, cost)(rows, params, labels, weights=weights) for way in ways]
        return y, mixed, cost(y, labels), grads, *(way(net, cost)(rows, params, labels) for way in TOLD)

    found = jax.jit(lambda: doors(kind(X), LABELS, [1 / 3, 1 / 3, 1 / 3]))()
    expected = jax.jit(lambda: doors(x, np.array(LABELS), None))()
    assert relative(found, expected) <= 1e-14
    np.testing.assert_array_equal(net(kind(X), params), net(x, params))  # and outside of jit


def test_trees_of_arrays_keep_their_structure_and_arrays_of_jax_pass():
    array = jnp.ones((2, 3))
    assert as_arrays(array, "x") is array
    assert jax.jit(lambda x: as_arrays(x, "x"))(array).shape == (2, 3)
    assert as_arrays([array], "x")[0] is array
    found = as_arrays({"a": Pair([1, 2], array), "b": (np.ones((2, 1)), [[1], [2]])}, "x")
    assert jax.tree.map(np.shape, found) == {"a": Pair((2,), (2, 3)), "b": ((2, 1), (2, 1))}
    assert as_arrays([Pair(1, 2), Pair(3, 4)], "x").shape == (2, 2)
    for rows in (tuple(map(tuple, X)), list(np.array(X))):
        np.testing.assert_array_equal(as_arrays(rows, "x"), X)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["cat", "dog"], "np.unique"),
        (np.array([1, None]), "objects such as None"),
        (np.array(["2020-01-01"], "M8[D]"), "dates"),
        ([[1], [1, 2]], "different lengths"),
        ((i for i in range(3)), "np.asarray"),
        ("rows.csv", "the text 'rows.csv'"),
        (np.ma.masked_array([1, 2], [0, 1]), "masked"),
        (Frame(np.array([[1, "x"]], object)), "text such as 'x'"),
    ],
)
def test_what_holds_no_numbers_is_refused_in_words(given, says):
    with pytest.raises(jp.DataError, match=says):
        jp.Linear(2)(given, None)
    with pytest.raises(jp.DataError, match=f"targets.*{says}"):
        jp.SoftmaxCrossEntropy()(jnp.ones((2, 3)), given)


def test_numbers_beyond_32_bits_are_named_and_not_wrapped():
    labels, net, cost = np.array([0, 2**32 + 1]), jp.Linear(2), jp.SoftmaxCrossEntropy()
    with jax.enable_x64(False):
        x = np.ones((2, 3), np.float32)
        params = net.init(jax.random.key(0), x)
        with pytest.raises(jp.DataError, match="targets: row 1 is 4294967297, beyond int32; number labels"):
            jp.manual.value_and_grad(net, cost)(x, params, labels)
        with pytest.raises(jp.DataError, match="row 1 is 4294967297"):
            cost(jnp.ones((2, 2)), labels)
        with pytest.raises(jp.DataError, match="x: row 0, column 1 is 4294967297"):
            jp.Embedding(5, 4)(labels[None], None)
        with pytest.raises(jp.DataError, match=r"x: row 0, column 0 is 1e\+300, beyond float32"):
            net([[1e300, 0.0]], params)
        assert as_arrays(np.array([2**31 - 1]), "x").dtype == jnp.int32
        assert as_arrays(np.ones(2), "x").dtype == jnp.float32  # and JAX warns of nothing


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda net, cost: jp.manual.value_and_grad(net, type(cost)), "cost must be .* write SoftmaxCrossEntropy"),
        (lambda net, cost: jp.auto.value_and_grad(jp.ReLU, cost), "net must be .* found the class ReLU; write ReLU"),
        (lambda net, cost: jp.evaluate(net, "mse"), "cost must be .* found 'mse'"),
        (lambda net, cost: jp.compare(net, lambda y, t: y[:, 0]), "write jp.Cost.of"),
        (lambda net, cost: jp.fit(cost, net, optax.sgd(1.0), (X, LABELS)), "the order is net, cost"),
        (lambda net, cost: jp.fit([net], cost, optax.sgd(1.0), (X, LABELS)), "net must be a Layer"),
        (lambda net, cost: jp.auto.value_and_grad(net, cost)(3.0, (), LABELS), "x must hold rows .* found a float"),
        (lambda net, cost: jp.manual.uses(net, cost)(X, (), LABELS, rng=3), "rng must be a key"),
    ],
)
def test_a_class_or_a_name_in_place_of_a_network_or_a_cost(make, says):
    with pytest.raises(jp.JaxpropError, match=says):
        make(jp.Linear(2), jp.SoftmaxCrossEntropy())
