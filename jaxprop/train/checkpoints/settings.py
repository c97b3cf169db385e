"""Where and how often a run is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxprop.checks import check_whole
from jaxprop.errors import JaxpropError

SECONDS = 60.0  # Young 1974: √(2 δ M), for a checkpoint of δ = 0.05 s and a machine that fails every M = 10 hours


@dataclass(frozen=True)
class Checkpoints:
    """Say where `fit(..., checkpoints=)` keeps a run and how often; a path alone means the defaults.

    Each checkpoint is whole in itself: the last parameters and the best, the optimizer's state, the place in the rows
    and the history.

    Args:
        path: the folder, which is made if it is not there. In several processes all must see the same one.
        every_seconds: how much work a `kill -9` may cost, in seconds: a checkpoint is begun between two steps when the
            last one was begun so long ago. It is also begun after an epoch, if that has cost no more than a hundredth
            of the time.
        keep: how many of the latest are kept, at least 2: if the latest is damaged, the one before serves.

    Raises:
        JaxpropError: a setting is not of its kind.

    The optimal time between two checkpoints is √(2 δ M), with δ the seconds that one takes and M those between two
    failures: J. W. Young, A first order approximation to the optimum checkpoint interval, 1974.

    >>> Checkpoints("runs/mine", every_seconds=600).path.as_posix()
    'runs/mine'
    """

    path: Path
    every_seconds: float = SECONDS
    keep: int = 2

    def __init__(self, path: str | Path, every_seconds: float = SECONDS, keep: int = 2) -> None:
        if not isinstance(path, str | Path) or not str(path):
            raise JaxpropError(f"Checkpoints: path must be that of a folder, found {path!r}")
        if isinstance(every_seconds, bool) or not isinstance(every_seconds, int | float) or not every_seconds >= 0:
            raise JaxpropError(f"Checkpoints: every_seconds must be a number ≥ 0, found {every_seconds!r}")
        check_whole(keep, "Checkpoints: keep", least=2)
        for name, value in {"path": Path(path), "every_seconds": float(every_seconds), "keep": keep}.items():
            object.__setattr__(self, name, value)


def read_settings(given: Any, resume: Any) -> Checkpoints | None:
    """Return where a run is kept, None for nowhere.

    >>> read_settings("here", False).keep, read_settings(None, False)
    (2, None)
    """
    if not isinstance(resume, bool):
        raise JaxpropError(f"fit: resume must be True or False, found {resume!r}")
    if given is None and resume:
        raise JaxpropError("fit: found resume=True and no checkpoints: say checkpoints=, the folder that keeps the run")
    if given is None or isinstance(given, Checkpoints):
        return given
    if not isinstance(given, str | Path):
        raise JaxpropError(
            f"fit: checkpoints must be the path of a folder or jp.train.Checkpoints(path, ...), found {given!r}"
        )
    return Checkpoints(given)
