"""Some of θ by path: decay, freezing, other optimizers; the average of θ; and every kind of optimizer by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError
from jaxprop.train import averaged, choose, frozen
from jaxprop.train.batches import epoch_order
from tests.drawing import draw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 3))
TARGETS = np.tanh(X @ RNG.normal(size=(3, 2)))
NET, HALF, KEY = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2)), jp.HalfSquaredError(), jax.random.key(1)
SOME = (False, True)  # of LinearParams: the bias


def fit(optimizer, net=NET, epochs=4, batch_size=6, **options):
    start = {} if "state" in options else {"params": draw(net, X)}
    usual = {"epochs": epochs, "batch_size": batch_size, "key": KEY, "progress": False} | start
    return jp.fit(net, HALF, optimizer, (X, TARGETS), **usual | options)


def equal(a, b):
    """Whether two trees hold the same bits, the sign of 0 too."""
    a, b = jax.tree.map(_data, (a, b))
    return all(np.asarray(x).tobytes() == np.asarray(y).tobytes()
               for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))  # fmt: skip


def _data(leaf):
    is_key = isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def accumulated(optimizer, k=2):
    return optax.MultiSteps(optimizer, k, accumulator_dtype=jnp.float64)


WARM = optax.warmup_cosine_decay_schedule(0.0, 0.05, 3, 12)
NAMED = {
    "schedule": lambda: optax.sgd(optax.exponential_decay(0.1, 2, 0.9)),
    "warm-up, cosine": lambda: optax.adamw(WARM),
    "clipped norm": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.05)),
    "accumulated": lambda: accumulated(optax.adam(0.05)),
    "accumulated, skipping": lambda: optax.MultiSteps(
        optax.adam(0.05), 2, should_skip_update_fn=optax.skip_not_finite, accumulator_dtype=jnp.float64
    ),
    "L-BFGS": lambda: optax.lbfgs(),
    "L-BFGS, frozen, averaged": lambda: averaged(frozen(optax.lbfgs(), "0"), 0.5),
    "backtracking": lambda: optax.chain(
        optax.sgd(1.0), optax.scale_by_backtracking_linesearch(10, store_grad=True)
    ),
    "Polyak": lambda: optax.polyak_sgd(0.1),
    "plateau": lambda: optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=1)),
    "plateau, accumulated": lambda: accumulated(
        optax.chain(optax.adam(0.05), optax.contrib.reduce_on_plateau(patience=1))
    ),
    "decay by path": lambda: optax.adamw(0.05, weight_decay=0.1, mask=choose("*.W")),
    "frozen": lambda: frozen(optax.adamw(0.05, weight_decay=0.1), "0"),
    "frozen by kind": lambda: frozen(optax.adam(0.05), jp.Linear, net=NET),
    "averaged": lambda: averaged(optax.adam(0.05), 0.9),
    "averaged, accumulated": lambda: accumulated(averaged(optax.adam(0.05), 0.9)),
    "lookahead": lambda: optax.lookahead(frozen(optax.sgd(0.1), "0"), 2, 0.5),
    "schedule-free, frozen": lambda: frozen(optax.contrib.schedule_free_sgd(0.1), "0"),
    "sharpness-aware, frozen": lambda: frozen(
        optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.05), opaque_mode=True), "0"
    ),
    "Sophia, frozen": lambda: frozen(optax.contrib.sophia(0.05, update_interval=2), "0"),
    "K-FAC, frozen": lambda: frozen(jp.stats.precondition(NET, HALF, (X, TARGETS), 0.1), "0"),
    "hyperparameters": lambda: optax.inject_hyperparams(optax.adam)(WARM),
    "noise": lambda: optax.chain(optax.add_noise(0.1, 0.5, KEY), optax.sgd(0.1)),
}  # fmt: skip

# those that `fit` treats as plain SGD or Adam, or as others here
LIKE_OTHERS = (
    *("schedule", "warm-up, cosine", "clipped norm", "decay by path", "hyperparameters", "noise"),
    *("plateau, accumulated", "averaged, accumulated", "L-BFGS", "Sophia, frozen"),
)
EACH = [
    pytest.param(name, marks=pytest.mark.exhaustive if name in LIKE_OTHERS else pytest.mark.slow)
    for name in NAMED
    if name != "frozen"
]


@pytest.mark.parametrize("name", ["frozen", *EACH])
def test_by_name(name):
    """It trains; two runs are one, and a loop over `jp.train.step` is `fit`, to the last bit of θ and state."""
    optimizer = NAMED[name]()
    whole, half = fit(optimizer), fit(optimizer, epochs=2)
    other = fit(optimizer, epochs=2, state=half.state)
    assert equal(other.state, whole.state) and equal(other.params, whole.params)
    if name != "frozen by kind":
        assert whole.history[-1]["cost"] < whole.history[0]["cost"]
    run = jp.train.epoch(NET, HALF, optimizer, batch_size=6)
    state, costs = jax.jit(run)(X, run.start(draw(NET, X)), TARGETS, rng=KEY)
    assert np.all(np.isfinite(costs)) and all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(run.params(state)))
    step, one = jp.train.step(NET, HALF, optimizer), fit(optimizer, epochs=1)
    _, order_key, layer_key = jax.random.split(KEY, 3)
    order = epoch_order(np.asarray(jax.random.key_data(order_key)), 0, 12)
    state, take = step.start(draw(NET, X)), jax.jit(step)
    for i, rows in enumerate((order[:6], order[6:])):
        state, _ = take(X[rows], state, TARGETS[rows], rng=jax.random.fold_in(layer_key, i))
    assert equal(state[:2], one.state[:2]) and equal(step.params(state), one.params)


@pytest.mark.slow
def test_two_accumulated_batches_are_one():
    twice = fit(accumulated(optax.adam(0.05)), batch_size=6)
    assert relative(twice.params, fit(optax.adam(0.05), batch_size=12).params) < 1e-12


# Choosing


def test_choosing_by_path_and_kind():
    net = jp.Chain(jp.Residual(jp.Chain(jp.LayerNorm(), jp.Linear(3))), jp.Repeat(jp.Linear(3), 2), jp.Linear(1))
    params = draw(net, X)

    def paths(*keys, net=None):
        chosen = jp.arrays.paths.by_path(choose(*keys, net=net)(params))
        return [path for path, fits in chosen.items() if fits]

    assert paths("*.W") == ["0.inner.1.W", "1.inner.W", "2.W"]
    assert paths("0.*.1") == paths("0.inner.1") == ["0.inner.1.W", "0.inner.1.b"]
    assert paths(jp.LayerNorm, "2.b", net=net) == ["0.inner.0.scale", "0.inner.0.bias", "2.b"]
    assert paths(jp.Residual, net=net) == paths("0") == [*paths("0.inner.0"), *paths("0.inner.1")]
    assert paths(jp.Repeat, net=net) == paths("1*")
    assert paths(jp.Chain, net=net) == paths("*")


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: choose(), "found no key"),
        (lambda: choose(3), "a key must be a path .* found 3"),
        (lambda: choose(jp.Linear), "Linear is a class of layers, .* give net="),
        (lambda: choose("3.*")(draw(NET, X)), r"'3\.\*' fits no array of θ; there are 0\.W, 0\.b, 2\.W, 2\.b"),
        (lambda: choose(jp.Conv, net=NET)(draw(NET, X)), "Conv fits no array"),
        (lambda: fit(frozen(optax.sgd(0.1), "9")), "'9' fits no array of θ"),
        (lambda: fit(frozen(optax.lookahead(optax.sgd(0.1), 2, 0.5), "0")), r"write optax.lookahead\(frozen\("),
        (lambda: averaged(optax.sgd(0.1), 1.0), "decay must be from 0 to below 1, such as 0.999, found 1.0"),
    ],
    ids=["none", "number", "no net", "no array", "no layer", "in use", "lookahead", "decay"],
)
def test_what_cannot_be_chosen_is_told(make, words):
    with pytest.raises(JaxpropError, match=words):
        make()


@pytest.mark.slow
def test_weights_decay_by_path():
    """The gradient is 0, so that decay alone moves θ: W by (1 − ηλ) a step, b not at all."""
    start = jp.LinearParams(W=np.ones((3, 2)), b=np.array([0.5, -0.0]))
    optimizer = optax.adamw(0.1, weight_decay=0.5, mask=choose("*W"))
    step = jp.train.step(jp.Linear(2), HALF, optimizer)
    state, _ = step(np.zeros((4, 3)), step.start(start), np.tile(start.b, (4, 1)))
    assert relative(state.params.W, 0.95 * start.W) < 1e-12 and equal(state.params.b, start.b)


# Freezing


@pytest.mark.slow
@pytest.mark.parametrize("grad", ["auto", "manual"])
def test_frozen_arrays_keep_their_bits_and_the_others_train_as_if_alone(grad):
    params = draw(NET, X)
    params = (params[0]._replace(b=np.array([-0.0, 0.0, 1e-300, 0.1])), *params[1:])
    optimizer = optax.chain(optax.clip_by_global_norm(0.05), optax.adamw(0.05, weight_decay=0.3))
    result = fit(averaged(frozen(optimizer, "0"), 0.7), params=params, grad=grad)
    alone = jp.fit(
        jp.Chain(jp.Tanh(), jp.Linear(2)), HALF, averaged(optimizer, 0.7),
        (np.asarray(NET.layers[0](X, params[0])), TARGETS),
        params=params[1:], epochs=4, batch_size=6, key=KEY, progress=False, grad=grad,
    )  # fmt: skip
    for found in (result.params, result.state.params, result.best.params):
        assert equal(found[0], params[0])
    step = jp.train.step(NET, HALF, frozen(optax.sgd(0.1), "0"), grad=grad)
    state, _ = step(X, step.start(params), TARGETS)  # outside of jit nobody leaves out a sum with 0
    assert equal(state.params[0], params[0])
    assert relative(result.params[1:], alone.params) < 1e-12 < 1e-3 < relative(result.params[2], params[2])


@pytest.mark.parametrize("grad", ["auto", "manual"])
def test_what_is_frozen_costs_no_gradient(grad):
    """XLA leaves out 2 N I O operations for every frozen W, and as many for an error that nobody needs then."""
    x, targets = np.zeros((64, 100)), np.zeros((64, 10))
    net = jp.Chain(jp.Linear(80), jp.Tanh(), jp.Linear(60), jp.Tanh(), jp.Linear(10))
    params = draw(net, x)

    def operations(optimizer):
        step = jp.train.step(net, HALF, optimizer, grad=grad)
        found = jax.jit(step).lower(x, step.start(params), targets).compile().cost_analysis()
        return found["flops"]

    plain, some = operations(optax.sgd(0.1)), operations(frozen(optax.sgd(0.1), "0", "2"))
    assert plain - some > 2 * 64 * (100 * 80 + 80 * 60 + 80 * 60 + 60 * 10)


# The average


def test_the_average_is_for_use_in_the_result_the_validation_and_the_best():
    held, decay, states = (X[:4], TARGETS[:4]), 0.8, []
    result = fit(
        averaged(optax.sgd(0.2), decay), batch_size=12, validation=held,
        on_epoch=lambda row, state: states.append(state.params),
    )  # fmt: skip
    shares = np.array([decay ** (len(states) - 1 - s) for s in range(len(states))])
    expected = jax.tree.map(lambda *a: np.tensordot(shares / shares.sum(), np.stack(a), 1), *states)
    assert relative(result.params, expected) < 1e-12 < 1e-2 < relative(result.state.params, expected)
    assert equal(result.best.params, result.params)
    measured = jp.evaluate(NET, HALF)(*held[:1], result.params, held[1])["cost"]
    assert result.row["validation_cost"] == pytest.approx(measured, rel=1e-12)


def test_the_average_of_many_steps_in_float32():
    """Where θ stays, so does its average, to the last bit; and at d = 0.9999 the first shares are right."""
    optimizer = averaged(optax.sgd(0.0), 0.9999)
    params = {"w": jnp.float32(0.1) * jnp.arange(7, dtype=jnp.float32)}
    state = optimizer.init(params)
    update = jax.jit(optimizer.update)
    for _ in range(5):
        _, state = update(jax.tree.map(jnp.ones_like, params), state, params)
    assert equal(state.average, params)
    moving, state = averaged(optax.sgd(1.0), 0.9999), averaged(optax.sgd(1.0), 0.9999).init(jnp.float32(0.0))
    with jax.numpy_dtype_promotion("standard"):
        _, state = moving.update(jnp.float32(-1.0), state, jnp.float32(0.0))
        _, state = moving.update(jnp.float32(-1.0), state, jnp.float32(1.0))
    assert float(state.average) == pytest.approx((0.9999 + 2) / 1.9999, rel=1e-6)
