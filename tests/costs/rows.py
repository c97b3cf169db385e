"""The rows of the table of costs, each marked by when it is tried: a kind's first row runs by default."""

import pytest

from tests.cases import COSTS, one_of_each

# these go the ways of other rows, which have T and all settings at once
AGAIN = (
    "HalfSquaredError, one output",
    "HalfSquaredError, one-hot",
    "SoftmaxCrossEntropy, labels, T",
    "SoftmaxCrossEntropy, smoothed",
    "SoftmaxCrossEntropy, weighted",
)
ROWS = [
    *one_of_each(case for case in COSTS if str(case) not in AGAIN),
    *(pytest.param(case, marks=pytest.mark.exhaustive, id=str(case)) for case in COSTS if str(case) in AGAIN),
]
