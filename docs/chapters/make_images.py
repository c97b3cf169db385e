"""The pictures of the chapters: `python docs/chapters/make_images.py [name …]` writes images/*.png."""

import io
import sys
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxprop as jp
from jaxprop import plot

IMAGES = Path(__file__).parent / "images"
DPI, COLORS = 96, 192


def neuron_and_perceptron() -> Any:
    """Chapter 1."""
    return plot.neuron_and_perceptron()


def article_network() -> Any:
    """Chapter 1."""
    return plot.article_network()


def parabola(net: Any, optimizer: Any, name: str) -> Any:
    """A network's fit of x², at 40 midpoints of [−1, 1]: their mean is nearly the integral."""
    x = (np.arange(40, dtype=np.float32)[:, None] + 0.5) / 20 - 1
    rows, cost = (x, x**2), jp.HalfSquaredError()
    params = jp.fit(net, cost, optimizer, rows, epochs=900, batch_size=40, progress=False).params
    return plot.function_fit(x, x**2, lambda x: net(x, params), truth=np.square, name=name)


def affine_fit() -> Any:
    """Chapter 2."""
    return parabola(jp.Linear(1), optax.sgd(0.1), "wx + b")


def tanh_fit() -> Any:
    """Chapter 2."""
    return parabola(jp.Chain(jp.Linear(16), jp.Tanh(), jp.Linear(1)), optax.adam(0.03), "1-16-1, tanh")


def sigmoid() -> Any:
    """Chapter 3."""
    return plot.activation(jp.Sigmoid(), 1.35)


@cache
def digits() -> Any:
    """The digit network of the chapters, trained: rows, net, result."""
    rows = jp.data.digits()
    net = jp.Chain(jp.Standardize.of(rows.x, per_feature=False), jp.Linear(32), jp.Sigmoid(), jp.Linear(10))
    cost, data = jp.SoftmaxCrossEntropy(), (rows.x, rows.targets)
    return rows, net, jp.fit(net, cost, optax.sgd(0.5), data, epochs=20, validation=rows.validation, progress=False)


def digits_network() -> Any:
    """Chapter 3."""
    rows, net, result = digits()
    return plot.network(net, result.params, x=jnp.asarray(rows.validation[0][1:2]), most=12)


def slow_cost() -> Any:
    """Chapter 4: the half squared error of a sigmoid that should say 0, Nielsen's z = 4."""
    cost, zero = jp.HalfSquaredError(), jnp.zeros((1, 1))
    ax = plot.cost_curve(lambda z: cost(jp.Sigmoid()(jnp.reshape(z, (1, 1))), zero)[0], (-6, 8), at=4.0)
    ax.set(xlabel="z, the weighted sum; the target is 0", ylabel="C", title="")
    for text in ax.get_legend().get_texts():
        text.set_text(text.get_text().replace("(w)", "(z)").replace("∂w", "∂z"))
    ax.set_title("A sigmoid that should say 0: flat where it is very wrong", loc="left")
    return ax


def nudge() -> Any:
    """Chapter 5: the neuron's cost over its second weight (a curve with all derivatives, unlike a parabola)."""
    cost, target = jp.HalfSquaredError(), jnp.ones((1, 1))
    x, b = jnp.array([[1.0, 3.0, 2.0]]), jnp.array([0.1])

    def C(w: Any) -> Any:
        W = jnp.stack([jnp.asarray(0.5, w.dtype), w, jnp.asarray(0.75, w.dtype)])[:, None]
        return cost(jp.Sigmoid()(x @ W + b), target)[0]

    return plot.nudge(C, -0.25)


def vanishing() -> Any:
    """Chapter 6."""
    rows = jp.data.digits()
    x, labels = jnp.asarray(rows.x[:32]) / 16, jnp.asarray(rows.targets[:32])
    net = jp.Chain(*[layer for _ in range(6) for layer in (jp.Linear(30), jp.Sigmoid())], jp.Linear(10))
    tape = jp.manual.trace(net, jp.SoftmaxCrossEntropy())(x, net.init(jax.random.key(0), x), labels)
    return plot.gradient_sizes(tape)


def cost_surface() -> Any:
    """Chapter 7."""
    return plot.cost_surface()


def digits_history() -> Any:
    """Chapter 7."""
    return plot.history(digits()[2].history, keys=["cost", "validation_cost", "validation_accuracy"])


def digits_and_noise() -> Any:
    """Chapter 8: four held-out digits and the noise that the network is surest of, with its answers."""
    from matplotlib.figure import Figure

    rows, net, result = digits()
    noise = np.random.default_rng(0).uniform(0, 16, (1000, 64)).astype(np.float32)
    sure = jax.nn.softmax(net(jnp.asarray(noise), result.params)).max(axis=1)
    images = np.concatenate([rows.validation[0][:4], noise[np.argsort(-sure)[:4]]])
    answers = np.asarray(jax.nn.softmax(net(jnp.asarray(images), result.params)))
    axes = Figure(figsize=(9.2, 1.7), layout="constrained").subplots(1, 8)
    for ax, image, p in zip(axes, images, answers, strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=16)
        ax.set_title(f"{p.argmax()} ({100 * p.max():.0f} %)", fontsize=11)
        ax.axis("off")
    return axes


PICTURES = {
    draw.__name__: draw
    for draw in (
        *(neuron_and_perceptron, article_network, affine_fit, tanh_fit, sigmoid, digits_network, slow_cost),
        *(nudge, vanishing, cost_surface, digits_history, digits_and_noise),
    )
}


def main(names: list[str]) -> None:
    """Write the pictures of these names, all of them by default."""
    from PIL import Image

    IMAGES.mkdir(exist_ok=True)
    for name in names or PICTURES:
        picture = PICTURES[name]()
        figure = np.ravel(picture)[0].get_figure()
        pixels = io.BytesIO()
        figure.savefig(pixels, dpi=DPI)
        few_colors = Image.open(pixels).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
        few_colors.save(IMAGES / f"{name}.png", optimize=True)
        print(f"{name}.png: {(IMAGES / f'{name}.png').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
