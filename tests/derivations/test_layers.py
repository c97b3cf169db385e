"""`explain` of every layer and combinator: the written terms add up to `jax.grad`, and every equation holds."""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.derivations import explain, to_latex, to_mathml, to_text
from jaxprop.derivations.way_back import JOINED
from jaxprop.network import Combinator, by_path, join
from tests.cases import LAYERS
from tests.cases.case import one_of_each
from tests.derivations.test_network import check, per_example
from tests.drawing import draw

CLOSE = 1e-9  # of terms that may cancel
SLOW, EXHAUSTIVE = pytest.mark.slow, pytest.mark.exhaustive
UNWRITTEN = ("o formula is written for it yet", "of your own")


def with_parameters(case):
    """Whether a row of the table can be asked about: it has parameters, and x is one array."""
    if len(case.shapes) > 1 or isinstance(case.layer, jp.Activation):
        return False
    x = jax.ShapeDtypeStruct(case.shape, jnp.int32 if case.integers else jnp.float32)
    return bool(jax.tree.leaves(jax.eval_shape(case.layer.init, jax.random.key(0), x)))


def network_around(layer, x):
    """The layer with a head behind it, so that errors reach all that it answers: (net, params, targets)."""
    net = jp.Chain(layer, jp.Flatten(), jp.Linear(2), jp.Tanh())
    return net, draw(net, x), jnp.full((x.shape[0], 2), 0.3)


@partial(jax.jit, static_argnums=(0, 1))
def gradients(net, cost, x, params, targets, rng):
    """∂C/∂θ of row 0, and of the mean over all rows where examples are mixed."""

    def C(params):
        costs = cost(net(x, params, None if rng is None else jp.Env(rng)), targets)
        return jnp.mean(costs) if net.mixes_examples else costs[0]

    return jax.grad(C)(params)


def asked(slopes):
    """An index with the largest derivative in size, and one where it is 0, if there is one."""
    yield tuple(int(i) for i in np.unravel_index(np.argmax(np.abs(slopes)), slopes.shape))
    yield from [tuple(map(int, index)) for index in np.argwhere(slopes == 0)[:1]]


def holds(found, expected, room=110):
    """Everything that a derivation owes, beside what `check` asks of all."""
    facts = check(found, tolerance=CLOSE, room=room)
    scale = max(abs(float(expected)), 1e-9)
    assert facts["value"] == pytest.approx(float(expected), abs=1e-12 * scale)
    text = to_text(found)
    assert not any(words in text for words in UNWRITTEN)
    if "terms" in facts:
        total = sum(term["product"] for term in facts["terms"]) + facts["rest"]["sum"]
        sizes = sum(abs(term["product"]) for term in facts["terms"]) + abs(facts["rest"]["sum"])
        assert total == pytest.approx(facts["value"], abs=CLOSE * max(sizes, 1e-300))
        for term in facts["terms"]:
            assert np.prod([factor["value"] for factor in term["factors"]]) == pytest.approx(term["product"])
        if facts["value"]:
            assert "How the cost changes with the answer" in text  # the largest error is traced to the cost
    return facts


LATER = (Combinator, jp.MultiHeadAttention, jp.BatchNorm, jp.RNN, jp.LSTM)
# of a kind's further rows those that are written in other words; the rest changes how sums are computed, or is below
OTHER_WORDS = {
    *("Linear, T", "BatchNorm, T", "GroupNorm, images", "Shared, T", "Repeat of a Remat", "Embedding, then Linear"),
    *("Conv, 2-D", "Conv, 1-D, stride, no bias", "Conv, 1-D, dilation", "Conv, 1-D, groups", "ConvTranspose, padding"),
    *("LSTM, padded", "GRU, last, padded", "MultiHeadAttention, causal, padded"),
}


def rows_asked_about():
    """A row of each layer by default; behind slow what tests below have too, what is like a GRU, and other words."""
    seen = set()
    for case in filter(with_parameters, LAYERS):
        marks = SLOW if case.name in OTHER_WORDS else EXHAUSTIVE
        if case.kind not in seen:
            marks = SLOW if isinstance(case.layer, LATER) else ()
        seen.add(case.kind)
        yield pytest.param(case, marks=marks, id=str(case))


def test_the_rows_in_other_words_are_there():
    assert {case.name for case in LAYERS} >= OTHER_WORDS


@pytest.mark.parametrize("case", list(rows_asked_about()))
def test_every_parameter_of_every_layer(case):
    x = case.x(jnp.float64)
    net, params, targets = network_around(case.layer, x)
    cost, rng = jp.HalfSquaredError(), jax.random.key(0) if case.rng else None
    run, slopes = explain(net, cost), by_path(gradients(net, cost, x, params, targets, rng))
    for path in (path for path in slopes if path.startswith("0.")):
        for index in asked(np.asarray(slopes[path])):
            holds(run(x, params, targets, path, index, rng=rng), slopes[path][index])


FLOATING = [case for case in LAYERS if not case.integers and len(case.shapes) == 1 and len(case.shape) > 1]
# test_network.py goes through each activation, and a way back through a combinator is the same from x and from θ
ELSEWHERE = [case for case in FLOATING if isinstance(case.layer, jp.Activation | Combinator)]
OTHERS = [case for case in FLOATING if case not in ELSEWHERE]


@pytest.mark.parametrize(
    "case",
    [*one_of_each(OTHERS, first=SLOW, rest=EXHAUSTIVE), *one_of_each(ELSEWHERE, first=EXHAUSTIVE, rest=EXHAUSTIVE)],
)
def test_every_input_of_every_layer(case):
    x = case.x(jnp.float64)
    net, params, targets = network_around(case.layer, x)
    cost, rng = jp.HalfSquaredError(), jax.random.key(0) if case.rng else None

    def C(x):
        costs = cost(net(x, params, None if rng is None else jp.Env(rng)), targets)
        return jnp.mean(costs) if net.mixes_examples else costs[-1]

    slopes = np.asarray(jax.jit(jax.grad(C))(x))[-1]
    for index in asked(slopes):
        found = explain(net, cost)(x, params, targets, "x", index, row=len(x) - 1, rng=rng)
        assert found.facts["value"] == pytest.approx(float(slopes[index]), abs=1e-12 * max(abs(slopes[index]), 1e-9))
        assert found.facts["jax_grad"] == pytest.approx(float(slopes[index]), rel=1e-10, abs=1e-15)
        assert found.error() <= CLOSE and not any(words in to_text(found) for words in UNWRITTEN)


def test_what_is_asked_is_also_the_use_s_own_gradient():
    """A convolution with groups, strides and padding: the windows that are written are those of the use."""
    net = jp.Chain(jp.Conv(4, (3, 2), strides=2, padding="SAME", groups=2), jp.ReLU(), jp.Flatten(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 4, 4)))
    params, targets, cost = draw(net, x), jnp.ones((2, 1)), jp.HalfSquaredError()
    for path in ("0.W", "0.b"):
        every = np.asarray(per_example(net, cost, x, params, targets, path)[1])
        for index in ([0] * every.ndim, [size - 1 for size in every.shape]):
            facts = explain(net, cost)(x, params, targets, path, tuple(index), row=1).facts
            assert facts["value"] == pytest.approx(float(every[tuple(index)]), rel=1e-12)


def test_a_sum_over_positions_is_told_by_its_terms():
    """Three positions, of which the largest is written in full and followed to the cost."""
    net = jp.Chain(jp.Linear(2), jp.Tanh(), jp.GlobalAvgPool(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(1).normal(size=(2, 3, 2)))
    params, targets = draw(net, x), jnp.ones((2, 1))
    found = explain(net, jp.HalfSquaredError(), most=1)(x, params, targets, "0.W", (1, 0), row=1)
    tape = jp.manual.trace(net, jp.HalfSquaredError())(x, params, targets)
    terms = np.asarray(tape["0"].x[1, :, 1] * tape["0"].dy[1, :, 0])
    t = int(np.argmax(np.abs(terms)))
    facts, text = holds(found, np.sum(terms)), to_text(found)
    assert [term["index"] for term in facts["terms"]] == [[t]] and facts["rest"]["count"] == 2
    assert facts["terms"][0]["label"] == f"position {t}" and facts["delta"] == float(tape["0"].dy[1, t, 0])
    assert f"position {t}: δ⁽⁰⁾[{t},0]·x[{t},1]" in text and "2 more terms summing to" in text
    assert [link["layer"] for link in facts["trail"]] == ["1", "2", "3"]
    assert f"∂C/∂a⁽¹⁾[{t},0] = ∂C/∂a⁽²⁾[0] · ∂a⁽²⁾[0]/∂a⁽¹⁾[{t},0]" in text


def test_tied_weights_are_a_sum_over_their_uses():
    net = jp.Shared(jp.Chain(jp.Embedding(4, 2), jp.Tanh(), jp.Linear(4, bias=False)), (("0.W", "2.W", True),))
    ids, targets = jnp.array([[1, 3, 1]]), jnp.array([[3, 1, 2]])
    params, cost = draw(net, ids), jp.SoftmaxCrossEntropy()
    slopes = gradients(net, cost, ids, params, targets, None).inner[0].W
    for index in ((1, 0), (2, 1)):  # looked up twice, and never: the output's use is left
        found = explain(net, cost)(ids, params, targets, "inner.0.W", index)
        text = to_text(found)
        holds(found, slopes[index])
        assert "as inner.0.W" in text and "as inner.2.W" in text and "All uses together" in text
        assert "∂C/∂W⁽inner.0⁾[" in text and "= G[0] + G[1]" in text
    assert "No id of this row is 2" in text


def test_steps_of_a_repeat_and_the_two_ways_of_a_residual():
    net = jp.Chain(jp.Repeat(jp.Residual(jp.Chain(jp.Linear(3), jp.Tanh())), 3), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(2).normal(size=(1, 3)))
    params, targets = draw(net, x), jnp.ones((1, 1))
    slopes = by_path(gradients(net, jp.HalfSquaredError(), x, params, targets, None))["0.inner.inner.0.W"]
    run = explain(net, jp.HalfSquaredError())
    found = run(x, params, targets, "0.inner.inner.0.W", (0, 2, 1))
    text = " ".join(to_text(found).split())
    holds(found, slopes[0, 2, 1])
    assert "at step 0 of the Repeat at 0, which is its first index" in text
    assert "Where ways meet: Residual, 0.inner at step 1" in text and "by 2 ways" in text
    assert {link["layer"] for link in found.facts["trail"]} >= {"0.inner", "1"}
    holds(run(x, params, targets, "0.inner.inner.0.W", (2, 2, 1)), slopes[2, 2, 1])


@pytest.mark.parametrize("join", ["concatenate", pytest.param("multiply", marks=SLOW)])
def test_the_end_of_a_branch(join):
    net = jp.Chain(jp.Linear(2), jp.Parallel(jp.Tanh(), jp.Linear(2), join=join), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(4).normal(size=(1, 3)))
    params, targets = draw(net, x), jnp.ones((1, 1))
    slopes = by_path(gradients(net, jp.HalfSquaredError(), x, params, targets, None))
    run = explain(net, jp.HalfSquaredError())
    for path, index in (("0.W", (1, 0)), ("1.1.W", (0, 1))):
        found = run(x, params, targets, path, index)
        holds(found, slopes[path][index])
        assert f"The end of a branch: Parallel, 1 What the branch answers is {JOINED[join]}" in " ".join(
            to_text(found).split()
        )


def test_batch_norm_is_written_for_the_whole_batch_and_a_frozen_one_for_a_row():
    net = jp.Chain(jp.Linear(3), jp.BatchNorm(), jp.Tanh(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(3).normal(size=(4, 2)))
    params, targets, cost = draw(net, x), jnp.ones((4, 1)), jp.HalfSquaredError()
    slopes = by_path(gradients(net, cost, x, params, targets, None))
    for path, index in (("0.W", (1, 2)), ("1.scale", (0,)), ("3.b", (0,))):
        found = explain(net, cost)(x, params, targets, path, index)
        text = " ".join(to_text(found).split())
        holds(found, slopes[path][index])
        assert "for the whole batch" in text and "C is the mean over all 4 rows" in text and "row 0" in text
    frozen, constants = jp.freeze_statistics(net, x, params)
    by_row = jax.tree.map(np.asarray, gradients(frozen, cost, x, constants, targets, None))
    found = explain(frozen, cost)(x, constants, targets, "0.W", (1, 2))
    holds(found, by_row[0].W[1, 2])
    assert "W⁽¹⁾" not in to_text(found) and "scale⁽¹⁾[2]" in to_text(found)
    with pytest.raises(jp.JaxpropError, match="mix the examples of a batch"):
        explain(net, cost, quantity=jp.stats.Variance())(x, params, targets, "0.W", (1, 2))


def test_an_error_of_zero_is_said_and_traced_no_further_than_it_goes():
    """A dead ReLU behind a convolution: the terms are 0, and so is what comes back."""
    net = jp.Chain(jp.Conv(1, (2,), padding="VALID"), jp.ReLU(), jp.Flatten(), jp.Linear(1))
    x, targets = jnp.ones((1, 3, 1)), jnp.ones((1, 1))
    params = draw(net, x)
    params = (params[0]._replace(b=jnp.array([-1e3])), *params[1:])
    found = explain(net, jp.HalfSquaredError())(x, params, targets, "0.W", (0, 0, 0))
    assert holds(found, 0.0)["value"] == 0 and "All of its terms are 0" in " ".join(to_text(found).split())


@dataclass(frozen=True)
class Doubled(Combinator):
    """A combinator that explain has never heard of: 2·f(x)."""

    inner: jp.Layer

    def children(self):
        return (self.inner,)

    def init(self, key, x):
        return (self.inner.init(key, x),)

    def __call__(self, x, params, env=None):
        return 2 * self.inner(x, params[0], env)

    def push(self, walk, x, params, env, path):
        y, cache = walk.push(self.inner, x, params[0], env, join(path, "0"))
        return 2 * y, cache

    def pull(self, walk, dy, cache, params, path):
        dx, uses, notes = walk.pull(self.inner, 2 * dy, cache, params[0], join(path, "0"))
        return dx, (uses,), notes


def test_a_combinator_of_your_own_is_one_link_from_outside_and_a_wall_from_inside():
    net = jp.Chain(jp.Linear(2), Doubled(jp.Chain(jp.Linear(2), jp.Tanh())), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(5).normal(size=(2, 3)))
    params = jax.tree.map(lambda p: jnp.asarray(np.random.default_rng(p.size).normal(size=p.shape)),
                          jax.eval_shape(net.init, jax.random.key(0), x))  # fmt: skip
    run = explain(net, jp.HalfSquaredError())
    slopes = by_path(gradients(net, jp.HalfSquaredError(), x, params, jnp.ones((2, 1)), None))
    for path, index, says in (
        ("0.W", (1, 0), "Doubled is a layer of your own, and its formula is not known here"),
        ("1.0.0.W", (1, 0), "Doubled, at 1, is a combinator of your own"),
    ):
        found = run(x, params, jnp.ones((2, 1)), path, index)
        assert check(found, tolerance=CLOSE)["value"] == pytest.approx(float(slopes[path][index]), rel=1e-12)
        assert says in " ".join(to_text(found).split())


@dataclass(frozen=True)
class Powers(jp.Layer):
    """A layer that only says what it computes; its uses are `Dense`."""

    def init(self, key, x):
        return {"p": jnp.full(x.shape[-1:], 2.0, x.dtype)}

    def __call__(self, x, params, env=None):
        return jnp.abs(x) ** params["p"]


def test_a_use_of_no_known_kind_is_told_by_what_moves_with_the_parameter():
    net = jp.Chain(jp.Linear(3), Powers(), jp.LayerNorm(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(6).normal(size=(2, 2)))
    params = draw(net, x)
    slopes = by_path(gradients(net, jp.HalfSquaredError(), x, params, jnp.ones((2, 1)), None))
    found = explain(net, jp.HalfSquaredError())(x, params, jnp.ones((2, 1)), "1.p", (1,))
    assert check(found, tolerance=CLOSE)["value"] == pytest.approx(float(slopes["1.p"][1]), rel=1e-12)
    text = " ".join(to_text(found).split())
    assert "How the answer moves with it" in text and "a push of the parameter shows" in text
    assert "Through LayerNorm, 2" in text and "∂C/∂p⁽¹⁾[1] = ∂C/∂a⁽¹⁾[1] · ∂a⁽¹⁾[1]/∂p⁽¹⁾[1]" in text


def test_queries_and_memory_are_two_inputs():
    net = jp.Chain(jp.MultiHeadAttention(2, cross=True), jp.Flatten(), jp.Linear(1))
    rng = np.random.default_rng(8)
    x = tuple(jnp.asarray(rng.normal(size=shape)) for shape in ((2, 2, 4), (2, 3, 4)))
    params, targets = draw(net, x), jnp.ones((2, 1))
    slopes = by_path(gradients(net, jp.HalfSquaredError(), x, params, targets, None))
    run = explain(net, jp.HalfSquaredError())
    for path, index, says in (
        ("0.W_query", (1, 2), "x⁽⁰⁾["),
        ("0.W_key", (3, 0), "m⁽⁰⁾["),
        ("0.W_output", (0, 1), "u⁽⁰⁾["),
    ):
        found = run(x, params, targets, path, index)
        holds(found, slopes[path][index])
        assert says in to_text(found)
    with pytest.raises(jp.JaxpropError, match="unknown path 'x'"):
        run(x, params, targets, "x", (0,))


def test_names_of_ones_own_stand_in_any_derivation():
    net = jp.Chain(jp.Conv(1, (2,), padding="VALID"), jp.Flatten(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(7).normal(size=(1, 3, 1)))
    names = {"k0": "0.W[0,0,0]", "w": "2.W[1,0]", "E": "C"}
    run = explain(net, jp.HalfSquaredError(), names=names)
    found = run(x, draw(net, x), jnp.ones((1, 1)), "k0")
    text = to_text(found)
    assert "∂E/∂k0" in text and "k0' = k0 - η · ∂E/∂k0" in text and "·w" in text.replace(" ", "")
    assert "W⁽" not in text and "C" not in [factor["symbol"] for factor in found.facts["terms"][0]["factors"]]
    assert all("∂C" not in str(link["symbol"]) for link in found.facts["trail"])


MODELS = {
    "gpt": (jp.models.gpt(vocabulary=7, width=8, depth=2, heads=2, context=4), (2, 4), jp.SoftmaxCrossEntropy()),
    "resnet": (jp.models.resnet(3, width=2), (2, 8, 8, 1), jp.SoftmaxCrossEntropy()),
    "convnet": (jp.models.convnet(3, width=2), (2, 8, 8, 1), jp.SoftmaxCrossEntropy()),
    "rnn_classifier": (jp.models.rnn_classifier("gru", 3, classes=2), (2, 4, 2), jp.SoftmaxCrossEntropy()),
}


# what the other two are made of is in these, and above
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=SLOW if n in ("gpt", "resnet") else EXHAUSTIVE) for n in MODELS]
)
def test_every_parameter_of_a_model(name):
    net, shape, cost = MODELS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(0, 7, shape) if name == "gpt" else rng.normal(size=shape))
    params = draw(net, x)
    y = jax.eval_shape(net, x, params)
    targets = jnp.asarray(rng.integers(0, y.shape[-1], y.shape[:-1]))
    run, slopes = explain(net, cost), by_path(gradients(net, cost, x, params, targets, None))
    for path, every in slopes.items():
        for index in asked(np.asarray(every)):
            found = run(x, params, targets, path, index)
            holds(found, every[index], room=130)  # paths are long
    assert "<math" in to_mathml(found) and "\\frac" in to_latex(found)


def test_another_parameter_of_any_network_compiles_nothing(compilations):
    """What was compiled for one click serves the next, and θ that has moved."""
    net = jp.Chain(jp.Conv(2, (2,)), jp.Tanh(), jp.Flatten(), jp.Linear(1))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 4, 1)))
    params, targets = draw(net, x), jnp.ones((2, 1))
    run = explain(net, jp.HalfSquaredError())
    run(x, params, targets, "0.W", (0, 0, 0))
    moved = jax.tree.map(lambda p: np.asarray(p) * 0.9, params)
    with compilations() as count:
        run(x, params, targets, "0.W", (1, 0, 1), row=1)
        run(x, moved, targets, "0.b", (1,))
        explain(net, jp.HalfSquaredError(), 0.5)(x, moved, targets, "0.b", (0,))
    assert count[0] == 0
