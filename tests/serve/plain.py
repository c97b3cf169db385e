"""Models without a door and without JAX: a runtime of folders with a number in them, and what tests ask of it."""

import asyncio
import os

import numpy as np

from jaxprop_serve.models import runtimes
from jaxprop_serve.models.lifecycle import Models
from jaxprop_serve.models.stores import FolderStore
from jaxprop_serve.protocol.tensors import Signature, TensorSpec
from jaxprop_serve.settings import Settings


def serving(test, *places, kinds=(runtimes.saved, runtimes.exported), started=True, **changed):
    """`await test(models)` with the models at these places."""

    async def main():
        models = Models(FolderStore(map(str, places)), kinds, Settings(**({"max_batch": 4} | changed)))
        if started:
            await models.start()
        try:
            return await test(models)
        finally:
            await models.stop()

    return asyncio.run(asyncio.wait_for(main(), 60))


async def ask(models, name, x, version=None):
    """(version, y)"""
    with models.pin(name, version) as served:
        answer = await served.infer({"x": x})
        return served.version, answer["y"]


def states(models):
    """{(name, version): state}"""
    return {(e["name"], e["version"]): e["state"] for e in models.index()}


class Plain:
    """Loads a folder with a number in it: y is x times the number. `at_load` is called after it has been read."""

    name = "plain"

    def __init__(self, at_load=lambda path: None):
        self.at_load = at_load

    def accepts(self, path):
        return (path / "number").is_file()

    def load(self, path):
        number = float((path / "number").read_text())
        self.at_load(path)
        signature = Signature((TensorSpec("x", "FP64", (-1, 1)),), (TensorSpec("y", "FP64", (-1, 1)),), "plain")
        return runtimes.Loaded(signature, lambda rows: lambda inputs: {"y": inputs["x"] * number})


def put(folder, number):
    """Publish a folder for it, at one instant."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".number").write_text(str(number))
    os.replace(folder / ".number", folder / "number")


async def number_of(models, name, version=None):
    return (await ask(models, name, np.ones((1, 1)), version))[1].item()
