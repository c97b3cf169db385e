"""`jp.Cost.of`: a cost from a plain function of one example."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from tests.drawing import draw

X = np.random.default_rng(0).normal(size=(6, 3))
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2))
TARGETS = X[:, :2] ** 2


def pinball(y, target):
    """The 0.9 quantile's cost."""
    return jnp.sum(jnp.maximum(0.9 * (target - y), 0.1 * (y - target)))


def logs(y, label):
    return jax.nn.logsumexp(y) - y[label]


def test_a_cost_of_a_function_by_three_witnesses():
    cost, params = jp.Cost.of(pinball), draw(NET, X)
    report = jp.compare(NET, cost)(X, params, TARGETS)
    assert report.ok, str(report)
    y = np.random.default_rng(1).normal(size=TARGETS.shape)
    value, delta = jax.jit(lambda y: (cost(y, TARGETS), cost.delta(y, TARGETS)))(y)
    rest = TARGETS - y
    assert relative(value, np.maximum(0.9 * rest, -0.1 * rest).sum(axis=1)) <= 1e-14
    assert relative(delta, np.where(rest > 0, -0.9, 0.1)) <= 1e-14


def test_labels_come_as_they_are_and_the_numbers_are_those_of_the_cost_written_by_hand():
    y, labels = X, np.array([0, 2, 1, 1, 0, 2])
    cost, known = jp.Cost.of(logs), jp.SoftmaxCrossEntropy()
    (value, delta), (expected, slopes) = jax.jit(lambda y: [(c(y, labels), c.delta(y, labels)) for c in (cost, known)])(
        y
    )
    assert relative(value, expected) <= 1e-14 and relative(delta, slopes) <= 1e-12
    half = jax.eval_shape(lambda y: (cost(y, labels), cost.delta(y, labels)), y.astype("float16"))
    assert [said.dtype for said in half] == [jnp.float16] * 2


def test_it_is_a_value_and_trains():
    cost = jp.Cost.of(pinball)
    assert cost == jp.Cost.of(pinball) != jp.Cost.of(logs) and hash(cost) == hash(jp.Cost.of(pinball))
    assert repr(cost) == "Cost.of(pinball)"
    result = jp.fit(
        NET, cost, optax.sgd(0.1), (X, TARGETS), epochs=2, batch_size=6, key=jax.random.key(0), grad="manual",
        progress=False,
    )  # fmt: skip
    assert result.history[1]["cost"] < result.history[0]["cost"]


def test_what_it_refuses_and_cannot_do(tmp_path):
    params = draw(NET, X)
    with pytest.raises(jp.ModelError, match=r"function 'pinball', which no file can hold: write a class.*kinds="):
        jp.save(tmp_path / "m", NET, params, inputs=X, cost=jp.Cost.of(pinball))
    assert not (tmp_path / "m" / "model.json").exists()
    with pytest.raises(jp.JaxpropError, match=r"Cost.of: found 3, expected a function"):
        jp.Cost.of(3)
    with pytest.raises(jp.ShapeError, match=r"found an answer of shape \(3,\) for one example .*sum or average"):
        jp.Cost.of(lambda y, target: y - target)(X, X)
    with pytest.raises(jp.ShapeError, match=r"Cost.of\(pinball\): targets \(2, 3\) do not fit outputs \(6, 3\)"):
        jp.Cost.of(pinball).delta(X, X[:2])
    derived = jp.explain(NET, jp.Cost.of(pinball))(X, params, TARGETS, "0.W", (0, 0))
    assert "no formula is known here for this cost" in " ".join(str(derived).split())
