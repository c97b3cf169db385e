"""Errors edited in flight, rules chosen by path and kind, and what is refused."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError, ShapeError
from tests.drawing import draw

R = jp.rules
NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(3), jp.Sigmoid(), jp.Linear(2))
X, TARGETS = (np.random.default_rng(0).normal(size=shape) for shape in ((5, 3), (5, 2)))


@functools.cache
def params_of(net=NET):
    return draw(net, jnp.asarray(X))


def found(rule, net=NET, rng=None, **given):
    """The uses of every array, of targets 0 for all networks but NET."""
    made = jp.manual.uses(net, jp.HalfSquaredError(), rule=rule)

    @jax.jit
    def run(x, params, targets, rng, given):
        return made(x, params, jnp.zeros_like(net(x, params)) if net is not NET else targets, rng=rng, **given)[1]

    return run(jnp.asarray(X), params_of(net), jnp.asarray(TARGETS), rng, given)


def at_every_layer(edit):
    """∂C_n/∂z of every linear layer by jax.grad, through an identity after each layer whose way back is an edit."""

    params = params_of()

    @jax.custom_vjp
    def tap(y):
        return y

    tap.defvjp(lambda y: (y, None), lambda _, dy: (edit(dy),))

    def C(shifts):
        y, k = jnp.asarray(X), 0
        for layer, p in zip(NET.layers, params, strict=True):
            y = layer(y, p)
            if isinstance(layer, jp.Linear):
                y = y + shifts[k]
                k += 1
            y = tap(y)
        return jnp.sum(jnp.square(y - TARGETS)) / 2

    # a shift enters before its layer's tap, so that its derivative is the edited error
    return jax.jit(jax.grad(C))([jnp.zeros((5, width)) for width in (4, 3, 2)])


def quantized(dy, levels=3):
    s = abs(dy).max(1, keepdims=True) / levels
    return s * jnp.round(dy / s)


def clipped(dy):
    return dy * jnp.minimum(1, 0.1 / jnp.linalg.norm(dy, axis=1, keepdims=True))


@pytest.mark.parametrize(
    "rule, edit",
    [
        (R.Clip(0.1, by="norm"), clipped),
        (lambda path, delta: jnp.tanh(delta), jnp.tanh),
        (R.Clip(0.3, then=R.Quantize(3)), lambda dy: quantized(jnp.clip(dy, -0.3, 0.3))),
    ],
    ids=["norm", "function", "one after the other"],
)
def test_an_edit_is_a_changed_cotangent_at_every_layer(rule, edit):
    uses = found(rule)
    for use, delta in zip((uses[0].W, uses[2].W, uses[4].W), at_every_layer(edit), strict=True):
        assert relative(use.delta, delta) <= 1e-12
    assert relative(uses[2].b.delta, uses[2].W.delta) == 0


@pytest.mark.slow
def test_noise_and_dropped_entries_are_drawn_for_each_layer_and_block_with_a_key_of_its_own():
    net = jp.Chain(jp.Linear(50), jp.Linear(50), jp.Repeat(jp.Linear(50), 2), jp.Identity())
    params = params_of(net)

    def deltas(rule, seed):
        uses = found(R.at({"3": rule, "1": rule, "2": rule}), net, jax.random.key(seed))
        return uses[1].W.delta, *uses[2].inner.W.use.delta

    plain, drawn, again, other = (deltas(*which) for which in (
        (R.Noise(0.0), 0), (R.Noise(0.1), 0), (R.Noise(0.1), 0), (R.Noise(0.1), 1)
    ))  # fmt: skip
    assert relative(again, drawn) == 0 and relative(other, drawn) > 0.01
    assert relative(plain[2], net(X, params)) <= 1e-12  # targets are 0
    # what the last block met has its own noise and that of the Identity behind it
    noise = drawn[2] - plain[2]
    assert abs(float(jnp.std(noise)) - 0.1 * np.sqrt(2)) < 0.01 and abs(float(jnp.mean(noise))) < 0.02
    passed_on = [d - b @ params[2].inner.W[k].T for k, (d, b) in ((1, drawn[1:3]),)]
    assert abs(float(jnp.std(passed_on[0])) - 0.1) < 0.01
    assert abs(float(jnp.corrcoef(passed_on[0].ravel(), noise.ravel())[0, 1])) < 0.2

    dropped = found(R.at({"3": R.Drop(0.25)}), net, jax.random.key(0))[2].inner.W.use.delta[1]
    kept = dropped / plain[2]
    assert set(np.unique(np.round(np.asarray(kept), 9))) == {0.0, round(1 / 0.75, 9)}
    assert 0.15 < float(jnp.mean(kept == 0)) < 0.35


@pytest.mark.slow
def test_what_a_rule_draws_is_not_what_dropout_draws():
    """The same key for both would drop errors where units were dropped."""

    class Half(R.Rule):
        draws = True

        def back(self, here):
            on = jax.random.bernoulli(here.key, 0.5, here.dy.shape)
            return here._replace(dy=jnp.where(on, here.dy, 0)).backward()

    net = jp.Chain(jp.Linear(400, bias=False), jp.Dropout(0.5))
    params = params_of(net)
    made = jp.manual.trace(net, jp.HalfSquaredError(), rule=R.at({jp.Dropout: Half()}))
    record = jax.jit(made)(X, params, jnp.ones((5, 400)), rng=jax.random.key(0))["1"]
    on, let_back = record.y != 0, record.dx != 0
    assert 0.4 < float(jnp.mean(let_back[on])) < 0.6 and not let_back[~on].any()


@pytest.mark.slow
def test_redrawn_feedback_is_new_at_every_pass_and_keeps_the_signs():
    rule = R.SignSymmetry("redrawn")
    once, again, other = (found(rule, rng=jax.random.key(seed)) for seed in (0, 0, 1))
    assert relative(once, again) == 0 and relative(once[0], other[0]) > 1e-3
    # of one example and one error, dx / δ is B's row, so that its signs can be read
    layer, x, dy = jp.Linear(1, bias=False), jnp.ones((1, 9)), jnp.ones((1, 1))
    params = draw(layer, x)
    walk, fed = R.prepare(rule, layer, params, None, jax.random.key(0))
    _, cache = walk.push(layer, x, fed, jp.Env(rng=jax.random.key(0)), "")
    dx = walk.pull(layer, dy, cache, fed, "")[0]
    assert np.array_equal(jnp.sign(dx), jnp.sign(params.W.T)) and relative(jnp.abs(dx), jnp.abs(params.W.T)) > 0.05


@pytest.mark.slow
def test_edits_of_errors_that_are_0_very_small_or_half_precision():
    for dtype in ("float16", "bfloat16", "float32"):
        small = jnp.asarray([[3e-7, -1e-7], [0.0, 0.0], [6e4, 3e4]], "float32").astype(dtype)
        for rule in (R.Clip(1e-7, by="norm"), R.Clip(1.0, by="norm"), R.Clip(1.0), R.Quantize(8)):
            edited = rule.edit(small, "", None)
            assert edited.dtype == small.dtype and bool(jnp.all(jnp.isfinite(edited))), (rule, dtype, edited)
            assert not edited[1].any() and bool(jnp.all(jnp.sign(edited[2]) == 1)), (rule, dtype, edited)
    tiny = R.Clip(1e-30, by="norm").edit(jnp.asarray([[3e-30, 4e-30]], "float32"), "", None)
    assert np.allclose(tiny, [[6e-31, 8e-31]], rtol=1e-6, atol=0)


# at


def test_rules_by_path_and_by_kind():
    """The first key that fits decides; a combinator's path or kind is all that is inside."""
    double, plain = (lambda path, delta: 2 * delta), found(None)
    for key, factors in (
        ("4", (2, 2, 2)), ("2", (2, 2, 1)), ("0", (2, 1, 1)), ("*", (32, 8, 2)), ("[02]", (4, 2, 1)),
        (jp.Linear, (8, 4, 2)), (jp.Sigmoid, (2, 2, 1)), ("", (32, 8, 2)), (jp.Chain, (32, 8, 2)),
    ):  # fmt: skip
        uses = found(R.at({key: double}))
        for use, was, factor in zip(uses[::2], plain[::2], factors, strict=True):
            assert relative(use.W.delta, factor * was.W.delta) <= 1e-13, key
    first = found(R.at({"2": R.Backprop(), jp.Linear: double}))
    assert relative(first[0].W.delta, 4 * plain[0].W.delta) <= 1e-13
    net = jp.Chain(jp.Linear(3), jp.Residual(jp.Chain(jp.Linear(3), jp.Tanh())), jp.Linear(2))
    for key in (jp.Residual, "1", "1.*", "1.inner"):
        halved = found(R.at({key: lambda path, delta: 0 * delta}), net)
        assert not jnp.any(halved[1].inner[0].W.delta) and jnp.any(halved[0].W.delta)


def test_rules_inside_rules():
    """An edit that goes on by `at`, and `at` inside of `at`."""
    fa = R.FeedbackAlignment()
    nested = R.Clip(0.3, then=R.at({"2": fa}))
    feedback = nested.init(jax.random.key(0), NET, params_of())
    assert feedback[0].W is None and feedback[2].W.shape == (4, 3)
    one = found(nested, feedback=feedback)
    other = found(R.at({"2": R.Clip(0.3, then=fa), "*": R.at({"*": R.Clip(0.3)})}), feedback=feedback)
    assert relative(one, other) == 0 and relative(one, found(R.Clip(0.3))) > 1e-3


def test_layers_of_ones_own_go_by_a_rule_that_says_so():
    class Mine(jp.Linear):
        """One of a kind that rules know."""

    net = jp.Chain(Mine(2), jp.Linear(2))
    fed = R.FeedbackAlignment().init(jax.random.key(0), net, params_of(net))
    assert fed[0].W.shape == (3, 2)


# Refusals


class Bilinear(jp.Layer):
    """A layer whose weights no rule knows."""

    def init(self, key, x):
        return {"M": jnp.ones(x.shape[-1])}

    def __call__(self, x, params, env=None):
        return x * params["M"]


FA = R.FeedbackAlignment()


def fed():
    return FA.init(jax.random.key(0), NET, params_of())


def other_W(B):
    return (B[0], (), B[2]._replace(W=jnp.ones((4, 2))), (), B[4])


TIED = jp.Shared(jp.Chain(jp.Linear(2), jp.Tanh(), jp.Linear(3)), ties=(("0.W", "2.W", True),))


def tied(rule):
    return lambda: rule.init(jax.random.key(0), TIED, params_of(TIED), X)


@pytest.mark.parametrize(
    "act, said",
    [
        (lambda: found(FA), "needs feedback for 0.W, 2.W, 4.W, found none for 0.W; give feedback=rule.init("),
        (
            lambda: found(FA, feedback=other_W(fed())),
            "the feedback at 2.W is float64[4, 2], expected float64[4, 3] as the array that it stands beside",
        ),
        (
            lambda: found(FA, feedback=jax.tree.map(lambda B: B.astype("float32"), fed())),
            "the feedback at 0.W is float32[3, 4], expected float64[3, 4]",
        ),
        (
            lambda: found(R.Clip(1.0), feedback=fed()),
            "needs feedback for no array, found some for 0.W, which needs none",
        ),
        (lambda: found(None, feedback=fed()), "found feedback and no rule: say rule="),
        (
            lambda: found(R.DirectFeedbackAlignment(), feedback=fed()),
            "the feedback of Linear(2) at 4 is [3, 2], errors [5, 2] and inputs [5, 3] need [2, 3]",
        ),
        (lambda: found(R.Noise(0.1)), "Noise(0.1) at 0 draws numbers on the way back: give rng=jax.random.key(0)"),
        (lambda: found(R.SignSymmetry("redrawn")), "draws numbers on the way back"),
        (lambda: found(lambda path, delta: delta[:1]), "made float64[1, 2] of δ float64[5, 2], expected the same"),
        (lambda: found(lambda path, delta: delta.astype("float32")), "made float32[5, 2] of δ float64[5, 2]"),
        (lambda: found(R.FeedbackAlignment), "found the class FeedbackAlignment; such as jp.rules.FeedbackAlignment()"),
        (lambda: found({"0": FA}), "write jp.rules.at({...})"),
        (lambda: found("FA"), "rule must be one of jp.rules, or a function f(path, delta), found 'FA'"),
        (lambda: R.at({}), "rules must be a dict"),
        (lambda: R.at({0: FA}), 'a key must be a path such as "0.*" or a class of layers such as jp.Conv, found 0'),
        (lambda: R.at({"0": 3}), "the rule of '0' must be one of jp.rules"),
        (
            lambda: found(R.at({"5": R.Clip(1.0)})),
            "'5' fits no layer; there are 0 Linear, 1 Tanh, 2 Linear, 3 Sigmoid, 4 Linear",
        ),
        (lambda: found(R.at({jp.Conv: R.Clip(1.0)})), "Conv fits no layer; there are"),
        (
            lambda: found(R.at({"*": R.Clip(1.0), jp.Linear: R.Clip(2.0)})),
            "Linear fits only layers that keys before it have (0); write it before them",
        ),
        (lambda: FA.init(None, NET, params_of()), "needs a key to draw feedback from"),
        (
            lambda: R.DirectFeedbackAlignment().init(jax.random.key(0), NET, params_of()),
            "needs x, for B is as large as",
        ),
        (tied(R.DirectFeedbackAlignment()), "W of Linear(3) at inner.2 is tied to another layer's"),
        (tied(R.at({"inner.0": FA, "inner.2": R.SignSymmetry("fixed")})), "one array has one feedback"),
        (
            lambda: FA.init(jax.random.key(0), Bilinear(), {"M": jnp.ones(3)}),
            "does not know through which parameters of Bilinear() errors come back; it knows Linear, Convolution",
        ),
        (
            lambda: jp.manual.uses(NET, jp.HalfSquaredError(), jp.Walk(), rule=FA),
            "found both a walk and a rule, which is a walk of its own: give one of them",
        ),
        (
            lambda: jp.manual.value_and_grad(NET, jp.HalfSquaredError(), FA),
            "found FeedbackAlignment() for a walk; if it is a rule, give it by name, as in rule=...",
        ),
        (lambda: R.Clip(0.0), "Clip: limit must be a number > 0, found 0.0"),
        (lambda: R.Clip(1.0, by="row"), "Clip: by must be 'entry' or 'norm', found 'row'"),
        (
            lambda: R.Clip(1.0, then=3),
            "Clip: then must be a Rule, found 3; a function f(path, delta) is the rule jp.rules.Edit(f)",
        ),
        (lambda: R.Edit(3), "function must be f(path, delta), found 3"),
        (lambda: R.Noise(-1.0), "Noise: scale must be a number ≥ 0"),
        (lambda: R.Quantize(1), "Quantize: bits must be a whole number ≥ 2"),
        (lambda: R.Drop(1.0), "Drop: rate must be a number from 0"),
        (lambda: R.KolenPollack(1.5), "KolenPollack: decay must be a number from 0 to 1, found 1.5"),
        (lambda: R.FeedbackAlignment("glorot"), "unknown init 'glorot' (did you mean 'glorot_normal'"),
        (lambda: R.SignSymmetry("random"), "SignSymmetry: kind must be 'uniform' or 'fixed' or 'redrawn'"),
    ],
)
def test_what_is_refused_and_what_it_says(act, said):
    with pytest.raises(JaxpropError) as caught:
        act()
    assert said in str(caught.value)


def test_missing_feedback_is_a_shape_error():
    with pytest.raises(ShapeError):
        found(FA)
