"""A training run from inside: each panel shows what was recorded, at the steps at which it was."""

import dataclasses
import functools
import io

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from matplotlib.figure import Figure

import jaxprop as jp
from jaxprop import JaxpropError, plot, stats
from tests.drawing import draw


class Spread(stats.Quantity):
    """Two numbers and an array too large to draw."""

    def finish(self, kept, notes, context):
        return {"costs": context.costs, "least": jnp.min(context.costs)}


X = np.random.default_rng(0).normal(size=(16, 3))
NET = jp.Chain(jp.Linear(3), jp.Repeat(jp.Chain(jp.Linear(3), jp.ReLU()), 2), jp.Linear(1))
WATCHED = {
    "updates": stats.UpdateToWeight(),
    "flow": stats.Flow(),
    "dead": stats.DeadUnits(),
    "gradients": stats.GradientHistogram(magnitudes=True),
    "activations": stats.ActivationHistogram(bins=10),
    "spread": Spread(),
}


@functools.cache
def trained():
    return jp.fit(
        NET, jp.HalfSquaredError(), optax.sgd(0.05), (X, X[:, :1]), params=draw(NET, X), batch_size=4, epochs=3,
        validation=(X, X[:, :1]), monitor=WATCHED, every=3, progress=False,
    )  # fmt: skip


def test_every_quantity_has_its_panels_on_a_figure_of_ones_own():
    result, figure = trained(), Figure(layout="constrained")
    axes = plot.inside(result, figure=figure)
    assert all(ax.figure is figure for ax in axes) and plt.get_fignums() == []
    panels = {ax.get_title(loc="left"): ax for ax in axes}
    seen, steps = result.monitor, [0, 3, 6, 9]
    assert list(panels)[2:] == [
        "updates: update ÷ weight", "flow: RMS of the error ∂Cₙ/∂y", "flow: RMS of the activation y",
        "dead: DeadUnits()", "gradients: 0.W", "gradients: 1.0.W[0]", "gradients: 2.W", "activations: 0",
        "activations: 1.0[1]", "activations: 2", "spread: Spread()",
    ]  # fmt: skip
    cost, gradient = axes[:2]
    assert cost.lines[0].get_ydata().tolist() == seen.costs.tolist() and cost.lines[0].get_xdata().tolist() == steps
    epochs = [row["cost"] for row in result.history]
    assert cost.lines[1].get_ydata().tolist() == epochs and cost.lines[1].get_xdata().tolist() == [4, 8, 12]
    assert gradient.lines[0].get_ydata().tolist() == seen.gradient_norms.tolist()
    updates = panels["updates: update ÷ weight"].lines
    assert [line.get_label() for line in updates][:4] == ["0.W", "1.0.W[0]", "1.0.W[1]", "2.W"]
    assert updates[2].get_ydata().tolist() == seen["updates"][1].inner[0].W[:, 1].tolist()
    flow, (mesh,) = seen["flow"], panels["flow: RMS of the error ∂Cₙ/∂y"].collections
    expected = np.log10(np.stack([flow.layers[label].error for label, _ in flow.names]))
    assert np.allclose(mesh.get_array().filled(np.nan), expected, equal_nan=True)
    dead = panels["dead: DeadUnits()"].lines
    assert [line.get_ydata().tolist() for line in dead] == seen["dead"]["1.inner.1"].fraction.T.tolist()
    (mesh,) = panels["activations: 2"].collections
    assert np.allclose(mesh.get_array().sum(axis=0), 1)  # every record's entries, whole
    column = mesh.get_array()[:, 2]
    edges = mesh.get_coordinates()[:, 0, 1]
    histogram = seen["activations"]["2"]
    mean = np.sum(histogram.counts[2] * (histogram.edges[2][1:] + histogram.edges[2][:-1]) / 2) / 4
    assert np.sum(column * (edges[1:] + edges[:-1]) / 2) == pytest.approx(mean, abs=np.diff(edges)[0])
    spread = panels["spread: Spread()"].lines  # of the array its RMS
    assert np.allclose(spread[0].get_ydata(), np.sqrt(np.mean(seen["spread"]["costs"] ** 2, axis=1)))
    figure.savefig(io.BytesIO(), format="png", dpi=30)  # every glyph is there: a missing one would warn


def test_what_cannot_be_drawn_and_a_run_that_was_interrupted_can():
    result = trained()
    with pytest.raises(JaxpropError, match="a run without a monitor; train with fit"):
        plot.inside(dataclasses.replace(result, monitor=None))
    none = dataclasses.replace(result.monitor, steps=result.monitor.steps[:0])
    with pytest.raises(JaxpropError, match="has no record"):
        plot.inside(dataclasses.replace(result, monitor=none))
    alone = dataclasses.replace(result.monitor, quantities={})
    one = dataclasses.replace(result, monitor=alone, history=(), stopped="interrupted")
    assert len(plot.inside(one)[0].lines) == 1
