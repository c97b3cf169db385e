"""The backward picture says what the tape says: numbers are read back from the artists."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxprop as jp
from jaxprop import JaxpropError, plot, style
from tests.plot.pictures import drawn, made, said

COST = jp.HalfSquaredError()


@pytest.fixture(scope="module")
def two():
    """The 2-2-2 network of Mazur's worked example."""
    net, params, _ = made(2, 2, inputs=2)
    params = (
        params[0]._replace(W=jnp.array([[0.15, 0.25], [0.20, 0.30]]), b=jnp.array([0.35, 0.35])),
        (),
        params[2]._replace(W=jnp.array([[0.40, 0.50], [0.45, 0.55]]), b=jnp.array([0.60, 0.60])),
    )
    net = jp.Chain(*net.layers, jp.Sigmoid())
    return net, COST, jnp.array([[0.05, 0.10]]), (*params, ()), jnp.array([[0.01, 0.99]])


@pytest.fixture(scope="module")
def tape(two):
    net, cost, x, params, targets = two
    return jax.jit(jp.manual.trace(net, cost))(x, params, targets)


def under(ax, column, unit):
    return next(t.get_text() for t in ax.texts if t.get_gid() == f"unit {column} {unit}")


def test_units_and_edges_are_those_of_the_tape(two, tape):
    ax = plot.backward(*two)
    for column, linear, activation in ((1, "0", "1"), (2, "2", "3")):
        for unit in range(2):
            a, delta = tape[activation].y[0, unit], tape[linear].dy[0, unit]
            assert under(ax, column, unit) == f"a = {style.number(a)}\nδ = {style.number(delta)}"
    grads = [np.outer(tape[path].x[0], tape[path].dy[0]) for path in ("0", "2")]
    for gradient in np.concatenate([g.ravel() for g in grads]):
        assert style.number(gradient, 3) in said(ax)
    assert "0.0822" in said(ax)  # ∂E/∂w5 of the worked example
    (lines,) = [c for c in ax.collections if c.get_gid() == "edges"]
    order = np.sort(np.abs(np.concatenate([g.ravel() for g in grads])))
    assert len(drawn(ax)) == 8 and np.allclose(np.argsort(lines.get_linewidth()), range(8))
    assert np.allclose((np.array(lines.get_linewidth()) - 0.4) / 3.8, order / order[-1])


def test_the_paths_of_a_weight_add_up_to_its_gradient(two, tape):
    net, cost, x, params, targets = two
    ax = plot.backward(*two, parameter="0.W", index=(1, 0))
    gradient = jax.jit(jp.auto.value_and_grad(net, cost))(x, params, targets)[1][0].W[1, 0]
    lines = ax.get_xlabel().replace("−", "-").splitlines()
    products = []
    for line in lines[1:-1]:
        factors, product = line.split(" = ")
        products.append(float(product))
        assert np.prod([float(f) for f in factors.split(" · ")]) == pytest.approx(products[-1], rel=1e-3)
    assert len(products) == 2 and sum(products) == pytest.approx(float(gradient), rel=1e-3)
    assert lines[-1] == f"sum: ∂C/∂0.W[1, 0] = {style.number(gradient)}"
    written = [t.get_text() for t in ax.texts if t.get_gid() == "factor"]
    assert sorted(written) == ["a = 0.1", "w = 0.4", "w = 0.5"]
    (lit,) = [c for c in ax.collections if c.get_gid() == "paths"]
    assert len(lit.get_segments()) == 3  # the weight, and both ways on from its unit
    bias = plot.backward(*two, parameter="2.b", index=(1,))
    assert bias.get_xlabel().endswith(f"∂C/∂2.b[1] = {style.number(tape['2'].dy[0, 1])}")


def test_wide_columns_show_the_telling_units_and_count_the_rest():
    net, params, x = made(9, 3, inputs=7)
    targets = jnp.zeros((1, 3))
    tape = jax.jit(jp.manual.trace(net, COST))(x, params, targets)
    ax = plot.backward(net, COST, x, params, targets, most=4, parameter="0.W")
    shown = {int(t.get_gid().split()[2]) for t in ax.texts if (t.get_gid() or "").startswith("unit 1")}
    assert len(shown) == 4 and shown == set(np.argsort(-np.abs(tape["0"].dy[0]))[:4].tolist())
    assert "⋮ 3 more" in said(ax) and "⋮ 5 more" in said(ax)
    grads = jax.jit(jp.auto.value_and_grad(net, COST))(x, params, targets)[1][0].W
    assert said(ax).find(f"= {style.number(np.ravel(grads)[np.argmax(np.abs(grads))])}") > 0  # the largest by default
    named = plot.backward(net, COST, x, params, targets, most=4, labels=[[f"c{i}" for i in range(7)], None, None])
    assert f"c{int(np.argmax(np.abs(x)))}" in said(named)


def test_backward_refuses(two):
    with pytest.raises(JaxpropError, match="unknown parameter"):
        plot.backward(*two, parameter="0.w")
    with pytest.raises(JaxpropError, match="runs over 0 to 1"):
        plot.backward(*two, parameter="0.W", index=(0, 2))
    net, params, x = made(3, 2, inputs=2, activation=jp.Softmax)
    with pytest.raises(JaxpropError, match="depends on all"):
        plot.backward(net, COST, x, params, jnp.zeros((1, 2)), parameter="0.W")


def test_the_film_tells_the_cost_before_and_after(two, tmp_path):
    film = plot.learning_step(*two, learning_rate=0.5)
    (ax,) = film.figure.axes
    said_by_frame, kinds = [], []
    for frame in film.frames:
        frame()
        said_by_frame.append(said(ax))
        kinds.append({c.get_gid() for c in ax.collections})
    assert ["δ" in text.replace("∂C/∂z", "") for text in said_by_frame] == [False] * 3 + [True] * 2 + [False]
    assert kinds == [{"waiting"}, {"weights", "waiting"}, {"weights"}, {"edges", "waiting"}, {"edges"}, {"weights"}]
    assert "0.59327" not in said_by_frame[0] and "0.59327" in said_by_frame[1]
    assert "C goes from 0.29837 to 0.28" in said_by_frame[-1] and "0.359" in said_by_frame[-1]  # w5 after: 0.35892
    told = []
    small = plot.Film(film.figure, film.frames[:2])
    first, again = (
        plot.save(small, tmp_path / f"{i}.gif", progress=lambda *frame: told.append(frame)).read_bytes()
        for i in range(2)
    )
    assert first == again and len(first) < 2_000_000 and told[:2] == [(1, 2), (2, 2)]
    with Image.open(tmp_path / "0.gif") as gif:
        assert gif.n_frames == 2
    with pytest.raises(JaxpropError, match=r"must end in one of these"):
        plot.save(film, tmp_path / "a.png")
    with pytest.raises(JaxpropError, match="a GIF moves"):
        plot.save(ax, tmp_path / "a.gif")
