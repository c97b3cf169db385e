"""Where rows come from: real digits, IDX, CSV and npz files, and small made-up problems. All numpy, no state.

Every source returns a `Data`: x float32 `[N, ...]`; targets int32 labels `[N]` or float32 numbers `[N, O]`. What cannot
be trained on is a `DataError` here that says where, not a NaN later. Nothing is scaled (that belongs to the network,
which is saved), except MNIST's bytes: 0 to 1, as in Nielsen's book.
"""

from jaxprop.data import sources as _sources
from jaxprop.data.array_record import write_array_record as write_array_record
from jaxprop.data.arrow_file import parquet as parquet
from jaxprop.data.csv_file import csv as csv, csv_rows as csv_rows
from jaxprop.data.idx import mnist as mnist, read_idx as read_idx
from jaxprop.data.npz_file import npz as npz
from jaxprop.data.problems import (
    ball as ball,
    line as line,
    moons as moons,
    spirals as spirals,
    square as square,
    xor as xor,
)
from jaxprop.data.rows import Data as Data, check as check, split as split
from jaxprop.data.seen import load_again as load_again, seen as seen
from jaxprop.data.sources import (
    digits as digits,
    is_table_file as is_table_file,
    load as load,
    read_table as read_table,
)
from jaxprop.data.stored import stored as stored
from jaxprop.data.tabular import frame as frame, rows_to_predict as rows_to_predict

SOURCES = _sources.SOURCES
