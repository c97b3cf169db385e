"""npz files: what is read is what was written; every refusal says what, where and what to do."""

import contextlib
import zipfile

import numpy as np
import pytest
from hypothesis import example, given, strategies as st

from jaxprop import data
from jaxprop.errors import DataError
from tests.data.asked import few, refused

X, Y = np.arange(8.0).reshape(4, 2), np.array([3, 5, 3, 9])


@pytest.mark.parametrize("name", ["targets", "y"])
def test_npz_labels(save, name):
    rows = data.npz(save(x=X, **{name: Y}), validation=0)
    assert rows.x.dtype == np.float32 and rows.targets.dtype == np.int32
    assert rows.targets.tolist() == [0, 1, 0, 2] and rows.classes == ("3", "5", "9")
    assert rows.x.tolist() == X.tolist() and rows.source == "rows.npz (4 rows)"


def test_npz_text_labels_and_numbers(save):
    assert data.npz(save(x=X, y=np.array(["b", "a", "b", "a"])), validation=0).classes == ("a", "b")
    numbers = data.npz(save(x=X[:, 0], y=X[:, 1]), validation=0)
    assert numbers.x.shape == numbers.targets.shape == (4, 1) and numbers.classes is None
    assert numbers.targets.dtype == np.float32


def test_npz_split_and_stored_validation(save):
    rows = data.npz(save(x=X, y=Y % 2 + X[:, 0]), validation=1)
    assert rows.validation is not None and len(rows.validation[0]) == 1 and len(rows.x) == 3
    stored = data.npz(save(x=X, y=Y, x_validation=X[:1] + 9, y_validation=np.array([11])))
    assert stored.validation is not None and stored.x.tolist() == X.tolist()
    assert stored.validation[0].tolist() == [[9, 10]] and stored.validation[1].tolist() == [3]
    assert stored.classes == ("3", "5", "9", "11") and stored.targets.tolist() == [0, 1, 0, 2]


def test_npz_ignores_other_arrays(save):
    assert len(data.npz(save(x=X, y=Y, notes=np.array([{}, None])), validation=0).x) == 4


@pytest.mark.parametrize(
    ("arrays", "parts"),
    [
        ({"X": X, "y": Y}, ["found the arrays X, y; expected x and targets", "np.savez(path, x=x, targets=targets)"]),
        ({}, ["found the arrays (none); expected x and targets"]),
        ({"x": X, "y": Y, "x_validation": X}, ["found the arrays x, y, x_validation; expected", "both or neither"]),
        ({"x": X, "y": Y, "targets": Y}, ["cannot be read ('targets' is there already: y is another name"]),
        ({"x": X, "y": Y[:3]}, ["4 rows of x, but 3 of targets; expected as many"]),
        (
            {"x": X, "y": Y, "x_validation": X, "y_validation": Y[:3]},
            ["4 rows of x_validation, but 3 of targets_validation"],
        ),
        (
            {"x": X, "y": Y, "x_validation": X[:, :1], "y_validation": Y},
            ["x is float64 [4, 2], x_validation float64 [4, 1]; expected the same kind of rows"],
        ),
        (
            {"x": X, "y": Y, "x_validation": X, "y_validation": X[:, 0]},
            ["targets is int64 [4], targets_validation float64 [4]"],
        ),
        (
            {"x": np.array([[1], [None]]), "y": Y[:2]},
            ["array 'x' cannot be read (Python objects", "pickle", "save num"],
        ),
        ({"x": X, "y": np.array(["a", None, "b", "a"])}, ["array 'y' cannot be read (Python objects"]),
        ({"x": X + 1j, "y": Y}, ["rows.npz: x is of dtype complex128; expected real numbers"]),
        ({"x": X, "y": X[:, 0] * np.nan}, ["rows.npz: targets row 0 is nan"]),
        ({"x": X, "y": np.array("a")}, ["rows.npz: targets is of dtype <U1"]),
        ({"x": np.array(1.0), "y": Y}, ["rows.npz: x is empty, of shape []"]),
        ({"x": X[:0], "y": Y[:0]}, ["rows.npz: x is empty, of shape [0, 2]"]),
        ({"x": np.where(X == 5, np.nan, X), "y": Y}, ["rows.npz: x row 2, column 1 is nan"]),
        (
            {"x": X, "y": Y, "x_validation": np.full((1, 2), np.inf), "y_validation": Y[:1]},
            ["rows.npz: x_validation row 0, column 0 is inf"],
        ),
        ({"x": X * 1e300, "y": Y}, ["x row 0, column 1 is 1e+300; float32 ends"]),
        ({"x": X, "y": Y * 0 + 4}, ["targets holds a single class, 4; expected two or more"]),
        ({"x": X[:1], "y": Y[:1]}, ["found one row"]),
    ],
)
def test_npz_refuses(save, arrays, parts):
    path = save(**arrays)
    with refused(*parts):
        data.npz(path)


def test_npz_refuses_broken_files(save, tmp_path):
    whole = save(x=X, y=Y).read_bytes()
    path = tmp_path / "broken.npz"
    for raw in (b"", whole[: len(whole) // 2], b"x,y\n1,2\n"):
        path.write_bytes(raw)
        with refused("broken.npz: not a whole npz file (File is not a zip file); save it again with np.savez"):
            data.npz(path)
    path.write_bytes(whole.replace(X.tobytes(), (X + 1).tobytes()))
    with refused("broken.npz: array 'x' cannot be read (Bad CRC-32", "save it again"):
        data.npz(path)
    with refused("absent.npz: cannot be read (No such file"):
        data.npz(tmp_path / "absent.npz")


def test_npz_refuses_foreign_members(tmp_path):
    path = tmp_path / "foreign.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", b"no array")
    with refused("foreign.npz: array 'x' cannot be read", "save it again"):
        data.npz(path)


@few
@given(at=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), compressed=st.booleans())
@example(at=0.1, byte=255, compressed=True)
def test_npz_with_a_wrong_byte_loads_or_is_refused(tmp_path_factory, at, byte, compressed):
    path = tmp_path_factory.mktemp("npz") / "rows.npz"
    (np.savez_compressed if compressed else np.savez)(path, x=X, targets=Y)
    raw = bytearray(path.read_bytes())
    raw[int(at * len(raw))] = byte
    path.write_bytes(raw)
    with contextlib.suppress(DataError):
        assert data.npz(path, validation=0).x.tolist() == X.tolist()
