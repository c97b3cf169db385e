"""Ctrl-C and SIGTERM end `fit` where nothing is half done, and what it leaves goes on bit for bit."""

import signal
import threading

import jax
import numpy as np
import optax
import pytest

import jaxprop as jp
from jaxprop.train.signals import Asked, Stopping

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 3))
TARGETS = np.sum(X**2, axis=1, keepdims=True)
NET = jp.Chain(jp.Linear(8), jp.Tanh(), jp.Dropout(0.2), jp.Linear(1))
ADAM, HALF = optax.adam(0.01), jp.HalfSquaredError()


@pytest.fixture(autouse=True)
def earlier():
    """Handlers of this test's own, also where tests run in the background and inherit that SIGINT is ignored."""

    def quit_at_once(number, frame):
        raise SystemExit(number)

    before = signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGTERM, quit_at_once)
    yield quit_at_once
    signal.signal(signal.SIGINT, before[0])
    signal.signal(signal.SIGTERM, before[1])


def fit(**options):
    usual = {"epochs": 4, "batch_size": 16, "key": jax.random.key(3), "progress": False}
    return jp.fit(NET, HALF, ADAM, (X, TARGETS), **usual | options)


def equal(a, b):
    return all(np.array_equal(x, y) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def after_steps(monkeypatch, steps, do):
    """Do something in the middle of the call that takes a run's step of that number."""
    from jaxprop.train.run import Run

    advance = Run.advance
    monkeypatch.setattr("jaxprop.train.run.SECONDS_A_CHUNK", 0.0)  # one step a call

    def advancing(self, *given):
        if self.steps + 1 == steps:
            do()
        return advance(self, *given)

    monkeypatch.setattr(Run, "advance", advancing)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_a_signal_ends_it_with_what_there_is_and_the_earlier_handlers_come_back(monkeypatch, number, earlier):
    after_steps(monkeypatch, 6, lambda: signal.raise_signal(number))
    with pytest.raises(jp.TrainingInterrupted, match="after 6 steps") as stopped:
        fit()
    assert isinstance(stopped.value, KeyboardInterrupt) and stopped.value.signal == number
    result = stopped.value.result
    assert (result.stopped, result.steps, len(result.history)) == ("interrupted", 6, 1)
    assert signal.getsignal(signal.SIGTERM) is earlier
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("steps", [1, 3, 4, 5, 8], ids=lambda n: f"{n} steps")
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(monkeypatch, steps):
    whole = fit()
    after_steps(monkeypatch, steps, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(jp.TrainingInterrupted) as stopped:
        fit()
    monkeypatch.undo()
    state = stopped.value.result.state
    assert (state.steps, 0 if state.within is None else len(state.within.costs)) == (steps, steps - 4 * state.epochs)
    rest = fit(state=state, epochs=4 - state.epochs)
    assert equal(rest.state, whole.state)
    assert [row["cost"] for row in rest.history] == [row["cost"] for row in whole.history][state.epochs :]


def test_without_a_signal_the_earlier_handlers_come_back_too(earlier):
    fit(epochs=1, on_epoch=lambda *_: signal.getsignal(signal.SIGTERM) is earlier and pytest.fail("nobody listens"))
    assert signal.getsignal(signal.SIGTERM) is earlier
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_on_other_rows_it_begins_with_a_whole_epoch(monkeypatch):
    after_steps(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(jp.TrainingInterrupted) as stopped:
        fit()
    monkeypatch.undo()
    assert fit(state=stopped.value.result.state, epochs=1, batch_size=10).steps == 2 + 5


def test_the_second_signal_ends_it_at_once(monkeypatch):
    def twice():
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)

    after_steps(monkeypatch, 6, twice)
    with pytest.raises(SystemExit):
        fit()


def test_a_step_that_was_not_waited_for_is_none(monkeypatch):
    """A second Ctrl-C, while costs are waited for, leaves θ and the count of steps as they were before."""
    from jaxprop.train.steps import taking

    class Waiting:
        def __array__(self, *_, **__):
            raise KeyboardInterrupt

    def waiting(recipe):
        return lambda *given: (taking(recipe)(*given)[0], Waiting(), True)

    monkeypatch.setattr("jaxprop.train.run.taking", waiting)
    start = NET.init(jax.random.key(0), X)
    with pytest.raises(jp.TrainingInterrupted) as stopped:
        fit(params=start)
    assert stopped.value.result.state.steps == 0 and equal(stopped.value.result.state.params, start)


def test_a_signal_after_the_last_step_leaves_the_result_too():
    def signalled(row, state):
        if row["epoch"] == 4:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(jp.TrainingInterrupted) as stopped:
        fit(on_epoch=signalled)
    assert len(stopped.value.result.history) == 4 and stopped.value.signal == signal.SIGTERM
    assert equal(stopped.value.result.state.params, fit().state.params)


def test_a_signal_that_comes_when_training_is_over_is_for_what_comes_next(monkeypatch):
    from jaxprop.train.run import Run

    end = Run.end

    def ending(self, *given, **options):
        signal.raise_signal(signal.SIGTERM)
        return end(self, *given, **options)

    monkeypatch.setattr(Run, "end", ending)
    with pytest.raises(SystemExit):
        fit(epochs=1)


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Stopping() as stopping:
        signal.raise_signal(signal.SIGTERM)
        stopping.here()
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN


def test_in_another_thread_nothing_is_heard(earlier):
    found = []

    def there():
        with Stopping() as stopping:
            found.append(signal.getsignal(signal.SIGTERM))
            stopping.here()

    thread = threading.Thread(target=there)
    thread.start()
    thread.join(10)
    assert found == [earlier]


def test_what_another_process_hears_ends_this_one_too(monkeypatch):
    monkeypatch.setattr("jaxprop.train.signals.any_process", lambda flag: True)
    with Stopping() as stopping, pytest.raises(Asked) as asked:
        stopping.here()
    assert asked.value.number == signal.SIGTERM
