"""Measures by NumPy, of arrays that the witness has."""

import numpy as np

from jaxprop.xray import measures
from jaxprop.xray.program import Reading
from tests.xray.keeping import Both


def rms(array: object) -> float:
    """Take the root of the mean of squares."""
    return float(np.sqrt(np.mean(np.square(array))))


def measured(array: np.ndarray) -> np.ndarray:
    """Measure as `measures.full` does, but for the projection, which is the last."""
    x = np.abs(array) if np.iscomplexobj(array) else array.astype(np.float64)
    counts = [x.size, np.isnan(x).sum(), np.isinf(x).sum(), (x == 0).sum()]
    largest = np.abs(x).max()
    return np.asarray([*counts, np.mean((x / (largest or 1)) ** 2), largest, x.min(), x.max()])


def check_felt(measure: np.ndarray, felt: np.ndarray, rtol: float) -> None:
    """Check the measures of an error against what a function felt when its place was moved by hand."""
    mine = dict(zip(measures.FULL, measure, strict=True))
    expected = dict(zip(measures.FULL, measured(felt), strict=False))
    for key in ("square", "largest", "least", "most"):
        np.testing.assert_allclose(mine[key], expected[key], rtol=rtol)


def check_measures(reading: Reading, found: Both) -> None:
    """Check every measure of a reading, step by step and branch by branch; those of arguments apart."""
    steps_of = {site.path: tuple(length for _, length in site.axes) for site in reading.sites}
    for mine, arrays in ((reading.values, found.theirs[2]), (reading.errors, found.theirs[3])):
        for path, outputs in mine.items():
            if path[0] == -1:
                continue
            for measure, array in zip(outputs, arrays[path], strict=True):
                if measure is not None:
                    assert measure.shape == (*steps_of[path], len(measures.FULL))
                    for step in np.ndindex(*steps_of[path]):
                        _check(np.asarray(measure[step])[:-1], array[step], found.taken[path][step], path)


def _check(measure: np.ndarray, array: np.ndarray, ran: bool, path: tuple[int, ...]) -> None:
    """A branch that did not run has measured nothing; an error that did not come back, which is zero, neither."""
    if not ran or (measure[0] == 0 and not np.any(array)):
        np.testing.assert_array_equal(measure, 0, err_msg=str(path))
    else:
        np.testing.assert_allclose(measure, measured(array), rtol=1e-9, atol=1e-15, err_msg=str(path))
