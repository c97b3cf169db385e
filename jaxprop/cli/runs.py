"""What commands share: a saved run with its rows, and how rows are chosen."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop import data as datasets
from jaxprop.arrays.dtypes import has_64_bits
from jaxprop.arrays.paths import by_path
from jaxprop.cli.plugins import plugins
from jaxprop.columns.cells import is_missing
from jaxprop.costs import Cost
from jaxprop.data import Data
from jaxprop.errors import DataError, JaxpropError, ModelError
from jaxprop.layers.layer import Layer
from jaxprop.layers.standardize import Unstandardize
from jaxprop.network import Chain
from jaxprop.saved.description import Description, plain
from jaxprop.saved.model import on_device, read


@dataclass(frozen=True)
class SavedRun:
    """A saved model and what it says of itself."""

    path: Path
    net: Layer
    params: PyTree
    about: Description

    @property
    def cost(self) -> Cost:
        """The cost it was trained with."""
        if self.about.cost is None:
            raise ModelError(f"{self.path}: names no cost; save it with jaxprop.save(..., cost=...)")
        return self.about.cost

    @property
    def training(self) -> dict[str, Any]:
        """What `jaxprop train` noted of its training; empty for a model that it did not write."""
        return dict(self.about.info.training or {})

    def rate(self, usual: float) -> float:
        """A learning rate for C in the targets' own unit: an Unstandardize at the end makes gradients std² as large."""
        last = self.net.layers[-1] if isinstance(self.net, Chain) else self.net
        return usual / float(np.max(last.std)) ** 2 if isinstance(last, Unstandardize) else usual


@dataclass(frozen=True)
class Rows:
    """Some rows: where each stands, x `[N, ...]`, targets if there are any, and the columns they came with."""

    numbers: list[int]
    x: np.ndarray
    targets: np.ndarray | None
    source: str
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


def open_run(path: Path) -> SavedRun:
    """Load a saved run, with the layers that installed packages offer in the entry-point group `jaxprop.layers`."""
    kinds = [kind for _, kind in plugins("jaxprop.layers")]
    about, params = read(path, kinds)
    if has_64_bits(*(leaf.dtype for leaf in jax.tree.leaves(params))):  # a command computes as the model was trained
        jax.config.update("jax_enable_x64", True)
    return SavedRun(path, about.net, on_device(path, about, params), about)


def rows_of(run: SavedRun, data: str | None, chosen: str, part: str = "validation", needs_targets: bool = True) -> Rows:
    """The chosen rows ("0:5", "7") of `data`, by default of what the run was trained on, and of its held-out part.

    What it was trained on is split as it was then; another file is read in its own order, by the run's columns. Where
    no targets are needed, a file in which some are missing has none.
    """
    info = run.about.info
    trained: dict[str, Any] = info.data or {}
    name, columns = data or trained.get("name"), {}
    if not name:
        raise DataError(f"{run.path}: does not say which data it was trained on; pass --data")
    if data is not None and datasets.is_table_file(data) and info.columns:
        cells, source = datasets.read_table(data), Path(data).name
        columns = cells.columns
        unknown = any(is_missing(cell) for cell in columns.get(info.target or "", ()))
        target = None if unknown and not needs_targets else info.target
        x, targets = datasets.rows_to_predict(cells, info.table or info.columns, target, info.classes)
        if info.table is not None:
            tell_unknown(info.table.unknown(cells.columns))
            for column, count in info.table.filled(cells.columns).items():
                print(f"jaxprop: column {column!r}: {count} missing, and training had none; filled in", file=sys.stderr)
    elif name == trained.get("name"):
        again = datasets.load_again(name, trained.get("options", {}), trained.get("seen"))
        x, targets, source = part_of(again, part)
    else:
        x, targets, source = rows_elsewhere(name, part, info.classes)
    inputs = run.about.one_input
    if x.shape[1:] != inputs.shape[1:]:
        raise DataError(f"{source}: rows have shape {list(x.shape[1:])}, {run.path} expects {list(inputs.shape[1:])}")
    numbers = slice_rows(chosen, len(x))
    picked = np.asarray(numbers)
    kept = {column: [values[number] for number in numbers] for column, values in columns.items()}
    return Rows(numbers, x[picked].astype(inputs.dtype), None if targets is None else targets[picked], source, kept)


def rows_elsewhere(name: str, part: str, classes: Sequence[str] | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Rows of a source, or all of an npz file in its own order, with labels as the model's classes count them."""
    file = Path(name).suffix.lower() == ".npz"
    found = datasets.load(name, **({"validation": 0} if file else {}))
    x, targets, source = part_of(found, part)
    if file and found.validation is None:
        source = found.source
    if not classes or not found.classes or tuple(classes) == tuple(found.classes):
        return x, targets, source
    unknown = [label for label in found.classes if label not in classes]
    if unknown:
        raise DataError(f"{source}: found class {unknown[0]!r}, expected those of the model: {', '.join(classes)}")
    return x, np.array([classes.index(label) for label in found.classes], np.int32)[targets], source


def tell_unknown(unknown: dict[str, tuple[str, ...]]) -> None:
    """Say on stderr which values of a category training never saw."""
    for column, values in unknown.items():
        shown = ", ".join(map(repr, values[:5])) + (" and more" if len(values) > 5 else "")
        print(f"jaxprop: column {column!r}: training never saw {shown}; such a cell says nothing", file=sys.stderr)


def part_of(data: Data, part: str) -> tuple[np.ndarray, np.ndarray, str]:
    """Return x, targets and a description of the rows held out (part "validation"), or of the training rows."""
    held_out = data.validation if part == "validation" else None
    x, targets = held_out or (data.x, data.targets)
    return x, targets, f"{data.source}, {'held-out' if held_out else 'training'} rows"


def with_targets(run: SavedRun, rows: Rows, what: str = "a gradient") -> tuple[np.ndarray, np.ndarray]:
    """Return x and the targets as the run's cost wants them; raise DataError for rows that have none."""
    if rows.targets is None:
        target = run.about.info.target
        found = f"column {target!r} is empty" if target in rows.columns else f"has no column {target!r}"
        raise DataError(f"{rows.source}: {found}; {what} needs targets")
    return rows.x, targets_for(run.cost, rows.targets, run.about.outputs.shape[-1])


def parameter_path(run: SavedRun, asked: str) -> str:
    """`asked`, if it names a parameter; where its layer has none (a Standardize, say), the next layer's, said so."""
    known = list(by_path(run.params))
    place, _, name = asked.rpartition(".")
    if asked in known or not place.isdigit() or not isinstance(run.net, Chain) or int(place) >= len(run.net.layers):
        return asked  # unknown paths are named by whoever looks them up
    later = [path for path in known if path.partition(".")[2] == name and int(path.partition(".")[0]) > int(place)]
    if not later:
        return asked
    print(
        f"jaxprop: layer {place}, {run.net.layers[int(place)]!r}, has no {name}: {later[0]} is taken", file=sys.stderr
    )
    return later[0]


def targets_for(cost: Cost, targets: np.ndarray, outputs: int) -> np.ndarray:
    """Integer labels as the cost wants them: as they are, or one-hot rows."""
    if targets.ndim == 1 and np.issubdtype(targets.dtype, np.integer) and not cost.takes_labels:
        if outputs == 1:  # one logit says which of two classes
            return targets[:, None].astype(np.float32)
        return np.eye(outputs, dtype=np.float32)[targets]
    return targets


def slice_rows(text: str, rows: int) -> list[int]:
    """Row numbers of '3', '0:5', ':5', '0:20:2' or '1,4,7'.

    >>> slice_rows("0:3", 10), slice_rows("7", 10), slice_rows("-2:", 10)
    ([0, 1, 2], [7], [8, 9])
    """
    try:
        if ":" in text:
            numbers = list(range(rows))[slice(*(int(part) if part else None for part in text.split(":")))]
        else:
            numbers = [range(rows)[int(part)] for part in text.split(",")]
    except (ValueError, TypeError):
        raise JaxpropError(f"rows: found {text!r}, expected something like 0:5, 7 or 1,4,7") from None
    except IndexError:
        raise JaxpropError(f"rows: found {text!r}, but there are {rows} rows (0 to {rows - 1})") from None
    if not numbers:
        raise JaxpropError(f"rows: {text!r} chooses none of the {rows} rows (0 to {rows - 1})")
    return numbers


def print_json(value: object) -> None:
    """Plain data on stdout, as strict JSON (NaN and infinity as null)."""
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False))
