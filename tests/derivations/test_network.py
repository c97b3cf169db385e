"""`explain`: the written-out gradient of one parameter, against `jax.grad`, the uses and numbers of the article."""

import itertools
import json
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import jaxprop as jp
from jaxprop.derivations import (
    Derivation,
    activation_formulas,
    cost_formulas,
    derive,
    dumps,
    explain,
    to_latex,
    to_text,
)
from jaxprop.derivations.formula import Symbol
from jaxprop.layers import LinearParams
from jaxprop.network import by_path
from jaxprop.uses import Dense, is_use
from tests.cases import LAYERS
from tests.drawing import draw

CLOSE = 1e-12
SLOW = pytest.mark.slow
ACTIVATIONS = list({repr(c.layer): c.layer for c in LAYERS if isinstance(c.layer, jp.Activation)}.values())


def reject(constant):
    raise AssertionError(f"not strict JSON: {constant}")


def neuron():
    """The article's neuron."""
    W, b = jnp.array([[0.5], [-0.25], [0.75]]), jnp.array([0.1])
    return (
        jp.Chain(jp.Linear(1), jp.Sigmoid()),
        jnp.array([[1.0, 3.0, 2.0]]),
        (LinearParams(W, b), ()),
        jnp.array([[1.0]]),
    )


def network(*stack, inputs=6, rows=3, seed=0, outputs=None, dtype=jnp.float64):
    """A net with drawn numbers everywhere, biases too: (net, x, params, targets)."""
    rng = np.random.default_rng(seed)
    net = jp.Chain(*stack)
    x = jnp.asarray(rng.normal(size=(rows, inputs)), dtype)
    shapes = jax.eval_shape(net.init, jax.random.key(seed), x)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape) / math.sqrt(p.shape[0]), dtype), shapes)
    y = jax.eval_shape(net, x, params)
    return net, x, params, jnp.asarray(rng.uniform(0.1, 0.9, size=y.shape), dtype)


@partial(jax.jit, static_argnums=(0, 1))
def gradients(net, cost, x, params, targets):
    """∂C_n/∂θ of every row, by the uses."""
    _, uses = jp.manual.uses(net, cost)(x, params, targets)
    return jax.tree.map(lambda use: use.per_example(), uses, is_leaf=is_use)


def per_example(net, cost, x, params, targets, path):
    """∂C_n/∂θ of every row for the parameter at `path`, by the uses."""
    return by_path(gradients(net, cost, x, params, targets))[path]


def check(found: Derivation, tolerance: float = CLOSE, room: int = 110) -> dict:
    """Everything that holds for every derivation; returns its facts."""
    facts = found.facts
    sizes = sum(abs(path["product"]) for path in facts["paths"]) + abs(facts["rest"]["sum"])
    scale = max(abs(facts["value"]), 1e-9 * sizes, 1e-300)
    assert found.error() <= tolerance
    assert facts["value"] == pytest.approx(facts["jax_grad"], abs=tolerance * scale)
    assert math.prod(factor["value"] for factor in facts["factors"]) == pytest.approx(facts["value"], rel=CLOSE)
    total = sum(path["product"] for path in facts["paths"]) + facts["rest"]["sum"]
    assert total == pytest.approx(facts["value"], abs=CLOSE * max(sizes, 1e-300))
    changes = [equation.sides[-1].value for equation in found.steps[-1].equations]
    expected = [facts[name] for name in ("updated", "predicted_change", "actual_change", "flipped_change")]
    assert changes == pytest.approx(expected, rel=CLOSE, abs=0)
    for path in facts["paths"]:
        assert math.prod(path["factors"]) == pytest.approx(path["product"], rel=CLOSE)
    text, latex = to_text(found), to_latex(found)
    assert max(map(len, text.splitlines())) <= room, max(text.splitlines(), key=len)
    assert latex.count("{") == latex.count("}") and not set("∂ησδΣ") & set(latex)
    plain = json.loads(dumps(found), parse_constant=reject)
    assert {"value", "jax_grad", "factors", "paths", "steps"} <= set(plain)
    assert plain["value"] == facts["value"]
    return facts


@pytest.mark.parametrize(("i", "gradient"), [(0, -0.03366), (1, -0.10097), (2, -0.06731)])
def test_the_article_neuron(i, gradient):
    net, x, params, targets = neuron()
    facts = check(explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (i, 0)))
    assert [factor["name"] for factor in facts["factors"]] == ["∂C/∂a", "∂a/∂z", "∂z/∂w"]
    assert [f["value"] for f in facts["factors"]] == pytest.approx([-0.20587, 0.16349, [1, 3, 2][i]], abs=5e-6)
    assert facts["delta"] == pytest.approx(-0.033657, abs=5e-7)
    assert facts["value"] == pytest.approx(gradient, abs=5e-6)
    assert facts["finite_difference"] == pytest.approx(gradient, abs=5e-6)
    assert (facts["path"], facts["index"], facts["row"], facts["layer"]) == ("0.W", [i, 0], 0, 1)


def test_a_bias_has_a_step_of_its_own_and_is_delta():
    net, x, params, targets = neuron()
    found = explain(net, jp.HalfSquaredError())(x, params, targets, "0.b", 0)
    facts, text = check(found), to_text(found)
    assert facts["value"] == facts["delta"] == pytest.approx(-0.033657, abs=5e-7)
    assert facts["factors"][-1] == {"name": "∂z/∂b", "symbol": "∂z⁽¹⁾[0]/∂b⁽¹⁾[0]", "value": 1.0}
    assert "     ∂z⁽¹⁾[0]/∂b⁽¹⁾[0] = 1\n" in text and "∂C/∂b⁽¹⁾[0] = δ⁽¹⁾[0]" in text
    assert "∂b" in text and "∂W" not in text


def test_the_text_of_the_neuron_teaches_it_right():
    net, x, params, targets = neuron()
    text = to_text(explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (1, 0)))
    flat = " ".join(text.split())
    for line in (
        "∂C/∂W⁽¹⁾[1,0] ≈ -0.100972 for row 0",
        "z⁽¹⁾[0] = W⁽¹⁾[1,0]·x[1] + W⁽¹⁾[2,0]·x[2] + W⁽¹⁾[0,0]·x[0] + b⁽¹⁾[0]",
        "= (-0.25)·3 + 0.75·2 + 0.5·1 + 0.1 = 1.35",
        "y[0] = σ(z⁽¹⁾[0]) = σ(1.35) ≈ 0.79413",
        "y is what the network answers, target is what it should have answered",
        'in the article "The Mathematics of Learning" they are a and ŷ',
        "∂C/∂y[0] = y[0] - target[0] ≈ 0.79413 - 1 ≈ -0.20587",
        "∂y[0]/∂z⁽¹⁾[0] = y[0]·(1 - y[0]) ≈ 0.79413·(1 - 0.79413) ≈ 0.163488",
        "δ⁽¹⁾[0] = ∂C/∂z⁽¹⁾[0], the error of the unit",
        "∂z⁽¹⁾[0]/∂W⁽¹⁾[1,0] = x[1] = 3",
        "≈ (-0.20587)·0.163488·3 ≈ -0.100972",
        "jax.grad: ∂C/∂W⁽¹⁾[1,0] ≈ -0.100972",
        "It replaces w by w - η · ∂C/∂w: minus, for C should fall; η = 0.1 is the learning rate",
        "W'⁽¹⁾[1,0] = W⁽¹⁾[1,0] - η · ∂C/∂W⁽¹⁾[1,0] ≈ -0.25 - 0.1·(-0.100972) ≈ -0.239903",
        "Here C falls; with the sign flipped it rises.",
    ):
        assert line in flat, line


@pytest.mark.parametrize(("path", "gradient"), [("0.W", -0.564), ("1.W", -0.752)])
def test_the_article_chain_of_two_linear_units(path, gradient):
    net = jp.Chain(jp.Linear(1, bias=False), jp.Linear(1, bias=False))
    params = (LinearParams(jnp.array([[0.4]]), None), LinearParams(jnp.array([[0.3]]), None))
    facts = check(explain(net, jp.HalfSquaredError())(jnp.array([[1.0]]), params, jnp.array([[2.0]]), path, (0, 0)))
    assert facts["value"] == pytest.approx(gradient, abs=1e-12)
    assert facts["before"] == pytest.approx(1.7672, abs=1e-12)
    assert facts["factors"][1]["value"] == 1.0


@pytest.mark.parametrize("first", [0, *(pytest.param(i, marks=SLOW) for i in range(3, len(ACTIVATIONS), 3))])
def test_every_activation_has_its_formula(first):
    """Three of them in one network, which is compiled once."""
    three = ACTIVATIONS[first : first + 3]
    net, x, params, targets = network(*(part for layer in three for part in (jp.Linear(3), layer)))
    for place, layer in enumerate(three):
        for path, index in ((f"{2 * place}.W", (1, 2)), (f"{2 * place}.b", (1,))):
            found = explain(net, jp.HalfSquaredError())(x, params, targets, path, index, row=1)
            check(found)
            slope = next(s for s in found.steps if s.title.endswith("changes with the sum")).equations[-1]
            assert len(slope.sides) > 1 or type(layer) not in activation_formulas.RULES or type(layer) is jp.Identity


def has_names(layer):
    """Whether the formula of a layer has names of its own for parts of it."""
    rule = activation_formulas.activation_formula(layer, Symbol("z", (0,)), Symbol("a", (0,)), 0.5)
    return bool(rule.helpers or rule.given)


def test_an_activation_twice_in_a_row_does_not_mix_up_its_names():
    layers = list(filter(has_names, ACTIVATIONS))
    assert jp.GELU(approximate=True) in layers
    net, x, params, targets = network(*(part for layer in layers for part in (jp.Linear(2), layer, layer)))
    for place in range(len(layers)):
        check(explain(net, jp.HalfSquaredError())(x, params, targets, f"{3 * place}.W", (1, 0)), room=125)


@pytest.mark.parametrize(
    "layer", [pytest.param(a, marks=SLOW if has_names(a) else pytest.mark.exhaustive) for a in ACTIVATIONS], ids=repr
)
def test_every_activation_thrice_in_a_row(layer):
    net, x, params, targets = network(jp.Linear(2), layer, layer, layer, jp.Linear(1), layer, layer)
    for path, index in (("0.W", (1, 0)), ("4.b", (0,))):
        check(explain(net, jp.HalfSquaredError())(x, params, targets, path, index), room=125)


def test_another_parameter_of_the_same_network_compiles_nothing(compilations):
    net, x, params, targets = neuron()
    run = explain(net, jp.HalfSquaredError())
    run(x, params, targets, "0.W", (1, 0))
    with compilations() as count:
        run(x, params, targets, "0.W", (2, 0))
        run(2 * np.asarray(x), params, np.asarray(targets), "0.b", 0)
        explain(net, jp.HalfSquaredError(), 0.5)(x, params, targets, "0.b", 0)
    assert count[0] == 0


@pytest.mark.parametrize(
    ("cost", "outputs"),
    [
        (jp.MeanSquaredError(), 3),
        pytest.param(jp.SigmoidCrossEntropy(), 3, marks=SLOW),
        pytest.param(jp.HalfSquaredError(), 3, marks=SLOW),
        *(
            pytest.param(c, 1, marks=SLOW)
            for c in (jp.HalfSquaredError(), jp.MeanSquaredError(), jp.SigmoidCrossEntropy())
        ),
    ],
    ids=repr,
)
def test_every_cost_has_its_formula(cost, outputs):
    net, x, params, targets = network(jp.Linear(3), jp.Tanh(), jp.Linear(outputs))
    for path, index in (("2.W", (1, 0)), ("0.W", (1, 1))):
        found = explain(net, cost)(x, params, targets, path, index)
        facts = check(found)
        written = next(e for e in found.steps[1].equations if to_text(e.sides[0]) == "C")
        assert written.exact and written.error(found.values) <= CLOSE
        assert facts["before"] == pytest.approx(float(cost(net(x, params), targets)[0]), rel=CLOSE)


@pytest.mark.parametrize("kind", ["labels", pytest.param("probabilities", marks=SLOW), "not a distribution"])
def test_softmax_cross_entropy_is_softmax_minus_p(kind):
    net, x, params, targets = network(jp.Linear(3), jp.Tanh(), jp.Linear(4))
    p = {"labels": jnp.array([2, 0, 1]), "probabilities": jax.nn.softmax(targets), "not a distribution": targets}[kind]
    for path, index in (("2.b", (2,)), ("2.W", (1, 1)), ("0.W", (1, 1))):
        found = explain(net, jp.SoftmaxCrossEntropy())(x, params, p, path, index)
        check(found)
        k = 2 if path == "2.b" else 1
        written = f"softmax(y)[{k}]·P - p[{k}]" if kind == "not a distribution" else f"softmax(y)[{k}] - p[{k}]"
        assert written in to_text(found)
    if kind == "labels":
        assert "p[2] = 1, all others are 0" in to_text(found)


def test_logits_too_large_for_exp_are_shifted():
    net, x, params, _ = network(jp.Linear(3))
    params = (params[0]._replace(b=jnp.array([2000.0, 1999.0, 1998.5])),)
    found = explain(net, jp.SoftmaxCrossEntropy())(x, params, jnp.array([1, 1, 1]), "0.W", (0, 0))
    check(found, tolerance=1e-9)
    assert "exp(y[0] - 200" in to_text(found)


def test_softmax_as_a_layer_is_a_sum_over_its_outputs():
    net, x, params, targets = network(jp.Linear(4), jp.Softmax())
    found = explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (1, 2))
    facts = check(found)
    assert [f["name"] for f in facts["factors"]] == ["∂C/∂z", "∂z/∂w"]
    assert sorted(p["units"] for p in facts["paths"]) == [[2, k] for k in range(4)]
    text = to_text(found)
    assert "through output 2: ∂C/∂y[2] · y[2] · (1 - y[2])" in text and "∂C/∂y[0] · (-y[0]·y[2])" in text
    assert "y[2] = exp(z⁽¹⁾[2])/S⁽¹⁾" in text and "no activation" not in text


def test_softmax_in_the_middle_and_stages_around_it():
    scaled = jp.Standardize(0.1, (2.0, 3.0, 0.5, 5.0))
    hidden = (jp.Linear(4), jp.Tanh(), jp.Softmax(), jp.Sigmoid(), scaled)
    net, x, params, targets = network(
        jp.Standardize(0.1, 2.0), *hidden, jp.Linear(3), jp.Tanh(), jp.Unstandardize(1.0, 2.0)
    )
    for path, index in (("1.W", (5, 3)), ("1.b", (0,)), ("6.W", (2, 1))):
        check(explain(net, jp.MeanSquaredError())(x, params, targets, path, index, row=2))


def brute(net, cost, x, params, targets, j, came_in):
    """Every path of a Linear, σ, Linear, tanh, Linear net from z[j] on, the slow way."""
    tape = jax.jit(jp.manual.trace(net, cost))(x, params, targets)
    d1, d2 = tape["1"].derivative[0], tape["3"].derivative[0]
    W2, W3, end = params[2].W, params[4].W, tape["4"].dy[0]
    paths = itertools.product(range(W2.shape[1]), range(W3.shape[1]))
    return {(j, k, m): float(came_in * d1[j] * W2[j, k] * d2[k] * W3[k, m] * end[m]) for k, m in paths}


@pytest.mark.parametrize("most", [1, 4, 50])
def test_the_largest_paths_are_exact_and_the_rest_is_counted(most):
    net, x, params, targets = network(jp.Linear(3), jp.Sigmoid(), jp.Linear(5), jp.Tanh(), jp.Linear(4))
    cost = jp.HalfSquaredError()
    found = explain(net, cost, most=most)(x, params, targets, "0.W", (4, 1))
    facts = check(found)
    every = brute(net, cost, x[:1], params, targets[:1], 1, x[0, 4])
    order = sorted(every, key=lambda units: -abs(every[units]))[:most]
    assert [tuple(path["units"]) for path in facts["paths"]] == order
    assert [path["product"] for path in facts["paths"]] == pytest.approx([every[u] for u in order], rel=1e-10)
    assert facts["rest"]["count"] == max(0, 20 - most)
    left = sum(every.values()) - sum(every[units] for units in order)
    assert facts["rest"]["sum"] == pytest.approx(left, abs=1e-14)
    text = to_text(found)
    assert "all 20 paths together: ∂C/∂W⁽¹⁾[4,1]" in text
    assert ("the other 16 together" in text) == (most == 4)


def test_the_terms_of_a_hidden_weight_are_the_largest_first_and_the_rest_summed_and_counted():
    net, x, params, _ = network(jp.Linear(32), jp.Tanh(), jp.Linear(10), inputs=64)
    labels = jnp.array([3, 1, 2])
    found = explain(net, jp.SoftmaxCrossEntropy())(x, params, labels, "0.W", (12, 3), row=1)
    check(found)
    step = next(step for step in found.steps if step.title == "Every path back from the cost")
    *terms, rest, total = step.equations
    values = [abs(e.sides[-1].value) for e in terms]
    assert len(terms) == 5 and values == sorted(values, reverse=True)
    assert rest.label == "through the other 5 together"
    added = sum(e.sides[-1].value for e in (*terms, rest))
    assert added == pytest.approx(total.sides[-1].value, rel=1e-12) == found.values[total.sides[0]]
    assert "(9 more terms" in to_text(found) or "(8 more terms" in to_text(found)


@SLOW
def test_more_paths_than_could_be_walked():
    stack = [part for _ in range(9) for part in (jp.Linear(40), jp.Tanh())]
    net, x, params, targets = network(*stack, inputs=40)
    facts = check(explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (0, 0)), tolerance=1e-11)
    assert facts["rest"]["count"] == 40**8 - 5


def test_it_is_about_one_row_of_the_batch():
    net, x, params, targets = network(jp.Linear(4), jp.Sigmoid(), jp.Linear(2))
    run = explain(net, jp.HalfSquaredError())
    found = run(x, params, targets, "0.W", (2, 3), row=2)
    alone = run(x[2:], params, targets[2:], "0.W", (2, 3))
    assert found.facts["value"] == alone.facts["value"] != run(x, params, targets, "0.W", (2, 3)).facts["value"]
    expected = per_example(net, jp.HalfSquaredError(), x, params, targets, "0.W")[2, 2, 3]
    assert found.facts["value"] == pytest.approx(float(expected), rel=CLOSE)
    assert "for row 2" in to_text(found) and "C is the cost of row 2 alone" in " ".join(to_text(found).split())
    assert run(x, params, targets, "0.W", (2, 3), row=2, rng=jax.random.key(0)).facts == found.facts


def test_float32_parameters_give_the_same_number():
    net, x, params, targets = network(jp.Linear(4), jp.Sigmoid(), jp.Linear(2), dtype=jnp.float32)
    with jax.enable_x64(False):
        found = explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (2, 3))
        expected = per_example(net, jp.HalfSquaredError(), x, params, targets, "0.W")[0, 2, 3]
    assert expected.dtype == jnp.float32
    assert check(found)["value"] == pytest.approx(float(expected), rel=1e-5)
    assert found.facts["parameter"] == float(params[0].W[2, 3])


def test_nested_chains_integers_flatten_and_a_lone_linear():
    inner = jp.Chain(jp.Chain(jp.Linear(3), jp.Tanh()), jp.Chain(jp.Flatten(), jp.Linear(2)))
    net = jp.Chain(jp.Flatten(), jp.Standardize(8.0, (4.0, 2.0, 1.0, 5.0)), inner)
    x = jnp.arange(12).reshape(3, 2, 2)
    params = draw(net, x)
    for path, index in (("2.0.0.W", (3, 1)), ("2.1.1.b", (1,))):
        found = explain(net, jp.HalfSquaredError())(x, params, jnp.ones((3, 2)), path, index, row=1)
        assert check(found)["layer"] == (1 if index == (3, 1) else 2)
    lone = jp.Linear(2)
    params = draw(lone, jnp.ones((1, 3)))
    check(explain(lone, jp.HalfSquaredError())(jnp.ones((1, 3)), params, jnp.ones((1, 2)), "W", (2, 1)))


def test_a_wrong_formula_shows_in_the_error(monkeypatch):
    net, x, params, targets = neuron()
    monkeypatch.setitem(
        activation_formulas.RULES, jp.Sigmoid, lambda layer, z, a, at: activation_formulas.ActivationFormula(a, 1 - a)
    )
    assert explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (1, 0)).error() > 0.1
    monkeypatch.undo()
    right = cost_formulas.RULES[jp.HalfSquaredError]
    monkeypatch.setitem(cost_formulas.RULES, jp.HalfSquaredError, cost_formulas.RULES[jp.MeanSquaredError])
    assert explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (1, 0)).error() > 0.1
    assert right is not cost_formulas.RULES[jp.HalfSquaredError]


@dataclass(frozen=True)
class Cube(jp.Activation):
    """An activation that explain has never heard of."""

    def value(self, z):
        return z**3 / 10

    def derivative(self, kept):
        return 3 * kept**2 / 10


@dataclass(frozen=True)
class Gain(jp.Layer):
    """A layer with a parameter that explain has never heard of; every output sees every input."""

    def init(self, key, x):
        return {"gain": jnp.full(x.shape[-1:], 2.0, x.dtype)}

    def forward(self, x, params, env=None):
        return x * params["gain"] + jnp.sum(x, axis=-1, keepdims=True), x

    def backward(self, dy, cache, params):
        dx = dy * params["gain"] + jnp.sum(dy, axis=-1, keepdims=True)
        return dx, {"gain": Dense(dy * cache, cache.shape[1:], cache.dtype)}


@dataclass(frozen=True)
class Fourth(jp.Cost):
    """A cost that explain has never heard of."""

    def __call__(self, y, targets):
        return jnp.sum(self._difference(y, targets) ** 4, axis=1)

    def delta(self, y, targets):
        return 4 * self._difference(y, targets) ** 3


def test_layers_and_costs_of_your_own_give_their_numbers():
    net, x, params, targets = network(jp.Linear(3), Cube(), jp.Linear(4), jp.Tanh(), Gain(), jp.Linear(2))
    run = explain(net, Fourth())
    for path, index in (("0.W", (1, 2)), ("2.W", (0, 3)), ("2.b", (0,)), ("5.W", (3, 1)), ("4.gain", (2,))):
        facts = check(run(x, params, targets, path, index, row=1))
        expected = per_example(net, Fourth(), x, params, targets, path)[(1, *index)]
        assert facts["value"] == pytest.approx(float(expected), rel=CLOSE)
    flat = {path: " ".join(to_text(run(x, params, targets, path, index)).split()) for path, index in (
        ("0.W", (1, 2)), ("4.gain", (2,)), ("5.W", (3, 1)),
    )}  # fmt: skip
    assert "Cube is a layer of your own: its formula is not known here" in flat["0.W"]
    assert "is what Gain, a layer of your own, hands back; its formula is not known here" in flat["0.W"]
    assert "belongs to Gain, a layer of your own. Its formula is not known here" in flat["4.gain"]
    assert "no formula is known here for this cost (there are for HalfSquaredError, MeanSquared" in flat["5.W"]
    assert "units that matter" not in flat["5.W"]


@pytest.mark.parametrize(
    ("cost", "written"),
    [
        pytest.param(jp.Huber(0.5), "the slope threshold or -threshold", marks=SLOW),
        (jp.SoftmaxCrossEntropy(label_smoothing=0.2), "= (1 - smoothing)·p["),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_cost_with_settings_is_written_with_them(cost, written):
    """The formula of the plain cross-entropy would be wrong for smoothed labels."""
    net, x, params, targets = network(jp.Linear(3), jp.Tanh(), jp.Linear(2))
    found = explain(net, cost)(x, params, targets, "2.W", (1, 0), row=1)
    expected = per_example(net, cost, x, params, targets, "2.W")[1, 1, 0]
    assert check(found)["value"] == pytest.approx(float(expected), rel=CLOSE)
    assert written in " ".join(to_text(found).split())


def test_the_update_is_measured_and_its_words_follow_the_numbers():
    net, x, params, targets = neuron()

    def at(learning_rate, targets=targets, params=params):
        found = explain(net, jp.HalfSquaredError(), learning_rate)(x, params, targets, "0.W", (1, 0))
        return found.facts, " ".join(to_text(found).split())

    def C(w):
        moved = (params[0]._replace(W=params[0].W.at[1, 0].set(w)), ())
        return float(jp.HalfSquaredError()(net(x, moved), targets)[0])

    facts, _ = at(0.1)
    g = facts["value"]
    assert facts["updated"] == pytest.approx(-0.25 - 0.1 * g, rel=CLOSE)
    assert facts["predicted_change"] == pytest.approx(-0.1 * g * g, rel=CLOSE)
    assert facts["after"] == pytest.approx(C(-0.25 - 0.1 * g), rel=CLOSE)
    assert facts["actual_change"] == pytest.approx(C(-0.25 - 0.1 * g) - C(-0.25), rel=1e-9)
    assert facts["flipped_change"] == pytest.approx(C(-0.25 + 0.1 * g) - C(-0.25), rel=1e-9)
    assert facts["actual_change"] < 0 < facts["flipped_change"]
    gaps = [abs(at(η)[0]["actual_change"] / at(η)[0]["predicted_change"] - 1) for η in (0.1, 0.01, 0.001)]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    line = jp.Linear(1, bias=False)
    found = explain(line, jp.HalfSquaredError(), 2.5)(
        jnp.ones((1, 1)), LinearParams(jnp.zeros((1, 1)), None), jnp.ones((1, 1)), "W", (0, 0)
    )
    assert found.facts["actual_change"] > 0
    assert "C rises: the step is too large; with the sign flipped it rises" in " ".join(to_text(found).split())


def test_a_unit_that_is_off_learns_nothing_and_says_so():
    net, x, params, targets = network(jp.Linear(2), jp.ReLU(), jp.Linear(1))
    params = (params[0]._replace(b=jnp.array([-100.0, 1.0])), *params[1:])
    found = explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (0, 0))
    facts = check(found)
    assert facts["value"] == 0 and facts["actual_change"] == 0
    assert "The derivative is 0, so gradient descent" in " ".join(to_text(found).split())


def test_at_a_corner_the_convention_is_said():
    net = jp.Chain(jp.Linear(1, bias=False), jp.ReLU())
    params = (LinearParams(jnp.zeros((1, 1)), None), ())
    found = explain(net, jp.HalfSquaredError())(jnp.ones((1, 1)), params, jnp.ones((1, 1)), "0.W", (0, 0))
    assert found.facts["value"] == found.facts["jax_grad"] == 0
    assert "At 0 it has a corner; by convention the slope there is 0." in " ".join(to_text(found).split())


@pytest.mark.parametrize(
    ("path", "index", "row", "message"),
    [
        ("0.w", (0, 0), 0, r"unknown path '0.w' \(did you mean '0.W'\?\); known: 0.W \[6, 3\], 0.b \[3\], 2.W"),
        ("7.W", (0, 0), 0, "unknown path '7.W'"),
        ("1.W", (0, 0), 0, r"layer 1, Tanh\(\), has no parameters; known: 0.W"),
        ("1", (0, 0), 0, r"layer 1, Tanh\(\), has no parameters"),
        ("0", (0, 0), 0, r"'0' is a layer, Linear\(3\); its parameters are 0.W, 0.b"),
        (3, (0, 0), 0, "path must be a text such as '0.W', found 3"),
        ("0.W", (0,), 0, r"index \[0\]: 0.W has shape \[6, 3\], so its index is 2 numbers"),
        ("0.b", (0, 1), 0, r"0.b has shape \[3\], so its index is 1 number$"),
        ("0.W", (6, 0), 0, r"index \[6, 0\]: 0.W has shape \[6, 3\], so its index runs over 0 to 5 and 0 to 2"),
        ("0.W", (-1, 0), 0, "runs over 0 to 5"),
        ("0.W", (0.5, 0), 0, "index must be whole numbers"),
        ("0.W", (0, 0), 3, r"row 3: there are 3 rows \(0 to 2\)"),
        ("0.W", (0, 0), -1, "row -1: there are 3 rows"),
        ("0.W", (0, 0), "a", "row must be a whole number"),
    ],
)
def test_what_is_not_there_is_named(path, index, row, message):
    net, x, params, targets = network(jp.Linear(3), jp.Tanh(), jp.Linear(2))
    with pytest.raises(jp.JaxpropError, match=message):
        explain(net, jp.HalfSquaredError())(x, params, targets, path, index, row=row)


def test_what_cannot_be_written_out_is_refused():
    net, x, params, targets = network(jp.Linear(3))
    cost = jp.HalfSquaredError()
    for make, message in (
        (lambda: explain(lambda x, params: x, cost), "explain needs a jaxprop Layer"),  # pyright: ignore
        (lambda: explain(net, None), "needs a cost such as"),  # pyright: ignore
        (lambda: explain(net, cost, learning_rate=0.0), "learning_rate must be a positive number"),
        (lambda: explain(net, cost, most=0), "most must be a whole number ≥ 1"),
        (
            lambda: explain(jp.Chain(jp.Tanh()), cost)(x, ((),), x, "0.W", (0, 0)),
            "has no parameters, so there is nothing",
        ),
        (lambda: explain(net, cost)(x, params, targets[:2], "0.W", (0, 0)), "one row per example"),
        (lambda: explain(net, cost)(x * jnp.nan, params, targets, "0.W", (0, 0)), "NaN or infinity"),
    ):
        with pytest.raises(jp.JaxpropError, match=message):
            make()


def check_input(net, cost, x, params, targets, index, row=0, **settings):
    """∂C/∂x of one input, against `jax.grad` and every equation."""
    found = explain(net, cost, **settings)(x, params, targets, "x", index, row=row)
    facts = found.facts
    with jax.enable_x64(True):
        expected = jax.jit(jax.grad(lambda x: cost(net(x, params), targets)[row]))(x)[row]
    assert [facts["value"], facts["jax_grad"]] == pytest.approx([float(expected[index])] * 2, rel=1e-10)
    assert facts["finite_difference"] == pytest.approx(facts["value"], rel=1e-5, abs=1e-8)
    assert math.prod(factor["value"] for factor in facts["factors"]) == pytest.approx(facts["value"], rel=CLOSE)
    total = sum(path["product"] for path in facts["paths"]) + facts["rest"]["sum"]
    assert total == pytest.approx(facts["value"], rel=1e-10, abs=1e-15) and found.error() <= CLOSE
    assert facts["updated"] is None and "The update" not in to_text(found)
    json.loads(dumps(found), parse_constant=reject)
    return found


def test_an_input_is_explained_like_a_weight():
    net, x, params, targets = network(jp.Standardize(0.1, 2.0), jp.Tanh(), jp.Linear(3), jp.Tanh(), jp.Linear(2))
    columns = ("size", "age", "x", "d", "e", "rooms")
    text = to_text(check_input(net, jp.HalfSquaredError(), x, params, targets, (1,), row=2, columns=columns))
    assert "∂C/∂x[age] = ∂C/∂a⁽⁰⁾[age] · ∂a⁽⁰⁾[age]/∂u⁽⁰⁾[age] · ∂u⁽⁰⁾[age]/∂x[age]" in text
    lone = jp.Chain(jp.Linear(2))
    check_input(lone, jp.HalfSquaredError(), x, draw(lone, x), targets, (5,))


def test_an_input_of_an_image_of_whole_numbers_and_of_layers_without_formulas():
    x = jnp.arange(12).reshape(3, 2, 2)
    net = jp.Chain(jp.Flatten(), jp.Standardize(4.0, 3.0), jp.Linear(2), jp.Softmax())
    found = explain(net, jp.HalfSquaredError())(x, draw(net, x), jnp.ones((3, 2)), "x", (1, 0), row=1)
    assert found.facts["value"] == pytest.approx(found.facts["jax_grad"], rel=1e-10) and found.error() <= CLOSE
    net, x, params, targets = network(Cube(), Gain(), jp.Linear(2))
    found = explain(net, jp.HalfSquaredError())(x, params, targets, "x[2]")
    assert found.facts["value"] == pytest.approx(found.facts["jax_grad"], rel=1e-10)
    assert "goes into Cube, a layer of your own" in " ".join(to_text(found).split())
    words = jp.Chain(jp.Embedding(5, 2), jp.Flatten(), jp.Linear(1))
    ids = jnp.array([[1, 2]])
    with pytest.raises(jp.JaxpropError, match="whole numbers"):
        explain(words, jp.HalfSquaredError())(ids, draw(words, ids), jnp.ones((1, 1)), "x", (0,))


def test_the_most_telling_number_is_taken_and_it_is_said_why():
    net, x, params, targets = network(jp.Linear(3), jp.ReLU(), jp.Linear(2))
    run = explain(net, jp.HalfSquaredError())
    every = np.asarray(per_example(net, jp.HalfSquaredError(), x, params, targets, "0.W"))
    assert any(abs(each).max() > each.max() for each in every)  # a negative one is the largest in size
    for row, each in enumerate(every):
        found = run(x, params, targets, row=row)
        assert found.facts["path"] == "0.W"
        assert tuple(found.facts["index"]) == np.unravel_index(np.argmax(abs(each)), each.shape)
    assert "the layer farthest from the cost: of 0.W, this number" in " ".join(to_text(found).split())
    dead = (params[0]._replace(b=jnp.full(3, -1e3)), *params[1:])
    assert run(x, dead, targets).facts["path"] == "2.b"  # nothing comes through dead units
    assert run(x, params, targets, "2.b").facts["index"] == [int(np.argmax(abs(per_example(
        net, jp.HalfSquaredError(), x, params, targets, "2.b")[0])))]  # fmt: skip
    assert run(x, params, targets, "0.W", (1, 1)).facts["picked"] is None


def test_a_right_derivative_of_0_is_no_error():
    """A dead ReLU, and the square of 0: what is 0 and should be is told apart from what is wrong."""
    net, x, params, targets = network(jp.Linear(3), jp.ReLU(), jp.Linear(2))
    dead = (params[0]._replace(b=jnp.full(3, -1e3)), *params[1:])
    found = explain(net, jp.HalfSquaredError())(x, dead, targets, "0.W", (0, 0))
    assert found.facts["value"] == 0.0 and check(found)["jax_grad"] == 0.0
    for text, at in (
        ("x^2", 0.0),
        ("cos(x)", 0.0),
        ("sin(x)^2", math.pi),
        ("(x - 0.1)^2", 0.1),
        ("x - sin(x)", 1e-8),
        ("cos²x + sin²x", 1.0),
    ):
        assert derive(text, at).error() <= 1e-9, text


def test_names_of_ones_own_are_in_all_that_is_printed():
    net, x, params, targets = network(jp.Linear(2), jp.Sigmoid(), jp.Linear(2), jp.Sigmoid(), inputs=2)
    names = {
        "w5": "2.W[0,0]",
        "i1": "x[0]",
        "out_h1": "a1[0]",
        "net_h1": "z1[0]",
        "E": "C",
        "b2": "2.b[0]",
        "d_o1": "δ2[0]",
    }
    run = explain(net, jp.HalfSquaredError(), names=names)
    found = run(x, params, targets, "w5")
    plain = explain(net, jp.HalfSquaredError())(x, params, targets, "2.W", (0, 0))
    assert found.facts["value"] == plain.facts["value"] and check(found)["path"] == "2.W"
    text, latex = to_text(found), to_latex(found)
    assert "∂E/∂w5 = d_o1·out_h1" in text and "w5' = w5 - η · ∂E/∂w5" in text and "+ b2" in text
    assert (
        r"\frac{\partial E}{\partial w_{5}}" in latex
        and r"w'_{5} = w_{5}" in latex
        and r"\mathrm{out}_{\mathrm{h1}}" in latex
    )
    assert found.facts["factors"][0]["symbol"] == "∂E/∂y[0]" and "∂E/∂w5" in dumps(found)
    assert "W⁽²⁾[0,0]" not in text and "∂C" not in text
    with pytest.raises(jp.JaxpropError, match="which is no entry; expected a number of a parameter"):
        explain(net, jp.HalfSquaredError(), names={"w9": "9.W"})(x, params, targets)


COSTS = [jp.HalfSquaredError(), jp.MeanSquaredError(), jp.SoftmaxCrossEntropy(), jp.SigmoidCrossEntropy()]


def drawn_chain(data):
    """A net of depth 1 to 4 with drawn activations, how many numbers go in, and a cost."""
    depth = data.draw(st.integers(1, 4))
    widths = data.draw(st.lists(st.integers(1, 6), min_size=depth + 1, max_size=depth + 1))
    stack = []
    for width in widths[1:]:
        stack.append(jp.Linear(width, bias=data.draw(st.booleans())))
        stack += data.draw(st.lists(st.sampled_from([*ACTIVATIONS, jp.Softmax()]), max_size=2))
    return stack, widths[0], data.draw(st.sampled_from(COSTS))


def property_of(data, stack, inputs, cost):
    """Everything that `check` asks, of a drawn parameter, row and draw of all numbers."""
    net, x, params, targets = network(*stack, inputs=inputs, rows=2, seed=data.draw(st.integers(0, 10**6)))
    if isinstance(cost, jp.SoftmaxCrossEntropy) and data.draw(st.booleans()):
        targets = jnp.array([0, targets.shape[1] - 1])
    place = data.draw(st.sampled_from([i for i, layer in enumerate(stack) if isinstance(layer, jp.Linear)]))
    leaf = data.draw(st.sampled_from([name for name in ("W", "b") if getattr(params[place], name) is not None]))
    index = tuple(data.draw(st.integers(0, n - 1)) for n in getattr(params[place], leaf).shape)
    row = data.draw(st.integers(0, 1))
    found = explain(net, cost, most=data.draw(st.integers(1, 4)))(x, params, targets, f"{place}.{leaf}", index, row=row)
    # a sum over paths may cancel, and a slope may be a difference of nearly equal numbers
    facts = check(found, tolerance=1e-9, room=125)
    expected = per_example(net, cost, x, params, targets, f"{place}.{leaf}")[(row, *index)]
    assert facts["value"] == pytest.approx(float(expected), rel=1e-9, abs=1e-15)


@given(st.data())
@settings(max_examples=6, deadline=None, derandomize=True)
def test_any_parameter_of_a_chain(data):
    stack = (jp.Linear(3, bias=False), jp.SiLU(), jp.Softmax(), jp.Linear(4), jp.Linear(2), jp.Tanh())
    property_of(data, stack, 5, jp.SigmoidCrossEntropy())


@SLOW
@given(st.data())
@settings(max_examples=10, deadline=None)
def test_any_chain(data):
    """Every chain is compiled anew."""
    property_of(data, *drawn_chain(data))


@pytest.mark.exhaustive
@given(st.data())
@settings(max_examples=100, deadline=None)
def test_many_chains(data):
    property_of(data, *drawn_chain(data))
