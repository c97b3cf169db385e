"""A small model under many seeds, and what each of them must answer: y = f(x, θ), by the library itself."""

import json

import jax
import numpy as np

import jaxprop as jp
from tests.drawing import draw

X = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
NET = jp.Chain(jp.Linear(8), jp.Sigmoid(), jp.Linear(3))
_answer = jax.jit(NET)


def publish(folder, seed=0):
    """Save the model of this seed; its answers for all of X."""
    with jax.enable_x64(False), jax.numpy_dtype_promotion("standard"):
        params = draw(NET, X, seed)
        jp.save(folder, NET, params, inputs=X)
        return np.asarray(_answer(X, params))


def is_answer(body, y):
    """The protocol's answer (or its JSON): assert that it is y, within 1e-6, and return the version that it names."""
    answer = json.loads(body) if isinstance(body, bytes) else body
    (output,) = answer["outputs"]
    assert output["shape"] == list(y.shape)
    np.testing.assert_allclose(np.reshape(output["data"], y.shape), y, rtol=0, atol=1e-6)
    return answer["model_version"]
