"""Train the digit network of the explorer: `python -m jaxprop_explorer.digits.train MNIST --pen pendigits.tra`.

A small convolutional network learns MNIST's 60,000 pictures and 7,494 digits that 30 people wrote on a tablet
(UCI "Pen-Based Recognition of Handwritten Digits", E. Alpaydin and F. Alimoglu 1998, CC BY 4.0), each epoch turned,
sheared, scaled, shifted and drawn with another pen anew. A share of the rows is nonsense (`nonsense.py`), whose target
is a tenth for every digit: so ten outputs can say "none of these", by a largest probability that is small.
The strokes that the tests read were written by 14 other people.
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

import jaxprop as jp
from jaxprop_explorer.digits.network import FOLDER
from jaxprop_explorer.digits.nonsense import KINDS
from jaxprop_explorer.digits.strokes import picture

NONSENSE = 0.15  # rows of nonsense, as a share of the digits
PENS = 3  # how often each digit of the tablet is drawn, each time as wide and with as thick a pen as comes
SCRIBBLES = 3000  # drawn once: they cost more than other nonsense


def network() -> jp.Chain:
    """The description: two convolutions, each at every second pixel, then two linear layers. 54,000 parameters.

    >>> len(network().layers)
    8
    """
    return jp.Chain(
        jp.Conv(8, (5, 5), strides=2), jp.ReLU(), jp.Conv(16, (5, 5), strides=2), jp.ReLU(), jp.Flatten(),
        jp.Linear(64), jp.ReLU(), jp.Linear(10),
    )  # fmt: skip


@jax.jit
def _varied(key: Array, pictures: Array) -> Array:
    """Every picture `[N, 28, 28]` as another hand and another pen might have drawn it."""
    return jax.vmap(_one)(jax.random.split(key, len(pictures)), pictures)


def _one(key: Array, picture: Array) -> Array:
    where, how = jax.random.split(key)
    turn, shear, wide, tall, right, down = jax.random.uniform(where, (6,), minval=-1)
    turn, shear = 0.22 * turn, 0.25 * shear
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    matrix = jnp.array([[cos, -sin], [sin, cos]]) @ jnp.array([[1.0, 0.0], [shear, 1.0]])
    matrix = matrix * jnp.exp(jnp.array([0.12 * tall, 0.25 * wide]))
    middle = (len(picture) - 1) / 2
    at = jnp.stack(jnp.meshgrid(*2 * [jnp.arange(len(picture)) - middle], indexing="ij"))
    source = jnp.einsum("ij,jhw->ihw", matrix, at) + middle + 1.5 * jnp.array([right, down])[:, None, None]
    moved = jax.scipy.ndimage.map_coordinates(picture, list(source), order=1)
    pen, gain = jax.random.uniform(how, (2,), minval=-1)
    around = jnp.stack([jnp.roll(moved, step, axis) for step in (-1, 0, 1) for axis in (0, 1)])
    thick, thin = around.max(axis=0), around.min(axis=0)
    drawn = moved + jnp.maximum(pen, 0) * (thick - moved) + 0.8 * jnp.maximum(-pen, 0) * (thin - moved)
    return jnp.clip(drawn * (1.25 + 0.35 * gain), 0, 1)


def strokes_of(row: np.ndarray, wide: float = 0.7) -> list[list[list[float]]]:
    """The stroke of a row of the pen digits: 8 points, 0 to 100 both ways, y up; `wide` is width over height.

    >>> strokes_of(np.array([0, 100, 100, 0]))
    [[[0.22, 0.1], [0.78, 0.9]]]
    """
    points = row[:16].reshape(-1, 2) / 100
    return [[[round(0.5 + 0.8 * wide * (x - 0.5), 4), round(0.9 - 0.8 * y, 4)] for x, y in points.tolist()]]


def pen_digits(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The digits of a file of pen strokes, each drawn some times, as pictures `[N, 28, 28]`, and their labels."""
    found, random = np.loadtxt(path, np.int64, delimiter=","), np.random.default_rng(3)
    found = np.tile(found, (PENS, 1))
    drawn = [
        picture(strokes_of(row, float(random.uniform(0.4, 1))), pen=float(random.uniform(1.8, 3.4))) for row in found
    ]
    return np.array(drawn), found[:, 16]


def rows(pictures: np.ndarray, labels: np.ndarray, scribbles: np.ndarray, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """One epoch's rows: varied digits and nonsense `[N, 28, 28, 1]`, and probabilities `[N, 10]`."""
    key, random = jax.random.key(epoch), np.random.default_rng(epoch)
    blocks = [_varied(jax.random.fold_in(key, at), pictures[at : at + 6000]) for at in range(0, len(pictures), 6000)]
    count = int(NONSENSE * len(pictures) / 3)
    nonsense = [KINDS["grain"](random, count), KINDS["clouds"](random, count), random.permutation(scribbles)[:count]]
    nonsense[2] = np.asarray(_varied(jax.random.fold_in(key, len(pictures)), nonsense[2]))
    x = np.concatenate([np.concatenate(blocks), *nonsense])[..., None]
    targets = np.full((len(x), 10), 0.1, np.float32)
    targets[: len(labels)] = np.eye(10, dtype=np.float32)[labels]
    return x, targets


def accuracy(net: jp.Chain, params: object, pictures: np.ndarray, labels: np.ndarray) -> float:
    """The share of pictures `[N, 28, 28]` that are read right."""
    return float(np.mean(np.argmax(net(jnp.asarray(pictures[..., None]), params), axis=1) == labels))


def main(arguments: list[str] | None = None) -> None:
    """Train, tell the accuracy on MNIST's test pictures after every epoch, and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mnist", type=Path, help="the folder of MNIST's IDX files")
    parser.add_argument("--pen", type=Path, help="pendigits.tra of UCI: digits written on a tablet, to learn as well")
    parser.add_argument("--out", type=Path, default=FOLDER, help="where the model is saved")
    parser.add_argument("--epochs", type=int, default=8)
    given = parser.parse_args(arguments)
    data = jp.data.mnist(given.mnist, validation=0)
    assert data.test is not None
    pictures, labels = data.x.reshape(-1, 28, 28), data.targets
    test = data.test[0].reshape(-1, 28, 28)
    if given.pen is not None:
        drawn, written = pen_digits(given.pen)
        pictures, labels = np.concatenate([pictures, drawn]), np.concatenate([labels, written])
    scribbles = KINDS["scribble"](np.random.default_rng(7), SCRIBBLES)
    net, cost = network(), jp.SoftmaxCrossEntropy()
    params = net.init(jax.random.key(0), pictures[:1, :, :, None])
    for epoch in range(given.epochs):
        began = time.perf_counter()
        rate = 2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / given.epochs))
        found = jp.fit(
            net, cost, optax.adam(rate), rows(pictures, labels, scribbles, epoch), params=params, epochs=1,
            batch_size=128, key=jax.random.key(epoch), progress=False,
        )  # fmt: skip
        params = found.params
        right = accuracy(net, params, test, data.test[1])
        print(f"epoch {epoch + 1}: MNIST test {right:.2%}, {time.perf_counter() - began:.0f} s", flush=True)
        jp.save(given.out, net, params, inputs=pictures[:1, :, :, None], cost=cost,
                info={"classes": [str(k) for k in range(10)]})  # fmt: skip


if __name__ == "__main__":
    main()
