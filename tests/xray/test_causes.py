"""The rules alone, on arrays written by hand: each cause, its element and its numbers."""

import numpy as np
import pytest

from jaxprop.xray.causes import Local, at, element, first_bad, number
from jaxprop.xray.causes_of_errors import errors_cause
from jaxprop.xray.causes_of_values import values_cause

INF, NAN = np.inf, np.nan


def forward(primitive, inputs, output, **known):
    arrays = [a if isinstance(a, np.ndarray) else np.asarray(a, np.float32) for a in inputs]
    return values_cause(Local(primitive, known.pop("params", {}), arrays, [np.asarray(output, np.float32)], **known))


def backward(primitive, inputs, output, error, part, position=0, **known):
    arrays = [np.asarray(a, np.float32) for a in inputs]
    return errors_cause(Local(
        primitive, known.pop("params", {}), arrays, [np.asarray(output, np.float32)],
        [np.asarray(error, np.float32)], position, np.asarray(part, np.float32), **known,
    ))  # fmt: skip


FORWARD = [
    ("log", [[1, 0]], [0, -INF], "log at 0", "log(0) = −∞ at [1]"),
    ("log1p", [[-1.0]], [-INF], "log1p at −1", "log1p(−1) = −∞ at [0]"),
    ("log", [[1, -2]], [0, NAN], "log of a negative number", "log(−2) is NaN at [1]"),
    ("sqrt", [-4.0], NAN, "root of a negative number", "√(−4) is NaN"),
    ("rsqrt", [0.0], INF, "division by zero", "1/√0 = ∞"),
    ("exp2", [200.0], INF, "exp overflow", "2**x(200) overflows float32: it does so beyond 128"),
    ("div", [[0.0, 1], [0.0, 1]], [NAN, 1], "0/0", "0 / 0 is NaN at [0]"),
    ("div", [-1.0, 0.0], -INF, "division by zero", "−1 / 0 is −∞"),
    ("div", [INF, INF], NAN, "∞/∞", "∞ / ∞ is NaN"),
    ("div", [1e30, 1e-30], INF, "overflow", "the quotient of 1e+30 and 1e-30 overflows float32"),
    ("mul", [0.0, -INF], NAN, "0 · ∞", "0 · −∞ is NaN"),
    ("mul", [1e30, 1e30], INF, "overflow", "the product of 1e+30 and 1e+30 overflows float32"),
    ("sub", [INF, INF], NAN, "∞ − ∞", "∞ − ∞ is NaN"),
    ("add", [[1, 3e38], [1, 3e38]], [2, INF], "overflow", "the sum of 3e+38 and 3e+38 at [1] overflows"),
    ("pow", [0.0, -1.0], INF, "division by zero", "0 ** −1 = ∞"),
    ("pow", [-8.0, 0.5], NAN, "root of a negative number", "(−8) ** 0.5 is NaN"),
    ("rem", [1.0, 0.0], NAN, "division by zero", "1 % 0 is NaN"),
    ("sin", [INF], NAN, "of an infinity", "sin(∞) is NaN"),
    ("lgamma", [-1.0], INF, "a pole", "lgamma(−1) is ∞"),
    ("acosh", [0.5], NAN, "outside of arccosh", "arccosh(0.5) is NaN: outside of its domain"),
    ("atanh", [-1.0], -INF, "edge of arctanh", "arctanh(−1) is −∞: the edge of its domain"),
    ("reduce_sum", [[INF, -INF]], NAN, "∞ − ∞", "∞ and −∞ meet in one sum"),
    ("reduce_sum", [[3e38, 3e38]], INF, "overflow", "the sum of 2 numbers up to 3e+38 overflows float32"),
    ("dot_general", [[[0, 1]], [[INF], [1]]], [[NAN]], "0 · ∞ or ∞ − ∞", "an infinity enters a product of matrices"),
    ("gather", [[1, 2], np.array([[5]])], [NAN], "index out of bounds", "found 5 to 5 in an array [2]"),
    ("cholesky", [[[1, 2], [2, 1]]], [[NAN, 0], [0, 1]], "not positive definite", "its least eigenvalue is −1"),
    ("triangular_solve", [[[1, 0], [1, 0]], [[1], [1]]], [[1], [INF]], "singular matrix", "of its diagonal is 0"),
    ("cumprod", [[1e30, 1e30]], [1e30, INF], "overflow", "the product of numbers up to 1e+30 at [1] overflows float32"),
    ("reduce_prod", [[0, INF]], NAN, "0 · ∞", "0 and an infinity meet in one product"),
    ("erf_inv", [1.0], INF, "edge of erf_inv", "erf_inv(1) is ∞: the edge of its domain"),
    ("convert_element_type", [800.0], NAN, "overflow in a cast", "800 does not fit float32"),
    ("pure_callback", [0.0], -INF, "an infinity", "pure_callback gives an infinity of 0"),
    ("tanh", [NAN], NAN, "constant NaN", "a NaN that stands in the program enters here"),
    ("mystery", [1.0], NAN, "NaN", "mystery gives NaN of 1"),
]


@pytest.mark.parametrize("primitive, inputs, output, name, why", FORWARD, ids=lambda v: v if isinstance(v, str) else "")
def test_forward(primitive, inputs, output, name, why):
    cause = forward(primitive, inputs, output, dtype="float32")
    assert cause.name == name
    assert why in cause.why


BACKWARD = [
    (
        "sqrt",
        [[4, 0]],
        [2, 0],
        [1, 1],
        [0.25, INF],
        0,
        "√′(0)",
        "√′(0) = ∞ at [1]; the error that comes back there is 1",
    ),
    (
        "sqrt",
        [[4, 0]],
        [2, 0],
        [1, 0],
        [0.25, NAN],
        0,
        "0 · ∞",
        "∞ at [1]; the error that comes back there is 0, and 0 · ∞ is NaN",
    ),
    ("cbrt", [0.0], 0, 1, INF, 0, "∛′(0)", "∛′(0) = ∞"),
    ("log", [0.0], -INF, 2, INF, 0, "log at 0", "is 1/0 = ∞; the error that comes back there is 2"),
    ("div", [1.0, 0.0], INF, 2, INF, 0, "division by zero", "the derivative of 1 / 0"),
    ("div", [0.0, 0.0], NAN, 2, NAN, 1, "0/0", "the derivative of 0 / 0"),
    ("div", [1.0, 1e-30], 1e30, 2, INF, 1, "overflow of an error", "divides by 1e-30 squared, which float32 does not"),
    (
        "div",
        [0.0, 1e-30],
        0,
        1e9,
        INF,
        0,
        "overflow of an error",
        "by 1e-30, and the quotient is more than float32 holds",
    ),
    ("mul", [0.0, INF], NAN, 0, NAN, 0, "0 · ∞", "the other factor is ∞"),
    (
        "mul",
        [2.0, NAN],
        NAN,
        0,
        NAN,
        0,
        "0 · NaN",
        "a NaN enters here among the values; the error that comes back there",
    ),
    ("sqrt", [[4, -1]], [2, NAN], [1, 0], [0.25, NAN], 0, "0 · NaN", "sqrt(−1) is NaN at [1]; the error that comes"),
    ("tanh", [NAN], NAN, 2, NAN, 0, "NaN among the values", "among the values, and so is what it hands back"),
    ("acos", [1.5], NAN, 0, NAN, 0, "0 · NaN", "acos(1.5) is NaN; the error that comes back there is 0"),
    (
        "dot_general",
        [[[1, 0], [NAN, NAN]], [[1, 0], [0, 1]]],
        [[1, 0], [NAN, NAN]],
        [[1, 1], [0, 0]],
        [[NAN, NAN], [NAN, NAN]],
        1,
        "0 · NaN",
        "a NaN enters here among the values at [1, 0]",
    ),
    ("exp", [100.0], INF, 0, NAN, 0, "0 · ∞", "exp(100) overflowed float32"),
    ("pow", [0.0, 0.5], 0, 1, INF, 0, "x ** 0.5 at 0", "the derivative of x ** 0.5 at 0 is infinite"),
    ("pow", [0.0, 0.5], 0, 1, NAN, 1, "log at 0", "a ** p · log(a), and a is 0"),
    ("asin", [-1.0], -1.5, 1, INF, 0, "edge of arcsin", "arcsin at −1 is infinite"),
    ("atan2", [0.0, 0.0], 0, 1, NAN, 0, "0/0", "arctan2(0, 0) has no derivative"),
    ("eigh", [np.eye(2)], [1, 1], [1, 0], [[NAN, NAN], [NAN, NAN]], 0, "equal eigenvalues", "(1; the gap is 0)"),
    (
        "cholesky",
        [[[1, 1], [1, 1]]],
        [[1, 0], [1, 0]],
        [[1, 1], [1, 1]],
        [[NAN, 1], [1, 1]],
        0,
        "singular matrix",
        "rank 1",
    ),
    ("mul", [3e38, 1.0], 3e38, 3e38, INF, 1, "overflow of an error", "the errors that come back are at most 3e+38"),
    ("mystery", [1.0], 1, 1, NAN, 0, "NaN", "the derivative of mystery at 1 gives NaN"),
]


@pytest.mark.parametrize(
    "primitive, inputs, output, error, part, position, name, why",
    BACKWARD,
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_backward(primitive, inputs, output, error, part, position, name, why):
    cause = backward(primitive, inputs, output, error, part, position, dtype="float32")
    assert cause.name == name
    assert why in cause.why


def test_a_root_is_named_by_what_stands_around_it():
    def root(**known):
        return backward("sqrt", [0.0], 0, 0, NAN, **known)

    assert root(around=("_std",)).name == "standard deviation of a constant"
    assert root(follows_sum=True).name == root(around=("norm",)).name == "norm at 0"
    assert root(follows_sum=True, where="where at a.py:3 (f)").why.startswith("the where at a.py:3 (f) drops this")


def test_a_where_that_drops_a_nan_is_told():
    cause = backward("sqrt", [-1.0], NAN, 0, NAN, where="where at a.py:3 (f)")
    assert cause.name == "0 · NaN under a where"
    assert cause.why.startswith("the where at a.py:3 (f) drops this element, but sqrt(−1) is NaN")


def test_who_divides_by_a_norm_is_told_to_mend_the_norm():
    assert "optax.safe_norm" in forward("div", [0.0, 0.0], NAN, follows_sum=True).instead
    assert "optax" not in forward("div", [0.0, 0.0], NAN).instead


def test_an_error_that_is_a_sum_over_an_array_is_explained_by_the_element_that_made_it():
    cause = backward("div", [2.0, [1, 0]], [2, INF], [1, 0], NAN, 0)
    assert cause.why.startswith("the derivative of 2 / 0 is not finite at [1]; the error")


def test_rules_of_functions_are_named():
    assert forward("custom_jvp_call", [1.0], NAN, name="mine").name == "rule of mine"
    assert "returns NaN at [1]" in backward("custom_vjp_call", [[1, 2]], [1, 2], [1, 1], [1, NAN], name="mine").why


def test_the_first_bad_element_is_nan_before_infinity():
    assert first_bad(np.array([[1, INF], [NAN, 0]])) == (1, 0)
    assert first_bad(np.array([1, INF]), only_nan=True) is None
    assert first_bad(np.array([1.0, -INF])) == (1,)


def test_elements_meet_as_arrays_do():
    assert element(np.array(3.0), (1, 2), (2, 3)) == 3
    assert element(np.array([[1.0], [2.0]]), (1, 2), (2, 3)) == 2
    assert element(np.ones(3), (1, 2), (2, 3)) is None
    assert element(np.array([1 + 2j]), (0,), (1,)) == 1 + 2j


def test_numbers_are_written_as_people_do():
    written = ["NaN", "∞", "−∞", "−1.5", "1e+30", "0.1", "0", "−0"]
    assert [number(x) for x in (NAN, INF, -INF, -1.5, 1e30, 0.1, 0.0, -0.0)] == written
    assert (at(()), at((1, 2))) == ("", " at [1, 2]")
