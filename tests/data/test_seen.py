"""Which rows a model has seen: a file that grew gives the split of then, and any other change is an error."""

import numpy as np
import pytest

from jaxprop import data
from jaxprop.errors import DataError


def text(rows):
    return "a,b\n" + "".join(f"{i},{i * i}\n" for i in range(rows))


def test_a_file_that_grew_gives_the_rows_of_then(write):
    path = write(text(20))
    then = data.load(path, target="b")
    known = data.seen(then)
    assert known["rows"] == 20
    path = write(text(23))
    again = data.load_again(path, {"target": "b"}, known)
    np.testing.assert_array_equal(again.x, then.x)
    assert again.validation is not None and then.validation is not None
    np.testing.assert_array_equal(again.validation[0], then.validation[0])
    assert again.source == "rows.csv (23 rows), the first 20"


@pytest.mark.parametrize("changed", [text(19), text(20).replace("7,49", "7,50"), text(25).replace("7,49", "7,50")])
def test_a_file_that_is_another_is_an_error(write, changed):
    path = write(text(20))
    known = data.seen(data.load(path, target="b"))
    path = write(changed)
    with pytest.raises(DataError, match="these are not the 20 rows that the model was trained on"):
        data.load_again(path, {"target": "b"}, known)


@pytest.mark.parametrize("dtype", [np.int64, np.float64])
def test_numbers_that_float32_makes_equal_are_warned_of(tmp_path, dtype):
    x = np.stack([np.arange(40), 2**40 + np.arange(40)], 1).astype(dtype)
    np.savez(tmp_path / "ids.npz", x=x, y=np.arange(40) % 2)
    with pytest.warns(
        UserWarning, match="40 different numbers of x, column 1, are 1 in float32: subtract 1099511627776"
    ):
        data.load(tmp_path / "ids.npz")
