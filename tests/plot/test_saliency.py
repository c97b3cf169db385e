"""The saliency picture: its maps are those of the library, images and bars, what it says and what it refuses."""

import jax
import matplotlib.pyplot as plt
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot, style
from tests.drawing import draw
from tests.plot.pictures import said

NET = jp.Chain(jp.Linear(12), jp.ReLU(), jp.Linear(3))
X = np.random.default_rng(0).normal(size=(1, 64))


def image(ax, gid):
    (found,) = [drawn for drawn in ax.images if drawn.get_gid() == gid]
    return np.asarray(found.get_array())


def test_the_maps_drawn_are_those_of_the_library():
    params = draw(NET, X)
    axes = plot.saliency(NET, X, params, target=2, steps=40, classes=["a", "b", "c"])
    rules = {"gradient": None, "guided": jp.rules.GuidedBackprop()}
    expected = {key: jp.saliency.input_gradient(NET, rule)(X, params, 2).map for key, rule in rules.items()}
    expected["integrated"] = jp.saliency.integrated_gradients(NET, 40)(X, params, 2).map
    assert np.allclose(image(axes[0], "example"), X.reshape(8, 8))
    assert not np.allclose(expected["gradient"], expected["guided"], atol=0.01)
    for ax, (key, found) in zip(axes[1:], expected.items(), strict=True):
        assert np.allclose(image(ax, key), found.reshape(8, 8)), key
        low, high = ax.images[0].get_clim()
        assert -low == high == pytest.approx(np.abs(found).max())  # 0 is white
    y = jax.jit(NET)(X, params)[0]
    assert said(axes[0]).startswith(f"y = {style.number(y[2], 4)} for c")
    rise = y[2] - jax.jit(NET)(0 * X, params)[0][2]
    assert f"y − y(baseline) = {style.number(rise, 4)}" in said(axes[3])
    assert f"for output {int(y.argmax())}" in said(plot.saliency(NET, X, params, maps=["gradient"])[0])


@pytest.mark.slow
def test_images_of_any_kind_and_rows_of_a_table():
    net = jp.Chain(jp.Flatten(), NET)
    for shape in ((1, 4, 4), (1, 6, 6, 1), (1, 6, 6, 3)):
        x = np.random.default_rng(1).uniform(size=shape)
        axes = plot.saliency(net, x, draw(net, x), maps=["gradient", "guided"])
        found = jp.saliency.input_gradient(net)(x, draw(net, x)).map[0]
        assert np.allclose(image(axes[1], "gradient"), found.sum(axis=2) if found.ndim == 3 else found)
        plt.close(axes[0].figure)
    x = X[:, :5]
    axes = plot.saliency(NET, x, draw(NET, x), columns=list("vwxyz"))
    assert [text.get_text() for text in axes[0].texts][2] == f"x = {style.number(x[0, 2], 4)}"
    widths = [bar.get_width() for bar in axes[1].patches]
    assert np.allclose(widths, jp.saliency.input_gradient(NET)(x, draw(NET, x)).map[0])
    assert len(plot.saliency(NET, X, draw(NET, X), image=False)[1].patches) == 24
    wide = plot.saliency(NET, X, draw(NET, X), image=(4, 16), maps=["gradient"])
    assert image(wide[1], "gradient").shape == (4, 16)


def test_without_a_relu_there_is_no_guided_map_unless_it_is_asked_for():
    """And it draws on the axes given."""
    net = jp.Chain(jp.Linear(6), jp.Tanh(), jp.Linear(3))
    figure = plt.figure()
    axes = figure.subplots(1, 3)
    found = plot.saliency(net, X, draw(net, X), axes=axes)
    assert list(found) == list(axes)
    assert [ax.get_title(loc="left")[:5] for ax in axes[1:]] == ["gradi", "integ"]
    figure.canvas.draw()  # every glyph is there: a missing one would warn
    with pytest.raises(JaxpropError, match="expected two, found 3"):
        plot.saliency(net, X, draw(net, X), maps=["gradient"], axes=axes)
    with pytest.raises(JaxpropError, match=r"GuidedBackprop.*found Linear, Tanh"):
        plot.saliency(net, X, draw(net, X), maps=["guided"])


@pytest.mark.parametrize(
    "asked, text",
    [
        ({"target": 3}, "output: found 3, a row of y has 0 to 2"),
        ({"maps": ["gradients"]}, "unknown map 'gradients' .did you mean 'gradient'"),
        ({"maps": []}, "maps is empty"),
        ({"image": (7, 9)}, r"image=\(7, 9\) has not 64 pixels"),
        ({"columns": ["a"]}, "columns has 1 names, expected 64"),
        ({"classes": ["a"], "target": 1}, "classes has 1 names, and output 1 has none"),
        ({"x": X.repeat(2, axis=0)}, r"one example \[1, ...\], found \[2, 64\]"),
        ({"x": X[:, :63], "image": True}, "is no square"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn(asked, text):
    asked = {"x": X, "maps": ["gradient"]} | asked
    x = asked.pop("x")
    with pytest.raises(JaxpropError, match=text):
        plot.saliency(NET, x, draw(NET, x), **asked)
