"""Pictures are read back: edges are counted, numbers are found in the text, paths are followed."""

import io
import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, plot
from jaxprop.plot import style
from jaxprop.plot._landscape import ending
from tests.drawing import draw

matplotlib.use("Agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def made(*units: int, inputs: int, activation=jp.Sigmoid, x=None):
    """A Chain of Linear layers with activations between, its params, and one example."""
    layers = list(itertools.chain.from_iterable((jp.Linear(n), activation()) for n in units))[:-1]
    net = jp.Chain(*layers)
    x = jnp.asarray(np.random.default_rng(1).normal(size=(1, inputs))) if x is None else x
    return net, draw(net, x), x


def drawn(ax) -> list[np.ndarray]:
    (edges,) = [c for c in ax.collections if c.get_gid() == "edges"]
    return edges.get_segments()


def said(ax) -> str:
    """Everything an axes says, outside and inside."""
    legend = ax.get_legend()
    parts = [ax.get_title(loc="left"), ax.get_xlabel(), ax.get_ylabel(), *(t.get_text() for t in ax.texts)]
    return "\n".join(parts + ([] if legend is None else [t.get_text() for t in legend.get_texts()]))


# --- the network -------------------------------------------------------------------------------------------------


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
    tape = jp.manual.trace(net, jp.HalfSquaredError())(x, params, jnp.zeros((1, 2)))
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


# --- functions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [jp.Sigmoid(), jp.ReLU(), jp.GELU(), jp.HardTanh(), jp.LeakyReLU(0.1)])
def test_activation_draws_the_layers_own_value_and_slope(layer):
    ax = plot.activation(layer, z=1.35, span=(-3, 3))
    value, slope = ax.lines[:2]
    z = jnp.asarray(value.get_xdata())
    assert np.allclose(value.get_ydata(), layer(z))
    own = np.asarray(jax.vmap(jax.grad(layer))(z))
    shown = np.asarray(slope.get_ydata(), dtype=float)
    assert np.allclose(shown[~np.isnan(shown)], own[~np.isnan(shown)])
    assert np.isnan(shown).sum() == np.sum(np.abs(np.diff(own)) > 0.2)  # one gap per jump, none elsewhere
    assert f"φ(1.35) = {style.number(layer(1.35))}" in said(ax)
    assert f"φ′(1.35) = {style.number(jax.grad(layer)(1.35))}" in said(ax)


def test_activation_refuses():
    with pytest.raises(JaxpropError, match="more than one z"):
        plot.activation(jp.Softmax())  # type: ignore[arg-type]
    with pytest.raises(JaxpropError, match="one number"):
        plot.activation(jp.Sigmoid(), z=jnp.ones(2))
    with pytest.raises(JaxpropError, match="low < high"):
        plot.activation(jp.Sigmoid(), span=(1, -1))


def test_fit_of_a_line_and_a_square():
    x = np.linspace(-1, 1, 21)[:, None]
    params = (jp.Linear(1).init(jax.random.key(0), x)._replace(W=jnp.array([[2.0]])),)
    net = jp.Chain(jp.Linear(1))
    ax = plot.function_fit(x, 2 * x, lambda x: net(x, params), truth=lambda x: 2 * x)
    truth, fit, dots = ax.lines
    assert np.allclose(truth.get_ydata(), fit.get_ydata()) and len(dots.get_xdata()) == 21
    assert ax.get_title(loc="left").endswith("mean squared error 0")
    error = np.mean((2 * x - x**2) ** 2)
    assert style.number(error) in plot.function_fit(x, x**2, lambda x: net(x, params)).get_title(loc="left")


def test_fit_refuses():
    x = np.ones((5, 2))
    with pytest.raises(JaxpropError, match=r"x must be \[N\] or \[N, 1\]"):
        plot.function_fit(x, x[:, 0], lambda x: x)
    with pytest.raises(JaxpropError, match="5 x and 4 targets"):
        plot.function_fit(x[:, 0], x[:4, 0], lambda x: x)
    with pytest.raises(JaxpropError, match=r"predict gave \[5, 3\]|predict gave \[401, 3\]"):
        plot.function_fit(x[:, 0], x[:, 0], lambda x: jnp.ones((len(x), 3)))


# --- training ----------------------------------------------------------------------------------------------------

ROWS = [
    {"epoch": e, "cost": 4.0 * 0.5**e, "validation_cost": 0.1 * abs(e - 6) + 0.3, "accuracy": 1 - 1 / e, "seconds": 0.1}
    for e in range(1, 13)
]


def test_history_draws_costs_and_marks_the_best_epoch():
    ax = plot.history(ROWS)
    assert ax.get_yscale() == "log"  # 2¹¹ is more than two decades
    labels = [line.get_label() for line in ax.lines if not line.get_label().startswith("_")]
    assert labels == ["training cost", "validation cost"]
    rings = [line.get_xdata()[0] for line in ax.lines if line.get_label().startswith("_")]
    assert rings == [6, 6] and "least validation cost: epoch 6" in said(ax)
    assert plot.history(ROWS, log=False).get_yscale() == "linear"
    assert plot.history(ROWS[:4]).get_yscale() == "linear"
    assert "least cost: epoch 12" in said(plot.history([{"cost": row["cost"]} for row in ROWS]))


def test_history_puts_a_metric_on_its_own_axis():
    ax = plot.history(ROWS, keys=["cost", "accuracy"])
    (twin,) = [other for other in ax.figure.axes if other is not ax]
    assert twin.lines[0].get_label() == "training accuracy"
    assert (ax.get_ylabel(), twin.get_ylabel()) == ("cost", "accuracy")
    assert plot.history(ROWS, keys=["accuracy"]).get_ylabel() == "accuracy"


def test_history_of_broken_runs():
    rows = [*ROWS[:3], {"epoch": 4, "cost": float("nan"), "validation_cost": None}]
    ax = plot.history(rows)
    assert "not finite from epoch 4" in said(ax)
    assert len(ax.lines[0].get_xdata()) == 3
    assert len(plot.history([{"cost": 1.0, "validation_cost": None}]).lines) == 2  # the curve and its ring
    for rows, message in (([], "no rows"), ([{"epoch": 1}], "no rows"), ([{"cost": float("inf")}], "never finite")):
        with pytest.raises(JaxpropError, match=message):
            plot.history(rows)
    with pytest.raises(JaxpropError, match="did you mean 'cost'"):
        plot.history(ROWS, keys=["costs"])
    with pytest.raises(JaxpropError, match="no logarithm"):
        plot.history([{"cost": 1.0}, {"cost": 0.0}], log=True)


def test_gradient_sizes_are_those_of_the_tape_and_the_gradient():
    net, params, _ = made(8, 8, 8, 2, inputs=5)
    x, targets = jax.random.normal(jax.random.key(3), (10, 5)), jnp.zeros((10, 2))
    cost = jp.HalfSquaredError()
    tape = jp.manual.trace(net, cost)(x, params, targets)
    grads = jp.auto.value_and_grad(net, cost)(x, params, targets)[1]
    ax = plot.gradient_sizes(tape, grads)
    deltas, weights, biases = (container.patches for container in ax.containers)
    rms = [float(jnp.sqrt(jnp.mean(record.dy**2))) for record in tape.values()]
    assert np.allclose([bar.get_height() for bar in deltas], rms)
    norms = [float(jnp.linalg.norm(grads[i].W)) for i in (0, 2, 4, 6)]
    assert np.allclose([bar.get_height() for bar in weights], norms)
    assert np.allclose([bar.get_height() for bar in biases], [jnp.linalg.norm(grads[i].b) for i in (0, 2, 4, 6)])
    assert ax.get_yscale() == "log" and [t.get_text() for t in ax.get_xticklabels()] == list(tape)
    assert f"shrinks {float(f'{rms[-1] / rms[0]:.3g}'):,.10g}-fold" in said(ax) and rms[0] < rms[-1]  # vanishing


def test_gradient_sizes_of_nothing():
    net, params, _ = made(4, 2, inputs=3, activation=jp.ReLU)
    dead = (params[0]._replace(b=jnp.full(4, -1e3)), (), params[2])
    tape = jp.manual.trace(net, jp.HalfSquaredError())(jnp.ones((2, 3)), dead, jnp.ones((2, 2)))
    ax = plot.gradient_sizes(tape)
    assert len(ax.patches) == 2 and said(ax).count("0\n") >= 1  # layer 0 receives exactly nothing, and is told
    with pytest.raises(JaxpropError, match="no errors"):
        plot.gradient_sizes({})
    with pytest.raises(JaxpropError, match="the same network"):
        plot.gradient_sizes(tape, {"9": params[0]})
    with pytest.raises(JaxpropError, match="finite"):
        plot.gradient_sizes({"0": tape["0"]._replace(dy=jnp.array([jnp.nan]))})


# --- slopes ------------------------------------------------------------------------------------------------------


def chain_cost(w):
    """The article's f = w₁ w₂ x as a function of w₁ at w₂ = 0.3, x = 1, y = 2."""
    return plot.article_cost(jnp.stack([w, jnp.full_like(w, 0.3)]))


def test_cost_curve_says_tangent_secant_and_step():
    text = said(plot.cost_curve(chain_cost, (-4, 14), at=0.4, h=6.0, learning_rate=4.0))
    here, there = chain_cost(jnp.asarray(0.4)), chain_cost(jnp.asarray(6.4))
    slope = float(jax.grad(chain_cost)(0.4))
    assert style.number(slope) == "−0.564"  # article.md, row 17
    assert f"∂C/∂w = {style.number(slope)}" in text and f"ΔC/h = {style.number((there - here) / 6)}" in text
    to = 0.4 - 4 * slope
    change = chain_cost(jnp.asarray(to)) - here
    assert f"= {style.number(to)}, η = 4" in text
    assert f"predicted −η (∂C/∂w)² = {style.number(-4 * slope**2)}, actual {style.number(change)}" in text
    assert change < 0
    uphill = said(plot.cost_curve(chain_cost, (-4, 14), at=0.4, learning_rate=-4.0))
    flipped = chain_cost(jnp.asarray(0.4 + 4 * slope)) - here
    assert f"actual {style.number(flipped)}" in uphill and flipped > 0  # the sign of mistake 1 climbs


def test_cost_curve_refuses():
    with pytest.raises(JaxpropError, match="at=w"):
        plot.cost_curve(chain_cost, (0, 1), h=0.1)
    with pytest.raises(JaxpropError, match="h must not be 0"):
        plot.cost_curve(chain_cost, (0, 1), at=0.5, h=0)
    with pytest.raises(JaxpropError, match="expected a scalar"):
        plot.cost_curve(lambda w: jnp.stack([w, w]), (0, 1))
    with pytest.raises(JaxpropError, match="finite"):
        plot.cost_curve(jnp.log, (-1, 1))


def neuron_cost(w):
    return 0.5 * (jp.Sigmoid()(w) - 1) ** 2


def slope_of(line, low, high):
    h, error = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    chosen = (h >= low) & (h <= high)
    return np.polyfit(np.log10(h[chosen]), np.log10(error[chosen]), 1)[0]


def test_nudge_has_order_one_and_two_and_a_floor():
    ax = plot.nudge(neuron_cost, 0.5)
    forward, central = ax.lines[:2]
    assert slope_of(forward, 1e-6, 1e-1) == pytest.approx(1, abs=0.02)
    assert slope_of(central, 1e-3, 1e-1) == pytest.approx(2, abs=0.02)
    assert slope_of(forward, 1e-12, 1e-9) == pytest.approx(-1, abs=0.4)  # round-off: smaller h, larger error
    assert 1e-15 < min(central.get_ydata()) < 1e-10 < min(forward.get_ydata()) < 1e-7
    truncation = ax.lines[2].get_ydata()
    assert np.allclose(truncation[0], abs(float(jax.grad(jax.grad(neuron_cost))(0.5))) / 2)  # h = 1


def test_nudge_in_float32_sessions_too():
    with jax.enable_x64(False):
        ax = plot.nudge(neuron_cost, 0.5)
        assert min(ax.lines[1].get_ydata()) < 1e-10


def test_nudge_refuses():
    with pytest.raises(JaxpropError, match="must be positive"):
        plot.nudge(neuron_cost, 0.5, steps=[0.1, 0.0])
    with pytest.raises(JaxpropError, match="float32"):
        plot.nudge(lambda w: neuron_cost(w.astype(jnp.float32)), 0.5)


# --- the landscape -----------------------------------------------------------------------------------------------


def test_article_cost_is_the_articles():
    theta = jnp.array([0.4, 0.3])
    assert float(plot.article_cost(theta)) == pytest.approx(1.7672)
    assert np.allclose(jax.hessian(plot.article_cost)(jnp.zeros(2)), [[0, -2], [-2, 0]])


def test_descent_converges_on_the_curve_of_minima():
    path, diverged = plot.descend(plot.article_cost, (3.0, 0.1), 0.05, 200)
    assert path.shape == (201, 2) and not diverged
    assert abs(path[-1].prod() - 2) < 1e-3
    first = np.array([3.0, 0.1]) - 0.05 * np.asarray(jax.grad(plot.article_cost)(jnp.array([3.0, 0.1])))
    assert np.allclose(path[:2], [[3.0, 0.1], first])  # θ − η ∂C/∂θ, no momentum
    assert np.all(np.diff([float(plot.article_cost(jnp.asarray(t))) for t in path[:50]]) <= 0)


def test_descent_stays_on_the_saddle_and_reports_divergence():
    saddle = plot.descend(plot.article_cost, (0.0, 0.0), 0.1, 50)
    assert saddle.path.shape == (51, 2) and not np.any(saddle.path)
    path, diverged = plot.descend(plot.article_cost, (3.0, 0.1), 0.4, 60)
    assert diverged and len(path) < 61 and np.all(np.isfinite(path))
    assert np.abs(path[-1]).max() > 1e3


def test_descend_refuses():
    cost = plot.article_cost
    for start, rate, steps, message in (
        ((1.0,), 0.1, 3, "two numbers"),
        ((1.0, float("nan")), 0.1, 3, "start: expected finite"),
        ((1.0, 1.0), float("inf"), 3, "learning_rate"),
        ((1.0, 1.0), 0.1, -1, "steps"),
        ((1.0, 1.0), 0.1, 2.0, "steps"),
    ):
        with pytest.raises(JaxpropError, match=message):
            plot.descend(cost, start, rate, steps)
    with pytest.raises(JaxpropError, match="start where the cost is finite"):
        plot.descend(lambda t: jnp.log(t[0]), (-1.0, 0.0), 0.1, 3)


def test_surface_tells_how_every_descent_ends():
    axes = plot.cost_surface()
    assert axes.shape == (2,) and hasattr(axes[0], "plot_surface")
    text = said(axes[1])
    assert "η = 0.03: converged" in text and "saddle (0, 0): gradient 0" in text and "θ₁θ₂ = 2" in text
    path, _ = plot.descend(plot.article_cost, (3.0, 0.1), 0.4, 60)
    assert f"η = 0.4: diverges, not finite after {len(path)} steps" in text
    assert "η = 0.24: overshoots" in text
    minima = next(line for line in axes[1].lines if "minima" in str(line.get_label()))
    assert np.allclose(np.prod(minima.get_xydata(), axis=1), 2)
    low, high = axes[1].get_xlim()
    for line in axes[1].lines:  # nothing is drawn outside, and the runaway path ends on the border
        data = np.asarray(line.get_xydata())
        assert np.all((data >= low - 1e-9) & (data <= high + 1e-9))
    assert len([t for t in axes[1].texts if t.arrow_patch is not None]) == 1


def test_endings():
    side = np.array([-4.0, 4.0])

    def end(start, rate, steps):
        return ending(plot.article_cost, plot.descend(plot.article_cost, start, rate, steps), side)

    assert end((0.0, 0.0), 0.1, 10) == "does not move (gradient 0)"
    assert end((3.0, 0.1), 0.001, 10) == "still moving after 10 steps"
    assert end((3.0, 0.1), 0.4, 6) == "left the picture (arrow)"


def test_surface_of_another_cost():
    axes = plot.cost_surface(
        lambda t: 0.5 * (t[0] - 1) ** 2 + 5 * (t[1] + 0.5) ** 2, start=(-3, 2), learning_rate=0.18, steps=200
    )
    assert "overshoots" in said(axes[1]) and "saddle" not in said(axes[1])
    with pytest.raises(JaxpropError, match="one to three"):
        plot.cost_surface(learning_rate=(0.1,) * 4)
    with pytest.raises(JaxpropError, match="3-D"):
        plot.cost_surface(axes=plt.subplots(1, 2)[1])


# --- all of them -------------------------------------------------------------------------------------------------


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
    return jp.manual.trace(net, jp.HalfSquaredError())(x, params, jnp.zeros((1, 2)))


ONE = {
    "network": lambda ax: plot.network(*made(3, 2, inputs=2)[:2], ax=ax),
    "article_network": lambda ax: plot.article_network(ax=ax),
    "activation": lambda ax: plot.activation(jp.Tanh(), 0.3, ax=ax),
    "function_fit": lambda ax: plot.function_fit([0.0, 1.0], [0.0, 1.0], lambda x: x, ax=ax),
    "history": lambda ax: plot.history(ROWS, ax=ax),
    "gradient_sizes": lambda ax: plot.gradient_sizes(tape_of_two(), ax=ax),
    "cost_curve": lambda ax: plot.cost_curve(chain_cost, (-1, 1), at=0.0, ax=ax),
    "nudge": lambda ax: plot.nudge(chain_cost, 0.4, ax=ax),
}


@pytest.mark.parametrize("name", ONE)
def test_draws_on_the_axes_given_and_changes_no_setting(name):
    before = dict(matplotlib.rcParams)
    figure = matplotlib.figure.Figure()
    ax = figure.subplots()
    assert ONE[name](ax) is ax
    assert plt.get_fignums() == []  # a given axes needs no figure of pyplot's
    figure.savefig(io.BytesIO(), format="png")  # every glyph is there: a missing one would warn
    assert ONE[name](None).figure is not figure
    assert dict(matplotlib.rcParams) == before


def test_every_picture_is_in_the_table():
    functions = {name for name, value in vars(plot).items() if callable(value) and not isinstance(value, type)}
    assert functions == {*ONE, "neuron_and_perceptron", "cost_surface", "article_cost", "descend", "save"}


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_save_writes_the_same_bytes_twice(tmp_path, suffix, start):
    first, second = (plot.save(plot.article_network(), tmp_path / f"{i}{suffix}") for i in range(2))
    assert first.read_bytes().startswith(start) and first.read_bytes() == second.read_bytes()


def test_save_takes_axes_pairs_and_figures(tmp_path):
    axes = plot.neuron_and_perceptron()
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
