"""Guided backpropagation, deconvnets, and maps of the input: against loops over layers, and their axioms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import JaxpropError, ShapeError
from jaxprop.arrays.relative import relative
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(5, 4))
NET = jp.Chain(jp.Linear(8), jp.ReLU(), jp.Linear(8), jp.Tanh(), jp.Linear(8), jp.ReLU(), jp.Linear(3))
GUIDED, DECONVNET = jp.rules.GuidedBackprop(), jp.rules.Deconvnet()


@pytest.fixture
def params():
    return draw(NET, X)


def by_hand(params, k, keep):
    """δ from the last layer to x; keep(z, δ): what passes a ReLU."""
    zs, a = [], np.asarray(X)
    for i in range(0, 7, 2):
        zs.append(a @ np.asarray(params[i].W) + np.asarray(params[i].b))
        a = np.tanh(zs[-1]) if i == 2 else np.maximum(zs[-1], 0)
    delta = np.eye(3)[np.full(5, k)] @ np.asarray(params[6].W).T
    for i in (4, 2, 0):
        z = zs[i // 2]
        delta = delta * (1 - np.tanh(z) ** 2) if i == 2 else delta * keep(z, delta)
        delta = delta @ np.asarray(params[i].W).T
    return delta


@pytest.mark.parametrize(
    "rule, keep",
    [
        (None, lambda z, delta: z > 0),
        (GUIDED, lambda z, delta: (z > 0) & (delta > 0)),
        (DECONVNET, lambda z, delta: delta > 0),
    ],
    ids=["backprop", "guided", "deconvnet"],
)
def test_what_passes_a_relu_is_as_the_papers_say(rule, keep, params):
    found = jax.jit(functools.partial(jp.saliency.input_gradient(NET, rule), output=1))(X, params)
    assert relative(found.map, by_hand(params, 1, keep)) <= 1e-12
    assert relative(found.value, NET(X, params)[:, 1]) <= 1e-12
    assert rule is None or relative(by_hand(params, 1, keep), by_hand(params, 1, lambda z, delta: z > 0)) > 0.1


def test_only_relus_are_cut_and_a_network_without_one_is_refused():
    net = jp.Chain(jp.Linear(3), jp.LeakyReLU(0.2), jp.Linear(3), jp.GELU())
    for rule in (GUIDED, DECONVNET):
        with pytest.raises(JaxpropError, match=r"is for ReLU, .* found Linear, LeakyReLU, GELU: it would change noth"):
            jp.saliency.input_gradient(net, rule)(X, draw(net, X))
    mixed = jp.Chain(jp.Linear(3), jp.LeakyReLU(0.2), jp.Linear(3), jp.ReLU(), jp.Linear(1))
    rules = GUIDED, jp.rules.at({"3": GUIDED})
    maps = jax.jit(lambda params: [jp.saliency.input_gradient(mixed, rule)(X, params).map for rule in rules])
    assert relative(*maps(draw(mixed, X))) == 0


def test_a_nan_is_not_cut_away():
    here = jp.rules.Here(jp.ReLU(), "", jnp.array([[jnp.nan]]), jnp.array([[1.0]]), (), (), None, None)
    assert jnp.isnan(GUIDED.back(here)[0]).all() and jnp.isnan(DECONVNET.back(here)[0]).all()


@pytest.mark.parametrize(
    "net, shape",
    [(NET, (5, 4)), pytest.param(jp.models.convnet(3, width=2), (2, 8, 8, 1), marks=pytest.mark.slow)],
    ids=["mlp", "conv"],
)
def test_the_plain_map_is_the_gradient_by_jax(net, shape):
    x = jnp.asarray(np.random.default_rng(1).normal(size=shape))
    params = draw(net, x)
    found = jax.jit(jp.saliency.input_gradient(net))(x, params)
    y = net(x, params)
    assert np.array_equal(found.output, y.argmax(1)) and found.map.shape == shape
    expected = jax.jit(jax.grad(lambda x: (net(x, params) * jax.nn.one_hot(y.argmax(1), 3)).sum()))(x)
    assert relative(found.map, expected) <= 1e-12


def test_integrated_gradients_are_complete():
    """Σ a = y(x) − y(b), whatever b; by midpoints, so that twice the steps are a quarter of the error."""
    net = jp.Chain(jp.Linear(6), jp.Tanh(), jp.Linear(3))
    k, baselines = 2, (0.0, -1.5, X[::-1].copy())

    @jax.jit
    def run(params):
        """What Σ a misses by 100 and by 200 steps, for each baseline; and one step, and what that is."""
        missed = []
        for baseline in baselines:
            rise = net(X, params) - net(jnp.broadcast_to(jnp.asarray(baseline), X.shape), params)
            for steps in (100, 200):
                found = jp.saliency.integrated_gradients(net, steps)(X, params, k, baseline)
                missed.append(jnp.max(jnp.abs(found.map.sum(1) - rise[:, k])))
        one = jp.saliency.integrated_gradients(net, 1)(X, params, 0, 0.5).map
        half = jp.saliency.input_gradient(net)((X + 0.5) / 2, params, 0).map
        return missed, one, half

    missed, one, half = jax.device_get(run(draw(net, X)))
    for first, second in zip(missed[::2], missed[1::2], strict=True):
        assert second < 1e-3 and second < first / 3.9
    assert relative(one, (X - 0.5) * half) <= 1e-12


def test_the_integrated_output_is_the_largest_at_x_not_along_the_way():
    params = jp.LinearParams(jnp.array([[1.0, -1.0]]), jnp.array([-5.0, 0.0]))
    found = jax.jit(jp.saliency.integrated_gradients(jp.Linear(2), 7))(jnp.array([[9.0]]), params)
    np.testing.assert_allclose(found.map, [[9.0]], rtol=1e-12)  # 1 · 9, though −x is the larger one at first


def test_bytes_are_taken_as_numbers_and_each_row_may_have_its_output():
    net = jp.Chain(jp.Standardize(3.0, 2.0), jp.Linear(3))
    x = jnp.array([[1, 2], [3, 4]], jnp.uint8)
    params = draw(net, x)
    found = jax.jit(jp.saliency.input_gradient(net))(x, params, np.array([0, 2]))
    assert relative(found.map, np.asarray(params[1].W)[:, [0, 2]].T / 2) <= 1e-12


def test_what_has_no_map(params):
    run = jp.saliency.input_gradient(NET)
    for output, text in (
        (3, "output: found 3, a row of y has 0 to 2"),
        (-1, "0 to 2"),
        (1.5, "one whole number"),
    ):
        with pytest.raises(JaxpropError, match=text):
            run(X, params, output)
    with pytest.raises(ShapeError, match=r"one a row \[5\], found int64 \[2\]"):
        run(X, params, [0, 1])
    embedding = jp.Chain(jp.Embedding(5, 2), jp.Flatten(), jp.Linear(2))
    ids = jnp.array([[0, 4]])
    with pytest.raises(ShapeError, match="Embedding"):
        jp.saliency.input_gradient(embedding)(ids, draw(embedding, ids))
    with pytest.raises(JaxpropError, match="mix the examples"):
        jp.saliency.input_gradient(jp.Chain(jp.Linear(2), jp.BatchNorm()))
    with pytest.raises(ShapeError, match="baseline has shape"):
        jp.saliency.integrated_gradients(NET)(X, params, 0, jnp.ones(3))
    with pytest.raises(JaxpropError, match="steps must be a whole number"):
        jp.saliency.integrated_gradients(NET, 0)
