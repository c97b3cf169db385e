"""`grpc.health.v1`: whether the server, or one model, takes requests; asked once or watched.

A watcher is told at once and then at each change. What it watches is looked up a few times a second, rather than
announced by whatever changes it: so a status is always what a call would meet.
"""

import asyncio
from collections.abc import AsyncIterator, Callable

from jaxprop_serve.errors import ServeError
from jaxprop_serve.models.lifecycle import Models

SERVING, NOT_SERVING, SERVICE_UNKNOWN = 1, 2, 3
EVERY_S = 0.1


class Health:
    """Says how the server (`service` is "") or the model of that name is."""

    def __init__(self, models: Models):
        self._models = models

    def check(self, service: str) -> int:
        """Return SERVING or NOT_SERVING. Raises ServeError 404 for an unknown model."""
        if not service:
            return SERVING if self._models.ready() else NOT_SERVING
        try:
            with self._models.pin(service):
                return SERVING
        except ServeError as error:
            if error.status != 503:
                raise
            return NOT_SERVING

    async def watch(self, service: str, draining: Callable[[], bool]) -> AsyncIterator[int]:
        """Yield the status and each other one that follows; NOT_SERVING is the last, once the server drains.

        A model may be unknown now and loaded later, so to watch an unknown one is no error: it is SERVICE_UNKNOWN.
        """
        last = None
        while not draining():
            try:
                status = self.check(service)
            except ServeError:
                status = SERVICE_UNKNOWN
            if status != last:
                yield status
                last = status
            await asyncio.sleep(EVERY_S)
        if last != NOT_SERVING:
            yield NOT_SERVING
