"""All sources by name, and `load`, which also takes a path; the digits that come with scikit-learn."""

import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from jaxprop.data.arrow_file import ENDINGS, parquet, read_arrow
from jaxprop.data.csv_file import csv, read_csv
from jaxprop.data.idx import mnist
from jaxprop.data.npz_file import npz
from jaxprop.data.problems import ball, line, moons, spirals, square, xor
from jaxprop.data.rows import Data, as_data, choose
from jaxprop.data.stored import is_stored, stored_data
from jaxprop.data.tabular import Cells
from jaxprop.errors import DataError


def digits(validation: float = 0.2, seed: int | None = 0) -> Data:
    """Return 1797 handwritten digits of 8 × 8 pixels: x `[N, 64]` from 0 to 16, labels `[N]`.

    Source: `sklearn.datasets.load_digits` (UCI, Alpaydin and Kaynak 1998).

    Args:
        validation: how many rows are held out, as a fraction below 1 or a number of rows.
        seed: what chooses them; None for the last rows.

    Raises:
        DataError: scikit-learn is not installed; it is in the `data` extra.

    >>> digits()
    Data(digits (scikit-learn, 1797 rows): x [1438, 64], targets [1438], 359 for validation)
    """
    found = importlib.util.find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise DataError('digits come with scikit-learn, which is not installed: pip install ".[data]"')
    file = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if file.is_file():  # the file itself: importing scikit-learn takes over a second, most of it for SciPy
        table = np.loadtxt(file, delimiter=",")
    else:
        from sklearn.datasets import load_digits

        x, labels = cast("tuple[np.ndarray, np.ndarray]", load_digits(return_X_y=True))
        table = np.column_stack([x, labels])
    columns = tuple(f"pixel_{row}_{column}" for row in range(8) for column in range(8))
    names = {"classes": tuple("0123456789"), "columns": columns, "target": "digit"}
    labels = table[:, -1].astype(int)
    return as_data(table[:, :-1], labels, validation, seed, "digits (scikit-learn, 1797 rows)", **names)


SOURCES: dict[str, Callable[..., Data]] = {
    source.__name__: source for source in (digits, mnist, csv, parquet, npz, line, square, xor, moons, spirals, ball)
}


def load(name: str | Path, **options: Any) -> Data:
    """Return the data of one of `SOURCES` by name, or of a file (.csv, .parquet, .npz, ...) or IDX folder by path.

    Rows stay in their files where these are ArrayRecord or .npy, several (a folder, or a pattern such as "rows/*.csv"),
    or an .npz file of 256 MB or more that is not compressed: see `stored`.

    Args:
        name: the name of a source, or a path.
        options: the source's own, such as `validation` and `seed`.

    Raises:
        DataError: the name or an option is not known, or one is missing.

    >>> load("xor", rows=8)
    Data(xor (noise 0.1, 8 rows, seed 0): x [6, 2], targets [6], 2 for validation)
    """
    source, sources = str(name), SOURCES
    given: dict[str, Any] = {}
    if source not in SOURCES and is_stored(name):
        source, given, sources = "stored", {"path": name}, {"stored": stored_data}
    elif source not in SOURCES:
        kinds = {".csv": ("csv", "path"), ".tsv": ("csv", "path"), ".npz": ("npz", "path")}
        kinds |= dict.fromkeys(ENDINGS, ("parquet", "path"))
        if Path(name).suffix.lower() not in kinds and not Path(name).is_dir():
            choose(
                source,
                SOURCES,
                "data",
                "; or a path that ends in .csv, .tsv, .parquet or .npz, or a folder of IDX files; or rows that stay in "
                "their files: .npy, .array_record, a folder of these, or a pattern such as rows/*.csv",
            )
        source, first = kinds.get(Path(name).suffix.lower(), ("mnist", "folder"))
        given[first] = name
    accepted = inspect.signature(sources[source]).parameters
    for option in options:
        choose(option, [n for n in accepted if n not in given], f"option of {source}:")
    given |= options
    for option, parameter in accepted.items():
        if parameter.default is parameter.empty and option not in given:
            raise DataError(f"{source} needs {option}=..., as in load({source!r}, {option}='...')")
    return sources[source](**given)


def read_table(path: str | Path) -> Cells:
    """Return the cells of a table's file (.csv, .tsv, .parquet, .arrow, .feather) by column.

    >>> read_table("absent.csv")
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: absent.csv: cannot be read (No such file or directory); expected a file: check the path
    """
    return read_arrow(path) if Path(path).suffix.lower() in ENDINGS else read_csv(path)


def is_table_file(path: str | Path) -> bool:
    """Return whether a path names a file of a table.

    >>> is_table_file("houses.CSV"), is_table_file("images.npz")
    (True, False)
    """
    return Path(path).suffix.lower() in (".csv", ".tsv", *ENDINGS)
