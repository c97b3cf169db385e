"""One server for the session: a `jaxprop serve` with the settings as they are, which most tests of a process share."""

import jax
import numpy as np
import pytest

import jaxprop as jp
from tests.drawing import draw
from tests.serve.doors import W


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A small saved model; it is called `small`."""
    path, x = tmp_path_factory.mktemp("models") / "small", np.ones((1, 4), np.float32)
    with jax.enable_x64(False):
        net = jp.Chain(jp.Linear(8), jp.Sigmoid(), jp.Linear(3))
        jp.save(path, net, draw(net, x), inputs=x)
    return path


@pytest.fixture(scope="session")
def server(folder, tmp_path_factory):
    """A process that serves `small`, and `digits`, which is y = x W. Whoever changes or stops it starts another."""
    from tests.serve.process import Process

    path, x = tmp_path_factory.mktemp("models") / "digits", np.ones((1, 4), np.float32)
    with jax.enable_x64(False):
        net = jp.Linear(3)
        params = jax.tree.map(lambda leaf: W if leaf.ndim == 2 else 0 * leaf, draw(net, x))
        jp.save(path, net, params, inputs=x)
    with Process(folder, path) as server:
        yield server
