"""Where a run is written down while it goes on: `fit(..., log=)`.

rows.py           CSV and JSON lines, a line an epoch        tensorboard.py    what TensorBoard reads
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from jaxprop.errors import JaxpropError
from jaxprop.train.logs.rows import Csv as Csv, JsonLines as JsonLines
from jaxprop.train.logs.tensorboard import TensorBoard as TensorBoard
from jaxprop.train.watching import Start

KINDS: dict[str, Callable[[Path], Start]] = {".csv": Csv, ".jsonl": JsonLines, "": TensorBoard}


def read_log(given: Any) -> list[Start]:
    """Return what starts each log that was asked for: by a path, or as a function that starts a watcher.

    A path that ends in .csv is a table, in .jsonl JSON lines, and one without an ending a folder for TensorBoard.
    Raises JaxpropError for another, before anything is written.

    >>> read_log(["runs/a.csv", "runs/board"])
    [Csv(path=PosixPath('runs/a.csv')), TensorBoard(path=PosixPath('runs/board'))]
    """
    several = given if isinstance(given, Sequence) and not isinstance(given, str) else [given]
    return [_one(each) for each in several if each is not None]


def _one(given: Any) -> Start:
    if callable(given):
        return cast(Start, given)
    if not isinstance(given, str | Path) or given == "":
        raise JaxpropError(
            f"fit: log must be a path such as 'run.csv', 'run.jsonl' or a folder for TensorBoard, found {given!r}"
        )
    path = Path(given)
    kind = TensorBoard if path.is_dir() else KINDS.get(path.suffix.lower())
    if kind is None:
        raise JaxpropError(f"fit: log {str(given)!r} must end in .csv or .jsonl, or name a folder for TensorBoard")
    return kind(path)
