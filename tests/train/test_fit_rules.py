"""Training by a backward rule."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.arrays.relative import relative
from jaxprop.errors import JaxpropError, TrainingError

NET = jp.Chain(jp.Linear(4), jp.Tanh(), jp.Linear(2))
RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 3))
DATA = (X, np.tanh(X @ RNG.normal(size=(3, 2))))
LAMBDA, SGD = 0.05, optax.sgd(0.1)


def trained(rule, epochs=2, optimizer=SGD, **given):
    given = {"epochs": epochs, "batch_size": 8, "progress": False} | given
    return jp.fit(NET, jp.HalfSquaredError(), optimizer, DATA, rule=rule, **given)


@pytest.mark.parametrize(
    "optimizer", [SGD, pytest.param(optax.lookahead(optax.adam(0.01), 2, 0.5), marks=pytest.mark.slow)]
)
def test_kolen_pollacks_feedback_comes_to_be_the_weights(optimizer):
    """B − W = (1 − λ)^k of what it was, whatever the optimizer does; and two runs are one, bit for bit."""
    rule = jp.rules.KolenPollack(LAMBDA)
    states, k = [], 3  # steps an epoch
    whole = trained(rule, 3, optimizer, on_epoch=lambda row, state: states.append(state))
    weights = [getattr(state.params, "fast", state.params) for state in states]
    apart = [state.feedback[0].W - theta[0].W for state, theta in zip(states, weights, strict=True)]
    assert relative(apart[1], (1 - LAMBDA) ** k * apart[0]) <= 1e-12
    assert relative(apart[2], (1 - LAMBDA) ** (2 * k) * apart[0]) <= 1e-12
    assert relative(whole.feedback, states[-1].feedback) == 0
    half = trained(rule, 1, optimizer)
    other = trained(rule, 2, optimizer, state=half.state)
    for a, b in zip(jax.tree.leaves(whole.state), jax.tree.leaves(other.state), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.slow
def test_a_step_by_hand_is_a_step_of_fit():
    rule, optimizer = jp.rules.KolenPollack(LAMBDA), optax.adam(0.01)
    params = NET.init(jax.random.key(1), X)
    feedback = rule.init(jax.random.key(2), NET, params)
    result = trained(rule, 1, optimizer, params=params, feedback=feedback, batch_size=24)
    run = jp.manual.value_and_grad(NET, jp.HalfSquaredError(), rule=rule)
    _, grads = run(*DATA[:1], params, DATA[1], feedback=feedback)
    with jax.numpy_dtype_promotion("standard"):
        updates, _ = optimizer.update(grads, optimizer.init(params), params)
    updates, feedback = rule.update(NET, updates, params, feedback)
    assert relative(result.params, optax.apply_updates(params, updates)) <= 1e-12
    assert relative(result.feedback, feedback) <= 1e-12


@pytest.mark.slow
def test_feedback_is_drawn_from_the_key_and_stays():
    rule = jp.rules.at({"2": jp.rules.FeedbackAlignment(), "*": jp.rules.Noise(0.01)})
    once, again, other = (trained(rule, 1, key=jax.random.key(seed)) for seed in (0, 0, 1))
    assert relative(once.params, again.params) == 0
    assert relative(once.feedback, again.feedback) == 0 and relative(once.feedback, other.feedback) > 0.1
    assert once.feedback[0].W is None and once.feedback[2].W.shape == (4, 2)
    more = trained(rule, 1, state=once.state)
    assert relative(more.feedback, once.feedback) == 0
    assert trained(None, 1).feedback is None


@pytest.mark.slow
def test_backpropagation_as_a_rule_trains_as_grad_manual_does():
    assert relative(trained(jp.rules.Backprop()).params, trained(None, grad="manual").params) == 0


@pytest.mark.slow
def test_quantities_are_of_the_rules_own_errors():
    """A monitor and `collect` see the δ of the rule; errors="true" those of the chain rule."""

    class Sums(jp.stats.Quantity):
        def close(self, use, path, weights):
            return use.total(None)

        def finish(self, kept, notes, context):
            return kept

    class ByTheChainRule(Sums):
        errors = "true"
        notes = True

        def note(self, layer, record):
            return record.dx

        def finish(self, kept, notes, context):
            return kept, notes

    rule, (x, targets) = jp.rules.DirectFeedbackAlignment(), map(jnp.asarray, DATA)
    params = NET.init(jax.random.key(1), x)
    feedback = rule.init(jax.random.key(2), NET, params, x)
    _, grads, (ours, (true, notes)) = jp.stats.collect(
        NET, jp.HalfSquaredError(), [Sums(), ByTheChainRule()], rule=rule
    )(x, params, targets, feedback=feedback)
    by_rule = jp.manual.value_and_grad(NET, jp.HalfSquaredError(), rule=rule)(x, params, targets, feedback=feedback)
    plain = jp.manual.value_and_grad(NET, jp.HalfSquaredError())(x, params, targets)
    assert relative(grads, by_rule[1]) <= 1e-13 and relative(ours, jax.tree.map(lambda g: 24 * g, grads)) <= 1e-13
    assert relative(true, jax.tree.map(lambda g: 24 * g, plain[1])) <= 1e-13 and relative(true, ours) > 0.01
    tape = jp.manual.trace(NET, jp.HalfSquaredError())(x, params, targets)
    assert all(relative(notes[path], tape[path].dx) <= 1e-13 for path in tape)
    watched = trained(rule, 1, params=params, feedback=feedback, batch_size=24, monitor={"g": Sums()}).monitor
    assert relative(watched.found["g"][0].W[0], ours[0].W) <= 1e-12


def test_errors_that_stop_being_numbers_are_found_where_the_rule_made_them():
    rule = jp.rules.at({"1": lambda path, delta: delta / 0})
    with pytest.raises(
        TrainingError, match=r"step 1 .*: the first not finite is the error going back through layer 1, Tanh"
    ):
        trained(rule, 1)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"grad": "auto"}, 'found rule= and grad="auto": jax.grad knows the chain rule alone; leave grad out'),
        ({"rule": None, "feedback": ()}, "found feedback and no rule"),
        ({"rule": "FA"}, "fit: rule must be one of jp.rules"),
        ({"feedback": (None, (), None)}, "needs feedback for 0.W, 2.W, found none for 0.W"),
    ],
)
def test_what_fit_refuses(given, said):
    with pytest.raises(JaxpropError) as caught:
        trained(**{"rule": jp.rules.FeedbackAlignment()} | given)
    assert said in str(caught.value)


def test_a_state_with_feedback_needs_its_rule():
    state = trained(jp.rules.FeedbackAlignment(), 1).state
    with pytest.raises(JaxpropError, match="found a state with the feedback of a rule and no rule"):
        trained(None, 1, state=state)
    with pytest.raises(JaxpropError, match="found both feedback and state"):
        trained(jp.rules.FeedbackAlignment(), 1, state=state, feedback=state.feedback)
    with pytest.raises(JaxpropError, match="needs a jaxprop Layer"):
        jp.fit(lambda x, w: x * w, jp.HalfSquaredError(), optax.sgd(0.1), DATA, params=1.0, rule=jp.rules.Backprop())
