"""Histograms, dead and saturated units, update ÷ weight and the flow, against numpy and the tape."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop import stats
from jaxprop.arrays.paths import by_path
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from tests.drawing import draw

BLOCK = jp.Chain(jp.Residual(jp.Chain(jp.Linear(6), jp.Tanh())), jp.ReLU())
NET = jp.Shared(
    jp.Chain(jp.Linear(6), jp.ReLU(), jp.Repeat(BLOCK, 3), jp.Remat(jp.Linear(6)), jp.Sigmoid()),
    ties=(("0.W", "3.inner.W", True),),
)
LABELS = ["inner.0", "inner.1"]
LABELS += [f"inner.2.inner.{leaf}[{i}]" for i in range(3) for leaf in ("0.inner.0", "0.inner.1", "1")]
LABELS += ["inner.3.inner", "inner.4"]
X = np.random.default_rng(0).normal(size=(5, 6))
TARGETS = np.random.default_rng(1).uniform(size=(5, 6))
HALF = jp.HalfSquaredError()
ASKED = {
    "flow": stats.Flow(),
    "gradients": stats.GradientHistogram(7),
    "decades": stats.GradientHistogram(5, range=(1e-4, 1e-1), magnitudes=True),
    "activations": stats.ActivationHistogram(7, range=(-0.5, 0.7)),
    "dead": stats.DeadUnits(),
    "saturated": stats.SaturatedUnits(0.7),
    "updates": stats.UpdateToWeight(0.1),
}


@pytest.fixture(scope="module")
def found():
    """θ, the gradient and the tape, and what was asked for, of one network with everything in it."""
    with jax.enable_x64(True):
        params = draw(NET, X)
        run = jax.jit(stats.collect(NET, HALF, list(ASKED.values())))
        tape = jax.jit(jp.manual.trace(NET, HALF))(X, params, TARGETS)
        grads = jax.jit(jp.auto.value_and_grad(NET, HALF))(X, params, TARGETS)[1]
        return params, grads, tape, dict(zip(ASKED, run(X, params, TARGETS).found, strict=True))


def rms(a):
    return np.sqrt(np.mean(np.square(a)))


def block_of(label, array):
    """The path of a label, and its block of an array."""
    path, _, number = label.rstrip("]").partition("[")
    return path, array if not number else array[int(number)]


def test_the_flow_is_that_of_the_tape_block_by_block(found):
    _, grads, tape, results = found
    flow = results["flow"]
    assert [label for label, _ in flow.names] == LABELS and set(flow.layers) == set(LABELS)
    for label, layer in flow.names:
        record = tape[label.partition("[")[0]]
        y, dy, dx = (block_of(label, a)[1] for a in (record.y, record.dy, record.dx))
        row = flow.layers[label]
        assert row.activation == pytest.approx(rms(y), rel=1e-12) and row.error == pytest.approx(rms(dy), rel=1e-12)
        assert row.gain == pytest.approx(np.log10(rms(dx) / rms(dy)), abs=1e-12)
        own = [
            block_of(label, g)[1]
            for path, g in by_path(grads).items()
            if path.startswith(f"{label.partition('[')[0]}.")
        ]
        if "Linear" in layer:  # the tied weight is its owner's, and the user has its bias alone
            assert row.gradient == pytest.approx(rms(np.concatenate([np.ravel(g) for g in own])), rel=1e-10)
            assert len(own) == (1 if label == "inner.3.inner" else 2)
        else:
            assert row.gradient is None and not own
    scalars = stats.Flow().scalars(flow)
    assert scalars["inner.2.inner.1[2].gain"] == flow.layers["inner.2.inner.1[2]"].gain


def counts(values, edges):
    """numpy's, with what lies outside in the ends."""
    return np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0]


def test_histograms_are_numpys(found):
    _, grads, tape, results = found
    linear = by_path(results["gradients"], is_leaf=lambda node: isinstance(node, stats.Histogram))
    decades = results["decades"]
    decades = by_path(decades, is_leaf=lambda node: isinstance(node, stats.Histogram))
    assert list(linear) == list(decades) == list(by_path(grads))
    for path, gradient in by_path(grads).items():
        stacked = path.startswith("inner.2")
        blocks = range(3) if stacked else [()]
        assert linear[path].counts.shape == ((3, 7) if stacked else (7,))
        for block in blocks:
            g, one, two = (np.asarray(a[block]) for a in (gradient, linear[path].counts, decades[path].counts))
            expected, edges = np.histogram(g, 7)
            assert relative(linear[path].edges[block], edges) < 1e-9
            inside = np.abs(g[..., None] - edges).min() > 1e-12  # the ends themselves are there, to the last bit or not
            assert one.sum() == expected.sum() and (not inside or np.array_equal(one, expected))
            assert np.array_equal(two, counts(np.abs(g), np.geomspace(1e-4, 1e-1, 6)))
    activations = results["activations"]
    assert list(activations) == sorted(tape)
    for path, record in tape.items():
        blocks = range(3) if path.startswith("inner.2") else [()]
        for block in blocks:
            edges = np.linspace(-0.5, 0.7, 8)
            assert np.array_equal(activations[path].counts[block], counts(np.asarray(record.y[block]), edges))


def test_a_histogram_of_odd_numbers():
    histogram = jax.jit(stats.ActivationHistogram(bins=4, range=(0.0, 4.0)).counted)
    odd = jnp.array([-jnp.inf, -1.0, 0.0, 1.0, 4.0, jnp.inf, jnp.nan])
    assert histogram(odd).counts.tolist() == [3, 1, 0, 2]  # NaN counts nowhere
    same = jax.jit(stats.GradientHistogram(bins=2).counted)(jnp.full(3, 2.0))
    assert same.edges.tolist() == [1.5, 2.0, 2.5] and same.counts.tolist() == [0, 3]
    zeros = jax.jit(stats.GradientHistogram(bins=3, magnitudes=True).counted)(jnp.array([0.0, 0.1, -1e9]))
    assert zeros.counts.tolist() == [1, 0, 2] and zeros.edges[0] == pytest.approx(1e-12)
    assert jax.eval_shape(histogram, jnp.ones(3, jnp.bfloat16)).edges.dtype == jnp.float32


def test_units_are_those_of_the_derivative(found):
    _, _, tape, results = found
    dead, saturated = results["dead"], results["saturated"]
    activations = {"inner.1": 1, "inner.2.inner.0.inner.1": 1, "inner.2.inner.1": 1, "inner.4": 0.25}
    assert list(dead) == list(saturated) == list(activations)
    for path, largest in activations.items():
        slope = np.asarray(tape[path].derivative)
        for units, bound in ((dead[path], 0), (saturated[path], 0.7 * largest)):
            flat = slope <= bound
            assert np.allclose(units.share, flat.mean(axis=-2), rtol=1e-12)
            assert np.array_equal(units.mask, flat.all(axis=-2))
            assert np.allclose(units.fraction, flat.all(axis=-2).mean(axis=-1), rtol=1e-12)
    numbers = stats.DeadUnits().scalars(dead)
    assert list(numbers)[:3] == ["inner.1", "inner.2.inner.0.inner.1[0]", "inner.2.inner.0.inner.1[1]"]


ACTIVATIONS = [
    kind() for kind in vars(jp.layers).values()
    if isinstance(kind, type) and issubclass(kind, jp.layers.Activation) and kind is not jp.layers.Activation
]  # fmt: skip
Z = np.stack([np.full(4, -1e4), np.full(4, 1e4), [-1e4, 1e4, 0.5, -0.5], np.zeros(4), [-0.5, -1, -2, -0.1]], axis=1)


QUICK = (jp.ReLU(), jp.HardTanh(), jp.Sigmoid())


@pytest.mark.parametrize(
    "activation",
    [pytest.param(a, id=repr(a), marks=[] if a in QUICK else pytest.mark.slow) for a in ACTIVATIONS],
)
def test_what_is_dead_for_every_activation(activation):
    """A unit is where JAX's own derivative is 0, the flat ends where it is at most a share of the largest anywhere."""
    points = np.append(Z, np.linspace(-10, 10, 2001))
    slopes = (
        0 * points if _stepping(activation) else np.abs(jax.jit(jax.vmap(jax.grad(lambda z: activation(z))))(points))
    )
    slope, largest = slopes[: Z.size].reshape(Z.shape), slopes[Z.size :].max()
    x = jnp.asarray(Z)
    asked = [stats.DeadUnits(), stats.SaturatedUnits(0.1)]
    dead, saturated = jax.jit(stats.collect(activation, HALF, asked))(x, (), x).found
    assert np.array_equal(dead[""].mask, np.all(slope == 0, axis=0))
    assert np.array_equal(saturated[""].mask, np.all(slope <= 0.1 * largest, axis=0))


def _stepping(activation):
    """Whether it has slope 0 wherever there is one: JAX may think otherwise."""
    return isinstance(activation, tuple(getattr(jp.layers, name) for name in ("Step", "Quantize")))


def units_of(layer, x, *asked):
    return [found[""] for found in jax.jit(stats.collect(layer, HALF, asked))(x, (), x).found]


def test_units_of_a_softmax_and_channels_of_an_image():
    z = np.log([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05]])  # y(1 − y) is 0.09 and 0.0475, the largest ¼
    dead, saturated = units_of(jp.Softmax(), z, stats.DeadUnits(), stats.SaturatedUnits(0.3))
    assert saturated.share.tolist() == [0.5, 0.5, 1] and not dead.mask.any()
    z = np.array([[1e3, 0.0, 0.0], [1e3, 1.0, 0.0]])  # one class has it all: nothing goes back
    dead, saturated = units_of(jp.Softmax(), z, stats.DeadUnits(), stats.SaturatedUnits(0.3))
    assert dead.mask.all() and saturated.mask.all()
    image = np.random.default_rng(2).normal(size=(2, 4, 4, 3))
    image[..., 1] = -1
    (dead,) = units_of(jp.ReLU(), image, stats.DeadUnits())
    assert dead.mask.tolist() == [False, True, False] and dead.fraction == pytest.approx(1 / 3)
    (dead,) = units_of(jp.ReLU(), np.array([-1.0, -2.0]), stats.DeadUnits())
    assert dead.mask.tolist() == [True]  # one unit, without an axis of its own


def test_update_to_weight_is_that_of_gradient_descent(found):
    params, grads, _, results = found
    ratios = by_path(results["updates"])
    assert list(ratios) == list(by_path(grads))
    for (path, g), p in zip(by_path(grads).items(), by_path(params).values(), strict=True):
        for block in range(3) if path.startswith("inner.2") else [()]:
            assert ratios[path][block] == pytest.approx(0.1 * rms(g[block]) / rms(p[block]), rel=1e-10)
    assert "inner.2.inner.0.inner.0.W[2]" in stats.UpdateToWeight().scalars(results["updates"])
    still = jp.LinearParams(W=jnp.zeros((1, 1)), b=jnp.zeros(1))
    moved = jp.LinearParams(W=jnp.ones((1, 1)), b=jnp.zeros(1))
    ratios = stats.update_to_weight.update_to_weight(jp.Linear(1), moved, still)
    assert ratios.W == jnp.inf and ratios.b == 0


def flow_of(net, x, params=None, share=1e-3):
    params = draw(net, x) if params is None else params
    targets = jnp.zeros(jax.eval_shape(net, x, params).shape)
    return jax.jit(stats.collect(net, HALF, [stats.Flow(share)]))(x, params, targets).found[0]


def test_the_flow_says_where_it_vanishes_or_explodes():
    x = jnp.asarray(X)
    deep = flow_of(jp.Chain(*[jp.Linear(6), jp.Sigmoid()] * 8), x)
    error, activation = deep.verdict()
    first = [label for label, _ in deep.names if deep.layers[label].error < 1e-3 * deep.layers["15"].error][-1]
    kind = "Sigmoid()" if int(first) % 2 else "Linear(6)"
    ratio = float(deep.layers["0"].error / deep.layers["15"].error)
    assert error.startswith(f"The error vanishes from layer {first}, {kind}, back to layer 0: there it is ")
    assert float(error.split(" it is ")[1].split(" of ")[0]) == pytest.approx(ratio, rel=0.05)
    assert error.endswith("of what it is at the last layer.")
    assert activation == "The activation neither vanishes nor explodes."
    assert str(deep).splitlines()[-2:] == [error, activation] and len(str(deep).splitlines()) == 19
    net = jp.Chain(*[jp.Linear(6, bias=False)] * 5)
    large = flow_of(net, x, jax.tree.map(lambda p: 100 * p, draw(net, x)))
    assert large.verdict()[0].startswith("The error explodes from layer 2, Linear(6, bias=False), back to layer 0")
    assert large.verdict()[1].startswith("The activation explodes from layer 2, Linear(6, bias=False), on to layer 4")
    net = jp.Chain(jp.Linear(6), jp.ReLU(), jp.Linear(1))
    params = draw(net, x)
    gone = flow_of(net, x, (params[0]._replace(b=jnp.full(6, -1e3)), *params[1:]))
    assert gone.verdict()[0] == "The error vanishes at layer 0, Linear(6): there it is exactly 0."
    assert gone.layers["1"].gain < -300 and np.isfinite(gone.layers["1"].gain)
    broken = flow_of(net, x.at[0, 0].set(jnp.nan))
    assert "not finite from layer 2" in broken.verdict()[0] and "not finite from layer 0" in broken.verdict()[1]
    still = flow_of(jp.Tanh(), jnp.zeros((1, 1)), ())
    assert still.verdict() == [
        f"There is no {what} layer to compare with." for what in ("error at the last", "activation at the first")
    ]


def test_a_flow_of_ids_has_no_error_at_the_ids():
    net = jp.Chain(jp.Embedding(5, 4), jp.BatchNorm(), jp.Linear(2))
    flow = flow_of(net, jnp.asarray([[0, 1], [2, 3]]))
    assert flow.layers["0"].gain is None and flow.layers["0"].error is not None
    assert "0.gain" not in stats.Flow().scalars(flow) and str(flow).splitlines()[1].startswith("0      Embedding(5, 4)")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: stats.GradientHistogram(bins=0), "bins must be a whole number ≥ 1, found 0"),
        (lambda: stats.GradientHistogram(range=(1.0, 1.0)), "low < high, found"),
        (lambda: stats.ActivationHistogram(range=(0.0, jnp.inf)), "low < high, found"),
        (lambda: stats.GradientHistogram(range=(0.0, 1.0), magnitudes=True), "magnitudes are above 0"),
        (lambda: stats.SaturatedUnits(1.0), "threshold must be from 0 to below 1, found 1.0"),
        (lambda: stats.Flow(share=0.0), "share must be between 0 and 1, found 0.0"),
        (lambda: stats.UpdateToWeight(-0.1), "learning_rate must be positive, found -0.1"),
        (
            lambda: jax.eval_shape(stats.collect(jp.Tanh(), HALF, [stats.UpdateToWeight()]), X, (), X),
            "outside of fit there is no optimizer: give learning_rate=",
        ),
    ],
)
def test_settings_that_cannot_be(make, words):
    with pytest.raises(JaxpropError, match=words):
        make()
