"""A real application (doors, Models, batchers) over a model in numpy: it fails on poisoned rows, and may be slow."""

import asyncio
import time
from pathlib import Path
from types import SimpleNamespace

from jaxprop_serve.http1.application import create_app
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.runtimes import Loaded
from jaxprop_serve.seen.metrics import Metrics
from jaxprop_serve.settings import Settings
from tests.serve.doors import W, signature

POISON = -999.0


class Numbers:
    """A runtime: y = x W; raises where a row holds POISON, and notes how many rows each call had."""

    name = "numbers"

    def __init__(self, seconds=0.0):
        self.seconds, self.rows = seconds, []

    def accepts(self, path):
        return True

    def load(self, path):
        return Loaded(signature(), lambda rows: self._execute)

    def _execute(self, inputs):
        x = inputs["x"]
        self.rows.append(len(x))
        if self.seconds:
            time.sleep(self.seconds)
        if (x == POISON).any():
            raise FloatingPointError("poisoned")
        return {"y": (x[:, :, None] * W).sum(1)}  # the same bits in any batch


def serving_numbers(test, seconds=0.0, **changed):
    """Run test(app, runtime) in a loop of its own; the metrics are app.metrics."""

    async def main():
        store = SimpleNamespace(
            names=lambda: ["digits"],
            versions=lambda name: ["1"] if name == "digits" else [],
            path=lambda *_: Path("nowhere"),  # what is in a model's folder is hashed: not that of the tests
        )
        runtime, settings = Numbers(seconds), Settings(**({"max_batch": 16} | changed))
        models = Models(store, [runtime], settings)
        await models.start()
        runtime.rows.clear()
        try:
            return await test(create_app(models, settings, Metrics(models, 0)), runtime)
        finally:
            await models.stop()

    return asyncio.run(asyncio.wait_for(main(), 300))


def queue_rows(text):
    """The queue gauge in the text of /metrics."""
    lines = [line for line in text.splitlines() if line.startswith("jaxprop_queue_rows{")]
    assert lines, text
    return sum(float(line.rpartition(" ")[2]) for line in lines)
