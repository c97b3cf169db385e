"""What holds for every picture: where it draws, what it leaves alone, how it is saved."""

import io
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import matplotlib.pyplot as plt
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot
from tests.plot.pictures import ROWS, chain_cost, made


def test_neuron_beside_perceptron():
    left, right = plot.neuron_and_perceptron()
    for neuron, perceptron in (("dendrites", "inputs"), ("synapses", "weights"), ("soma", "sum"), ("axon", "output")):
        ours = {text.get_text(): text.get_color() for text in left.texts}
        theirs = next(text for text in right.texts if text.get_text().startswith(perceptron))
        assert ours[neuron] == theirs.get_color()  # likened parts share a colour
        assert neuron in theirs.get_text()
    assert "Not alike" in left.get_xlabel() and "spikes" in left.get_xlabel() and "step" in right.get_xlabel()
    with pytest.raises(JaxpropError, match="expected two, found 3"):
        plot.neuron_and_perceptron(axes=plt.subplots(1, 3)[1])


def tape_of_two():
    net, params, x = made(2, 2, inputs=2)
    return jax.jit(jp.manual.trace(net, jp.HalfSquaredError()))(x, params, jnp.zeros((1, 2)))


def backward_of_two():
    net, params, x = made(2, 2, inputs=2)
    return net, jp.HalfSquaredError(), x, params, jnp.zeros((1, 2))


ONE = {
    "network": lambda ax: plot.network(*made(3, 2, inputs=2)[:2], ax=ax),
    "article_network": lambda ax: plot.article_network(ax=ax),
    "activation": lambda ax: plot.activation(jp.Tanh(), 0.3, ax=ax),
    "function_fit": lambda ax: plot.function_fit([0.0, 1.0], [0.0, 1.0], lambda x: x, ax=ax),
    "history": lambda ax: plot.history(ROWS, ax=ax),
    "gradient_sizes": lambda ax: plot.gradient_sizes(tape_of_two(), ax=ax),
    "cost_curve": lambda ax: plot.cost_curve(chain_cost, (-1, 1), at=0.0, ax=ax),
    "nudge": lambda ax: plot.nudge(lambda w: w * w * w, 0.4, ax=ax),
    "backward": lambda ax: plot.backward(*backward_of_two(), ax=ax),
    "boundary": lambda ax: plot.boundary(lambda x: x, ([[0.0, 1.0], [1.0, 0.0]], [1, 0]), ax=ax),
}


@pytest.mark.parametrize("name", ONE)
def test_draws_on_the_axes_given_and_changes_no_setting(name):
    before = dict(matplotlib.rcParams)
    figure = matplotlib.figure.Figure()
    ax = figure.subplots()
    assert ONE[name](ax) is ax
    assert plt.get_fignums() == []  # a given axes needs no figure of pyplot's
    figure.savefig(io.BytesIO(), format="png", dpi=30)  # every glyph is there: a missing one would warn
    assert ONE[name](None).figure is not figure
    assert dict(matplotlib.rcParams) == before


def test_every_picture_is_in_the_table():
    functions = {name for name, value in vars(plot).items() if callable(value) and not isinstance(value, type)}
    assert functions == {
        *ONE,
        "neuron_and_perceptron",
        "saliency",
        "cost_surface",
        "article_cost",
        "descend",
        "save",
        "learning_step",
        "inside",
        "sweep",
    }


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_save_writes_the_same_bytes_twice(tmp_path, suffix, start):
    first, second = (plot.save(plot.article_network(), tmp_path / f"{i}{suffix}") for i in range(2))
    assert first.read_bytes().startswith(start) and first.read_bytes() == second.read_bytes()


def test_save_takes_axes_pairs_and_figures(tmp_path):
    axes = plt.subplots(1, 2, figsize=(1.5, 1))[1]
    for what in (axes, axes[0], axes[0].figure, list(axes)):
        file = plot.save(what, tmp_path / "a.png")
        width, height = axes[0].figure.get_size_inches() * 160
        assert plt.imread(file).shape == (round(height), round(width), 4)  # the whole figure, not one axes


def test_save_refuses(tmp_path):
    ax = plot.activation(jp.Sigmoid())
    with pytest.raises(JaxpropError, match=r"unknown picture suffix.*'\.pgn'.*did you mean '\.png'"):
        plot.save(ax, tmp_path / "a.pgn")
    with pytest.raises(JaxpropError, match="mkdir -p"):
        plot.save(ax, tmp_path / "missing" / "a.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(JaxpropError, match="is a folder"):
        plot.save(ax, tmp_path / "folder.png")


def test_save_where_nobody_may_write(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(JaxpropError, match=r"cannot be written \(Permission denied\)"):
        plot.save(plot.activation(jp.Sigmoid()), tmp_path / "a.png")


def test_without_matplotlib_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(JaxpropError, match=r'pip install "\.\[plot\]"'):
        plot.activation(jp.Sigmoid())
    with pytest.raises(JaxpropError, match="matplotlib"):
        plot.neuron_and_perceptron()
