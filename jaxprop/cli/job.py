"""`--distributed`: a command that runs as several processes at once, of which the first speaks and writes."""

import contextlib
import os
from collections.abc import Iterator

from jaxprop.cli.commands.train import Plan
from jaxprop.train import distributed
from jaxprop.train.devices import failed


@contextlib.contextmanager
def joined(plan: Plan) -> Iterator[None]:
    """Join the job that a plan is part of, if it is; what ends this process by an error then ends all of them."""
    if not plan.distributed:
        yield
        return
    with _without_gloo():
        try:
            distributed(plan.coordinator, plan.processes, plan.process)
            yield
        except Exception as error:
            failed(error)
            raise
        except KeyboardInterrupt as error:
            failed(error)
            raise


@contextlib.contextmanager
def _without_gloo() -> Iterator[None]:
    """Keep gloo, which says on stdout whom it is connected with, from what a reader of the result gets."""
    try:
        stdout = os.dup(1)
    except OSError:  # closed, as with >&-
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
        os.close(nowhere)
