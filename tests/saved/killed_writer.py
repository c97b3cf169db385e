"""Save the models in the folders given in turn to one folder, without end and without JAX; made to be killed.

    python tests/saved/killed_writer.py TARGET MODEL MODEL...

Importing `jaxprop` imports JAX, which takes longer than the whole save: here the package stands without its front
door, so that jaxprop.saved.folder, the very code that `jaxprop.save` commits with, is imported alone.
"""

import itertools
import sys
import types
from pathlib import Path


def commit_alone():
    """`saved.folder.commit`, imported without the rest. Only in a process of its own: its `jaxprop` is a husk."""
    package = types.ModuleType("jaxprop")
    package.__path__ = [str(Path(__file__).parents[2] / "jaxprop")]
    sys.modules["jaxprop"] = package
    from jaxprop.saved.folder import commit

    assert not {"jax", "numpy"} & sys.modules.keys()
    return commit


def main(target, *models):
    """The first save is over when a line is printed."""
    commit = commit_alone()
    found = []
    for model in map(Path, models):
        files = sorted(model.iterdir(), key=lambda file: file.name == "model.json")  # which comes last
        found.append({file.name: file.read_bytes() for file in files})
    for n, files in enumerate(itertools.cycle(found)):
        commit(Path(target), files)
        if n == 0:
            print("saving", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
