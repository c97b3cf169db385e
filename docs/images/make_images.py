"""The pictures of docs/pictures.md: `python docs/images/make_images.py [name …]` writes them beside this file."""

import re
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

import jaxprop as jp
from jaxprop import plot

HERE = Path(__file__).parent


def two_two_two() -> Any:
    """The worked example's network: net, cost, x, θ, targets."""
    net = jp.Chain(jp.Linear(2), jp.Sigmoid(), jp.Linear(2), jp.Sigmoid())
    hidden = jp.LinearParams(W=jnp.array([[0.15, 0.25], [0.20, 0.30]]), b=jnp.array([0.35, 0.35]))
    output = jp.LinearParams(W=jnp.array([[0.40, 0.50], [0.45, 0.55]]), b=jnp.array([0.60, 0.60]))
    x, targets = jnp.array([[0.05, 0.10]]), jnp.array([[0.01, 0.99]])
    return net, jp.HalfSquaredError(), x, (hidden, (), output, ()), targets


def backward() -> Any:
    """δ and ∂C/∂w."""
    return plot.backward(*two_two_two())


def backward_paths() -> Any:
    """The paths of w1."""
    return plot.backward(*two_two_two(), parameter="0.W", index=(0, 0))


def learning_step() -> Any:
    """Forward, backward, update."""
    return plot.learning_step(*two_two_two(), learning_rate=0.5)


def boundary() -> Any:
    """Two spirals, and what a network of two hidden layers makes of them."""
    rows = jp.data.spirals()
    net = jp.Chain(jp.Standardize.of(rows.x), jp.Linear(64), jp.GELU(), jp.Linear(64), jp.GELU(), jp.Linear(2))
    cost, data = jp.SoftmaxCrossEntropy(), (rows.x, rows.targets)
    fitted = jp.fit(net, cost, optax.adam(0.01), data, epochs=100, batch_size=32, progress=False)
    answers = jax.jit(lambda x: jax.nn.softmax(net(x, fitted.params)))
    return plot.boundary(answers, data, rows.validation, columns=rows.columns, classes=("arm 0", "arm 1"))


def inside() -> Any:
    """A network that learns the digits, seen from inside."""
    rows = jp.data.digits()
    net = jp.Chain(jp.Standardize.of(rows.x, per_feature=False), jp.Linear(64), jp.ReLU(), jp.Linear(32), jp.Tanh())
    net = jp.Chain(*net.layers, jp.Linear(10))
    watched = {
        "updates": jp.stats.UpdateToWeight(),
        "noise": jp.stats.NoiseScale(),
        "dead": jp.stats.DeadUnits(),
        "flow": jp.stats.Flow(),
        "saturated": jp.stats.SaturatedUnits(),
        "gradients": jp.stats.GradientHistogram(magnitudes=True),
        "activations": jp.stats.ActivationHistogram(),
    }
    cost, data = jp.SoftmaxCrossEntropy(), (rows.x, rows.targets)
    fitted = jp.fit(
        net, cost, optax.adam(0.003), data, epochs=20, validation=rows.validation, monitor=watched, every=10,
        progress=False,
    )  # fmt: skip
    return plot.inside(fitted)


def xray() -> Any:
    """The gradient of a Flax model through depth: the model of docs/xray/inside.md."""
    page = (HERE.parent / "xray" / "inside.md").read_text("utf-8")
    (code,) = re.findall(r"`deep.py`:\n\n```python\n(.*?)```", page, re.DOTALL)
    model: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(code, "deep.py", "exec"), model)
    axes = jp.xray.report(model["loss"])(model["start"](), model["x"], model["labels"]).plot()
    return axes[0].figure


PICTURES = {draw.__name__: draw for draw in (backward, backward_paths, learning_step, boundary, inside, xray)}


def main(names: list[str]) -> None:
    """Write the pictures of these names, all of them by default."""
    for name in names or PICTURES:
        picture = PICTURES[name]()
        print(plot.save(picture, HERE / f"{name}.{'gif' if isinstance(picture, plot.Film) else 'png'}"))


if __name__ == "__main__":
    main(sys.argv[1:])
