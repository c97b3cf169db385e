"""Two runs of one function: the first place where they part, or that they agree."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxprop.errors import JaxpropError
from jaxprop.xray.diff import diff
from jaxprop.xray.report import Report, report

W = {"in": np.linspace(-1, 1, 12).reshape(3, 4), "out": np.cos(np.arange(8.0)).reshape(4, 2)}
X = np.sin(np.arange(15.0)).reshape(5, 3)


@jax.custom_vjp
def wrong_on_the_way_back(x):
    """The identity, whose rule is wrong by a hundredth: as of the compiler in jax#24114, no value shows it."""
    return x


wrong_on_the_way_back.defvjp(lambda x: (x, None), lambda _, error: (1.01 * error,))


def model(between=lambda h: h, dtype=None, act=jnp.tanh):
    """Return a cost of two blocks, with something between them."""

    def cost(params, x):
        params, x = jax.tree.map(lambda a: jnp.asarray(a, dtype), (params, x))
        with jax.named_scope("first"):
            h = act(x @ params["in"])
        h = between(h)
        with jax.named_scope("second"):
            return jnp.sum(jnp.exp(h @ params["out"]) ** 2)

    return cost


@pytest.fixture(scope="module")
def plain():
    with jax.enable_x64(True):
        return report(model())(W, X)


def test_two_runs_agree(plain):
    found = diff(plain, plain)
    assert found.first is None and found.only_here == found.only_there == ()
    assert "agree at all" in str(found) and "exactly" in str(found) and found.json()["agree"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_precision_alone_is_explained_by_rounding(plain, dtype):
    """The converts that come with it are not missed; with less than its epsilon asked for, it shows."""
    other = report(model(dtype=dtype))(W, X)
    found = diff(plain, other)
    assert found.first is None and found.only_there == (), found
    assert diff(plain, other, rtol=1e-9).first is not None


def test_a_gradient_that_is_wrong_in_one_block(plain):
    """The situation of jax#24114: the cost is the same, the gradients of the last layers too, the others are wrong."""
    found = diff(plain, report(model(wrong_on_the_way_back))(W, X))
    assert found.first.kind == "error" and found.first.place.here.name == "tanh"
    assert found.first.place.here.scope == "first"
    assert 0.009 < found.first.difference.relative < 0.011
    assert all(place.value.relative == 0 for place in found.places)
    assert "The values agree at all" in str(found) and "They part at tanh" in str(found)
    assert [site.primitive.split()[0] for site in found.only_there] == ["custom_vjp_call"]


def test_another_activation_is_named_with_what_each_has(plain):
    found = diff(plain, report(model(act=jax.nn.sigmoid))(W, X))
    assert found.first.kind == "value" and found.first.place.here.scope == "second"
    assert "only the first has tanh" in str(found) and "only the other has logistic" in str(found)


def test_the_same_numbers_in_another_order_are_others(plain):
    """Neither RMS nor the largest tell them apart."""
    found = diff(plain, report(model())(W | {"out": W["out"][::-1]}, X))
    assert found.first.place.here.name == "params['out']" and found.first.difference.relative > 0.01


def test_arguments_are_paired_by_their_names():
    """Of two of one shape, whichever order they come in."""

    def cost(params):
        return jnp.sum(params["a"] * params["b"] ** 2)

    a, b = np.arange(1.0, 4.0), np.arange(3.0, 6.0)
    first, other = (
        report(lambda a, b: cost({"a": a, "b": b}), (0, 1))(a, b),
        report(lambda b, a: cost({"a": a, "b": b}), (0, 1))(b, a),
    )
    found = diff(first, other)
    assert found.first is None and {p.here.name: p.there.name for p in found.places if p.here.is_argument} == {
        "a": "a", "b": "b",
    }  # fmt: skip


def test_the_step_of_a_scan_comes_before_the_place_in_it():
    """Step 2 is the first in which an equation parts; in step 3 those before it do too."""

    def cost(w, x, at):
        def step(h, number):
            h = jnp.tanh(h @ w)
            return jnp.where(number == at, 0.9 * h, h), None

        return jnp.sum(jax.lax.scan(step, x, jnp.arange(6))[0])

    w = np.linspace(-1, 1, 9).reshape(3, 3)
    run = report(cost)
    found = diff(run(w, X, np.asarray(9)), run(w, X, np.asarray(2)))
    assert found.first.difference.step == 2 and found.first.place.here.name.startswith("select_n")


def test_a_scan_without_steps_and_numbers_whose_squares_overflow():
    def cost(x):
        last, _ = jax.lax.scan(lambda state, row: (state + jnp.sin(row), None), x, jnp.zeros((0, 2)))
        return jnp.sum(last * 1e200)

    found = report(cost)(np.array([1.0, 2.0]))
    assert "They agree at all 3 places" in str(diff(found, found))
    assert "norm of the gradient 1.414e+200" in str(found)


def test_what_is_finite_in_one_only(plain):
    found = diff(plain, report(model(lambda h: h + jnp.inf))(W, X))
    assert found.first.difference.relative == np.inf and "all finite against NaN" in str(found)


def test_light_and_saved_reports_are_compared(plain):
    saved = Report.from_json(json.loads(json.dumps(plain.json())))
    assert diff(saved, report(model(), light=True)(W, X)).first is None
    assert diff(saved, report(model(lambda h: 1.001 * h), light=True)(W, X)).first is not None


def test_what_cannot_be_compared_is_said(plain):
    with pytest.raises(JaxpropError, match=r"other must be what jp\.xray\.report.*found dict; Report\.from_json"):
        diff(plain, plain.json())
    for rtol in (-1, "0.1", float("nan")):
        with pytest.raises(JaxpropError, match="rtol must be a number from 0 on"):
            diff(plain, plain, rtol=rtol)
    with pytest.raises(JaxpropError, match="no equation of the two is the same"):
        diff(plain, report(lambda x: jnp.max(jnp.sin(x)))(np.ones(7)))
