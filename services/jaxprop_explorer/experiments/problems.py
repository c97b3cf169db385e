"""What a network on the page learns: the article's functions, points in a plane, digits, and a table of one's own.

Rows are the library's (`jaxprop.data`), read and scaled as `jaxprop train` does. One input makes a curve, two make a
plane; of more, only the network itself is drawn.
"""

import hashlib
import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from jaxprop import data as datasets
from jaxprop.cli.build import input_scale, is_table
from jaxprop.costs import Cost, Hinge
from jaxprop.data import Data
from jaxprop.data.rows import as_data, random_numbers, read_bytes
from jaxprop.errors import DataError, pick
from jaxprop.layers import Standardize, Unstandardize

Function = Callable[[np.ndarray], np.ndarray]

OWN, GIVEN = "own", "given"
LARGEST_TABLE = 4 * 2**20  # bytes of text
MOST_ROWS, MOST_COLUMNS = 20_000, 1_000
TABLES_KEPT = 16
MARGIN = 0.1  # of the width of the rows, on each side of a drawing


class Usual(NamedTuple):
    """What a problem is learned with where nothing is said."""

    layers: tuple[int, ...] = (8,)
    activation: str = "tanh"
    output_activation: str | None = None
    cost: str | None = None
    optimizer: str = "sgd"
    learning_rate: float = 0.1
    batch_size: int = 10
    bias: bool = True


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows x `[N, ...]` and targets as the cost wants them, the names of the inputs, and the classes, if any.

    held_out: the rows to validate with.    bounds: from where to where each input is drawn.    function: what a curve
    should become, for one input.    middle: the answer between two classes that one output tells apart.
    answers: what the outputs are called.
    """

    x: np.ndarray
    targets: np.ndarray
    names: tuple[str, ...]
    classes: tuple[str, ...] = ()
    held_out: tuple[np.ndarray, np.ndarray] | None = None
    label: str = ""
    bounds: tuple[tuple[float, float], ...] = ()
    function: Function | None = None
    middle: float = 0.5
    answers: tuple[str, ...] = ()

    @property
    def inputs(self) -> int:
        """How many numbers an example has."""
        return int(np.prod(self.x.shape[1:]))


@dataclass(frozen=True, eq=False)
class Source:
    """Where rows come from, the usual way to learn them, and how they are scaled.

    function: what a curve should become, for one input.    standardize: the layer that scales x first, if any.
    scale: what the targets are standardised by, if at all.    first: θ of the article's own networks, by path.
    """

    name: str
    label: str
    data: Data
    usual: Usual = Usual()
    function: Function | None = None
    standardize: Standardize | None = None
    scale: Unstandardize | None = None
    first: Mapping[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> int:
        """How many numbers an example has."""
        return int(np.prod(self.data.x.shape[1:]))

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes, None for numbers."""
        return self.data.classes

    @property
    def columns(self) -> tuple[str, ...]:
        """What the inputs are called."""
        return tuple(self.data.columns or [f"x{i + 1}" for i in range(self.inputs)])

    def outputs(self, cost: Cost) -> int:
        """How many outputs a network needs: one says which of two classes, unless the cost compares all of them."""
        if self.classes is None:
            return int(np.prod(self.data.targets.shape[1:])) * cost.outputs_per_target
        return 1 if len(self.classes) == 2 and cost.outputs != "class logits" else len(self.classes)

    def targets(self, cost: Cost, targets: np.ndarray) -> np.ndarray:
        """Targets as a cost wants them: labels as they are, as 0 and 1 (for a hinge −1 and 1), or as one-hot rows."""
        if self.classes is None:
            return targets if self.scale is None else self._scaled(targets)
        if self.outputs(cost) == 1:
            column = targets[:, None].astype(np.float32)
            return 2 * column - 1 if isinstance(cost, Hinge) else column
        return targets if cost.takes_labels else np.eye(len(self.classes), dtype=np.float32)[targets]

    def _scaled(self, targets: np.ndarray) -> np.ndarray:
        assert self.scale is not None
        return ((targets - self.scale.mean) / self.scale.std).astype(targets.dtype)

    def problem(self, cost: Cost) -> Problem:
        """Return the rows as a cost wants them."""
        data, held = self.data, self.data.validation
        every = data.x if held is None else np.concatenate([data.x, held[0]])
        return Problem(
            data.x,
            self.targets(cost, data.targets),
            self.columns,
            self.classes or (),
            None if held is None else (held[0], self.targets(cost, held[1])),
            self.label,
            _bounds(every),
            self.function,
            0.0 if isinstance(cost, Hinge) else 0.5,
            self._answers(cost),
        )

    def _answers(self, cost: Cost) -> tuple[str, ...]:
        outputs = self.outputs(cost)
        if self.classes is not None and outputs == len(self.classes):
            return self.classes
        name = self.data.target or "y"
        return (name,) if outputs == 1 else tuple(f"{name} {i + 1}" for i in range(outputs))


def _bounds(x: np.ndarray) -> tuple[tuple[float, float], ...]:
    """What the rows cover, and a margin."""
    x = x.reshape(len(x), -1)
    low, high = x.min(axis=0), x.max(axis=0)
    width = np.where(high > low, high - low, np.maximum(1, 2 * np.abs(high)))
    return tuple((float(a), float(b)) for a, b in zip(low - MARGIN * width, high + MARGIN * width, strict=True))


FUNCTIONS: dict[str, tuple[str, Function, Usual]] = {
    "line": ("f(x) = x", lambda x: x, Usual(layers=(), batch_size=1, bias=False)),
    "double": ("f(x) = 2x", lambda x: 2 * x, Usual(layers=(), batch_size=1, bias=False)),
    "shifted": ("f(x) = x + 1", lambda x: x + 1, Usual(layers=(), batch_size=1)),
    "square": ("f(x) = x²", np.square, Usual()),
    "nested": ("f(x) = 3(x² + 1)", lambda x: 3 * (x**2 + 1), Usual(learning_rate=0.03)),
}

NAMES = {
    "chain": "Two weights: f = w₁ · w₂ · x",
    "neuron": "One neuron: inputs 1, 3, 2",
    "paths": "Two hidden units, two outputs",
    **{name: label for name, (label, _, _) in FUNCTIONS.items()},
    "xor": "Exclusive or",
    "moons": "Two moons",
    "spirals": "Two spirals",
    "circles": "Disc and ring",
    "ball": "A thrown ball: v̄ = Δx / Δt",
    "digits": "Handwritten digits",
    OWN: "A table of your own (CSV)",
}

NOISE = {"xor": 0.1, "moons": 0.1, "spirals": 0.05, "circles": 0.05, "ball": 0.05}
"""The usual noise of the problems that have some."""

_USUAL = {
    "xor": Usual(layers=(4,)),
    "moons": Usual(),
    "spirals": Usual(layers=(16, 16), optimizer="adam", learning_rate=0.01),
    "circles": Usual(layers=(4,)),
    "ball": Usual(),
    "digits": Usual(layers=(32,), learning_rate=0.3),
    OWN: Usual(),
}


def source(name: str, noise: float | None = None, validation: float = 0.2, table: "Table | None" = None) -> Source:
    """Return what is to be learned by its name.

    Args:
        name: one of `NAMES`.
        noise: how far points lie from where they belong, by default as `NOISE` says; only for the problems there.
        validation: the share of the rows that is held out.
        table: for "own", the rows.

    Raises:
        DataError: the name is not known, a number is out of range, or a table is needed.

    >>> source("double").data
    Data(double (200 rows, seed 0): x [160, 1], targets [160, 1], 40 for validation)
    """
    pick(name, (*NAMES, *offered()), "data")
    if name == GIVEN:
        return _from_file(FILES[0], validation)
    if name == OWN:
        if table is None:
            raise DataError("No table is here: drop a CSV file on the page, with a first line of column names.")
        return table.source(validation)
    return _made(name, NOISE.get(name, 0.0) if noise is None else float(noise), float(validation))


@lru_cache(32)
def _made(name: str, noise: float, validation: float) -> Source:
    if name in _ARTICLE:
        return _ARTICLE[name]()
    if name in FUNCTIONS:
        return _function(name, validation)
    options = {"validation": validation} | ({"noise": noise} if name in NOISE else {})
    data = circles(noise, validation) if name == "circles" else datasets.load(name, **options)
    scale = Unstandardize.of(data.targets) if is_table(name) and not data.classes else None
    return Source(name, NAMES[name], data, _USUAL[name], standardize=_input_scale(name, data), scale=scale)


def _input_scale(name: str, data: Data) -> Standardize | None:
    """As `jaxprop train` scales rows: columns of tables, all pixels of digits alike; points are of order 1 already."""
    return None if name == "spirals" else input_scale(name, data, None)


def _function(name: str, validation: float, rows: int = 200) -> Source:
    """One of the article's functions, x uniform on [−1, 1]."""
    label, function, usual = FUNCTIONS[name]
    x = random_numbers(0).uniform(-1, 1, (rows, 1))
    source = f"{name} ({rows} rows, seed 0)"
    data = as_data(x, function(x), validation, 0, source, columns=("x",), target="y")
    return Source(name, label, data, usual, function)


def circles(noise: float = NOISE["circles"], validation: float = 0.2, rows: int = 200) -> Data:
    """Draw a disc of radius 0.5 (label 0) and the ring around it from 0.7 to 1 (label 1): points `[N, 2]`."""
    numbers = random_numbers(0)
    label = np.arange(rows) % 2
    radius, angle = np.sqrt(numbers.uniform(0, 1, rows)), numbers.uniform(0, 2 * np.pi, rows)
    radius = np.where(label == 0, 0.5 * radius, 0.7 + 0.3 * radius)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    x = x + random_numbers(0, "noise").normal(0, noise, x.shape)
    names = {"classes": ("0", "1"), "columns": ("x1", "x2"), "target": "class"}
    return as_data(x, label, validation, 0, f"circles (noise {noise}, {rows} rows, seed 0)", **names)


def _chain() -> Source:
    """The article's f = w₁ · w₂ · x at x = 1, where y should be 2."""
    data = Data(_row(1), _row(2), columns=("x",), target="y", source="chain (one row)")
    usual = Usual((1,), "identity", None, "half_squared_error", batch_size=1, bias=False)
    return Source("chain", NAMES["chain"], data, usual, first={"0.W": [[0.4]], "2.W": [[0.3]]})


def _neuron() -> Source:
    """The article's labelled neuron: inputs 1, 3, 2 and a sigmoid."""
    data = Data(_row(1, 3, 2), _row(1), columns=("n1", "n2", "n3"), target="y", source="neuron (one row)")
    usual = Usual((), "sigmoid", "sigmoid", "half_squared_error", learning_rate=0.5, batch_size=1)
    first = {"0.W": [[0.5], [-0.25], [0.75]], "0.b": [0.1]}
    return Source("neuron", NAMES["neuron"], data, usual, first=first)


def _paths() -> Source:
    """The neuron and one beside it, and two linear outputs: a hidden unit reaches the cost along two paths."""
    data = Data(_row(1, 3, 2), _row(1, 0), columns=("n1", "n2", "n3"), target="y", source="paths (one row)")
    usual = Usual((2,), "sigmoid", None, "half_squared_error", batch_size=1)
    first = {"0.W": [[0.5, -0.5], [-0.25, 0.25], [0.75, 0.25]], "0.b": [0.1, 0.0]}
    return Source("paths", NAMES["paths"], data, usual, first=first | {"2.W": [[1.0, -0.5], [0.5, 2.0]], "2.b": [0, 0]})


def _row(*numbers: float) -> np.ndarray:
    return np.array([numbers], np.float32)


_ARTICLE = {"chain": _chain, "neuron": _neuron, "paths": _paths}


@dataclass(frozen=True)
class Table:
    """A table somebody dropped on the page: its text, its file's name, and which column is to be predicted.

    target None means the last column; `labels` says whether its values are classes, None that the values decide.
    """

    text: str
    name: str = "table.csv"
    target: str | None = None
    labels: bool | None = None

    def source(self, validation: float = 0.2) -> Source:
        """Read the rows; DataError says in which line something is wrong."""
        data = _read(self, float(validation))
        scale = None if data.classes else Unstandardize.of(data.targets)
        label = f"{self.name}: {data.target} from {len(data.columns or ())} columns"
        return Source(OWN, label, data, _USUAL[OWN], standardize=input_scale("own.csv", data, True), scale=scale)

    def columns(self) -> list[str]:
        """The names in the first line."""
        return list(self._cells().columns)

    def _cells(self) -> Any:
        return _in_file(self, datasets.read_table)


@lru_cache(8)
def _read(table: Table, validation: float) -> Data:
    return _in_file(table, lambda path: _rows(path, table, validation))


def _rows(path: Path, table: Table, validation: float) -> Data:
    cells = datasets.read_table(path)
    if len(cells) > MOST_ROWS or len(cells.columns) > MOST_COLUMNS:
        raise DataError(
            f"{path}: found {len(cells):,} rows and {len(cells.columns):,} columns; the page takes up to {MOST_ROWS:,} "
            f"rows and {MOST_COLUMNS:,} columns: leave some out, or train with `jaxprop train {path.name}`"
        )
    target = list(cells.columns)[-1] if table.target is None else table.target
    labels = table.labels
    if labels is None and set(map(str, cells.columns.get(target, ()))) == {"0", "1"}:
        labels = True  # `jaxprop train` asks; here the choice stands on the page
    return datasets.csv(path, target, validation=validation, labels=labels)


def _in_file(table: Table, read: Callable[[Path], Any]) -> Any:
    """What `read` makes of the text in a file of its name; an error names that file without any folder."""
    text = table.text.encode(errors="replace")  # JSON can hold halves of characters, which no file can
    size = len(text)
    if size > LARGEST_TABLE:
        raise DataError(
            f"{table.name}: found {size / 2**20:.1f} MiB of text; the page takes up to {LARGEST_TABLE // 2**20} MiB: "
            f"leave rows out, or train with `jaxprop train {table.name}`"
        )
    name = _file_name(table.name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(text)
        try:
            return read(path)
        except DataError as error:
            raise DataError(str(error).replace(f"{folder}/", "")) from None


def _file_name(name: str) -> str:
    """Return the last part of a name as files of every system can have it: printable, short, and that of a table."""
    last = "".join(c for c in name.replace("\\", "/").rpartition("/")[2] if c.isprintable())
    stem, dot, ending = last.rpartition(".")
    if not dot or ending.lower() not in ("csv", "tsv"):
        stem, ending = last, "csv"
    return f"{stem[:50] or 'table'}.{ending}"


class Tables:
    """The tables that pages sent lately, by a short name made of their text, so that an address can hold the name.

    >>> tables = Tables()
    >>> name = tables.keep(Table("a,b\\n1,2\\n"))
    >>> tables.find(name).text == "a,b\\n1,2\\n", len(name)
    (True, 16)
    """

    def __init__(self, most: int = TABLES_KEPT) -> None:
        self.most, self._kept, self._lock = most, OrderedDict[str, Table](), Lock()

    def keep(self, table: Table) -> str:
        """Keep a table and return its name; the one not asked for longest goes when there are too many."""
        name = hashlib.sha256(f"{table.name}\0{table.text}".encode(errors="replace")).hexdigest()[:16]
        with self._lock:
            self._kept[name] = table
            self._kept.move_to_end(name)
            while len(self._kept) > self.most:
                self._kept.popitem(last=False)
        return name

    def find(self, name: str) -> Table:
        """Return the table of a name; DataError if it is gone."""
        with self._lock:
            if name not in self._kept:
                raise DataError(
                    "The table of this page is no longer here, since tables are never stored: drop the file again."
                )
            self._kept.move_to_end(name)
            return self._kept[name]


TABLES = Tables()
"""The tables that this process was sent lately."""

FILES: list[Path] = []  # what the command was started with, if anything


def offer(path: Path) -> dict[str, Any]:
    """Let pages learn the rows of a file, a folder with MNIST's, or a problem by name; return the settings for it.

    Raises:
        DataError: they cannot be read.
    """
    if str(path) in NAMES and str(path) != OWN:
        return {"data": str(path)}
    if path.suffix.lower() in (".csv", ".tsv"):
        table = Table(read_bytes(path).decode("utf-8-sig", errors="replace"), path.name)
        table.source()
        return {"data": OWN, "table": TABLES.keep(table)}
    _from_file(path, 0.2)
    FILES[:] = [path]
    return {"data": GIVEN}


def offered() -> dict[str, str]:
    """Return the name and the label of what `offer` was told, if it was."""
    return {GIVEN: FILES[0].name} if FILES else {}


@lru_cache(2)
def _from_file(path: Path, validation: float) -> Source:
    """The first rows of a file: each page holds its own copy of them."""
    data = datasets.load(path, validation=validation)
    kept = f", the first {MOST_ROWS:,} of them" if len(data.x) > MOST_ROWS else ""
    data = replace(data, x=data.x[:MOST_ROWS], targets=data.targets[:MOST_ROWS], test=None)
    scale = Unstandardize.of(data.targets) if not data.classes else None
    usual = Usual(layers=(30,), activation="sigmoid" if data.x.shape[1:] == (784,) else "tanh")
    return Source(GIVEN, path.name + kept, data, usual, standardize=input_scale(str(path), data, None), scale=scale)
