"""A plugin: a runtime whose forward takes as long as the file `seconds` beside the model says, and costs no CPU."""

import dataclasses
import os
import time
from pathlib import Path

from jaxprop_serve.models.runtimes import saved

ROOT = Path(__file__).parents[2]


class Slow:
    name = "slow"

    def accepts(self, folder):
        return (folder / "seconds").is_file()

    def load(self, folder):
        loaded = saved.load(folder)

        def compile(rows):
            execute = loaded.compile(rows)

            def slowly(inputs):
                (folder / "computing").touch()
                time.sleep(float((folder / "seconds").read_text()))
                (folder / "computing").unlink(missing_ok=True)
                return execute(inputs)

            return slowly

        return dataclasses.replace(loaded, compile=compile)


runtime = Slow()


def computes(folder):
    """Whether a forward of the model in this folder runs."""
    return (folder / "computing").exists()


def takes(folder, seconds):
    """From now on a forward of the model in this folder takes so long."""
    (folder / ".seconds").write_text(str(seconds))
    os.replace(folder / ".seconds", folder / "seconds")


def installed(place):
    """The environment of a `jaxprop serve` that finds this runtime as an installed plugin."""
    about = place / "slow_runtime-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow-runtime\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[jaxprop.runtimes]\nslow = tests.serve.slow:runtime\n")
    return {"PYTHONPATH": f"{place}{os.pathsep}{ROOT}", "JAXPROP_RUNTIMES": "slow"}
