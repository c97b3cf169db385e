"""Data: what is read is what was written, the split is a partition, every refusal says what, where and what to do."""

import contextlib
import gzip
import math
import re
import struct
import sys
import zipfile
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

from jaxprop import data
from jaxprop.data.rows import random_numbers
from jaxprop.errors import DataError

few = settings(max_examples=20, deadline=None)
MADE_UP = ["line", "square", "xor", "moons", "spirals", "ball"]


@contextlib.contextmanager
def refused(*parts):
    """A DataError whose text holds every part, in this order."""
    with pytest.raises(DataError, match="(?s)" + ".*".join(re.escape(part) for part in parts)):
        yield


def same(a, b):
    return np.array_equal(a.x, b.x) and np.array_equal(a.targets, b.targets)


# --- check and split


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


# --- digits


def test_digits():
    digits, again, other = data.digits(), data.digits(), data.digits(seed=1)
    assert digits.x.shape == (1438, 64) and digits.x.dtype == np.float32 and digits.x.max() == 16
    assert digits.targets.dtype == np.int32 and set(digits.targets) == set(range(10))
    assert digits.classes == tuple("0123456789") and digits.columns is not None and len(digits.columns) == 64
    assert digits.validation is not None and len(digits.validation[0]) == 359
    assert same(digits, again) and not same(digits, other)
    assert data.digits(validation=0).targets[:5].tolist() == [0, 1, 2, 3, 4]  # the file's own order


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with refused("scikit-learn, which is not installed", 'pip install ".[data]"'):
        data.digits()


# --- IDX and MNIST

IDX_CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx_bytes(array):
    code = IDX_CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@few
@given(
    array=st.sampled_from(sorted(IDX_CODES)).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4))
    ),
    zipped=st.booleans(),
)
def test_idx_round_trip(tmp_path_factory, array, zipped):
    path = tmp_path_factory.mktemp("idx") / "array"
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    read = data.read_idx(path)
    assert read.dtype == array.dtype and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


IDX = idx_bytes(np.arange(6, dtype=np.uint8).reshape(2, 3))


@pytest.mark.parametrize(
    ("raw", "parts"),
    [
        (IDX[:-1], ["truncated: found 5 bytes of values, expected 6 for shape [2, 3]; download it again"]),
        (IDX + b"\0", ["too long: found 7 bytes of values, expected 6"]),
        (IDX[:6], ["not an IDX file: it begins with 00 00 08 02"]),
        (b"", ["not an IDX file: it begins with nothing"]),
        (b"\x89PNG\r\n", ["not an IDX file: it begins with 89 50 4e 47, expected 00 00, a dtype", "download"]),
        (b"\0\0\x0a" + IDX[3:], ["not an IDX file: it begins with 00 00 0a 02"]),
        (b"\0\0\x08\x02" + b"\xff" * 8, ["truncated: found 0 bytes of values, expected 18446744065119617025"]),
        (gzip.compress(IDX, mtime=0)[:-9], ["a corrupt gzip file", "download it again"]),
        (gzip.compress(IDX, mtime=0)[:-8] + b"\0" * 8, ["a corrupt gzip file (CRC check failed"]),
        (gzip.compress(IDX, mtime=0)[:10] + b"\xff" * 20, ["a corrupt gzip file"]),
    ],
)
def test_idx_refuses(tmp_path, raw, parts):
    path = tmp_path / "broken.idx"
    path.write_bytes(raw)
    with refused(f"{path}: ", *parts):
        data.read_idx(path)


def test_idx_missing_file(tmp_path):
    with refused("absent: cannot be read (No such file or directory)", "check the path"):
        data.read_idx(tmp_path / "absent")
    with refused(f"{tmp_path}: cannot be read"):
        data.read_idx(tmp_path)


def write_mnist(folder, train=30, test=10, form="{}-ubyte.gz", images=None, labels=None):
    """A folder of MNIST's form; row n shows a single grey value, n, and is of label n % 10."""
    for part, rows in (("train", train), ("t10k", test)):
        pixels = np.repeat(np.arange(rows, dtype=np.uint8), 28 * 28).reshape(rows, 28, 28)
        arrays = {"images-idx3": pixels, "labels-idx1": np.arange(rows, dtype=np.uint8) % 10}
        if part == "train":
            arrays |= {"images-idx3": pixels if images is None else images}
            arrays |= {"labels-idx1": arrays["labels-idx1"] if labels is None else labels}
        for kind, array in arrays.items():
            raw = idx_bytes(array)
            path = folder / form.format(f"{part}-{kind}")
            path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return folder


REAL_MNIST = Path(__file__).parents[2] / "../shared/data/mnist"  # beside a developer's checkout only


@pytest.fixture(params=["made up", "real"] if REAL_MNIST.is_dir() else ["made up"])
def mnist_folder(request, tmp_path):
    return (REAL_MNIST, 60_000) if request.param == "real" else (write_mnist(tmp_path), 30)


def test_mnist(mnist_folder):
    folder, rows = mnist_folder
    mnist = data.mnist(folder, validation=rows // 6)
    kept = rows - rows // 6
    assert mnist.validation is not None and mnist.test is not None
    parts = [(mnist.x, mnist.targets), mnist.validation, mnist.test]
    assert [len(x) for x, _ in parts] == [len(t) for _, t in parts] == [kept, rows // 6, rows // 6 if rows > 30 else 10]
    images = data.read_idx(folder / "train-images-idx3-ubyte.gz").reshape(rows, 784)
    for x, pixels in ((mnist.x, images[:kept]), (mnist.validation[0], images[kept:])):  # in the files' own order
        np.testing.assert_array_equal(x[::7], np.float32(pixels[::7]) / np.float32(255))
    assert all(x.dtype == np.float32 and t.dtype == np.int32 for x, t in parts)
    assert mnist.classes == tuple("0123456789") and str(folder) not in mnist.source
    if rows == 60_000:
        assert mnist.targets[:5].tolist() == [5, 0, 4, 1, 9] and mnist.x.max() == 1


@pytest.mark.parametrize("form", ["{}-ubyte", "{}-ubyte.gz", "dotted"])
def test_mnist_file_names(tmp_path, form):
    write_mnist(tmp_path, form="{}-ubyte" if form == "dotted" else form)
    if form == "dotted":
        for path in list(tmp_path.iterdir()):
            path.rename(tmp_path / path.name.replace("-idx", ".idx"))
    assert len(data.load(tmp_path, validation=10).x) == 20


def test_mnist_without_test_or_validation_rows(tmp_path):
    for path in write_mnist(tmp_path).glob("t10k*"):
        path.unlink()
    mnist = data.mnist(tmp_path, validation=0)
    assert mnist.test is None and mnist.validation is None and len(mnist.x) == 30


U1 = np.uint8


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"labels": np.arange(29, dtype=U1) % 10}, ["30 train images, but 29 labels; expected as many"]),
        ({"labels": np.arange(30, dtype=U1) % 11}, ["train label 10 in row 10; expected 0 to 9"]),
        ({"labels": np.zeros(30, U1)}, ["every label is 0"]),
        ({"labels": np.arange(30, dtype=np.int32)}, ["train-labels", "found int32 of shape [30], expected bytes"]),
        ({"images": np.arange(30, dtype=U1)}, ["train-images", "shape [30], expected bytes in 3", "file of images?"]),
        ({"images": np.ones((30, 8, 8), U1)}, ["train images have 64 pixels, t10k images 784"]),
        ({"train": 0, "test": 0}, ["train: x is empty"]),
        ({"train": 5}, ["validation=20 holds out 20 of 5 rows"]),
    ],
)
def test_mnist_refuses(tmp_path, given, parts):
    write_mnist(tmp_path, **given)
    with refused(*parts):
        data.mnist(tmp_path, validation=20)


def test_mnist_missing_files(tmp_path):
    with refused("train-images-idx3-ubyte(.gz) is missing", "download"):
        data.mnist(tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with refused("t10k-labels-idx1-ubyte(.gz) is missing"):
        data.mnist(tmp_path)
    with refused("not a folder; expected the folder that holds MNIST's IDX files"):
        data.mnist(tmp_path / "absent")


# --- CSV


@pytest.fixture
def write(tmp_path):
    def write(text, name="rows.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


FLOWERS = "petal, sepal ,kind\n1.5,1,rose\n4.0,2,iris\n1e0,3,rose\n-2,4,iris\n+2,5,rose\n"


def test_csv_labels(write):
    flowers = data.csv(write(FLOWERS), "kind", validation=0)
    assert flowers.x.tolist() == [[1.5, 1], [4, 2], [1, 3], [-2, 4], [2, 5]] and flowers.x.dtype == np.float32
    assert flowers.targets.tolist() == [1, 0, 1, 0, 1] and flowers.targets.dtype == np.int32
    assert (flowers.classes, flowers.columns, flowers.target) == (("iris", "rose"), ("petal", "sepal"), "kind")
    assert flowers.source == "rows.csv (5 rows)"


def test_csv_numbers(write):
    flowers = data.csv(write(FLOWERS), "sepal", features=["petal"], validation=0)
    assert flowers.targets.tolist() == [[1], [2], [3], [4], [5]] and flowers.targets.dtype == np.float32
    assert flowers.classes is None and flowers.columns == ("petal",)  # the text column is not asked for


def test_csv_numbers_as_labels(write):
    data_ = data.csv(write("a,b\n1,10\n2,9\n3,10\n4,-1\n"), "b", validation=0, labels=True)
    assert data_.classes == ("-1", "9", "10") and data_.targets.tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1,2\n3,4\n",
        "a;b\r\n1;2\r\n3;4\r\n",
        "a\tb\n1\t2\n\n3\t4",
        '"a", "b"\n"1", 2 \n3,4\n\n   \n',
        "\n\na,b\r1,2\r3,4\r",
        '"a",b\n1,"2\n"\n3,4\n',
    ],
)
def test_csv_dialects(write, text):
    rows = data.load(write(text), target="b", validation=0)
    assert rows.x.tolist() == [[1], [3]] and rows.targets.tolist() == [[2], [4]] and rows.columns == ("a",)


names = st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=2, max_size=4, unique=True)


@few
@given(names=names, values=st.data(), separator=st.sampled_from(",;\t"))
def test_csv_round_trip(tmp_path_factory, names, values, separator):
    floats = st.floats(allow_nan=False, allow_infinity=False, width=32)
    table = values.draw(hnp.arrays(np.float32, st.tuples(st.integers(2, 5), st.just(len(names))), elements=floats))
    path = tmp_path_factory.mktemp("csv") / "table.csv"
    path.write_text("\n".join(separator.join(map(str, row)) for row in [names, *table.tolist()]), encoding="utf-8")
    read = data.csv(path, names[0], validation=0)
    np.testing.assert_array_equal(np.concatenate([read.targets, read.x], 1), table)
    assert read.columns == tuple(names[1:])


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["found an empty file; expected a line of column names"]),
        ("\n \n", ["found an empty file"]),
        ("a,b\n", ["found only a header; expected", "then rows"]),
        ("a,b,a\n1,2,3\n", ["line 1: column 3 is 'a' again; expected a name of its own", "rename it"]),
        ("\n,b\n1,2\n", ["line 2: column 1 has no name"]),
        ("a,c\n1,2\n", ["'b'", "known: a, c; the first line must hold the names"]),
        ("a,d,b\n1,2\n", ["line 2: a short row: it ends before column 'b': 2 cells, expected 3; repair"]),
        ("a,b\n1,2\n1,2,3\n", ["line 3: a long row: it goes on after the last column 'b': 3 cells, expected 2"]),
        ("a,b\n1,2\nx,3\n", ["line 3, column 'a': found 'x', expected a number; correct it, or leave", "features=["]),
        ("a,b\n1,2\n3,4x\n", ["line 3, column 'b': found '4x', expected a number", "labels=True"]),
        ("a,b\n1,2\n1_0,3\n", ["line 3, column 'a': found '1_0', expected a number"]),
        ("a;b\n1;2\n1,5;3\n", ["line 3, column 'a': found '1,5', expected a number; write decimals with a point"]),
        ("a,b\n1,2\n,3\n", ["line 3, column 'a': found an empty cell, expected a value; fill it in or remove"]),
        ("a,b\n1,cat\n2,\n", ["line 3, column 'b': found an empty cell"]),
        ("a,b\n1,2\n\n3,NaN\n", ["line 4, column 'b': found 'NaN', expected a finite float32; correct it or remove"]),
        ("a,b\n-inf,2\n3,3\n", ["line 2, column 'a': found '-inf', expected a finite float32"]),
        ("a,b\n1e39,2\n3,3\n", ["line 2, column 'a': found '1e39', expected a finite float32"]),
        ("a,b\n1,cat\n2,cat\n", ["target column 'b' holds a single class, 'cat'; expected two or more: add rows"]),
        ("a,b\n1,2\n", ["found one row; expected two or more"]),
        ("a,b\n1,cat\n", ["found one row; expected two or more"]),
        ("b\n1\n2\n", ["features [], target 'b'; expected other columns"]),
        ('a,b\n1,"2\n3,4\n', ["line 3: not CSV", "check its quotes"]),
        (b"a,b\n1,\xff\n", ["not UTF-8 text (at byte 6); save it as CSV in UTF-8"]),
    ],
)
def test_csv_refuses(write, text, parts):
    path = write(text)
    with refused("rows.csv", *parts):
        data.csv(path, "b")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({}, ["rows.csv: which column is the target? pass target=..., one of: petal, sepal, kind"]),
        ({"target": "sepals"}, ["'sepals' (did you mean 'sepal'?); known: kind, petal, sepal"]),
        ({"target": "kind", "features": ["petall"]}, ["'petall' (did you mean 'petal'?)"]),
        ({"target": "kind", "features": "petal"}, ["features is the text 'petal'; expected a list", "['petal']"]),
        ({"target": "kind", "features": ["kind"]}, ["features ['kind'], target 'kind'; expected other columns"]),
        ({"target": "kind", "features": ["petal"] * 2}, ["features ['petal', 'petal']", "each once"]),
        ({"target": "kind", "labels": False}, ["line 2, column 'kind': found 'rose', expected a number"]),
        ({"target": "kind", "validation": 4}, ["holds out 4 of 5 rows"]),
    ],
)
def test_csv_refuses_options(write, options, parts):
    with refused(*parts):
        data.csv(write(FLOWERS), **options)


def test_csv_refuses_training_rows_of_one_class(write):
    with refused("rows.csv: training rows, 1 held out: every label is 0"):
        data.csv(write("a,b\n1,x\n2,x\n3,y\n"), "b", validation=1, seed=None)


def test_csv_missing_file(tmp_path):
    with refused("absent.csv: cannot be read (No such file or directory); expected a file: check the path"):
        data.load(tmp_path / "absent.csv", target="y")


# --- CSV rows to predict


def test_csv_rows_by_name_in_the_order_of_the_file(write):
    x, targets = data.csv_rows(write(FLOWERS), ["sepal", "petal"], "kind", ["rose", "lily", "iris"])
    assert x.tolist() == [[1, 1.5], [2, 4], [3, 1], [4, -2], [5, 2]] and x.dtype == np.float32
    assert targets is not None and targets.tolist() == [0, 2, 0, 2, 0] and targets.dtype == np.int32
    x, targets = data.csv_rows(write(FLOWERS), ("petal",), "sepal")
    assert x.shape == (5, 1) and targets is not None and targets.tolist() == [[1], [2], [3], [4], [5]]
    assert targets.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"target": "colour"}, {"target": "colour", "classes": ["red"]}])
def test_csv_rows_without_targets(write, options):
    x, targets = data.csv_rows(write(FLOWERS), ["petal"], **options)
    assert len(x) == 5 and targets is None  # the text column is not asked for


@pytest.mark.parametrize(("classes", "expected"), [(["cat", "dog"], [1]), (None, None)])
def test_csv_rows_of_one_row(write, classes, expected):
    x, targets = data.csv_rows(write("b,a\ndog,1\n"), ["a"], classes and "b", classes)
    assert x.tolist() == [[1]] and (None if targets is None else targets.tolist()) == expected


def test_csv_rows_are_the_rows_trained_on(write):
    path = write(FLOWERS)
    flowers = data.csv(path, "kind", validation=0)
    assert flowers.columns is not None
    x, targets = data.csv_rows(path, flowers.columns, flowers.target, flowers.classes)
    np.testing.assert_array_equal(x, flowers.x)
    np.testing.assert_array_equal(targets, flowers.targets)
    numbers = data.csv_rows(write("a,b\n1,10\n2,9\n"), ["a"], "b", ("9", "10"))[1]  # labels=True keeps the text
    assert numbers is not None and numbers.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"columns": ["petall"]}, ["column of", "rows.csv: 'petall' (did you mean 'petal'?); known: kind, petal, se"]),
        ({"columns": "petal"}, ["columns is the text 'petal'; expected a list of column names: ['petal']"]),
        ({"columns": []}, ["rows.csv: columns [], target None; expected other columns", "each once"]),
        ({"columns": ["petal"] * 2}, ["columns ['petal', 'petal']", "each once"]),
        ({"columns": ["kind"], "target": "kind"}, ["columns ['kind'], target 'kind'; expected other columns than it"]),
        ({"columns": ["kind"]}, ["line 2, column 'kind': found 'rose', expected a number", "other columns"]),
        (
            {"columns": ["petal"], "target": "kind", "classes": ["rose", "lily"]},
            ["rows.csv, line 3, column 'kind': found 'iris', expected a known class: rose, lily; correct it or remove"],
        ),
        ({"columns": ["petal"], "target": "kind", "classes": []}, ["line 2", "expected a known class: (none)"]),
        ({"columns": ["petal"], "target": "kind"}, ["line 2, column 'kind': found 'rose', expected a", "classes=["]),
    ],
)
def test_csv_rows_refuses(write, options, parts):
    with refused(*parts):
        data.csv_rows(write(FLOWERS), **options)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a,b\n", ["found only a header"]),
        ("a,b\n1,2\n,3\n", ["line 3, column 'a': found an empty cell, expected a value"]),
        ("a,b\n1,\n", ["line 2, column 'b': found an empty cell"]),
        ("a,b\n1,2\nnan,3\n", ["line 3, column 'a': found 'nan', expected a finite float32"]),
        ("a,b\n1,2\n3,1e39\n", ["line 3, column 'b': found '1e39', expected a finite float32"]),
    ],
)
def test_csv_rows_refuses_what_no_network_can_read(write, text, parts):
    with refused("rows.csv", *parts):
        data.csv_rows(write(text), ["a"], "b")


# --- npz


@pytest.fixture
def save(tmp_path):
    def save(**arrays):
        np.savez(tmp_path / "rows.npz", **arrays)
        return tmp_path / "rows.npz"

    return save


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


# --- made-up problems


@pytest.mark.parametrize("name", MADE_UP)
def test_made_up_problems(name):
    rows = data.load(name, rows=50, seed=3)
    assert rows.x.dtype == np.float32 and rows.x.shape == (40, len(rows.columns or ()))
    assert rows.validation is not None and len(rows.validation[0]) == 10
    assert rows.targets.dtype == (np.float32 if rows.classes is None else np.int32)
    assert rows.targets.shape == ((40, 1) if rows.classes is None else (40,))
    assert same(rows, data.load(name, rows=50, seed=3)) and not same(rows, data.load(name, rows=50, seed=4))
    assert rows.source.startswith(name) and "50 rows, seed 3" in rows.source


def test_what_the_problems_are():
    line, square, ball = data.line(-3.0), data.square(), data.ball(noise=0)
    np.testing.assert_allclose(line.targets, -3 * line.x, rtol=1e-6)
    np.testing.assert_allclose(square.targets, square.x**2, rtol=1e-6)
    assert line.x.min() < -0.9 and line.x.max() > 0.9 and abs(line.x).max() <= 1
    np.testing.assert_allclose(ball.targets, ball.x[:, :1] / ball.x[:, 1:], rtol=1e-6)
    assert (ball.x.min(0) >= [1, 0.5]).all() and (ball.x.max(0) <= [20, 2]).all() and ball.x[:, 0].max() > 19
    assert (ball.columns, ball.target) == (("Δx", "Δt"), "v̄")


def test_noise_is_relative_for_the_ball_and_absolute_for_points():
    clean, noisy = data.ball(noise=0, rows=2000), data.ball(noise=0.1, rows=2000)
    assert np.std(noisy.targets / clean.targets - 1) == pytest.approx(0.1, rel=0.1)
    assert (noisy.x == clean.x).all()
    for made in (data.xor, data.moons, data.spirals):
        clean, noisy = made(noise=0, rows=2000), made(noise=0.1, rows=2000)
        assert np.std(noisy.x - clean.x) == pytest.approx(0.1, rel=0.1)
    clean, noisy = data.spirals(noise=0, validation=0), data.spirals(noise=0.1, validation=0)
    from_the_bits_that_placed_the_rows = random_numbers(0).normal(0, 0.1, clean.x.shape)
    assert abs(noisy.x - clean.x - from_the_bits_that_placed_the_rows).max() > 0.1


def test_shapes_of_the_point_clouds():
    moons, spirals, xor = data.moons(noise=0), data.spirals(noise=0), data.xor(noise=0)
    lower = moons.x[moons.targets == 1]
    np.testing.assert_allclose(((lower - [1, 0.5]) ** 2).sum(1), 1, rtol=1e-5)
    assert (lower[:, 1] <= 0.5).all() and (moons.x[moons.targets == 0][:, 1] >= 0).all()
    radius = np.hypot(*spirals.x.T)
    expected = 2 * np.pi * 1.5 * radius + np.pi * spirals.targets
    turn = np.arctan2(spirals.x[:, 1], spirals.x[:, 0]) - expected
    np.testing.assert_allclose(np.cos(turn), 1, atol=1e-5)
    assert ((xor.x[:, 0] != xor.x[:, 1]) == xor.targets).all()
    assert {tuple(p) for p in xor.x.tolist()} == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("line", {"slope": math.inf}, ["slope is inf; expected a finite number"]),
        ("spirals", {"turns": "2"}, ["turns is '2'; expected a finite number"]),
        ("xor", {"noise": -0.1}, ["noise is -0.1; expected a finite number ≥ 0"]),
        ("ball", {"noise": math.nan}, ["noise is nan; expected a finite number ≥ 0"]),
        ("ball", {"noise": 1e38}, ["ball (noise 1e+38, 500 rows, seed 0): targets row", "float32 ends at"]),
        *[(name, {"rows": 1}, ["rows is 1; expected a whole number ≥ 2"]) for name in MADE_UP],
        *[(name, {"seed": -1}, ["seed is -1; expected a whole number ≥ 0"]) for name in MADE_UP],
        ("square", {"rows": True}, ["rows is True; expected a whole number ≥ 2"]),
        ("square", {"rows": 10.0}, ["rows is 10.0; expected a whole number ≥ 2"]),
    ],
)
def test_made_up_problems_refuse(name, options, parts):
    with refused(*parts):
        data.load(name, **options)


# --- load


def test_load_by_name_and_by_path(write, save, tmp_path):
    assert same(data.load("digits", seed=5), data.digits(seed=5))
    assert len(data.load(write(FLOWERS), target="kind").x) == 4
    assert len(data.load(str(write("a\tb\n1\t2\n3\t4\n", "ROWS.TSV")), target="b").x) == 2
    assert len(data.load("csv", path=write(FLOWERS), target="kind").x) == 4
    assert len(data.load(save(x=X, y=X), validation=0).x) == 4
    write_mnist(tmp_path)
    assert len(data.load("mnist", folder=tmp_path, validation=10).x) == 20


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("digit", {}, ["unknown data 'digit' (did you mean 'digits'?); known: ball, csv", ".csv, .tsv or .npz", "IDX"]),
        ("no/such/folder", {}, ["unknown data 'no/such/folder'", "or a folder of IDX files"]),
        ("digits", {"sed": 1}, ["unknown option of digits: 'sed' (did you mean 'seed'?); known: seed, validation"]),
        ("digits", {"target": "x"}, ["unknown option of digits: 'target'"]),
        ("mnist", {}, ["mnist needs folder=..., as in load('mnist', folder='...')"]),
        ("csv", {}, ["csv needs path=..."]),
        ("rows.csv", {"path": "other.csv"}, ["unknown option of csv: 'path'"]),
    ],
)
def test_load_refuses(name, options, parts):
    with refused(*parts):
        data.load(name, **options)


def test_load_csv_without_target_lists_the_columns(write):
    with refused("which column is the target? pass target=..., one of: petal, sepal, kind"):
        data.load(write(FLOWERS))


def test_data_is_numpy_frozen_and_short_to_print():
    rows = data.line()
    assert type(rows.x) is np.ndarray and len(repr(rows)) < 120
    with pytest.raises(AttributeError):
        rows.x = rows.targets  # type: ignore[misc]
