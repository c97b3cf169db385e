"""`jp.train.step` and `jp.train.epoch`: a loop of one's own is what `fit` does, and they are pure functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError, ShapeError
from jaxprop.train.batches import epoch_order
from tests.drawing import draw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(14, 3))
TARGETS = np.tanh(X @ RNG.normal(size=(3, 2)))
WEIGHTS, MASK = np.arange(1.0, 15.0), (np.arange(14) % 3 > 0).astype(float)
KEY, HALF = jax.random.key(3), jp.HalfSquaredError()
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2))
DRAWS = jp.Chain(jp.Linear(4), jp.Dropout(0.3), jp.Linear(2))
ADAM = optax.adam(0.02)


def equal(a, b):
    """Whether two trees hold the same bits."""
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def loop(run, state, epochs=2, batch_size=5, weights=None, mask=None, draws=True):
    """What `fit` does, one step at a time: the state after it, and every epoch's cost."""

    @functools.partial(jax.jit, donate_argnums=1)
    def one(x, state, targets, weights=None, **given):
        return run(x, state, targets, weights=None if weights is None else weights / len(x), **given)

    costs = []
    _, order_key, layer_key = jax.random.split(KEY, 3)
    for epoch in range(epochs):
        order, summed = epoch_order(np.asarray(jax.random.key_data(order_key)), epoch, len(X)), 0.0
        for i, start in enumerate(range(0, len(X), batch_size)):
            rows = order[start : start + batch_size]
            given = {} if mask is None else {"mask": mask[rows]}
            if weights is not None:
                given["weights"] = weights[rows] / np.mean(weights)
            if draws:
                given["rng"] = jax.random.fold_in(layer_key, epoch * 3 + i)
            state, cost = one(X[rows], state, TARGETS[rows], **given)
            summed += len(rows) * float(cost)
        costs.append(summed / len(X))
    return state, costs


def f(x, params):
    return jnp.tanh(x @ params["w"])


W = {"w": RNG.normal(size=(3, 2))}
FED = jp.rules.KolenPollack(0.05)


@pytest.mark.parametrize(
    "net, how, rows",
    [
        (NET, {"grad": "manual"}, {"weights": WEIGHTS}),
        pytest.param(DRAWS, {"grad": "auto"}, {}, marks=pytest.mark.slow),
        (f, {}, {}),
        pytest.param(NET, {"rule": FED}, {}, marks=pytest.mark.slow),
        pytest.param(DRAWS, {"grad": "manual"}, {"weights": WEIGHTS}, marks=pytest.mark.slow),
        pytest.param(NET, {"precision": "bfloat16"}, {}, marks=pytest.mark.slow),
        pytest.param(NET, {"precision": "float16"}, {}, marks=pytest.mark.slow),
    ],
    ids=["weights, by hand", "a layer that draws", "a plain function", "a rule", "both", "bfloat16", "float16"],
)
def test_a_loop_of_ones_own_is_fit(net, how, rows):
    """θ, the optimizer's state and the feedback, to the last bit; and the costs."""
    params = W if net is f else draw(net, X)
    fed = {"feedback": FED.init(KEY, NET, params, X)} if "rule" in how else {}
    given = {"params": params, "epochs": 2, "batch_size": 5, "key": KEY, "progress": False}
    result = jp.fit(net, HALF, ADAM, (X, TARGETS), **given, **how, **rows, **fed)
    run = jp.train.step(net, HALF, ADAM, **how)
    state, costs = loop(run, run.start(params, **fed), **rows, draws=net is not f)
    expected = (result.state.params, result.state.optimizer, result.state.feedback, result.state.scaling)
    if net is f:  # jax 0.12 sums this one product in another order where it is compiled alone
        assert relative(tuple(state[:2]), expected[:2]) < 1e-13
    else:
        assert equal(state, expected) and equal(run.params(state), result.params)
    assert relative(np.array(costs), np.array([row["cost"] for row in result.history])) < 1e-14


@pytest.mark.slow
def test_a_mask_reaches_the_layers():
    net = jp.Chain(jp.LSTM(4), jp.Linear(1))
    x, targets = RNG.normal(size=(6, 5, 2)), RNG.normal(size=(6, 5, 1))
    mask, params = np.ones((6, 5), bool), draw(net, x)
    mask[:, 3:] = False
    run = jax.jit(jp.train.step(net, HALF, ADAM))
    start = jp.train.step(net, HALF, ADAM).start(params)
    masked, _ = run(x, start, targets, mask=mask)
    x[:, 3:] = 7.0
    assert equal(masked.params[0], run(x, start, targets, mask=mask)[0].params[0])
    assert not equal(masked.params[0], run(x, start, targets)[0].params[0])


SLOW_SIZES = [pytest.param(size, marks=pytest.mark.slow) for size in (7, 20)]


@pytest.mark.parametrize("batch_size", [5, *SLOW_SIZES], ids=["a smaller last one", "even", "larger than the rows"])
def test_an_epoch_is_its_steps(batch_size):
    run, step = jp.train.epoch(DRAWS, HALF, ADAM, batch_size=batch_size), jax.jit(jp.train.step(DRAWS, HALF, ADAM))
    start = run.start(draw(DRAWS, X))
    state, costs = jax.jit(run)(X, start, TARGETS, rng=KEY, weights=WEIGHTS)
    order_key, layer_key = jax.random.split(KEY)
    order, expected, seen = jax.random.permutation(order_key, 14), start, []
    for i, first in enumerate(range(0, 14, batch_size)):
        rows = order[first : first + batch_size]
        weights = WEIGHTS[rows] / WEIGHTS.mean() / len(rows)
        key = jax.random.fold_in(layer_key, i)
        expected, cost = step(X[rows], expected, TARGETS[rows], weights=weights, rng=key)
        seen.append(cost)
    assert relative(state.params, expected.params) < 1e-12 and costs.shape == (-(-14 // batch_size),)
    assert relative(costs, jnp.array(seen)) < 1e-12


def test_without_a_key_rows_come_as_they_lie_and_nothing_is_drawn():
    run = jp.train.epoch(DRAWS, HALF, ADAM, batch_size=5)
    net = jp.Chain(jp.Linear(4), jp.Identity(), jp.Linear(2))
    step, params = jax.jit(jp.train.step(net, HALF, ADAM)), draw(DRAWS, X)
    state, expected = jax.jit(run)(X, run.start(params), TARGETS)[0], run.start(params)
    for first in (0, 5, 10):
        expected, _ = step(X[first : first + 5], expected, TARGETS[first : first + 5])
    assert relative(state.params, expected.params) < 1e-12


@pytest.mark.slow
def test_many_runs_are_one_program():
    """vmap over θ and keys: each is the run that it would be alone."""
    run = jp.train.epoch(NET, HALF, ADAM, batch_size=5)
    seeds = jax.random.split(KEY, 3)
    params = jax.jit(jax.vmap(lambda key: NET.init(key, X)))(seeds)
    states = jax.jit(jax.vmap(run.start))(params)
    many = jax.jit(jax.vmap(lambda state, key: run(X, state, TARGETS, rng=key)))
    states, costs = many(states, seeds)
    assert costs.shape == (3, 3)
    alone, _ = jax.jit(run)(X, run.start(jax.tree.map(lambda a: a[1], params)), TARGETS, rng=seeds[1])
    assert relative(jax.tree.map(lambda a: a[1], states.params), alone.params) < 1e-12


def test_the_state_is_a_copy_and_goes_on_from_fit():
    params = draw(NET, X)
    run = jp.train.step(NET, HALF, ADAM)
    jax.jit(run, donate_argnums=1)(X, run.start(params), TARGETS)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array))
    half = jp.fit(NET, HALF, ADAM, (X, TARGETS), params=params, epochs=1, batch_size=14, key=KEY, progress=False)
    whole = jp.fit(NET, HALF, ADAM, (X, TARGETS), params=params, epochs=2, batch_size=14, key=KEY, progress=False)
    after, _ = jax.jit(run)(X, run.start(half.state), TARGETS)
    assert relative(after.params, whole.params) < 1e-12  # the rows come in another order


def test_steps_equal_as_settings_compile_once(compilations):
    state = jp.train.step(NET, HALF, ADAM).start(draw(NET, X))
    run = jax.jit(lambda step, state: step(X, state, TARGETS), static_argnums=0)
    run(jp.train.step(NET, HALF, ADAM), state)
    with compilations() as count:
        run(jp.train.step(NET, HALF, ADAM), state)
    assert count[0] == 0


@pytest.mark.parametrize(
    "call, error, words",
    [
        (lambda run, state: run(state, X, TARGETS), JaxpropError, r"found an array .*; the order is x, state, targets"),
        (lambda run, state: run(X, state.params, TARGETS), JaxpropError, r"found a tuple of 3; .* run.start\(params\)"),
        (
            lambda run, state: run(X[:3], state, TARGETS),
            ShapeError,
            r"found x of shape \[3, 3\] and targets .*\[14, 2\]",
        ),
        (lambda run, state: run(X, state, TARGETS, weights=WEIGHTS[:2]), ShapeError, r"found weights of shape \[2\]"),
        (lambda run, state: run(X, state, TARGETS, mask=MASK[:2]), ShapeError, r"found mask of shape \[2\]"),
        (lambda run, state: run(X, state, TARGETS, rng=0), JaxpropError, r"rng must be a key"),
        (lambda run, state: run(X[:, :2], state, TARGETS), ShapeError, r"need W of shape \(2, 4\)"),
    ],
    ids=["order", "params", "rows", "weights", "mask", "rng", "width"],
)
@pytest.mark.parametrize(
    "make", [jp.train.step, functools.partial(jp.train.epoch, batch_size=5)], ids=["step", "epoch"]
)
def test_what_does_not_fit_is_told(make, call, error, words):
    run = make(NET, HALF, ADAM)
    with pytest.raises(error, match=words):
        call(run, run.start(draw(NET, X)))


@pytest.mark.parametrize(
    "given, words",
    [
        ({"optimizer": "adam"}, r"train.step: optimizer must come from optax"),
        ({"cost": lambda y, t: y}, "train.step: cost must be one such as"),
        ({"net": f, "grad": "manual"}, "a plain function has no hand-derived"),
        ({"rule": FED, "grad": "auto"}, "train.step: found rule= and grad="),
        ({"precision": "float8"}, "unknown precision 'float8'"),
    ],
    ids=["optimizer", "cost", "manual", "rule", "precision"],
)
def test_what_cannot_train_is_told(given, words):
    given = {"net": NET, "cost": HALF, "optimizer": ADAM} | given
    with pytest.raises(JaxpropError, match=words):
        jp.train.step(given.pop("net"), given.pop("cost"), given.pop("optimizer"), **given)


def test_a_state_goes_on_with_the_optimizer_that_it_was_made_with():
    state = jp.fit(NET, HALF, optax.sgd(0.1), (X, TARGETS), epochs=1, batch_size=14, progress=False).state
    with pytest.raises(ShapeError, match="start: state is that of another optimizer"):
        jp.train.step(NET, HALF, ADAM).start(state)
    with pytest.raises(JaxpropError, match="both feedback and a state"):
        jp.train.step(NET, HALF, optax.sgd(0.1)).start(state, feedback=1.0)
