"""CSV files: what is read is what was written; every refusal says what, where and what to do."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as hnp

from jaxprop import data
from tests.data.asked import FLOWERS, few, refused


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


@pytest.mark.parametrize("header", ['"Size, cm";"Weight, kg";kind', '"Size\n(cm)";"Weight\n(kg)";kind'])
def test_csv_separators_inside_quotes(write, header):
    rows = data.csv(write(header + "\n1;2;a\n3;4;b\n5;6;a\n"), "kind", validation=0)
    assert rows.x.tolist() == [[1, 2], [3, 4], [5, 6]] and rows.classes == ("a", "b")


def test_labels_of_a_frame_are_those_of_a_file():
    """A frame of pandas makes whole numbers 1.0 where others of the column are missing."""
    found = data.frame({"a": [1, 2, 3, 4], "b": [0.0, 1.0, float("nan"), 2.0]}, "b", validation=0, labels=True)
    assert found.classes == ("0", "1", "2") and found.targets.tolist() == [0, 1, 2]
    assert found.notes == ("1 of 4 rows are left out: their b is missing",)


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
        ("a,b\n1,2\n2,3\n4,3\nx,3\n5,6\n", ["line 5, column 'a': found 'x', expected a number as in most", "leave it"]),
        ("a,b\n1,2\n3,4x\n", ["line 3, column 'b': found '4x', expected a number", "labels=True"]),
        ("a,b\n1,2\n3,4\n5,4\n1_0,3\n", ["line 5, column 'a': found '1_0', expected a number"]),
        ("a,b\n1,cat\n2,\n", ["found one row"]),
        ("a,b\n1,\n\n3,NaN\n", ["the target column 'b' is empty in every row"]),
        ("a,b\n,2\n,3\n", ["no column is left to predict from: column 'a' is left out: all of its cells are empty"]),
        ("a,b\n1,0\n3,1\n", ["target column 'b' holds only 0 and 1", "labels=True", "labels=False"]),
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
        ({"columns": ["kind"]}, ["line 2, column 'kind': found 'rose', expected a number; correct it"]),
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
        ("a,b\n1,2\n,3\n", ["line 3, column 'a': found an empty cell, expected a value; fill it in or remove"]),
        ("a,b\n1,2\n2,\n", ["line 3, column 'b': found an empty cell"]),
        ("a,b\n1,2\n-inf,3\n", ["line 3, column 'a': found '-inf', expected a finite float32"]),
        ("a,b\n1,2\n3,1e39\n", ["line 3, column 'b': found '1e39', expected a finite float32"]),
    ],
)
def test_csv_rows_refuses_what_no_network_can_read(write, text, parts):
    with refused("rows.csv", *parts):
        data.csv_rows(write(text), ["a"], "b")
