"""`report`: what is reported on, and the file that it becomes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from jaxprop.costs import Cost
from jaxprop.errors import JaxpropError
from jaxprop.layers.layer import Layer
from jaxprop.network.call import Network, require
from jaxprop.network.freeze import freeze_statistics
from jaxprop.saved.folder import write_whole
from jaxprop.train import FitResult
from jaxprop.train.rows import Rows
from jaxprop.train.sources import Source, read_data


@dataclass(frozen=True)
class Subject:
    """What is reported on: a network with its θ, the history of its training, and rows to ask it about.

    numbers: where each of the rows stands in its source, `[N]`.    facts: what else is said of the run, by name.

    >>> import numpy as np
    >>> from jaxprop import HalfSquaredError, Linear
    >>> Subject(Linear(1), HalfSquaredError(), (), Rows(np.ones((1, 1)), np.ones((1, 1))), ()).title
    'Training report'
    """

    net: Network
    cost: Cost
    params: PyTree
    rows: Rows
    history: Sequence[Mapping[str, Any]]
    title: str = "Training report"
    of_rows: str = "the rows given"
    facts: Mapping[str, Any] = field(default_factory=dict)
    classes: Sequence[str] | None = None
    columns: Sequence[str] | None = None
    numbers: Sequence[int] | None = None
    result: FitResult | None = None  # for what its monitor recorded


def report(
    net: Network,
    cost: Cost,
    result: FitResult,
    rows: Any,
    path: str | Path,
    *,
    title: str = "Training report",
    settings: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Path:
    """Write what a training run was and what came of it as one HTML file, and return its path.

    It holds the settings, the curves, how large errors and gradients are at every layer, which classes are taken for
    which (for numbers, answers against targets), and the examples of the largest cost C_n. It needs the extra `plot`.

    Args:
        net: what was trained.
        cost: C_n that it was trained with.
        result: what `fit` gave; with a monitor, what that recorded is drawn too.
        rows: the rows to ask it about, best those held out: (x, targets), or with weights and mask. Those that lie
            in files are read into memory.
        path: where the file is to be.
        title: the first line.
        settings: what else is to be said of the run, by name.
        classes: the names of the labels, in their order.
        columns: the names of x's columns.

    Raises:
        DataError: rows cannot be used.
        JaxpropError: the file cannot be written, or matplotlib is not there.

    >>> import tempfile, numpy as np, optax
    >>> from jaxprop import HalfSquaredError, Linear, fit
    >>> x, cost = np.linspace(-1, 1, 8, dtype=np.float32)[:, None], HalfSquaredError()
    >>> result = fit(Linear(1), cost, optax.sgd(0.1), (x, 2 * x), epochs=5, progress=False)
    >>> path = report(Linear(1), cost, result, (x, 2 * x), Path(tempfile.mkdtemp()) / "report.html")
    >>> "<script" in path.read_text(), "Gradient health" in path.read_text()
    (False, True)
    """
    require(net, cost, "report")
    if not isinstance(result, FitResult):
        raise JaxpropError(f"report: result must be what jp.fit gave, found a {type(result).__name__}")
    rows = read_data(rows, "rows")
    rows = rows.read(np.arange(rows.rows)) if isinstance(rows, Source) else rows
    if not isinstance(rows, Rows):
        raise JaxpropError("report: rows is a stream, whose rows have no numbers: give arrays, or rows by number")
    if columns is not None and isinstance(rows.x, np.ndarray) and len(columns) != rows.x[0].size:
        raise JaxpropError(f"report: found {len(columns)} names of columns, expected {rows.x[0].size}")
    device = jax.devices()[0]
    facts = {
        "stopped": f"{result.stopped}, the parameters are those of epoch {int(result.row.get('epoch', 0))}",
        "steps": f"{result.steps:,} in {result.seconds:.1f} s",
        "best epoch": result.best.epoch or "the start",
        "computed with": f"jax {jax.__version__} on {device.device_kind}",
    }
    subject = Subject(
        net, cost, result.params, rows, result.history, title,
        facts={**(settings or {}), **facts}, classes=classes, columns=columns, result=result,
    )  # fmt: skip
    return write(subject, path)


def write(subject: Subject, path: str | Path) -> Path:
    """Write the report on a subject; see `report`. A file that was there stays until the new one is whole.

    >>> import numpy as np
    >>> from jaxprop import HalfSquaredError, Linear
    >>> net, x = Linear(1), np.ones((4, 1), np.float32)
    >>> subject = Subject(net, HalfSquaredError(), net.init(jax.random.key(0), x), Rows(x, x), [])
    >>> write(subject, "/nowhere/report.html")
    Traceback (most recent call last):
        ...
    jaxprop.errors.JaxpropError: report /nowhere/report.html: there is no folder /nowhere; make it first
    """
    from jaxprop.reports.page import page

    path = Path(path)
    if not path.parent.is_dir():
        raise JaxpropError(f"report {path}: there is no folder {path.parent}; make it first")
    net, params = subject.net, subject.params
    if isinstance(net, Layer) and net.mixes_examples:  # an answer must not depend on the other rows
        net, params = freeze_statistics(net, jax.tree.map(lambda a: a[:4096], subject.rows.x), params)
    text = page(subject, net, params)
    try:
        write_whole(path, text.encode())
    except OSError as error:
        raise JaxpropError(f"report {path}: cannot be written: {error.strerror}; choose another file") from None
    return path
