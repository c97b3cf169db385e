"""Columns: cells as people write them become the numbers they mean, and what training did not see is said."""

import dataclasses
import datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, strategies as st

from jaxprop.columns import Boolean, Category, Date, Number, Table
from jaxprop.columns.cells import decimal_mark, number
from jaxprop.columns.frames import columns_of
from jaxprop.errors import DataError


def english(value):
    return f"{value:,}"


def german(value):
    return f"{value:,}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize("write", [english, german])
@given(values=st.lists(st.decimals(-(10**9), 10**9, places=2), min_size=1, max_size=5))
def test_numbers_are_what_was_written(write, values):
    """Two decimals in every cell, so that thousands are never mistaken for decimals."""
    cells = [write(value) for value in values]
    mark = decimal_mark(cells)
    assert [number(cell, mark) for cell in cells] == [float(value) for value in values]


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1,234", "950"], [1234, 950]),
        (["$1,234.50", "$ 3"], [1234.5, 3]),
        (["1.234,5 €", "0,5 €"], [1234.5, 0.5]),
        (["1 234", "1\u00a0234,5"], [1234, 1234.5]),
        (["1'234.5"], [1234.5]),
        (["45 %", "0.5%"], [45, 0.5]),
        (["1,5", "1,234"], [1.5, 1.234]),
        (["0,123", "-0,456"], [0.123, -0.456]),
        (["1.234.567"], [1234567]),
        (["\u22123", "+4", "1e3"], [-3, 4, 1000]),
    ],
)
def test_a_column_writes_numbers_in_one_way(cells, values):
    column = Number.of("a", cells)
    assert column is not None and column.encode(cells)[:, 0].tolist() == values


@pytest.mark.parametrize("cells", [["1_000"], ["1,23,4"], ["12 34"], ["1-2"], ["x"], ["0x10"], ["3 m"]])
def test_what_is_no_number(cells):
    assert Number.of("a", cells) is None


def test_missing_numbers_are_the_median_and_said_so():
    column = Number.of("a", ["1", "", "3", "NA", None, "8", float("nan")])
    assert column is not None and column.features == ("a", "a missing") and column.scaled == (True, False)
    assert column.encode(["", "2"]).tolist() == [[3, 1], [2, 0]]
    whole = Number.of("a", ["1", "3", "8"])
    assert whole is not None and whole.features == ("a",) and whole.encode(["?"]).tolist() == [[3]]


def test_large_numbers_keep_their_differences():
    cells = [str(1_700_000_000 + second) for second in range(100)]
    column = Number.of("t", cells)
    assert column is not None and len(np.unique(column.encode(cells).astype(np.float32))) == 100
    column = Number.of("t", [*cells, ""])
    assert column is not None and len(np.unique(column.encode(cells)[:, 0].astype(np.float32))) == 100
    small = Number.of("t", ["1", "2"])
    assert small is not None and small.offset == 0
    many = Number.of("t", np.random.default_rng(0).uniform(size=20_000).tolist())  # some are equal in float32
    assert many is not None and many.offset == 0


@pytest.mark.parametrize(
    ("cells", "format_"),
    [
        (["2020-01-31", "2021-12-01"], "ISO"),
        (["2020-01-31 12:00", "2021-12-01T00:00:00"], "ISO"),
        (["31.01.2020", "01.12.2021"], "%d.%m.%Y"),
        (["31/01/2020", "01/12/2021"], "%d/%m/%Y"),
        (["01/31/2020", "12/01/2021"], "%m/%d/%Y"),
        (["31 Jan 2020", "1 Dec 2021"], "%d %b %Y"),
        ([datetime.date(2020, 1, 31), datetime.datetime(2021, 12, 1)], "ISO"),
        ([np.datetime64("2020-01-31"), np.datetime64("2021-12-01")], "ISO"),
    ],
)
def test_dates(cells, format_):
    column = Date.of("sold", cells)
    assert column is not None and column.format == format_
    days, month, weekday = np.floor(column.encode(cells)).T.tolist()
    assert days == [0, 670] and month == [1, 12] and weekday == [4, 2]  # a Friday, a Wednesday


def test_booleans_and_categories():
    assert Boolean("a").encode(["TRUE", "no", np.True_, False, "1"]).ravel().tolist() == [1, 0, 1, 0, 1]
    column = Category.of("port", ["S", "C", "", "S"])
    assert column.features == ("port=C", "port=S", "port missing")
    assert column.encode(["S", None, "Q"]).tolist() == [[0, 1, 0], [0, 0, 1], [0, 0, 0]]
    assert column.unknown(["S", "Q", "", "Q"]) == ("Q",)


def test_a_table_chooses_by_what_is_there():
    rows = {
        "id": [f"p{i}" for i in range(9)], "age": [str(i) for i in range(9)], "sex": list("mfmfmfmfm"),
        "left": ["yes", "no", "yes"] * 3, "day": [f"2020-01-0{i + 1}" for i in range(9)], "country": ["CH"] * 9,
        "empty": [""] * 9,
    }  # fmt: skip
    table, notes = Table.of(rows)
    assert [type(column).__name__ for column in table.columns] == ["Number", "Category", "Boolean", "Date"]
    assert [note.split(":")[0] for note in notes] == [f"column {n!r} is left out" for n in ("id", "country", "empty")]
    assert table.encode(rows).shape == (9, len(table.features)) == (9, len(table.scaled)) == (9, 7)
    asked, _ = Table.of({"id": rows["id"]}, chosen=True)
    assert len(asked.features) == 9


def test_one_typing_error_is_no_category():
    with pytest.raises(DataError, match="row 2, column 'a': found 'x', expected a number as in most rows"):
        Table.of({"a": ["1", "2", "x", "4"]})
    with pytest.raises(DataError, match="row 3, column 'a': found 'x', expected a number as in most rows"):
        Table.of({"a": ["1,5", "2,5", "3,25", "x"]})
    with pytest.raises(DataError, match=r"row 1, column 'a': found '1\.5', expected a number as in most rows"):
        Table.of({"a": ["1,5", "1.5", "2,5"]})


@pytest.mark.parametrize(
    ("column", "cell", "says"),
    [
        (Number("a"), "x", "row 0, column 'a': found 'x', expected a number; correct it"),
        (Number("a"), "1,5", "writes decimals with a point"),
        (Number("a", decimal=","), "1.5", "writes decimals with a comma"),
        (Number("a"), "0,123", "writes decimals with a point"),
        (Number("a", decimal=","), "0.123", "writes decimals with a comma"),
        (Number("a"), "1e39", "expected a finite float32"),
        (Number("a"), "", "found an empty cell, expected a value"),
        (Boolean("a"), "maybe", "expected True or False"),
        (Date("a"), "soon", "expected a date such as 2020-12-31"),
        (Date("a", format="%d.%m.%Y"), "2020-12-31", "expected a date such as 31.12.2020"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(column, cell, says):
    with pytest.raises(DataError, match=says):
        column.encode([cell])


def test_frames_of_all_kinds_are_the_same_rows():
    pandas, polars, pyarrow = (pytest.importorskip(name) for name in ("pandas", "polars", "pyarrow"))
    columns = {"age": [22.0, None, 35.0], "sex": ["m", "f", None], "day": [datetime.date(2020, 1, 1)] * 3}
    table, _ = Table.of(columns)
    x = table.encode(columns)
    frame = pandas.DataFrame(columns).astype({"sex": "category", "day": "datetime64[ns]"})
    for rows in (frame, polars.DataFrame(columns), pyarrow.table(columns)):
        np.testing.assert_array_equal(table.encode(rows), x)


@pytest.mark.parametrize(
    "cells",
    [
        np.array(["2020-01-01", "2020-02-01"], "datetime64[ns]"),
        np.array(["2020-01-01", "2020-02-01"], "datetime64[D]"),
        [np.datetime64("2020-01-01"), np.datetime64("2020-02-01")],
        [np.datetime64("2020-01-01", "ns"), np.datetime64("2020-02-01", "ns")],
    ],
)
def test_numpy_dates_are_dates(cells):
    table, _ = Table.of({"a": cells})
    assert table.encode({"a": cells}).tolist() == [[0, 1, 2], [31, 2, 5]]


def test_what_is_no_number_of_numpy_is_missing():
    table, _ = Table.of({"a": [np.float32(1), np.float32("nan"), Decimal(3), Decimal("nan")]})
    assert table.encode({"a": [np.float32("nan"), 5]}).tolist() == [[2, 1], [5, 0]]


def test_columns_that_a_frame_numbers():
    assert Table((Number("0"), Number("1"))).encode({0: [1, 2], 1: [3, 4], 2: ["x", "y"]}).tolist() == [[1, 3], [2, 4]]


def test_cells_missing_where_training_had_none_are_counted():
    table, _ = Table.of({"a": ["1", "2"], "b": ["x", ""], "c": ["u", "v"]}, chosen=True)
    assert table.filled({"a": ["", "NA", "3"], "b": ["", "x", "x"], "c": ["u", None, "w"]}) == {"a": 2, "c": 1}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ({"a": 5}, r"column 'a' is 5; expected a list of cells; one row is \[\{'a': 5\}\]"),
        ({"a": "123"}, "column 'a' is '123'; expected a list of cells"),
        ([{"a": 1}, {"b": 2}], "row 1 has no column 'a'"),
        ({"b": [1]}, "rows have no column 'a'; expected the columns a"),
        ({"a": [1], "c": [1, 2]}, None),
        (3, "expected a dict of columns"),
    ],
)
def test_rows_without_a_column(rows, says):
    if says is None:
        assert columns_of(rows, ["a"]) == {"a": [1]}
    else:
        with pytest.raises(DataError, match=says):
            columns_of(rows, ["a"])


def test_a_description_is_plain_data():
    table, _ = Table.of({"a": ["1", ""], "b": ["x", "x"], "c": ["2020-01-01", ""], "d": ["yes", "no"]}, chosen=True)
    assert hash(table) == hash(Table(table.columns))
    assert all(column["kind"] for column in dataclasses.asdict(table)["columns"])
