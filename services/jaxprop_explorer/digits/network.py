"""The digit network that the explorer ships, and what it makes of a picture: answers, activations, errors."""

import json
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxprop.backward import manual
from jaxprop.costs import SoftmaxCrossEntropy
from jaxprop.layers import Conv, Layer, Linear, ReLU
from jaxprop.network import leaves
from jaxprop.saved.model import load

FOLDER = Path(__file__).parent / "model"
COST = SoftmaxCrossEntropy()


class Stage(NamedTuple):
    """What one layer with weights shows: its activation a and its error δ = ∂C/∂z, both `[*F, O]`."""

    path: str
    name: str
    a: np.ndarray
    delta: np.ndarray


class Reading(NamedTuple):
    """What the network makes of a picture: probabilities `[10]`, a label's cost, its stages, and ∂C/∂x `[28, 28]`."""

    probabilities: np.ndarray
    cost: float
    stages: list[Stage]
    pixels: np.ndarray


@lru_cache(1)
def network() -> tuple[Layer, PyTree]:
    """The network and its θ, read once."""
    return load(FOLDER)


@lru_cache(1)
def examples() -> list[dict[str, Any]]:
    """Drawn digits for those who do not draw: {"digit", "strokes"}, two of each digit."""
    return json.loads((FOLDER.parent / "examples.json").read_text())


@lru_cache(1)
def _tape() -> Any:
    return jax.jit(manual.trace(network()[0], COST))


def read_picture(picture: np.ndarray, label: int) -> Reading:
    """Run a picture `[28, 28]` forward, and the error of a label back to its pixels.

    >>> reading = read_picture(np.zeros((28, 28), np.float32), 3)
    >>> reading.probabilities.shape, [stage.a.shape for stage in reading.stages], reading.pixels.shape
    ((10,), [(14, 14, 8), (7, 7, 16), (64,), (10,)], (28, 28))
    """
    net, params = network()
    tape = _tape()(jnp.asarray(picture[None, :, :, None]), params, jnp.array([label]))
    stages, found = [], list(leaves(net))
    for leaf, after in zip(found, [*found[1:], None], strict=True):
        if not isinstance(leaf.layer, (Conv, Linear)):
            continue
        bent = after is not None and isinstance(after.layer, ReLU)
        out = tape[after.path if bent and after is not None else leaf.path]
        stages.append(
            Stage(leaf.path, _name(leaf.layer, bent), np.asarray(out.y[0]), np.asarray(tape[leaf.path].dy[0]))
        )
    logits = stages[-1].a
    value = float(COST(jnp.asarray(logits[None]), jnp.array([label]))[0])
    first = np.asarray(tape[found[0].path].dx[0])[..., 0]
    return Reading(np.asarray(jax.nn.softmax(logits)), value, stages, first)


def _name(layer: Conv | Linear, bent: bool) -> str:
    if isinstance(layer, Conv):
        return f"convolution: {layer.features} pictures"
    return f"{layer.features} neurons" if bent else f"{layer.features} outputs, from 0 to 9, before softmax"


def read_pictures(pictures: np.ndarray) -> np.ndarray:
    """Probabilities `[N, 10]` of pictures `[N, 28, 28]`."""
    net, params = network()
    return np.asarray(_answers(net)(params, jnp.asarray(pictures[..., None], jnp.float32)))


@lru_cache(1)
def _answers(net: Layer) -> Any:
    return jax.jit(lambda params, x: jax.nn.softmax(net(x, params)))
