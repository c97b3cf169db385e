"""The network diagram is read back: edges are counted, numbers are found in the text."""

import itertools

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot, style
from tests.drawing import draw
from tests.plot.pictures import drawn, made, said


@pytest.mark.parametrize(("inputs", "units"), [(4, (5, 3)), (1, (1, 1)), (3, (7, 6, 2)), (2, (3,))])
def test_every_weight_is_one_edge(inputs, units):
    net, params, _ = made(*units, inputs=inputs)
    ax = plot.network(net, params)
    count = sum(a * b for a, b in itertools.pairwise((inputs, *units)))
    assert len(drawn(ax)) == count
    assert f": {count} weight" in ax.get_title(loc="left")


def test_edges_tell_sign_and_size():
    net, params, _ = made(3, inputs=2)
    W = jnp.array([[1.0, -2.0, 0.5], [-0.25, 4.0, -3.0]])
    ax = plot.network(net, (params[0]._replace(W=W),))
    (edges,) = [c for c in ax.collections if c.get_gid() == "edges"]
    widths, colors = np.asarray(edges.get_linewidth()), edges.get_color()[:, :3]
    assert np.all(np.diff(widths) > 0)  # drawn from the weakest to the strongest
    signs = np.array([-0.25, 0.5, 1.0, -2.0, -3.0, 4.0]) > 0
    blue = np.asarray(matplotlib.colors.to_rgb(style.BLUE))
    assert np.array_equal(np.all(np.isclose(colors, blue), axis=1), signs)
    assert "at most 4" in said(ax)


def test_prune_by_size_and_by_mask():
    net, params, x = made(5, 3, inputs=4)
    kept = [np.abs(params[0].W) >= 0.4, np.abs(params[2].W) >= 0.4]
    assert len(drawn(plot.network(net, params, prune=0.4))) == sum(int(k.sum()) for k in kept) < 35
    mask = np.zeros((4, 5), bool)
    mask[:, 2] = True
    ax = plot.network(net, params, x=x, prune={"0.W": mask})
    assert len(drawn(ax)) == 4 + 15
    assert "35 weights, 19 drawn" in said(ax)
    assert "hidden weights count" in said(ax)  # the values are those of params


def test_what_the_mask_and_the_threshold_must_be():
    net, params, _ = made(5, 3, inputs=4)
    with pytest.raises(JaxpropError, match=r"'0.w'.*did you mean '0.W'"):
        plot.network(net, params, prune={"0.w": np.ones((4, 5))})
    with pytest.raises(JaxpropError, match=r"mask of 2\.W has shape \[3, 5\], expected \[5, 3\]"):
        plot.network(net, params, prune={"2.W": np.ones((3, 5))})
    with pytest.raises(JaxpropError, match="≥ 0"):
        plot.network(net, params, prune=-1.0)


def test_values_are_the_networks_own():
    net, params, x = made(3, 2, inputs=2)
    tape = jax.jit(jp.manual.trace(net, jp.HalfSquaredError()))(x, params, jnp.zeros((1, 2)))
    text = said(plot.network(net, params, x=x))
    for z, a in zip(tape["1"].x[0], tape["1"].y[0], strict=True):
        assert f"z = {style.number(z)}\na = {style.number(a)}" in text
    for y in net(x, params)[0]:
        assert f"a = z = {style.number(y)}" in text
    for weight in np.ravel(params[0].W):
        assert style.number(weight, 3) in text


def test_long_columns_show_first_and_last():
    net, params, _ = made(30, 10, inputs=50)
    ax = plot.network(net, params, most=7)
    assert len(drawn(ax)) == 7 * 7 + 7 * 7
    assert said(ax).count("⋮") == 3 + 1  # three columns and the caption
    assert "$x_{4}$" in said(ax) and "$x_{5}$" not in said(ax) and "$x_{48}$" in said(ax)
    assert "1,800 weights, 98 drawn" in said(ax)


def test_many_inputs_are_an_image_of_x_or_of_the_weights():
    x = jnp.arange(64.0).reshape(1, 8, 8)
    net = jp.Chain(jp.Flatten(), jp.Linear(30), jp.Sigmoid(), jp.Linear(10))
    params = draw(net, x)
    ax = plot.network(net, params, x=x)
    assert np.array_equal(np.asarray(ax.images[0].get_array()), x[0])
    assert len(drawn(ax)) == 64 * 16 + 16 * 10
    ax = plot.network(net, params)
    assert np.allclose(np.asarray(ax.images[0].get_array()).ravel(), np.abs(params[1].W).mean(axis=1))
    assert not plot.network(net, params, image=False).images
    assert np.shape(plot.network(net, params, image=(4, 16)).images[0].get_array()) == (4, 16)
    with pytest.raises(JaxpropError, match="64 pixels"):
        plot.network(net, params, image=(3, 5))


def test_an_edge_of_a_pixel_starts_at_that_pixel():
    net, params, x = made(2, inputs=36)
    mask = np.zeros((36, 2), bool)
    mask[6 * 1 + 4] = True  # row 1, column 4
    ax = plot.network(net, params, x=x, prune={"0.W": mask})
    left, right, bottom, top = ax.images[0].get_extent()
    starts = np.array([segment[0] for segment in drawn(ax)])
    pixel = np.array([left + 4.5 / 6 * (right - left), top - 1.5 / 6 * (top - bottom)])
    assert np.allclose(starts, pixel)


def test_labels_and_their_number():
    net, params, _ = made(2, inputs=3)
    ax = plot.network(net, params, labels=[["length", "width", "height"], None])
    assert {"length", "width", "height", "$y_{2}$"} <= {t.get_text() for t in ax.texts}
    assert "$" not in said(plot.network(net, params, labels=False))
    with pytest.raises(JaxpropError, match=r"labels\[0\] has 1 names for 3 units"):
        plot.network(net, params, labels=[["length"], None])
    with pytest.raises(JaxpropError, match="labels need 2 items"):
        plot.network(net, params, labels=[None])


def test_what_is_no_diagram():
    net, params, _ = made(2, inputs=3)
    with pytest.raises(JaxpropError, match="one example"):
        plot.network(net, params, x=jnp.ones((2, 3)))
    with pytest.raises(JaxpropError, match="params must be a tuple of 1, one per layer, found 0 items"):
        plot.network(net, ())
    with pytest.raises(JaxpropError, match="no Linear layer"):
        plot.network(jp.Chain(jp.Sigmoid()), ((),))
    with pytest.raises(JaxpropError, match="most"):
        plot.network(net, params, most=1)
    with pytest.raises(JaxpropError, match=r"1\.W has shape \[9, 2\], expected \[2, units\]"):
        plot.network(jp.Chain(net, jp.Linear(2)), (params, made(2, inputs=9)[1][0]), x=None)


def test_nested_chains_are_read_through():
    inner, _, x = made(5, 3, inputs=4)
    net = jp.Chain(inner, jp.Tanh(), jp.Linear(2))
    ax = plot.network(net, draw(net, x), prune={"0.2.W": np.zeros((5, 3))})
    assert len(drawn(ax)) == 20 + 0 + 6
    assert "Linear · Tanh" in said(ax)


def test_the_articles_network():
    ax = plot.article_network()
    z = np.array([1.0, 3.0, 2.0]) @ np.array([0.5, -0.25, 0.75]) + 0.1
    a = float(jp.Sigmoid()(jnp.asarray(z)))
    assert f"b = 0.1\nz = {style.number(z)}\na = {style.number(a)}" in said(ax)
    assert (style.number(z), style.number(a)) == ("1.35", "0.79413")
    assert len(drawn(ax)) == 3 + 3 + 1  # a_i → n_i, n_i → m, m → out
    assert "13 weights, 7 drawn" in said(ax)
