"""What derivations say in words is true of what was computed: how many, of what, and why."""

import tracemalloc
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.derivations import explain, to_latex, to_text
from tests.drawing import draw

HALF = jp.HalfSquaredError()


def told(net, x, targets, path=None, index=None, params=None, cost=HALF, **asked):
    """The words of a derivation, on one line."""
    params = draw(net, x) if params is None else params
    found = explain(net, cost)(x, params, targets, path, index, **asked)
    return " ".join(to_text(found).split())


def normal(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape))


def test_what_moves_is_counted_also_where_its_error_is_0():
    """Three sums of which one has an error, and a batch of three rows of which one has."""
    net, x = jp.Chain(jp.Conv(1, (1,)), jp.Flatten(), jp.Linear(3), jp.ReLU(), jp.Linear(1)), jnp.ones((1, 1, 1))
    params = draw(net, x)
    dead = params[2]._replace(b=jnp.array([9.0, -9.0, -9.0]))
    words = told(net, x, jnp.ones((1, 1)), "0.W", (0, 0, 0), (*params[:2], dead, *params[3:]))
    assert "goes into 3 sums of this layer, each time with a weight of its own. The error of 2 of them is 0." in words
    assert "goes into one sum of this layer, with one weight." in words
    net, x = jp.Chain(jp.Linear(1), jp.BatchNorm(), jp.ReLU(), jp.Linear(1)), jnp.array([[0.0], [1.0], [5.0]])
    words = told(net, x, jnp.ones((3, 1)), "0.W", (0, 0))
    assert "moves all 3 numbers of the group" in words and " 1 numbers" not in words


@pytest.mark.slow
def test_a_kernel_stands_on_padding_only_where_there_is_padding():
    """With a key the whole batch is drawn for, and the windows of the other rows are no padding."""
    x, key = normal(3, 4, 1), jax.random.key(0)
    for padding, is_short in (("VALID", False), ("SAME", True)):
        net = jp.Chain(jp.Conv(1, (2,), padding=padding), jp.Dropout(0.1), jp.Flatten(), jp.Linear(1))
        words = told(net, x, jnp.ones((3, 1)), "0.W", (1, 0, 0), rng=key)
        assert ("stands on padding" in words) == is_short and "multiplies one number in each of 3 windows" in words
    net = jp.Chain(jp.ConvTranspose(1, (2,), strides=2), jp.Flatten(), jp.Linear(1))
    words = told(net, x, jnp.ones((3, 1)), "0.W", (0, 0, 0))
    assert "This number of the kernel is used in 4 windows" in words and "padding" not in words


@pytest.mark.parametrize("turned", [False, True])
def test_a_tie_is_called_transposed_where_it_is(turned):
    net = jp.Shared(jp.Chain(jp.Linear(2, bias=False), jp.Tanh(), jp.Linear(2, bias=False)), (("0.W", "2.W", turned),))
    words = told(net, normal(1, 2), jnp.ones((1, 2)), "inner.0.W", (0, 1))
    assert ("in some of them transposed" in words) == turned and "What comes of this use is called G[0]." in words


def test_the_layer_that_is_picked_is_named_for_what_it_is():
    net, x = jp.Chain(jp.Linear(2), jp.ReLU(), jp.Linear(1)), normal(1, 2)
    params = draw(net, x)
    assert "it is about the layer farthest from the cost: of 0.W" in told(net, jnp.ones((1, 2)), jnp.ones((1, 1)))
    dead = (params[0]._replace(b=jnp.full(2, -99.0)), *params[1:])
    assert "farthest from the cost with a derivative that is not 0: of 2.b" in told(
        net, x, jnp.ones((1, 1)), params=dead
    )
    net = jp.Chain(jp.Linear(1), jp.BatchNorm())
    assert "the largest derivative in size for the whole batch" in told(net, normal(3, 2), jnp.ones((3, 1)), "0.W")


@pytest.mark.slow
def test_a_state_is_carried_on_as_far_as_there_are_steps():
    x = normal(1, 3, 2)
    for sequence, says in (
        (True, "carries it on to all later ones"),
        (False, "carries it on to the last one, which is"),
    ):
        net = jp.Chain(jp.GRU(2, sequence=sequence), jp.Linear(1))
        targets = jnp.ones((1, 3, 1) if sequence else (1, 1))
        assert says in told(net, x, targets, "x", (0, 0))
        assert "its own step, which is the last: 2 numbers" in told(net, x, targets, "x", (2, 0))


def test_a_nudge_across_a_corner_is_said_to_be_one():
    net, x = jp.Chain(jp.Linear(1), jp.ReLU()), jnp.zeros((1, 2))
    params = jax.tree.map(jnp.zeros_like, draw(net, x))
    assert "The nudge finds another number here" in told(net, x, jnp.ones((1, 1)), "0.b", (0,), params)
    assert "The nudge finds" not in told(net, normal(1, 2), jnp.ones((1, 1)), "0.b", (0,))


def test_a_change_that_is_lost_in_rounding_is_no_rise():
    """A bias in front of batch normalisation changes nothing: its derivative is rounding."""
    net, x = jp.Chain(jp.Linear(3), jp.BatchNorm()), normal(4, 2)
    words = told(net, x, jnp.full((4, 3), 0.2), "0.b", (0,))
    assert "is lost where C is rounded" in words or "The derivative is 0" in words
    assert "too large" not in words


@pytest.mark.parametrize("name", ["", " ", "C", "y", "η"])
def test_a_name_that_would_be_read_as_something_else_is_refused(name):
    net, x = jp.Chain(jp.Linear(1)), normal(1, 2)
    with pytest.raises(jp.JaxpropError, match="expected a name that is not empty and none of C, y, target, η"):
        explain(net, HALF, names={name: "0.W[0,0]"})(x, draw(net, x), jnp.ones((1, 1)), "0.W", (0, 0))


@pytest.mark.parametrize("column", ["{", "}", "\\", "%", "a{b"])
def test_a_column_of_any_name_is_written_for_latex(column):
    net, x = jp.Chain(jp.Linear(1)), normal(1, 2)
    found = explain(net, HALF, columns=[column, "b"])(x, draw(net, x), jnp.ones((1, 1)), "0.W", (0, 0))
    plain = to_latex(found).replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}") and "x_{%}" not in plain and "_{\\}" not in plain


@dataclass(frozen=True)
class Scaled(jp.Layer):
    """A layer whose parameters are one array without a name."""

    shape: tuple[int, ...] = (2,)

    def init(self, key, x):
        return jnp.ones(self.shape, x.dtype)

    def __call__(self, x, params, env=None):
        return x * params


def test_parameters_without_a_name_are_called_theta():
    x, targets = normal(1, 2), jnp.ones((1, 2))
    for net, params, path, says in (
        (jp.Chain(jp.Linear(2), Scaled()), None, "1", "θ⁽¹⁾[1], in the code 1[1], belongs to Scaled"),
        (Scaled(), jnp.ones(2), "", "θ[1], in the code params[1], belongs to Scaled"),
    ):
        assert says in told(net, x, targets, path, (1,), params)
    assert "θ⁽¹⁾, in the code 1, belongs to" in told(jp.Chain(jp.Linear(2), Scaled(())), x, targets, "1")


def test_a_cost_of_a_function_has_no_formula_here():
    words = told(jp.Chain(jp.Linear(2)), normal(1, 2), jnp.ones((1, 2)), cost=jp.Cost.of(lambda y, t: jnp.sum(y * t)))
    assert "no formula is known here for this cost" in words and "yet" not in words


def test_what_cannot_be_explained_is_told_in_a_sentence():
    net, x = jp.Chain(jp.Linear(1)), normal(2, 2)
    params, targets = draw(net, x), jnp.ones((2, 1))
    with pytest.raises(jp.JaxpropError, match="x and targets have no rows"):
        explain(net, HALF)(x[:0], params, targets[:0])
    with pytest.raises(jp.JaxpropError, match="no parameters, so there is nothing to change"):
        explain(jp.Tanh(), HALF)(x, (), jnp.ones((2, 2)))
    for names in (["w5"], {5: "0.W[0,0]"}):
        with pytest.raises(jp.JaxpropError, match="names must be a mapping such as"):
            explain(net, HALF, names=names)


@pytest.mark.parametrize(
    ("targets", "says"),
    [
        ([[0.5, 0.5], [0.25, 0.75]], ""),
        ([[0.5, 0.5], [0.25, 0.5]], "The right ones, at some positions, do not add up to 1, but to P."),
        ([[1.0, 0.5], [0.25, 0.5]], "The right ones do not add up to 1, but to P."),
        ([[0.5, 0.5], [0.25, 0.75 + 1e-7]], "As the right ones are rounded, they, at some positions, add up to P"),
    ],
    ids=["all 1", "one not", "none", "rounded"],
)
def test_what_probabilities_add_up_to_is_told_of_every_position(targets, says):
    words = told(jp.Chain(jp.Linear(2)), normal(1, 2, 2), jnp.array([targets]), "0.b", cost=jp.SoftmaxCrossEntropy())
    assert says in words and ("add up" in words) == bool(says)


@pytest.mark.slow
def test_a_large_vocabulary_takes_no_square_of_its_size():
    C = 2000
    net, x = jp.Chain(jp.Linear(C)), normal(1, 2, 1)
    asked = x, draw(net, x), jnp.array([[1, 2]]), "0.b", (1,)
    run = explain(net, jp.SoftmaxCrossEntropy())
    tracemalloc.start()
    run(*asked)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * C**2 / 2
