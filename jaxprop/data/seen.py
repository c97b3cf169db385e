"""Which rows a model has seen: what is kept of them, and the same rows again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np

from jaxprop.data.rows import Data
from jaxprop.data.sources import load
from jaxprop.errors import DataError
from jaxprop.train.sources.files import ArrayElsewhere


class Seen(TypedDict):
    """What is kept of the rows that a model was trained on."""

    rows: int
    sha256: str


def seen(data: Data) -> Seen:
    """Return what tells these rows from others: how many, and a digest of all of them as they were split.

    >>> from jaxprop.data import xor
    >>> seen(xor())["rows"], seen(xor()) == seen(xor()), seen(xor()) == seen(xor(noise=0.2))
    (200, True, False)
    """
    digest = hashlib.sha256()
    parts = [(data.x, data.targets), *([] if data.validation is None else [data.validation])]
    for array in (array for part in parts for array in part):
        if isinstance(array, ArrayElsewhere):
            digest.update(json.dumps(array.digest()).encode())
            continue
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data.cast("B"))  # its bytes, not a copy of them
    total = data.total if data.total is not None else sum(len(x) for x, _ in parts)
    return {"rows": total, "sha256": digest.hexdigest()}


def load_again(name: str | Path, options: Mapping[str, Any], known: Seen | None) -> Data:
    """Return the data that a model was trained on, split as it was then.

    A file that has grown at its end gives its first rows, so that no row that was trained on is called held out.

    Args:
        name: what `load` was given.
        options: its options.
        known: what `seen` said then; None asks for no comparison.

    Raises:
        DataError: the rows are not those of then.

    >>> from jaxprop.data import xor
    >>> load_again("xor", {"rows": 8}, seen(xor(rows=8)))
    Data(xor (noise 0.1, 8 rows, seed 0): x [6, 2], targets [6], 2 for validation)
    >>> load_again("xor", {"rows": 9}, seen(xor(rows=8)))
    Traceback (most recent call last):
        ...
    jaxprop.errors.DataError: xor (noise 0.1, 9 rows, seed 0): these are not the 8 rows that the model was trained on, \
so nobody knows which of them it has seen; pass the rows to use as data of their own
    """
    data = load(name, **options)
    if known is None or seen(data) == known:
        return data
    if data.total is not None and data.total > known["rows"]:
        before = load(name, **{**options, "rows": known["rows"]})
        if seen(before) == known:
            return replace(before, source=f"{data.source}, the first {known['rows']}")
    raise DataError(
        f"{data.source}: these are not the {known['rows']} rows that the model was trained on, so nobody knows which "
        "of them it has seen; pass the rows to use as data of their own"
    )
