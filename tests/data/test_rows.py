"""Rows: what can be trained on, and a split that is a partition."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, strategies as st

from jaxprop import data
from tests.data.asked import few, refused


def test_check_accepts_what_can_be_trained_on():
    data.check(np.ones((2, 3), ml_dtypes.bfloat16), np.zeros((2, 1)))
    data.check(np.arange(4).reshape(2, 2), np.array([0, 1]))  # token ids, labels
    data.check(np.ones((2, 1)), np.array([7.0, 7.0]))  # equal numbers are no classes
    data.check(np.ones((1, 1)), np.array([1]), training=False)


@pytest.mark.parametrize(
    ("x", "targets", "parts"),
    [
        ([], [], ["rows: x is empty", "[0]", "expected [N, ...]"]),
        (np.ones((2, 0)), [[1.0], [2.0]], ["x is empty", "[2, 0]"]),
        (3.0, [1.0], ["x is empty, of shape []"]),
        ([[1.0]], [[1.0]], ["rows: found one row; expected two or more: add rows"]),
        ([[1.0]] * 3, [[1.0]] * 2, ["found 3 rows of x and 2 of targets; expected one target per row"]),
        ([[1.0, 2.0], [3.0, np.nan]], [[1.0]] * 2, ["x row 1, column 1 is nan; expected finite", "remove"]),
        ([[1.0], [2.0]], [[1.0], [-np.inf]], ["targets row 1, column 0 is -inf"]),
        ([[1.0], [2.0]], [1.0, np.nan], ["targets row 1 is nan"]),
        (np.full((2, 2, 2), np.nan), [[1.0]] * 2, ["x row 0, column 0, 0 is nan"]),
        (np.array([[1], [np.nan]], ml_dtypes.bfloat16), [[1.0]] * 2, ["x row 1, column 0 is nan"]),
        ([[1.0], [1e39]], [[1.0]] * 2, ["x row 1, column 0 is 1e+39; float32 ends at 3.4e+38: rescale"]),
        (np.array([[1], [None]]), [[1.0]] * 2, ["x is of dtype object; expected real numbers: convert"]),
        (np.ones((2, 1), complex), [[1.0]] * 2, ["x is of dtype complex128"]),
        ([["a"], ["b"]], [[1.0]] * 2, ["x is of dtype <U1"]),
        ([[1.0], [1.0, 2.0]], [[1.0]] * 2, ["x has rows of different lengths; expected one shape", "pad"]),
        ([[1.0]] * 2, [3, 3], ["every label is 3; expected two classes or more: add rows", "float targets [N, 1]"]),
    ],
)
def test_check_refuses(x, targets, parts):
    with refused(*parts):
        data.check(x, targets, "rows")


@few
@given(rows=st.integers(2, 60), seed=st.none() | st.integers(0, 2**64), share=st.floats(0, 1, exclude_max=True))
def test_split_is_a_partition(rows, seed, share):
    count = min(round(share * rows), rows - 2)
    x, targets = np.arange(rows), -np.arange(rows)
    (kept, kept_targets), held = data.split(x, targets, count, seed)
    held, held_targets = (np.array([], int), np.array([], int)) if held is None else held
    assert len(held) == count
    assert sorted([*kept, *held]) == list(range(rows))
    assert (kept_targets == -kept).all() and (held_targets == -held).all()  # rows stay with their targets


def test_split_by_seed():
    x = np.arange(100)
    (a, _), _ = data.split(x, x, 0.2, seed=1)
    (b, _), _ = data.split(x, x, 20, seed=1)
    (c, _), _ = data.split(x, x, 20, seed=2)
    assert (a == b).all() and (a != c).any() and len(a) == 80
    (kept, _), last = data.split(x, x, 0.2, seed=None)
    assert last is not None and (kept == x[:80]).all() and (last[0] == x[80:]).all()
    (everything, _), none = data.split(x, x, 0)
    assert none is None and (everything == x).all()


@pytest.mark.parametrize("validation", [1.0, -0.1, math.nan, "0.2", True, None])
def test_split_refuses_what_is_neither_fraction_nor_count(validation):
    with refused(f"validation is {validation!r}; expected a fraction from 0 to below 1, or a number of rows"):
        data.split(np.arange(10), np.arange(10), validation)


@pytest.mark.parametrize("validation", [9, 10, 11, -1, 0.95])
def test_split_leaves_two_rows_to_train_on(validation):
    with refused(f"validation={validation!r} holds out", "of 10 rows", "hold out fewer"):
        data.split(np.arange(10), np.arange(10), validation)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", True])
def test_seed_must_be_a_whole_number(seed):
    with refused(f"seed is {seed!r}; expected a whole number ≥ 0"):
        data.digits(seed=seed)
