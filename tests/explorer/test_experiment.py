"""θ on its way: what a step changes, that it can be done again to the same bits, and what a page may do."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings as within, strategies as st

from jaxprop.backward import auto
from jaxprop.errors import JaxpropError
from jaxprop.network import by_path
from jaxprop_explorer.experiments import experiment as room
from jaxprop_explorer.experiments.collapse import collapse
from jaxprop_explorer.experiments.experiment import Experiment
from jaxprop_explorer.experiments.settings import Settings

SMALL = Settings(data="xor", layers=(3,), batch_size=4)
CHAIN = Settings(data="chain")


def bits(experiment: Experiment) -> dict[str, bytes]:
    return {path: np.asarray(leaf).tobytes() for path, leaf in by_path(experiment.params).items()}


@pytest.mark.parametrize("settings", [CHAIN, SMALL], ids=["one example", "a batch"])
def test_a_step_of_sgd_changes_exactly_w_minus_rate_times_gradient(settings):
    experiment = Experiment.of(settings)
    optimizer = optax.sgd(np.float32(experiment.settings.learning_rate))
    for _ in range(10):
        before, rows = jax.device_get(experiment.params), experiment.batch()
        experiment.advance(1)
        updates, _ = optimizer.update(jax.device_get(experiment.gradient), optimizer.init(before), before)
        expected = optax.apply_updates(before, updates)
        assert bits(experiment) == {path: np.asarray(leaf).tobytes() for path, leaf in by_path(expected).items()}
    x, targets = experiment.rows.x[rows], experiment.rows.targets[rows]
    theirs = jax.jit(auto.value_and_grad(experiment.net, experiment.cost))(x, before, targets)[1]
    for ours, true in zip(jax.tree.leaves(experiment.gradient), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(ours, true, rtol=2e-5, atol=1e-7)


def test_the_update_goes_by_the_gradient_that_was_shown():
    experiment = Experiment.of(Settings(data="line"))
    experiment.forward()
    assert experiment.example == experiment.batch()[0] and not experiment.pulled
    experiment.backward()
    w = np.asarray(experiment.params[0].W)
    experiment.update()
    g = np.asarray(experiment.passed().grads[0].W)
    assert experiment.phase == "update" and experiment.step == 1 and g != 0
    assert np.asarray(experiment.params[0].W) == w - np.float32(0.1) * g
    experiment.forward()
    assert experiment.passed().grads[0].W != g and not experiment.pulled


def test_the_gradient_of_the_example_in_view_is_that_of_jax_grad():
    experiment = Experiment.of(SMALL)
    experiment.look(5)
    x, targets = experiment.row
    value, grads = jax.jit(auto.value_and_grad(experiment.net, experiment.cost))(x, experiment.params, targets)
    passed = experiment.passed()
    assert np.allclose(passed.cost, value, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(passed.grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-7)


STEPS = st.tuples(st.just("advance"), st.sampled_from([1, 2, 5, 40]))
EDITS = st.tuples(
    st.just("edit"), st.sampled_from(["0.W", "2.W"]), st.integers(0, 1), st.floats(-2, 2, width=32, allow_nan=False)
)
PRUNES = st.tuples(st.just("prune"), st.integers(0, 2), st.booleans())
CHANGES = st.tuples(
    st.just("set"),
    st.sampled_from(
        [
            {"learning_rate": 0.05},
            {"learning_rate": 0.2},
            {"batch_size": 1},
            {"optimizer": "adam"},
            {"optimizer": "sgd"},
        ]
    ),
)


def do(experiment: Experiment, what: tuple) -> None:
    if what[0] == "advance":
        experiment.advance(what[1])
    elif what[0] == "prune":
        experiment.prune("2.W", (what[1], 0), what[2])
    elif what[0] == "set":
        experiment.set(**what[1])
    elif "2.W" != what[1] or [what[2], 0] not in experiment.pruned.get("2.W", []):
        experiment.edit(what[1], (what[2], 0), what[3])


@within(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.one_of(STEPS, STEPS, EDITS, PRUNES, CHANGES), max_size=8))
def test_settings_history_and_steps_give_the_same_bits_again(done):
    experiment = Experiment.of(SMALL.model_copy(update={"optimizer": "adam"}))
    for what in done:
        do(experiment, what)
    given = experiment.given()
    again = Experiment.of(Settings(**given["settings"]), given["history"], given["steps"])
    assert bits(again) == bits(experiment)
    assert again.given() == given and again.settings == experiment.settings
    experiment.advance(3)
    again.advance(3)
    assert bits(again) == bits(experiment)


def test_steps_are_the_same_however_they_are_divided():
    one, other = Experiment.of(SMALL), Experiment.of(SMALL)
    one.advance(300)
    for part in (1, 7, 256, 36):
        other.advance(part)
    while other.step < 300:
        other.run(0.01, 300 - other.step)
    assert bits(one) == bits(other) and one.epoch == other.epoch == 300 * 4 // 160


def test_an_epoch_sees_every_row_once():
    experiment = Experiment.of(SMALL)
    seen = np.concatenate([experiment.batch(ahead) for ahead in range(40)])
    assert sorted(seen) == list(range(160))
    assert not np.array_equal(experiment.batch(0), experiment.batch(40))


def test_a_pruned_weight_stays_at_zero_until_it_is_let_go():
    experiment = Experiment.of(SMALL)
    experiment.prune("0.W", (1, 2))
    experiment.advance(20)
    assert float(experiment.params[0].W[1, 2]) == 0 and experiment.pruned == {"0.W": [[1, 2]]}
    with pytest.raises(JaxpropError, match=r"0.W at \[1, 2\] is pruned"):
        experiment.edit("0.W", (1, 2), 1.0)
    experiment.prune("0.W", (1, 2), False)
    experiment.advance(1)
    assert float(experiment.params[0].W[1, 2]) != 0


def test_what_keeps_theta_and_what_starts_anew():
    experiment = Experiment.of(SMALL)
    experiment.advance(5)
    kept = bits(experiment)
    experiment.set(learning_rate=0.01)
    experiment.set(batch_size=1)
    experiment.set(rule="feedback_alignment")
    assert bits(experiment) == kept and experiment.step == 5
    experiment.set(optimizer="adam")
    experiment.advance(2)
    version = experiment.version
    experiment.set(seed=1)
    assert experiment.step == 0 and experiment.history == [] and experiment.version > version
    assert bits(experiment) != kept
    experiment.set(data="chain")
    assert experiment.settings.layers == (1,) and experiment.settings.optimizer == "sgd"
    with pytest.raises(JaxpropError, match="GuidedBackprop"):
        experiment.set(rule="guided_backprop")
    assert experiment.settings.rule == "feedback_alignment", "a change that is refused changes nothing"


def test_a_rate_that_diverges_stops_with_a_sentence_and_finite_numbers():
    experiment = Experiment.of(CHAIN.model_copy(update={"learning_rate": 100.0}))
    assert not experiment.run(5.0, 100)
    assert "learning rate 100 is probably too large" in experiment.diverged
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(experiment.params))
    steps = experiment.step
    experiment.advance(1)
    assert experiment.step == steps
    experiment.set(learning_rate=0.01)
    assert experiment.diverged is None


def test_linear_layers_collapse_to_one_matrix():
    experiment = Experiment.of(Settings(data="moons", layers=(3,), activation="linear"))
    experiment.advance(10)
    W, b, difference = collapse(experiment.net, experiment.params, jnp.asarray(experiment.rows.x))
    assert W.shape == (2, 1) and difference < 1e-6
    x = experiment.rows.x.astype(np.float64)
    np.testing.assert_allclose(x @ W + b, jax.jit(experiment.net)(experiment.rows.x, experiment.params), atol=1e-6)
    with pytest.raises(JaxpropError, match=r"Tanh\(\) bends"):
        collapse((bent := Experiment.of(SMALL)).net, bent.params, jnp.asarray(bent.rows.x))


@pytest.mark.parametrize(
    "history, steps, said",
    [
        ([{"at": 5, "edit": ["0.W", [0, 0], 1.0]}], 3, "out of order"),
        ([{"at": 0, "edit": ["9.W", [0, 0], 1.0]}], 3, "there is no parameter '9.W'"),
        ([{"at": 0, "edit": ["0.W", [9, 0], 1.0]}], 3, r"found the place \[9, 0\]"),
        ([{"at": 0, "set": {"layers": [2]}}], 3, "found a change of layers"),
        ([{"at": 0, "boil": 3}], 3, "a change is not readable"),
        ([], 10**9, "expected 0 to 1,000,000"),
        ("all", 3, "expected a list"),
    ],
    ids=str,
)
def test_an_address_that_cannot_be_done_again_says_why(history, steps, said):
    with pytest.raises(JaxpropError, match=said):
        Experiment.of(CHAIN, history, steps)


def test_another_rate_and_another_page_compile_nothing(compilations):
    first = Experiment.of(SMALL)
    first.advance(1)
    first.passed(), first.measured()
    with compilations() as count:
        first.set(learning_rate=0.123)
        first.advance(300)
        other = Experiment.of(SMALL.model_copy(update={"seed": 7, "learning_rate": 0.02}))
        other.advance(5)
        other.edit("0.W", (0, 0), 0.5)
        other.look(3)
        other.passed(), other.measured()
    assert count[0] == 0


def test_a_first_step_gets_ready_without_being_taken(compilations):
    experiment = Experiment.of(Settings(data="xor", layers=(2,), batch_size=3))
    before = bits(experiment)
    experiment.prepare()
    assert bits(experiment) == before and experiment.step == 0
    with compilations() as count:
        experiment.advance(1)
    assert count[0] == 0 and bits(experiment) != before


def test_training_stops_where_an_address_could_not_bring_it_back(monkeypatch):
    monkeypatch.setattr(room, "MOST_STEPS", 300)
    experiment = Experiment.of(CHAIN)
    experiment.advance(299)
    assert experiment.diverged is None
    assert not experiment.run(5.0) and experiment.step == 300 and "300 steps are the most" in experiment.diverged
    assert bits(Experiment.of(CHAIN, experiment.history, 300)) == bits(experiment)
