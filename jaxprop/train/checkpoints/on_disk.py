"""A run kept in a folder by Orbax, in the background, as training goes."""

import errno
import os
import shutil
import time
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from jaxprop.errors import JaxpropError
from jaxprop.saved.folder import check_writable
from jaxprop.train.checkpoints import arrays as orbax, folder
from jaxprop.train.checkpoints.contents import contents, put, targets
from jaxprop.train.checkpoints.identity import Identity, check_same, identity
from jaxprop.train.checkpoints.keeper import Keeper
from jaxprop.train.checkpoints.settings import Checkpoints
from jaxprop.train.together import any_process, of_first_process

if TYPE_CHECKING:
    from jaxprop.train.run import Run

SHARE = 0.01  # of the time, for checkpoints after epochs
LONGEST = 300  # of what is told of an error
NONE, DAMAGED = -1, -2  # in place of a checkpoint's number
ENDS = ("finished", "early", "callback", "interrupted")  # after which what there is, is kept


class KeeperOnDisk(Keeper):
    """Keep a run in a folder, so that it goes on bit for bit: see `Checkpoints`."""

    def __init__(self, settings: Checkpoints, resume: bool) -> None:
        self.settings, self.resume, self.path = settings, resume, settings.path.absolute()
        self.background = ThreadPoolExecutor(1, "jaxprop-checkpoints")
        self.writing: Future[float] | None = None
        self.begun, self.cost = time.monotonic(), 0.0  # when the latest one was begun, and how long one takes
        self.number, self.saved = 0, None
        self.damaged: dict[int, str] = {}
        self.of: Identity = {}

    def restore(self, run: "Run") -> str:
        """Put a run where the kept one was, if there is one; raise JaxpropError if it may not go on."""
        check_writable(self.path)
        self.orbax = self.background.submit(orbax.opened)  # slow to import, and not needed at once
        self.of = identity(run)
        self.number = of_first_process(lambda: max(folder.numbers(self.path), default=-1) + 1)
        number = of_first_process(self._latest)
        if number == DAMAGED:
            raise JaxpropError(
                f"fit: {self.settings.path} keeps a run that cannot be read: {'; '.join(self.damaged.values())}. Put "
                "back what was there, or remove the folder to begin anew"
            )
        if number == NONE:
            return f"{self.settings.path} keeps no run yet: training begins anew" if self.resume else ""
        about = folder.read(self.path / folder.name_of(number), check=False)
        if not self.resume:
            raise JaxpropError(
                f"fit: {self.settings.path} keeps a run, of {about['epochs']} epochs and {about['steps']:,} steps: say "
                "resume=True to go on with it, or give another folder"
            )
        for said in self.damaged.values():
            warnings.warn(f"fit: {self.settings.path}: {said}; going on from the one before", stacklevel=3)
        check_same(about["identity"], self.of, self.settings.path)
        put(run, self._arrays(number, targets(run, about["arrays"])), about)
        self.saved = self._mark(run)
        steps = f" and {run.place} of the {run.batches.steps} steps of the next" if run.place else ""
        return f"{self.settings.path} keeps a run: it goes on after epoch {run.epochs}{steps}"

    def after_steps(self, run: "Run") -> None:
        """Begin a checkpoint if the latest one was begun long enough ago."""
        if any_process(time.monotonic() - self.begun >= self.settings.every_seconds):
            self.save(run)

    def after_epoch(self, run: "Run") -> None:
        """Begin a checkpoint if it takes a small share of the time."""
        enough = min(self.settings.every_seconds, self.cost / SHARE)
        if any_process(time.monotonic() - self.begun >= enough):
            self.save(run)

    def close(self, run: "Run", whole: bool = True) -> None:
        """Keep what there is at last, and wait until it is written."""
        if whole:
            self._wait()
            if run.stopped in ENDS and self._mark(run) != self.saved:
                self.save(run)
                self._wait()
            orbax.close(self.orbax.result())
        self.background.shutdown(wait=whole)

    def save(self, run: "Run") -> None:
        """Begin to write a checkpoint, unless one is still being written."""
        if any_process(self.writing is not None and not self.writing.done()):
            return
        self._wait()
        self.begun = time.monotonic()
        arrays, about = contents(run)
        table = {path: [str(array.dtype), list(array.shape)] for path, array in arrays.items()}
        about |= {"identity": self.of, "arrays": table, "jax": jax.__version__}
        checkpoint, self.saved = self.path / folder.name_of(self.number), self._mark(run)
        self.number += 1
        try:
            if any_process(not self._room(arrays)):  # better not begun: a full disk is full for others too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            orbax.begin(self.orbax.result(), checkpoint, arrays)
        except Exception as error:
            self._failed(checkpoint, error)
        else:
            self.writing = self.background.submit(self._finish, checkpoint, about)

    def _arrays(self, number: int, wanted: dict[str, Any]) -> dict[str, Any]:
        """The arrays of a checkpoint that is whole."""
        checkpoint = self.path / folder.name_of(number)
        try:
            return orbax.restored(self.orbax.result(), checkpoint, wanted)
        except Exception as error:
            raise JaxpropError(f"fit: {checkpoint} cannot be read: {_reason(error)}") from error

    def _finish(self, checkpoint: Path, about: dict[str, Any]) -> float:
        """Wait for Orbax, then seal the checkpoint and remove older ones; return when it was done."""
        orbax.wait(self.orbax.result())
        if jax.process_index() == 0:
            folder.seal(checkpoint, about)
            folder.clear(self.path, self.settings.keep, set(self.damaged))
        return time.monotonic()

    def _room(self, arrays: dict[str, Any]) -> bool:
        """Whether the disk has room for arrays, as far as that is known."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            return shutil.disk_usage(self.path).free >= sum(array.nbytes for array in arrays.values())
        except OSError:
            return True  # writing will tell

    def _wait(self) -> None:
        """Wait until nothing is being written."""
        if self.writing is not None:
            try:
                self.cost = self.writing.result() - self.begun
            except Exception as error:
                self._failed(self.path / folder.name_of(self.number - 1), error)
            self.writing = None

    def _failed(self, checkpoint: Path, error: Exception) -> None:
        """Say that a checkpoint could not be written; training goes on, and what it has learnt is not lost."""
        self.saved, self.writing = None, None
        if jax.process_index() == 0:
            for left in self.path.glob(f"{checkpoint.name}*"):  # a full disk has no room for half of one
                shutil.rmtree(left, ignore_errors=True)
        warnings.warn(
            f"fit: a checkpoint could not be written to {self.settings.path}: {_reason(error)}. Training goes on, "
            "and the next one is tried in its turn: make room, or see that the folder can be written to",
            stacklevel=4,
        )

    def _latest(self) -> int:
        """The latest checkpoint that is whole, NONE or DAMAGED, found by the first process for all."""
        for number in folder.numbers(self.path):
            checkpoint = self.path / folder.name_of(number)
            if not checkpoint.is_dir():  # it was still being written, under another name
                continue
            try:
                folder.read(checkpoint)
            except JaxpropError as error:
                self.damaged[number] = f"{checkpoint.name}: {error}"
            else:
                return number
        lost = any((self.path / folder.name_of(number) / folder.SEAL).exists() for number in self.damaged)
        return DAMAGED if lost else NONE

    def _mark(self, run: "Run") -> Any:
        """Where a run is; only that `on_epoch` ended it must be known besides."""
        return run.epochs, run.steps, run.place, run.stopped == "callback"


def _reason(error: Exception) -> str:
    """Why, in a line."""
    return str(getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__)[:LONGEST]
